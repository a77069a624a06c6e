"""The conformance kit on every registered flow, and how it is used."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from nflows.transforms import IdentityTransform

import flows
from flows import Flow
from flows.continuous import CNF, MLPField
from flows.discrete.linear import LINEAR

SIZES = {"hidden": 8, "depth": 2, "layers": 2}
FURTHER: tuple[dict[str, int], ...] = ({"depth": 1}, {"depth": 3}, {"context_dim": 2})
SLOW = {"ot_flow", "hollow", "rnode", "zuko_cnf"}  # ODEs that take tens of seconds at D = 10
SAME_FIELD = {"ffjord", "flow_matching"}  # as cnf, whose dimensions and depths are enough
OWN = {  # options beside the sizes
    "glow": [{"linear": name} for name in LINEAR],
    "nsf_coupling": [{"linear": "permutation"}, {"bins": 3, "tail_bound": 2.0}],
    "nsf_ar": [{"bins": 3, "tail_bound": 2.0}],
    "cnf": [{"trace": "loop"}, {"layers": 2, "time": "concatsquash"}, {"train_end_time": True}],
    "ffjord": [{"bottleneck": 1, "trace": "bottleneck"}],
    "flow_matching": [{"coupling": "optimal_transport"}],
}


def _cases() -> Iterator[Any]:
    """Every member at four dimensions, or two, and once with each further size or option."""
    for name in flows.names():
        member = flows.members[name]
        module = flows.members.module_of(name)
        plain = member.applicable(SIZES)
        if module.startswith("flows.continuous"):  # an ODE a layer, which takes its time
            plain |= member.applicable({"layers": 1})
        for dim in (1, 3) if name in SLOW | SAME_FIELD else (1, 2, 3, 10):
            yield pytest.param(name, dim, plain, id=f"{name}-{dim}")
        few = module.startswith("flows.adapters") or name in SLOW | SAME_FIELD
        sizes = FURTHER[-1:] if few else FURTHER
        for change in (*map(member.applicable, sizes), *OWN.get(name, ())):
            if change:
                label = "-".join(f"{key}={value}" for key, value in change.items())
                yield pytest.param(name, 3, {**plain, **change}, id=f"{name}-3-{label}")


@pytest.mark.parametrize(("name", "dim", "options"), list(_cases()))
def test_every_member_conforms(name: str, dim: int, options: dict[str, Any]) -> None:
    """Every row passes, or says why it does not apply."""
    found = flows.check(name, dim=dim, **options)
    assert found.passed, str(found)
    assert all(row.note for row in found.rows if row.status == "not applicable")
    if dim > 1 and not options.get("context_dim"):
        judged = {row.name for row in found.rows if row.status == "pass"}
        assert {"log-determinant", "round trip from data", "batch independence"} <= judged


def test_own_tolerance_shows_in_batch_independence() -> None:
    """An adaptive solver couples the rows: a figure, bounded by its tolerance, but not by any."""
    torch.manual_seed(0)
    solvers = ({"rtol": 1e-3, "atol": 1e-3}, {"method": "rk4", "step_size": 0.25})
    rows = []
    for solver in solvers:
        flow = Flow(CNF(MLPField(2, hidden=8), solver=solver), 2)
        found = flows.check(flow)
        assert found.passed, str(found)
        rows += [r for r in found.rows if (r.name, r.dtype) == ("batch independence", "float64")]
    assert rows[0].value > 1e-8
    assert rows[0].bound == pytest.approx(0.01)  # and not a hundred times 1e-3
    assert rows[1].value < 1e-12


def test_the_random_stream_is_left_alone() -> None:
    """A check in the middle of a training changes nothing of it."""
    before = torch.get_rng_state()
    flows.check("planar", dim=2, layers=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_factory_that_fails_is_a_failed_row() -> None:
    """Not an exception: what is registered is under test."""

    @flows.register("fails", uses=())
    def _fails(dim: int) -> Any:
        """Fails."""
        return 1 / 0

    (row,) = flows.check("fails").failed
    assert (row.name, row.note) == ("construction", "ZeroDivisionError: division by zero")


@pytest.mark.parametrize("rows", [1, 5, 300])
def test_any_number_of_points_and_contexts_serves(rows: int) -> None:
    """One context for all, some, or more than the kit looks at."""
    flow = flows.build("maf", 2, hidden=8, layers=2, context_dim=2)
    found = flows.check(flow, x=torch.randn(rows, 2), context=torch.randn(rows, 2))
    assert found.passed, str(found)


def test_couplings_refuse_one_dimension() -> None:
    """In one line, which is a row that does not apply and no failure."""
    found = flows.check("realnvp", dim=1)
    assert found.passed
    assert [row.name for row in found.rows] == ["construction"]
    assert "dim=1" in found.rows[0].note
    assert "\n" not in found.rows[0].note


@pytest.mark.parametrize(
    ("flow", "options", "error", "message"),
    [
        ("nope", {}, ValueError, "unknown flow 'nope'"),
        ("maf", {"hiden": 3}, ValueError, "no option 'hiden'"),
        ("maf", {"dim": 0}, ValueError, "whole number from 1, got 0"),
        (3, {}, TypeError, "takes a Flow or a registered name, got int"),
        (Flow(IdentityTransform(), 3), {"dim": 3}, ValueError, "dim is for a registered name"),
        (Flow(IdentityTransform(), 3), {"x": torch.ones(3)}, ValueError, r"some rows.*got \(3,\)"),
        (Flow(IdentityTransform(), 3), {"x": torch.ones(2, 4)}, ValueError, r"\(N, 3\), got"),
        ("realnvp", {"context": torch.ones(2, 4)}, ValueError, "takes no context"),
        (Flow(IdentityTransform()), {}, ValueError, r"Flow\(transform, dim=D\)"),
    ],
)
def test_wrong_use_is_named(flow: Any, options: Any, error: Any, message: str) -> None:
    """What cannot be judged at all raises, in one line."""
    with pytest.raises(error, match=message):
        flows.check(flow, **options)


def test_the_table_has_every_row() -> None:
    """As text: a line for each row with figure, bound and status, after the verdict."""
    found = flows.check("planar", dim=2, layers=2)
    lines = str(found).splitlines()
    assert lines[0] == "planar, D = 2: passed"
    for line, row in itertools.zip_longest(lines[1:], found.rows):
        assert line.startswith(row.name)
        assert row.status in line


def test_the_kit_is_loaded_when_it_is_asked_for() -> None:
    """``import flows`` and a build leave it out; ``flows.check`` loads it."""
    program = (
        "import sys, flows; flows.build('planar', 2)\n"
        "assert 'flows.conformance' not in sys.modules\n"
        "assert flows.check('planar', dim=2, layers=1).passed\n"
        "assert isinstance(flows.Conformance, type)\n"
        "assert 'flows.conformance' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
