"""The conformance kit: every registered flow passes it, and every broken one is caught."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from nflows.transforms import ActNorm, CompositeTransform, IdentityTransform
from torch import Tensor

import flows
from broken_flows import BROKEN, ERRORS, Affine, Beside, Broken, Scale
from continuous_fields import moved
from flows import Flow
from flows.conformance import GIVEN, ROWS
from flows.continuous import CNF, MLPField
from flows.continuous import trace as traces
from flows.discrete.nflows_compat import LULinear
from flows.discrete.transformers import CausalTransformer
from variants import variants

SIZES = {"hidden": 8, "depth": 2, "layers": 2, "context_dim": 0}  # variants have one
SMALL = {"hidden": 4, "depth": 2, "layers": 1, "context_dim": 0}  # of our ODEs
STEPS = {"method": "rk4", "step_size": 0.1}
DOUBLE = torch.float64


def _cases() -> Iterator[Any]:
    """Every member at some dimensions, in float32 too at three, and once with each variant."""
    for name in flows.own():
        member, dear = flows.members[name], _dear(name)
        plain = member.applicable(SMALL if "solver" in member.defaults else SIZES)
        steps = {"solver": STEPS} if "solver" in member.defaults else {}
        cases = {f"{dim}": (dim, plain, DOUBLE) for dim in ((1, 3) if dear else (1, 2, 3, 10))}
        cases["3-float32"] = (3, plain, torch.float32)
        for variant in variants(name):
            label = "-".join(f"{key}={value}" for key, value in variant.items())
            dim = 3 if dear else 2  # where the mass is integrated, at thousands of points
            cases[f"{dim}-{label}"] = (dim, {**plain, **steps, **variant}, DOUBLE)
        for label, case in cases.items():
            marks = [pytest.mark.slow] if dear and label != "3" else []
            yield pytest.param(name, *case, id=f"{name}-{label}", marks=marks)


def _dear(name: str) -> bool:
    """Whether the member takes its time: it solves an ODE, or attends."""
    modules = list(flows.build(name, 2).modules())
    return any(hasattr(m, "tolerance") or isinstance(m, CausalTransformer) for m in modules)


@pytest.mark.parametrize(("name", "dim", "options", "dtype"), list(_cases()))
def test_every_member_conforms(name, dim, options, dtype):
    stream = torch.get_rng_state()
    result = flows.check(name, dim=dim, dtypes=[dtype], **options)
    assert torch.equal(torch.get_rng_state(), stream)
    assert result.passed, str(result)
    assert all(row.note for row in result.rows if row.status == "not applicable")
    if dim > 1:
        judged = {row.name for row in result.rows if row.status in ("pass", "expected")}
        assert judged >= {"log-determinant", "round trip from data", "batch independence"}


def test_own_tolerance_shows_in_batch_independence():
    """An adaptive solver couples the rows: a figure, bounded by its tolerance, but not by any."""
    adaptive = {"rtol": 1e-3, "atol": 1e-3, "first_step": "torchdiffeq"}
    rows = []
    for solver in (adaptive, {"method": "rk4", "step_size": 0.25}):
        result = flows.check(Flow(CNF(MLPField(2, hidden=8), solver=solver), 2))
        assert result.passed, str(result)
        rows += [r for r in result.rows if (r.name, r.dtype) == ("batch independence", "float64")]
    assert rows[0].value > 1e-8
    assert rows[0].bound == pytest.approx(0.01)  # and not a hundred times 1e-3
    assert rows[1].value < 1e-12


@pytest.mark.parametrize("rows", [1, 5, 300])
def test_any_number_of_points_and_contexts_serves(rows):
    flow = flows.build("maf", 2, hidden=8, layers=2, context_dim=2)
    result = flows.check(flow, x=torch.randn(rows, 2), context=torch.randn(rows, 2))
    assert result.passed, str(result)


@pytest.mark.parametrize(
    ("flow", "options", "error", "message"),
    [
        ("maf", {"dim": 0}, ValueError, "dim.*0"),
        (3, {}, TypeError, "int"),
        (Flow(IdentityTransform(), 3), {"dim": 3}, ValueError, "dim"),
        (Flow(IdentityTransform(), 3), {"x": torch.ones(2, 4)}, ValueError, r"\(N, 3\).*, 4\)"),
        ("realnvp", {"context": torch.ones(2, 4)}, ValueError, "context"),
        (Flow(IdentityTransform()), {}, ValueError, "dim=D"),
    ],
)
def test_wrong_use_is_named(flow, options, error, message):
    with pytest.raises(error, match=message):
        flows.check(flow, **options)


def test_every_row_has_a_flow_that_it_catches():
    """But for the estimates', whose test is below."""
    rows = {row.name for row in ROWS} | {"interface"}
    caught = {row for _, row in BROKEN.values()}.union(*(found for _, found in ERRORS.values()))
    assert caught == rows - {"estimated log-determinant"}


