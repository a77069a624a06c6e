"""Numerics: identities hold and faults show; errors, memory and evaluations of gradients."""

from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import pytest
import torch
from torchdiffeq import odeint

import flows
from benchmarks.core.case import Case
from benchmarks.core.metrics import METRICS
from benchmarks.core.study import Result, registry, study_of
from benchmarks.execution.plan import tasks
from benchmarks.studies.numerics import study as numerics
from benchmarks.studies.numerics.figures import figures
from benchmarks.studies.numerics.study import IDENTITIES
from benchmarks.studies.numerics.tables import tables, with_solver
from broken_flows import Broken
from flows.continuous import Solver
from flows.continuous.trace import Trace
from measuring import GRADIENTS, cases_of, frame_of, gradient_cases, results_of

STUDY = registry["numerics"]
SMALL: dict[str, Any] = {"part": "identities", "flows": [{"flow": "realnvp"}], "dims": [2]}
SMALL |= {"sizes": {"hidden": 8, "depth": 2}, "batch": 4, "draws": 2000, "times": ["concatsquash"]}
SMALL |= {"blocks": [1, 5], "steps": [8, 16], "methods": ["euler", "rk4"], "bottlenecks": [[6, 2]]}


def cases(identity: str, **changes: Any) -> list[Case]:
    variants = cases_of("numerics", {**SMALL, **changes}, seeds=(3, 4))
    return [case for case in variants if case.settings["identity"] == identity]


def measured(identity: str, **changes: Any) -> list[tuple[Case, Result]]:
    results = results_of(chosen := cases(identity, **changes))
    return [(case, results[case.key]) for case in chosen]


def values(identity: str, metric: str, **changes: Any) -> list[Any]:
    """A metric of each case; a failure is one of the test."""
    pairs = measured(identity, **changes)
    assert not [result.failure for _, result in pairs if result.failure]
    return [result.metrics[metric] for _, result in pairs]


def test_cases_are_told_apart_and_in_float64():
    """Of the first seed, whatever the suite's dtype."""
    every = [case for identity in IDENTITIES for case in cases(identity)]
    assert len({case.key for case in every}) == len(every) > 10
    assert {case.dtype for case in every} == {"float64"}
    assert {case.seeds.init for case in every} == {3}
    everywhere = cases("density", flows=[{"flow": "*"}])
    assert {case.flow for case in everywhere} == set(flows.own())


def test_a_residual_network_is_euler_bit_for_bit(monkeypatch):
    """Not with another method, and not with a network that differs in its last bit."""
    assert values("euler", "different_elements") == [0, 0]
    with monkeypatch.context() as patch:
        patch.setattr(numerics, "Solver", lambda _, **how: Solver("midpoint", **how))
        assert min(values("euler", "different_elements")) > 0
    own = numerics.residual
    monkeypatch.setattr(numerics, "residual", lambda *a: own(*a) * (1 + 2**-52))
    assert min(values("euler", "different_elements")) > 0


def test_orders_are_those_of_the_methods(monkeypatch):
    orders = [order[-1] for order in values("order", "convergence_order")]
    assert orders == [pytest.approx(1, abs=0.2), pytest.approx(4, abs=0.3)]
    swapped = {"rk4": "midpoint"}
    monkeypatch.setattr(numerics, "Solver", lambda by, **how: Solver(swapped.get(by, by), **how))
    assert values("order", "convergence_order")[1][-1] == pytest.approx(2, abs=0.3)


def test_a_wrong_determinant_shows():
    """By as much as it is wrong, and in the mass; of a right one nothing is left."""
    ((_, right),) = measured("density")
    assert right.metrics["ladj_error"] <= right.metrics["ladj_bound"]
    assert right.metrics["mass_error"] <= right.metrics["mass_bound"]
    off = partial(Broken, lambda y, ladj: (y, ladj + 0.1), inverse=False)
    flows.register("scaled_probe", uses=())(lambda dim: off(dim=dim))
    ((_, wrong),) = measured("density", flows=[{"flow": "scaled_probe"}], sizes={})
    assert wrong.metrics["ladj_error"] == pytest.approx(0.1)
    assert wrong.metrics["mass_error"] == pytest.approx(torch.tensor(0.1).expm1().item(), rel=1e-2)


