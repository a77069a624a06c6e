"""`flowgauge check --library`: rows as they come, families that die or hang, changed verdicts."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import flows
from benchmarks.cli import check
from benchmarks.cli.app import app
from benchmarks.cli.check import FIELDS, changes, read_rows
from documents import ROOT

PLUGIN = """
import os
import signal

import flows
from nflows.transforms import IdentityTransform


class Bad(IdentityTransform):
    def __init__(self, act):
        super().__init__()
        self.act = act

    def inverse(self, inputs, context=None):
        if len(inputs) > 8:  # after the kit has seen the interface
            self.act()
        return super().inverse(inputs, context)


def hang():
    while True:
        pass


def fail():
    raise ValueError("no such size")


for name, act in {"die": lambda: os.kill(os.getpid(), signal.SIGKILL), "hang": hang}.items():
    flows.register(f"wave_{name}", uses=(), requires="wave")(lambda dim, *, act=act: Bad(act))
flows.register("wave_refuses", uses=(), requires="wave")(lambda dim: fail())
flows.register("wave_sound", uses=(), requires="wave")(lambda dim: IdentityTransform())
"""
ROW: dict[str, Any] = dict(
    zip(
        FIELDS,
        ("zuko", "1", "zuko_maf", 2, "float64", "moved", "deepcopy", 0.0, 0.0, True),
        strict=True,
    )
)
FILE = str(ROOT / "results" / "audit.json.gz")
FAILED = {**ROW, "passed": False}


@pytest.fixture(autouse=True)
def _members(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(check, "LIMIT", 6.0)
    with flows.members.temporary():
        yield


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


@pytest.mark.slow
def test_a_family_that_fails_in_any_way_is_a_failed_row(tmp_path: Path) -> None:
    """Rows that were measured before stay, and all families are judged."""
    plugin, file = tmp_path / "wave_bad.py", tmp_path / "rows.json.gz"
    plugin.write_text(PLUGIN)
    arguments = "--library", "wave", "--plugin", plugin, "--quick", "--dim", 2
    result = run(*arguments, "--json", file)
    assert result.exit_code == 1, result.output
    rows = read_rows(file)
    assert all(tuple(row) == FIELDS for row in rows)
    failed = {(row["family"], row["row"]) for row in rows if row["passed"] is False}
    assert failed == {
        ("wave_die", "process"),
        ("wave_hang", "time limit"),
        ("wave_refuses", "construction"),
    }
    before = {row["row"] for row in rows if row["family"] == "wave_hang"}
    assert "log-determinant" in before
    sound = {row["row"] for row in rows if row["family"] == "wave_sound"}
    assert {"log-determinant", "total mass", "small batches"} <= sound
    again = run(*arguments, "--against", file)
    assert (again.exit_code, "0 verdicts changed" in again.output) == (0, True), again.output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_rows_of_a_command_that_is_ended_are_one_json_list(number: int, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    options = "--library", "nflows", "--quick", "--json", str(file)
    process = subprocess.Popen([sys.executable, "-m", "benchmarks", "check", *options], cwd=ROOT)
    while not (file.exists() and json.loads(file.read_text())):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    code = process.wait()
    assert code == (-number if number == signal.SIGKILL else 130)
    assert {tuple(row) for row in json.loads(file.read_text())} == {FIELDS}


def test_a_change_is_one_of_verdict() -> None:
    """Other figures, rows of one of them alone, and what took too long are no changes."""
    late = {**FAILED, "row": check.LATE}
    assert changes([ROW], [{**ROW, "figure": 0.2, "version": "2"}]) == []
    assert changes([ROW, {**FAILED, "dim": 64}], [ROW]) == []
    assert changes([ROW], [late]) == []
    assert changes([ROW], [FAILED]) == [
        "zuko_maf, D = 2, float64, moved parameters, deepcopy: passed before, failed now"
    ]
    (line,) = changes([ROW], [ROW, {**ROW, "row": "loss"}])
    assert line.endswith("loss: no row before, passed now")
    assert changes([ROW], [{**ROW, "family": "zuko_new"}]) == [
        "zuko_new: no rows before",
        "zuko_maf: no rows now",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--library", "nonesuch"], ["nonesuch", "zuko"]),
        (["--library", "nflows", "--csv", "a.csv"], ["--csv", "--library"]),
        (["maf", "--quick"], ["--quick needs --library"]),
        (["--library", "nflows", "--against", "none.json"], ["none.json", "No such file"]),
        (["--library", "nflows", "--against", __file__], [Path(__file__).name, "--json"]),
        (["--library", "nflows", "--json", "/no/rows.json"], ["/no"]),
        (["--library", "nflows", "--dim", "7", "--against", FILE], ["no rows of nflows"]),
    ],
)
def test_wrong_use_is_one_line_with_status_2(arguments: list[str], words: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert all(word in result.stderr for word in words), result.stderr


def test_an_absent_library_says_how_to_install_it(tmp_path: Path) -> None:
    plugin = tmp_path / "absent_bad.py"
    plugin.write_text(PLUGIN.replace("wave", "absent"))
    result = run("--library", "absent", "--plugin", plugin)
    assert (result.exit_code, "pip install absent" in result.stderr) == (2, True)


def test_the_page_has_every_family_and_failed_row_of_the_committed_file() -> None:
    failed: dict[str, set[str]] = {}
    for row in read_rows(Path(FILE)):
        if row["passed"] is False:
            failed.setdefault(row["family"], set()).add(row["row"])
    table: dict[str, set[str]] = {}
    for line in re.findall(
        r"^\| (`.*`) \| (.*) \|$", (ROOT / "docs" / "audit.md").read_text(), re.M
    ):
        for family in re.findall("`(.+?)`", line[0]):
            table[family] = set(line[1].split(", "))
    assert table == failed