@pytest.mark.parametrize("before", [False, True])
def test_the_column_is_named_behind_a_linear_layer_too(before):
    linear = moved(LULinear(4)).float()
    order = [Scale(4, 0, 1), linear] if before else [linear, Scale(4, 0, 1)]
    rows = {r.name: r for r in flows.check(Flow(CompositeTransform(order), 4)).rows}
    assert f"part {order.index(linear) ^ 1} " in rows["log-determinant"].note
    assert "Scale: most in column 2 " in rows["log-determinant"].note
    assert rows["inverse log-determinant"].status == "pass"


@pytest.mark.filterwarnings("ignore:.*triangular_solve is deprecated")
@pytest.mark.parametrize("label", BROKEN)
def test_a_broken_flow_is_caught(label):
    make, row = BROKEN[label]
    flow = make()
    result = flows.check(flow, context=torch.randn(40, 3) if flow.context_dim else None)
    assert row in {failed.name for failed in result.failed}, str(result)
    assert not result.passed


def test_a_flow_that_is_judged_stays_as_it_was():
    """Its buffers too, such as those of normalisations that are set from their first rows."""
    sound = Flow(Broken(), 3)
    for flow in (sound, Flow(CompositeTransform([ActNorm(2), LULinear(2)]), 2)):
        before = copy.deepcopy(flow.state_dict())
        result = flows.check(flow)
        assert result.passed or flow is not sound, str(result)
        torch.testing.assert_close(flow.state_dict(), before, rtol=0, atol=0)
        assert all(parameter.grad is None for parameter in flow.parameters())


@pytest.mark.slow
def test_a_biased_estimate_is_caught(monkeypatch):
    sound = traces.TRACES["hutchinson"]

    def biased(*args: Any) -> tuple[Tensor, Tensor]:
        dx, trace = sound.rate(*args)
        return dx, 1.05 * trace + 0.05

    flow = Flow(CNF(MLPField(3, hidden=8), trace="hutchinson"), 3)
    assert flows.check(flow).passed
    monkeypatch.setitem(traces.TRACES, "hutchinson", replace(sound, rate=biased))
    assert {row.name for row in flows.check(flow).failed} == {"estimated log-determinant"}


def test_state_that_is_not_saved_is_caught():
    """A random permutation kept outside the state: another build of the name has another."""
    flows.register("shuffled", uses=())(lambda dim: Beside())
    result = flows.check("shuffled", dim=3)
    assert {row.name for row in result.failed} == {"state through safetensors"}, str(result)


def _registered(family: Callable[..., Affine]) -> str:
    register = flows.register("conditional_affine", uses=("context_dim",))
    register(lambda dim, *, context_dim=0: family(dim, context_dim))
    return "conditional_affine"


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_sound_family_is_judged_with_and_without_a_context(dim):
    result = flows.check(_registered(Affine), dim=dim)
    assert result.passed, str(result)
    assert flows.check(Flow(Affine(dim, 3), dim, 3)).passed
    judged = {row.name for row in result.rows if row.status == "pass"}
    assert {"log-determinant", f"log-determinant{GIVEN}", f"contexts in turn{GIVEN}"} <= judged
    assert "contexts in turn" not in judged


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_in_the_context_alone_is_found(error):
    family, rows = ERRORS[error]
    result = flows.check(_registered(family), dim=2, dtypes=[torch.float64])
    failed = {row.name for row in result.failed}
    assert {name + GIVEN for name in rows} <= failed, str(result)
    assert all(name.endswith(GIVEN) for name in failed), str(result)
    instance = flows.check(Flow(family(2, 3), 2, 3).eval(), dtypes=[torch.float64])
    assert rows <= {row.name for row in instance.failed}, str(instance)


def test_what_cannot_be_built_is_a_row():
    @flows.register("fails", uses=())
    def _fails(dim: int) -> Affine:
        raise ZeroDivisionError("no flow here")

    @flows.register("refuses_context", uses=("context_dim",))
    def _refuses(dim: int, *, context_dim: int = 0) -> Affine:
        if context_dim:
            raise ValueError("no context here")
        return Affine(dim, 0)

    (fault,) = flows.check("fails").failed
    (given,) = flows.check("refuses_context", dim=2).failed
    assert (fault.name, fault.note) == ("construction", "ZeroDivisionError: no flow here")
    assert given.name == f"construction{GIVEN}"
    assert "no context here" in given.note
    result = flows.check("realnvp", dim=1)
    assert result.passed
    assert [(row.name, "dim=1" in row.note) for row in result.rows] == [("construction", True)]
