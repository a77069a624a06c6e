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
from variants import variants

SIZES = {"hidden": 8, "depth": 2, "layers": 2, "context_dim": 0}  # variants have one
SMALL = {"hidden": 4, "depth": 2, "layers": 1, "context_dim": 0}  # of our ODEs
STEPS = {"method": "rk4", "step_size": 0.1}
BOTH = (torch.float64, torch.float32)


def _cases() -> Iterator[Any]:
    """Every member at some dimensions, in float32 too at three, and once with each variant."""
    for name in flows.own():
        member = flows.members[name]
        slow = _solves(name)
        plain = member.applicable(SMALL if "solver" in member.defaults else SIZES)
        for dim in (1, 3) if slow else (1, 2, 3, 10):
            dtypes = BOTH if dim == 3 else BOTH[:1]
            marks = [pytest.mark.slow] if slow and dim != 3 else []
            yield pytest.param(name, dim, {**plain}, dtypes, id=f"{name}-{dim}", marks=marks)
        if "solver" in member.defaults:
            plain["solver"] = STEPS
        for variant in variants(name):
            label = "-".join(f"{key}={value}" for key, value in variant.items())
            dim = 3 if slow else 2  # where the mass is integrated, at thousands of points
            options, marks = {**plain, **variant}, [pytest.mark.slow] if slow else []
            yield pytest.param(
                name, dim, options, BOTH[:1], id=f"{name}-{dim}-{label}", marks=marks
            )


def _solves(name: str) -> bool:
    """Whether the member solves an ODE, which takes its time."""
    return any(hasattr(module, "tolerance") for module in flows.build(name, 2).modules())


@pytest.mark.parametrize(("name", "dim", "options", "dtypes"), list(_cases()))
def test_every_member_conforms(
    name: str, dim: int, options: dict[str, Any], dtypes: tuple[torch.dtype, ...]
) -> None:
    """Every row passes, or says why it does not apply."""
    result = flows.check(name, dim=dim, dtypes=dtypes, **options)
    assert result.passed, str(result)
    assert all(row.note for row in result.rows if row.status == "not applicable")
    if dim > 1:
        judged = {(row.name, row.dtype) for row in result.rows if row.status == "pass"}
        required = ("log-determinant", "round trip from data", "batch independence")
        short = [str(dtype).removeprefix("torch.") for dtype in dtypes]
        assert judged >= set(itertools.product(required, short))


def test_own_tolerance_shows_in_batch_independence() -> None:
    """An adaptive solver couples the rows: a figure, bounded by its tolerance, but not by any."""
    torch.manual_seed(0)
    adaptive = {"rtol": 1e-3, "atol": 1e-3, "first_step": "torchdiffeq"}
    solvers = (adaptive, {"method": "rk4", "step_size": 0.25})
    rows = []
    for solver in solvers:
        flow = Flow(CNF(MLPField(2, hidden=8), solver=solver), 2)
        result = flows.check(flow)
        assert result.passed, str(result)
        rows += [r for r in result.rows if (r.name, r.dtype) == ("batch independence", "float64")]
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
    result = flows.check(flow, x=torch.randn(rows, 2), context=torch.randn(rows, 2))
    assert result.passed, str(result)


def test_couplings_refuse_one_dimension() -> None:
    """In one line, which is a row that does not apply and no failure."""
    result = flows.check("realnvp", dim=1)
    assert result.passed
    assert [row.name for row in result.rows] == ["construction"]
    assert "dim=1" in result.rows[0].note
    assert "\n" not in result.rows[0].note


@pytest.mark.parametrize(
    ("flow", "options", "error", "message"),
    [
        ("nope", {}, ValueError, "'nope'"),
        ("maf", {"hiden": 3}, ValueError, "'hiden'"),
        ("maf", {"dim": 0}, ValueError, "dim.*0"),
        (3, {}, TypeError, "int"),
        (Flow(IdentityTransform(), 3), {"dim": 3}, ValueError, "dim"),
        (Flow(IdentityTransform(), 3), {"x": torch.ones(3)}, ValueError, r"x.*\(3,\)"),
        (
            Flow(IdentityTransform(), 3),
            {"x": torch.ones(2, 4)},
            ValueError,
            r"\(N, 3\).*, 4\)",
        ),
        ("realnvp", {"context": torch.ones(2, 4)}, ValueError, "context"),
        (Flow(IdentityTransform()), {}, ValueError, "dim=D"),
    ],
)
def test_wrong_use_is_named(flow: Any, options: Any, error: Any, message: str) -> None:
    """What cannot be judged at all raises, in one line."""
    with pytest.raises(error, match=message):
        flows.check(flow, **options)


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
