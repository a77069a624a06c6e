"""A record says what it is: it is read without code, strictly, and not where it was altered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import benchmarks
from benchmarks.cli.app import app
from benchmarks.core import store
from benchmarks.core.case import defaults_of
from benchmarks.core.record import parsed
from committed import ROOT
from folders import case_of, edit, put
from records import record_of

CODE = """
import sys, benchmarks
frame = benchmarks.load(sys.argv[1])
assert len(frame)
read = {name for name in sys.modules if name.split(".")[0] in ("torch", "flows")}
assert not read | {name for name in sys.modules if name.startswith("benchmarks.studies")}, read
"""
REPORT = """
import sys, benchmarks.report as report
report.write(sys.argv[1], out=sys.argv[2])
assert "torch" not in sys.modules
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a new record in a folder of two."""
    defaults = defaults_of(case_of(1))
    record = record_of(case_of(1).changed(options=defaults["options"]), {"parameters": 7.0})
    store.write(tmp_path, record.model_copy(update={"defaults": defaults}))
    put(tmp_path, 2)
    return tmp_path / store.RECORDS / f"{record.key}.json"


def test_results_are_read_without_torch_flows_or_studies() -> None:
    subprocess.run([sys.executable, "-c", CODE, str(ROOT / "truth")], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["truth", "conditional"])
def test_a_report_is_drawn_without_torch(name: str, tmp_path: Path) -> None:
    arguments = [str(ROOT / name), str(tmp_path / "report")]
    subprocess.run([sys.executable, "-c", REPORT, *arguments], check=True)


@pytest.mark.parametrize(
    "command",
    [("report",), ("status",), ("pack",), ("run",), ("compare",), ("merge",)],
    ids=" ".join,
)
def test_a_record_whose_numbers_were_altered_ends_every_command(
    path: Path, command: tuple[str, ...], tmp_path: Path
) -> None:
    folder = path.parent.parent
    plan = {"name": "one", "suite": {"name": "one", "studies": []}, "cases": []}
    (folder / "suite.json").write_text(json.dumps(plan))
    edit(path, metrics={"parameters": [8.0]})
    second = {"compare": [str(folder)], "merge": ["--out", str(tmp_path / "merged")]}
    result = CliRunner().invoke(app, [*command, str(folder), *second.get(command[0], [])])
    assert result.exit_code == 2, result.output
    assert path.name in result.stderr
    assert path.is_file()


def test_a_record_without_a_digest_is_valid(path: Path) -> None:
    edit(path, digest="", defaults={})
    assert set(benchmarks.load(path.parent.parent)["parameters"].dropna()) == {7.0}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"status": "done"', '"status": "done", "status": "done"'),
        ('"dim": 2', '"dim": "2"'),
        ('"updates": 0', '"updates": false'),
        ("7.0", '"7.0"'),
        ("7.0", "true"),
        ("7.0", "NaN"),
        ('"batch": 1', '"batch": 3'),
        ('"depth": 2', '"depth": 3'),
    ],
)
def test_json_is_strict_and_a_case_is_that_of_its_key(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    parsed(text, path.stem)
    with pytest.raises(ValueError, match="it is no"):
        parsed(text.replace(before, after, 1), path.stem)


def test_a_later_record_states_the_defaults_of_an_earlier_one(tmp_path: Path) -> None:
    stated = {"options": {"option": 3}, "settings": {"setting": 5, "nested": {"part": 1}}}
    case = case_of(2).changed(settings={"setting": 6, "nested": {}})
    store.write(tmp_path, record_of(case_of(1)))
    store.write(tmp_path, record_of(case).model_copy(update={"defaults": stated}))
    frame = benchmarks.load(tmp_path).sort_values("batch")
    assert frame["option.option"].tolist() == [3, 3]
    assert frame["setting.setting"].tolist() == [5, 6]
    assert frame["setting.nested"].iloc[1] == {"part": 1}