def test_the_rate_is_the_trace(monkeypatch):
    """What is left falls with the fourth power of the steps; not along another field's paths."""
    shallow: dict[str, Any] = {"sizes": {"hidden": 4, "depth": 1}, "times": ["concat"]}
    assert values("rate", "convergence_order", **shallow)[0][-1] == pytest.approx(4, abs=0.3)
    monkeypatch.setattr(
        "torchdiffeq.odeint", lambda f, *a, **k: odeint(lambda t, x: 1.01 * f(t, x), *a, **k)
    )
    ((_, wrong),) = measured("rate", **shallow)
    assert wrong.metrics["rate_error"][-1] > 5e-3
    assert abs(wrong.metrics["convergence_order"][-1]) < 1


def test_estimates_are_unbiased_and_spread_as_theory_has_it():
    """In either space; with orthonormal factors signs have no spread in the smaller one."""
    for case, result in measured("estimate"):
        m: Any = result.metrics
        assert m["cyclic_error"] < 1e-14
        assert m["trace_bias"] < 4.5
        assert abs(m["trace_rmse"] - m["trace_rmse_theory"]) <= 5 * m["trace_rmse_se"] + 1e-12
        trace = Trace.of(case.options["trace"])
        signs = (trace.estimator, trace.noise) == ("bottleneck", "rademacher")
        assert (m["trace_rmse"] < 1e-12) == (signs and case.settings["field"] == "projection")


def test_a_biased_estimate_shows(monkeypatch):
    draw = Trace.draw
    monkeypatch.setattr(Trace, "draw", lambda *a: [1.5 * e for e in draw(*a)])
    assert min(values("estimate", "trace_bias")) > 4.5


def test_a_trace_of_other_factors_shows(monkeypatch):
    own = numerics.inner_jacobian
    monkeypatch.setattr(numerics, "inner_jacobian", lambda s: own(s).roll(1, -1))
    assert max(values("estimate", "cyclic_error")) > 0.01


def test_tables_and_figures_of_every_identity():
    """A failed case stops none; units are known; an empty frame has none."""
    small: dict[str, Any] = {"draws": 100, "sizes": {"hidden": 4, "depth": 1}, "differences": [32]}
    pairs = [pair for identity in IDENTITIES for pair in measured(identity, **small)]
    assert {m for _, result in pairs for m in result.metrics} <= set(METRICS)
    cases = [case for case, _ in pairs]
    frame = frame_of(cases, {case.key: result for case, result in pairs})
    assert {t.name for t in tables(frame)} == {f"identities-{name}" for name in IDENTITIES}
    assert all(figure.draw() is not None for figure in figures(frame))
    faults = {case.key: replace(result, failure="on purpose") for case, result in pairs}
    failed = frame_of(cases, faults)
    for table in tables(failed):
        assert "failed" in table.frame.to_string(), table.name
    assert list(figures(failed)) == []
    assert STUDY.tables(frame.iloc[:0]) == STUDY.figures(frame.iloc[:0]) == []


pytestmark = pytest.mark.usefixtures("frozen")
TOLERANCES, STEPS = GRADIENTS["solvers"].values()

# untrained fields are so easy that the direct first step is as good at any tolerance
HEURISTIC = {"solver": {"first_step": "torchdiffeq"}}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """The records of the cases, with their solvers; of the untrained field, float64 alone."""
    every = gradient_cases(seconds=0, options=HEURISTIC, solvers={"dopri5": TOLERANCES})
    cases = [case for case in every if case.updates or case.dtype == "float64"]
    rows = frame_of(cases, results_of(cases))
    assert set(rows["status"]) == {"done"}
    return with_solver(rows)


def along(frame: pd.DataFrame, metric: str, **where: Any) -> list[float]:
    """A metric at each tolerance, from the loosest on."""
    for column, value in where.items():
        frame = frame[frame[column] == value]
    assert frame["setting"].is_unique
    return frame.sort_values("setting", ascending=False)[metric].tolist()


