"""`flowgauge check`: its tables, its exit status, flows of a file."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest
from typer.testing import CliRunner

import flows
from benchmarks.cli.app import app

cli = CliRunner()


def test_check_prints_a_table_for_each_flow_and_dimension_and_writes_its_figures(tmp_path):
    file = tmp_path / "figures.csv"
    arguments = ["planar", "realnvp", "--dim", "1", "--dim", "2", "-s", "layers=2"]
    result = cli.invoke(app, ["check", *arguments, "--csv", str(file)])
    assert result.exit_code == 0
    assert "planar, D = 2: passed" in result.stdout
    assert "a coupling needs" in result.stdout  # why it cannot be built at D = 1
    assert "2 flows at 2 dimensions: all passed" in result.stdout
    rows = pd.read_csv(file)
    assert set(zip(rows["flow"], rows["dim"], strict=True)) == set(
        itertools.product(("planar", "realnvp"), (1, 2))
    )
    assert set(rows["status"]) == {"pass", "not applicable"}
    passed = rows[rows["status"] == "pass"]
    assert (passed["figure"] <= passed["bound"]).all()


BROKEN = """
import flows
from nflows.transforms import LULinear


class Wrong(LULinear):
    def forward(self, inputs, context=None):
        z, ladj = super().forward(inputs, context)
        return z, ladj + 0.01


@flows.register("wrong_constant", uses=())
def wrong(dim):
    \"\"\"A log-determinant that is off by a constant.\"\"\"
    return Wrong(dim)
"""


@pytest.mark.filterwarnings("ignore:.*triangular_solve is deprecated")
def test_check_of_a_file_judges_what_it_registers(tmp_path):
    file = tmp_path / "wrong_flow.py"
    file.write_text(BROKEN)
    result = cli.invoke(app, ["check", str(file), "--dim", "2"])
    assert result.exit_code == 1
    assert "wrong_constant, D = 2: FAILED" in result.stdout
    failed = [line for line in result.stdout.splitlines() if line.rstrip().endswith("fail")]
    assert any(line.startswith("log-determinant ") for line in failed)
    summary = " ".join(result.stdout.split())
    assert "failed: wrong_constant at D = 2 (log-determinant, " in summary


CONTEXT = """
import flows
import torch


class Shifted(torch.nn.Module):
    def __init__(self, dim, context_dim):
        super().__init__()
        self.net = torch.nn.Linear(context_dim, dim) if context_dim else None

    def shift(self, x, context):
        return torch.zeros_like(x) if context is None else self.net(context)

    def forward(self, x, context=None):
        return x - self.shift(x, context), x.new_zeros(len(x))

    def inverse(self, z, context=None):
        wrong = None if context is None else context[:1].expand_as(context)
        return z + self.shift(z, wrong), z.new_zeros(len(z))


@flows.register("first_context", uses=("context_dim",))
def first(dim, *, context_dim=0):
    \"\"\"Samples all rows for the first one's context.\"\"\"
    return Shifted(dim, context_dim)
"""


def test_check_tries_a_context_by_itself_and_is_brief(tmp_path):
    file = tmp_path / "first_context.py"
    file.write_text(CONTEXT)
    result = cli.invoke(app, ["check", str(file), "planar", "--dim", "3", "--brief"])
    assert result.exit_code == 1
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert any(line.endswith("fail") for line in lines)
    assert not any(line.endswith((" pass", "applicable")) for line in lines)
    verdicts = ("first_context, D = 3: passed", "first_context, D = 3 given a context: FAILED")
    assert {*verdicts, "planar, D = 3: passed"} <= set(lines)
    summary = " ".join(result.stdout.split())
    assert "failed: first_context at D = 3 (round trip from data given a context, " in summary


def test_check_says_where_a_context_is_not_declared(tmp_path):
    """A flow whose factory takes one that `uses` leaves out is judged without it, and says so."""
    file = tmp_path / "shy_context.py"
    text = CONTEXT.replace('("context_dim",)', "()").replace("first_context", "shy_context")
    file.write_text(text)
    result = cli.invoke(app, ["check", str(file), "planar", "--dim", "3"])
    hints = [line for line in result.stdout.splitlines() if "name it in `uses`" in line]
    assert len(hints) == 1
    assert hints[0].startswith("shy_context takes context_dim")
    assert "@flows.register('shy_context', uses=('context_dim',))" in hints[0]
    assert "all passed as far as it was looked at" in result.stdout
    with pytest.raises(ValueError, match=r"'context_dim' \(name it in `uses`\)"):
        flows.build("shy_context", 3, context_dim=2)


DYING = """
import os
import signal

import flows
from nflows.transforms import LULinear


class Dying(LULinear):
    def inverse(self, inputs, context=None):
        os.kill(os.getpid(), signal.SIGSEGV)


@flows.register("dying", uses=())
def dying(dim):
    \"\"\"Its samples end the process.\"\"\"
    return Dying(dim)
"""


def test_a_flow_that_ends_its_process_fails_and_the_next_is_judged(tmp_path):
    file = tmp_path / "dying.py"
    file.write_text(DYING)
    result = cli.invoke(app, ["check", str(file), "planar", "--dim", "1", "--brief"])
    assert result.exit_code == 1
    assert "process: ended by SIGSEGV" in result.stdout
    assert "planar, D = 1: passed" in result.stdout
    assert "failed: dying at D = 1 (process)" in result.stdout


def test_what_cannot_be_imported_fails_where_no_flow_is_named(monkeypatch):
    """A plug-in or a module; the other flows are judged."""
    monkeypatch.setattr(flows, "names", lambda: ["planar"])
    monkeypatch.setitem(flows.members.left_out, "theirs:flow", "ImportError: no such module")
    monkeypatch.setitem(flows.members.left_out, "flows.discrete.mine", "NameError: x")
    result = cli.invoke(app, ["check", "--dim", "1", "--brief"])
    assert result.exit_code == 1
    summary = " ".join(result.stdout.split())
    assert "planar, D = 1: passed" in summary
    assert "failed: plug-in 'theirs:flow' (ImportError: no such module); " in summary
    assert "module 'flows.discrete.mine' (NameError: x)" in summary
