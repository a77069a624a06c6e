"""An audit as it runs: families that die or hang are rows, nothing is lost, changes show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.audit import ledger, page, plan, scripts, session
from benchmarks.audit.comparison import changes
from benchmarks.audit.known import faults
from benchmarks.audit.ledger import FIELDS, Ledger
from benchmarks.cli.app import app
from flows.conformance import ROWS
from flows.plugins import load_plugin

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


for name, act in {"die": lambda: os.kill(os.getpid(), signal.SIGKILL), "hang": hang}.items():
    flows.register(f"wave_{name}", uses=(), requires="wave")(lambda dim, *, act=act: Bad(act))
flows.register("wave_sound", uses=(), requires="wave")(lambda dim: IdentityTransform())
"""
ROW: dict[str, Any] = dict(
    zip(FIELDS, ("zuko", "1", "zuko_maf", 2, "float64", "moved"), strict=False)
)
ROW |= {"row": "total mass", "figure": 0.1, "bound": 1e-3, "passed": True, "confirmed": None}
FAULT = {**ROW, "passed": False, "confirmed": True}


@pytest.mark.system
def test_a_family_that_dies_or_hangs_is_a_row(tmp_path: Path) -> None:
    """Rows that were measured before stay; the other families have all of theirs."""
    (tmp_path / "bad.py").write_text(PLUGIN)
    load_plugin(tmp_path / "bad.py")
    book = Ledger(tmp_path / "audit.json")
    scope = plan.Scope((2,), ("float64",), limit=3.0)
    done = list(session.audit(plan.libraries(["wave"]), scope, book, 1))
    assert len(done) == 5  # after a hang a family ends
    rows = ledger.read(tmp_path / "audit.json")
    assert all(tuple(row) == FIELDS for row in rows)
    failed = {(r["family"], r["row"]) for r in rows if r["passed"] is False}
    assert failed == {("wave_die", session.CRASH), ("wave_hang", session.LATE)}
    assert not any(row["confirmed"] for row in rows)  # no lines of the library
    sound = {row["row"] for row in rows if row["family"] == "wave_sound"}
    assert {"log-determinant", "total mass", "small batches"} <= sound
    assert "log-determinant" in {row["row"] for row in rows if row["family"] == "wave_hang"}
    again = session.audit(plan.libraries(["wave"]), scope, Ledger(book.path), 1)
    assert {judged.task["family"] for judged in again} <= {"wave_hang"}  # what the hang left out


def test_rows_are_resumed_and_other_versions_dropped(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    script = {**{key: ROW[key] for key in ("family", "row")}, "confirmed": False}
    Ledger(path).add([ROW], [script])
    book = Ledger(path)
    book.add([FAULT], [{**script, "confirmed": True}])
    assert json.loads(path.read_text()) == [ROW, FAULT]
    assert [entry["confirmed"] for entry in ledger.read_scripts(path)] == [True]
    assert book.tasks == {tuple(ROW[key] for key in ledger.TASK)}
    book.forget("zuko", "2")
    assert (book.rows, book.scripts) == ([], [])
    path.write_text('[{"library": "zuko"}]')
    with pytest.raises(ValueError, match=r"audit\.json.*fields"):
        Ledger(path)


def test_a_change_is_one_of_verdict() -> None:
    """Figures, libraries that are absent and families that took too long are none."""
    scope = plan.QUICK
    late = {**FAULT, "row": session.LATE}
    assert changes([ROW], [{**ROW, "figure": 0.2, "version": "2"}], scope) == []
    assert changes([ROW, FAULT], [{**ROW, "library": "nflows"}], scope) == []
    assert changes([ROW], [late], scope) == []
    for after in ([FAULT], [{**ROW, "row": "deepcopy"}, ROW]):
        (line,) = changes([ROW], after, scope)
        assert "zuko_maf, D = 2, float64, moved parameters" in line
    assert changes([ROW], [ROW, {**FAULT, "family": "zuko_new"}], scope) == [
        "zuko_new: no rows before"
    ]
    assert changes([{**ROW, "dim": 10}], [{**FAULT, "dim": 10}], scope) == []


def test_known_faults_name_families_and_rows() -> None:
    rows = {row.name for row in ROWS}
    for fault in faults():
        assert set(fault["families"]) <= set(scripts.families(fault["library"])), fault
        assert set(fault["rows"]) <= rows, fault
        assert fault["otherwise"]
    assert "seen: log-determinant" in page.page(
        [{**FAULT, "library": "nflows", "family": "nflows_leaky_relu", "row": "log-determinant"}],
        [],
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonesuch"], "nonesuch"),
        (["--json", "a.json", "--against", "a.json"], "a.json"),
    ],
)
def test_wrong_use_is_named(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["audit", *arguments])
    assert result.exit_code == 2
    assert message in result.output
