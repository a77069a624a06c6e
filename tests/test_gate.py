"""The gate: injected regressions of every kind are found, and harmless reruns pass."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from nflows.transforms import CompositeTransform
from torch import nn

import flows
from benchmarks.core.case import Case
from benchmarks.core.record import Record
from benchmarks.execution.versions import dependencies
from benchmarks.measure.calls import measured
from flows.bijection import Bijection
from flows.registry import Declared
from records import HERE, cost, folder, outcomes, record

Factory = Callable[[int], Bijection | flows.Flow]


class Detour(nn.Module):
    """A layer that multiplies by a matrix once more than it has to."""

    def __init__(self, layer: nn.Module, dim: int) -> None:
        super().__init__()
        self.layer, self.mix = layer, nn.Linear(dim, dim)

    def forward(self, x, context=None):
        return self.layer(x + 0 * self.mix(x), context)

    def inverse(self, z, context=None):
        return self.layer.inverse(z, context)


def solved(dim: int, *, steps: int = 4, hidden: int = 8) -> flows.Flow:
    """A CNF on so many Euler steps."""
    solver = {"method": "euler", "step_size": 1 / steps, "gradient": "backprop"}
    return flows.build("cnf", dim, hidden=hidden, depth=1, solver=solver)


def coupled(dim: int, *, detour: bool = False) -> CompositeTransform:
    """Two couplings, one of them with a detour."""
    layers = [flows.build("realnvp", dim, hidden=8, layers=1).transform for _ in range(2)]
    return CompositeTransform([Detour(layers[0], dim) if detour else layers[0], layers[1]])


@pytest.fixture
def counted() -> Callable[[Factory], Record]:
    """Counts the calls of a flow that is registered as "subject"."""
    flows.names()
    case = Case(study="cost", flow="subject", dim=3, batch=4, settings={"seconds": 0.0})

    def count(factory: Factory) -> Record:
        flows.register("subject", uses=())(lambda dim: factory(dim))
        ((_, result),) = measured([case])
        assert not result.failure
        return record(case, dict(result.metrics))

    return count


REGRESSIONS: dict[str, tuple[Factory, Factory, set[str]]] = {
    "the same again": (solved, solved, set()),
    "a slower layer": (
        coupled, lambda dim: coupled(dim, detour=True), {"log_prob_flops", "step_flops"},
    ),
    "one more evaluation of f": (
        solved, lambda dim: solved(dim, steps=5), {"log_prob_nfe", "step_nfe", "log_prob_flops"},
    ),
    "a wider net": (
        solved, lambda dim: solved(dim, hidden=9), {"parameters", "log_prob_flops", "step_flops"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_counts_of_a_changed_flow_fail(kind, counted, gate):
    before, after, expected = REGRESSIONS[kind]
    verdict = gate([counted(before)], [counted(after)])
    worse = {c.metric for c in verdict.failures}
    assert expected <= worse
    assert bool(worse) == bool(expected)
    assert {c.kind for c in verdict.failures} <= {"exact", "quality"}  # of sampling


def test_counts_do_not_depend_on_threads_machine_or_time_spent(gate):
    elsewhere = {"threads": 2, "settings": {"seconds": 60.0}}
    machine = {**HERE, "cpu": "another"}
    verdict = gate([cost()], [cost(case=elsewhere, machine=machine)])
    assert not verdict.failures
    (time,) = (c for c in verdict.comparisons if c.kind == "time")
    assert (time.outcome, "another" in time.note) == ("incomparable", True)
    assert "log_prob_flops" in outcomes(gate([cost()], [cost(flops=101, case=elsewhere)]))


def test_a_side_with_several_numbers_of_threads_is_compared_by_them(gate):
    both = [cost(flops=n, case={"threads": n}) for n in (1, 2)]
    assert not gate(both, both).failures


def test_evaluations_of_an_adaptive_solver_are_no_exact_counts(gate):
    def solve(method: str, nfe: float) -> Record:
        step = {"step_size": 0.25} if method == "rk4" else {}
        options = {"solver": {"method": method, **step}}
        case = Case(study="cost", flow="cnf", dim=2, batch=4, options=options)
        return record(case, {"log_prob_nfe": nfe, "parameters": 5.0, "rate_flops": 2 * nfe})

    assert outcomes(gate([solve("rk4", 20)], [solve("rk4", 26)]))["log_prob_nfe"] == "worse"
    verdict = gate([solve("dopri5", 20)], [solve("dopri5", 26)])
    assert outcomes(verdict) == {
        "log_prob_nfe": "unjudged",
        "rate_flops": "worse",  # one evaluation costs the same whatever the solver does
    }


# cases


def test_records_of_an_earlier_version_are_said_to_be_old(gate):
    now = dependencies(cost().case).declared
    current = cost(declared=now)
    assert not gate([current], [current]).aged
    verdict = gate([current], [cost(declared=now | {"flow realnvp": Declared(99)})])
    assert list(verdict.aged.values()) == [1]
    assert any("older than the code" in line for line in verdict.summary)


def test_records_that_are_no_longer_planned_have_vanished(gate, tmp_path):
    """A case that was taken out of a suite leaves its record in the folder."""
    plan = {"name": "ci", "cases": [{"key": cost(2).key, "study": "cost"}]}
    folder(tmp_path / "new", cost(2), cost(3))
    (tmp_path / "new" / "suite.json").write_text(json.dumps(plan))
    assert outcomes(gate([cost(2), cost(3)], [])) == {"case": "vanished"}
