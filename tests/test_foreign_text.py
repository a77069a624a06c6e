"""Text of others (errors, records, plans, names): plain in every output, and never the end."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flows
from benchmarks.core import locks, store
from benchmarks.core.formats import LONGEST, brief, plain, readable
from benchmarks.core.frame import plan_of
from benchmarks.core.study import Result
from benchmarks.execution.suite import Suite
from flows.plugins import described, load_plugin
from flows.registry import Registry
from records import edit, put
from runs import flowgauge, refused

HOSTILE = "[/x] [bold] \x1b[31mred\x1b]0;title\x07 \u202eback \x9b5m \r<b> | `c` \ud800"
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message for you")


@given(st.text(st.characters()))
def test_text_is_plain_once_and_for_all(text: str) -> None:
    for value in (plain(text), brief(text), readable([{text: text}])[0].popitem()[1]):
        assert not CONTROLS.search(value)
        assert plain(value) == value
        value.encode()
    assert len(brief(text).splitlines()) == 1
    assert brief(brief(text)) == brief(text)


@pytest.mark.parametrize(
    "error",
    [RuntimeError(HOSTILE), RuntimeError("x" * 10**7), RuntimeError("\n \n"), Mute(), Exception()],
    ids=["hostile", "long", "empty", "mute", "nothing"],
)
def test_any_error_is_a_failure_of_one_plain_line(error: Exception) -> None:
    failure = Result.of(error).failure
    assert failure.startswith(type(error).__name__)
    assert brief(failure) == failure
    assert len(failure) <= LONGEST + 2
    assert brief(described(error)) == failure
    notes = Result(notes={"why": HOSTILE, HOSTILE: [HOSTILE]}).notes
    assert not CONTROLS.search(str(notes))


COMMANDS = ("status hostile", "status hostile --json -", "claims hostile --only cost-* --json")
COMMANDS += ("compare hostile hostile", "compare hostile hostile --markdown -")
COMMANDS += ("merge hostile --out joined", "pack hostile")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_print_records_of_others_plainly(tmp_path, monkeypatch, command) -> None:
    monkeypatch.chdir(tmp_path)
    path, text = put(Path("hostile"), log_prob_seconds=1.0), HOSTILE.replace("\ud800", "")
    edit(path, reason=text, status="failed", commit=text, block=text)
    edit(path, machine={"cpu": text}, versions={"torch": text}, started=text)
    plan = {"name": text, "about": text, "suite": {"name": text, "studies": []}}
    cases = [{"key": path.stem, "study": "cost", "label": text}]
    Path("hostile/suite.json").write_text(json.dumps(plan | {"cases": cases}))
    assert not CONTROLS.search(flowgauge(*command.split(), status=None).output)


def test_a_record_of_a_case_with_control_characters_is_left_out(tmp_path: Path) -> None:
    path = put(tmp_path)
    record = json.loads(path.read_bytes())
    edit(path, case=record["case"] | {"flow": "real\x1b[31mnvp"})
    with pytest.warns(UserWarning, match="control characters"):
        assert not store.read(tmp_path)


@pytest.mark.parametrize(
    "content", ["[" * 10**5, '{"a":' * 10**5, "\ufeff{}", '"\\ud800"', "1" * 9999]
)
def test_json_that_is_no_record_is_one_warning(tmp_path: Path, content: str) -> None:
    path = put(tmp_path)
    path.write_text(content)
    (tmp_path / "suite.json").write_text(content)
    with pytest.warns(UserWarning, match="no record"):
        assert not store.read(tmp_path)
    with pytest.raises(ValueError, match=r"suite\.json"):
        plan_of(tmp_path, {})


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\nb", "a\ud800"])
def test_a_name_is_a_line_of_text(name: str) -> None:
    registry: Registry[int] = Registry("thing", ())
    with pytest.raises(ValueError, match="rename it"):
        registry.add(name, 1, __name__)


def test_a_folder_whose_name_is_not_text_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "results\udcff"
    with pytest.raises(store.FolderError, match="UTF-8"), locks.held(folder):
        pass
    put(folder)
    with pytest.raises(store.FolderError, match="UTF-8"):
        store.existing(folder)


ACTS = (
    *("raise SystemExit(0)", "import sys; sys.exit()", "raise Mute", "import os; os._exit(0)"),
    *("raise GeneratorExit", "raise KeyboardInterrupt", "raise BaseException"),
    *(f"import flows; flows.{name} = print" for name in ("build", "members", "fit")),
)


@pytest.mark.parametrize("act", ACTS)
def test_a_plug_in_that_exits_is_refused(tmp_path: Path, act: str) -> None:
    """Exit status 0 would say that all cases are done."""
    path, before = tmp_path / "exits.py", flows.build
    path.write_text(f"class Mute(Exception):\n    def __str__(self): 1 / 0\n{act}\n")
    with pytest.raises(ValueError, match=r"exits\.py' cannot be imported"):
        load_plugin(path)
    flowgauge("run", "smoke", "--plugin", path, status=2)
    assert flows.build is before
    assert flows.fit is not print


def test_links_without_an_end_are_refused_in_one_line(tmp_path: Path) -> None:
    for name in ("loop", "loop.py", "loop.csv", "loop.json"):
        (tmp_path / name).symlink_to(name)
    loop, put_here = tmp_path / "loop", put(tmp_path / "whole")
    for command in (
        ("report", loop),
        ("merge", tmp_path / "whole", "--out", loop),
        ("pack", loop),
        ("compare", put_here, tmp_path / "loop.json"),
        ("check", tmp_path / "loop.py"),
        ("data", "info", tmp_path / "loop.csv"),
        ("status", "smoke", "--out", tmp_path / "whole", "--json", tmp_path / "loop.json"),
    ):
        refused(*command)


@pytest.mark.parametrize("limit", ["inf", "nan", "0", "-1", "1e30"])
@pytest.mark.parametrize("field", ["time_limit", "memory_share"])
def test_a_limit_is_a_number_that_the_system_takes(field: str, limit: str) -> None:
    with pytest.raises(ValueError, match=field):
        Suite.model_validate({"name": "s", "studies": (), field: float(limit)})