@pytest.mark.parametrize("updates", [0, 40])
@pytest.mark.parametrize("gradient", ["adjoint", "seminorm", "backprop"])
def test_the_error_falls_with_the_tolerance(frame, gradient, updates):
    """In float64 by orders of magnitude, down to what the reference itself is known to."""
    place = {"dtype": "float64", "updates": updates, "gradient": gradient}
    loose, middle, tight = along(frame, "gradient_error", **place)
    assert loose > middle > tight
    assert tight < (1e-3 if updates else 0.1) * loose
    assert tight < 1e-6
    assert max(along(frame, "reference_shift", **place)) < 0.1 * tight
    assert along(frame, "gradient_cosine", **place)[-1] == pytest.approx(1, abs=1e-9)


def test_float32_has_a_floor(frame):
    """At the tightest tolerance its rounding is all that is left, and far above float64's error."""
    for gradient in ("adjoint", "seminorm", "backprop"):
        errors = partial(along, frame, "gradient_error", updates=40, gradient=gradient)
        single, double = errors(dtype="float32")[-1], errors(dtype="float64")[-1]
        assert 1e-8 < single < 1e-4
        assert double < 0.3 * single


def test_a_block_has_every_gradient_of_one_setting():
    """No seminorm of fixed steps, which have no norm; the key has all that changes a number."""
    blocks = [[case.options["solver"] for case in task.cases] for task in tasks(gradient_cases())]
    groups = [[solver["gradient"] for solver in block] for block in blocks]
    adaptive, fixed = 2 * 2 * len(TOLERANCES), 2 * 2 * len(STEPS)
    assert groups.count(["adjoint", "seminorm", "backprop"]) == adaptive
    assert groups.count(["adjoint", "backprop"]) == fixed
    assert len(groups) == adaptive + fixed
    changes: dict[str, Any] = {"batch": 17, "reference": 1e-10, "training_batch": 65}
    changes |= {"training_solver": {"rtol": 1e-3}, "training": {"clip": 1.0}}
    changes |= {"options": {"solver": {"error_norm": "state"}}}
    keys = {case.key for case in gradient_cases()}
    for name, value in changes.items():
        assert keys.isdisjoint(case.key for case in gradient_cases(**{name: value})), name


def test_what_has_failed_is_shown_and_stops_no_figure(frame):
    adjoint = frame["gradient"] == "adjoint"
    some = frame.assign(status=frame["status"].mask(adjoint, "failed"))
    *_, table = STUDY.tables(some)
    assert table.frame["gradient_error"].eq("failed").equals(table.frame["gradient"].eq("adjoint"))
    assert all(figure.draw() for figure in STUDY.figures(some))
    assert STUDY.figures(frame.assign(status="failed")) == []


def test_a_flow_without_an_ode_is_refused():
    with pytest.raises(ValueError, match="flow 'glow' has no option 'solver'"):
        gradient_cases(flows=["glow"])


def test_a_trained_density_integrates_to_one_as_far_as_its_tolerance():
    """In float64 to rounding, with more evaluations; of more dimensions there is no integral."""
    options = GRADIENTS | {"part": "mass", "datasets": ["mixture_1"], "batch": 2048}
    options |= {"solvers": {"dopri5": (1e-2, 1e-5, 1e-10)}, "dtypes": ["float64"], "updates": [40]}
    small = cases_of("numerics", options)
    assert len({study_of(case).block(case) for case in small}) == 1
    frame = frame_of(small, results_of(small))
    loose, middle, tight = frame["mass_error"]
    assert tight < 1e-8 < middle < loose < 0.1
    assert frame["nfe_forward"].is_monotonic_increasing
    (table,), (figure,) = STUDY.tables(frame), STUDY.figures(frame)
    assert sorted(table.frame["mass_error"]) == [tight, middle, loose]
    assert figure.draw()
    flat = cases_of("numerics", options | {"datasets": ["8gaussians"], "updates": [0]})
    assert all("one dimension" in result.failure for result in results_of(flat).values())
