"""`flowgauge check`: tables, exit status, flows of a file, families of a library."""

import itertools
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import flows
from benchmarks.cli import check
from documents import ROOT
from flows.conformance import ROWS
from runs import flowgauge, until

JUDGED = Path(__file__).with_name("judged_flows.py")


def test_check_prints_a_table_for_each_flow_and_dimension_and_writes_its_figures(tmp_path):
    file = tmp_path / "figures.csv"
    arguments = ["planar", "realnvp", "--dim", "1", "--dim", "2", "-s", "layers=2"]
    result = flowgauge("check", *arguments, "--csv", file, "--long")
    assert "planar, D = 2: passed" in result.stdout
    assert "a coupling needs" in result.stdout  # why it cannot be built at D = 1
    assert "2 flows at 2 dimensions: all passed" in result.stdout
    assert " pass " in result.stdout
    rows = pd.read_csv(file)
    judged = set(zip(rows["flow"], rows["dim"], strict=True))
    assert judged == set(itertools.product(("planar", "realnvp"), (1, 2)))
    assert set(rows["status"]) == {"pass", "not applicable"}
    passed = rows[rows["status"] == "pass"]
    assert (passed["figure"] <= passed["bound"]).all()


@pytest.mark.filterwarnings("ignore:.*triangular_solve is deprecated")
def test_flows_of_a_file_are_judged_each_in_its_own_process():
    """With a context too where they declare one; only what failed is shown, with what it is."""
    result = flowgauge("check", JUDGED, "planar", "--dim", 3, status=1)
    lines = {line.rstrip() for line in result.stdout.splitlines()}
    assert lines >= {
        "missing, D = 3: FAILED",
        "context, D = 3: passed",
        "context, D = 3 given a context: FAILED",
        "undeclared, D = 3: passed",
        "planar, D = 3: passed",
    }
    assert any(line.startswith("log-determinant ") and line.endswith("fail") for line in lines)
    assert not any(line.endswith((" pass", "applicable")) for line in lines)
    summary = " ".join(result.stdout.split())
    for fault in (
        "missing at D = 3 (log-determinant, ",
        "dying at D = 3 (process)",
        "context at D = 3 (round trip from data given a context, ",
    ):
        assert fault in summary
    assert "ended by SIGSEGV" in summary
    (hint,) = (line for line in lines if "name it in `uses`" in line)
    assert hint.startswith("undeclared takes context_dim")
    with pytest.raises(ValueError, match=r"'context_dim' \(name it in `uses`\)"):
        flows.build("undeclared", 3, context_dim=2)
    for name, *words in (
        ("missing", "column 2", "missing"),
        ("turned", "column 2", "sign"),
        ("bent", "rounded to float32"),
    ):
        _, _, notes = result.stdout.partition(f"{name}, D = 3: FAILED")[2].partition("  fail")
        assert all(word in notes.partition("FAILED")[0] for word in words)


@pytest.mark.parametrize("row", [row.name for row in ROWS])
def test_every_row_is_explained(row):
    assert flowgauge("check", "--explain", row).stdout.startswith(f"{row}: ")


def test_what_cannot_be_imported_fails_where_no_flow_is_named(monkeypatch):
    monkeypatch.setattr(flows, "names", lambda: ["planar"])
    monkeypatch.setitem(flows.members.left_out, "theirs:flow", "ImportError: no such module")
    monkeypatch.setitem(flows.members.left_out, "flows.discrete.mine", "NameError: x")
    summary = " ".join(flowgauge("check", "--dim", 1, status=1).stdout.split())
    assert "planar, D = 1: passed" in summary
    assert "failed: plug-in 'theirs:flow' (ImportError: no such module); " in summary
    assert "module 'flows.discrete.mine' (NameError: x)" in summary


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
CELLS = ("zuko", "1", "zuko_maf", 2, "float64", "moved", "deepcopy", 0.0, 0.0, True)
ROW: dict[str, Any] = dict(zip(check.FIELDS, CELLS, strict=True))
FAILED = {**ROW, "passed": False}


@pytest.fixture(autouse=True)
def _limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "LIMIT", 6.0)


@pytest.mark.slow
def test_a_family_that_fails_in_any_way_is_a_failed_row(tmp_path):
    plugin, file = tmp_path / "wave_bad.py", tmp_path / "rows.json.gz"
    plugin.write_text(PLUGIN)
    arguments = "--library", "wave", "--plugin", plugin, "--quick", "--dim", 2
    flowgauge("check", *arguments, "--json", file, status=1)
    rows = check.read_rows(file)
    assert all(tuple(row) == check.FIELDS for row in rows)
    failed = {(row["family"], row["row"]) for row in rows if row["passed"] is False}
    assert failed == {
        ("wave_die", "process"),
        ("wave_hang", "time limit"),
        ("wave_refuses", "construction"),
    }
    assert "log-determinant" in {row["row"] for row in rows if row["family"] == "wave_hang"}
    sound = {row["row"] for row in rows if row["family"] == "wave_sound"}
    assert {"log-determinant", "total mass", "small batches"} <= sound
    assert "0 verdicts changed" in flowgauge("check", *arguments, "--against", file).output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_rows_of_a_command_that_is_ended_are_one_json_list(number, tmp_path):
    file = tmp_path / "rows.json"
    options = "--library", "nflows", "--quick", "--json", str(file)
    process = subprocess.Popen([sys.executable, "-m", "benchmarks", "check", *options], cwd=ROOT)
    until(lambda: file.exists() and json.loads(file.read_text()), "a family is judged")
    process.send_signal(number)
    assert process.wait() == (-number if number == signal.SIGKILL else 130)
    assert {tuple(row) for row in json.loads(file.read_text())} == {check.FIELDS}


def test_a_change_is_one_of_verdict():
    assert check.changes([ROW], [{**ROW, "figure": 0.2, "version": "2"}]) == []
    assert check.changes([ROW, {**FAILED, "dim": 64}], [ROW]) == []
    assert check.changes([ROW], [{**FAILED, "row": check.LATE}]) == []
    (line,) = check.changes([ROW], [FAILED])
    assert line == "zuko_maf, D = 2, float64, moved parameters, deepcopy: passed before, failed now"
    (line,) = check.changes([ROW], [ROW, {**ROW, "row": "loss"}])
    assert line.endswith("loss: no row before, passed now")
    lines = check.changes([ROW], [{**ROW, "family": "zuko_new"}])
    assert lines == ["zuko_new: no rows before", "zuko_maf: no rows now"]


def test_an_absent_library_says_how_to_install_it(tmp_path):
    plugin = tmp_path / "absent_bad.py"
    plugin.write_text(PLUGIN.replace("wave", "absent"))
    result = flowgauge("check", "--library", "absent", "--plugin", plugin, status=2)
    assert "pip install absent" in result.stderr


def test_the_page_has_every_family_and_failed_row_of_the_committed_file():
    failed: dict[str, set[str]] = {}
    for row in check.read_rows(ROOT / "results" / "audit.json.gz"):
        if row["passed"] is False:
            failed.setdefault(row["family"], set()).add(row["row"])
    page = (ROOT / "docs" / "audit.md").read_text()
    table = {
        family: set(rows.split(", "))
        for families, rows in re.findall(r"^\| (`.*`) \| (.*) \|$", page, re.M)
        for family in re.findall("`(.+?)`", families)
    }
    assert table == failed
