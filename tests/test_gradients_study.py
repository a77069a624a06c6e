"""The gradients study: its cases, blocks, and faults that cost no other case."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.core.metrics import METRICS
from benchmarks.core.study import registry
from benchmarks.execution.plan import tasks
from benchmarks.studies.gradients import study as gradients
from measuring import GRADIENTS, frame_of, gradient_cases, results_of

pytestmark = pytest.mark.usefixtures("frozen")
TOLERANCES, STEPS = GRADIENTS["solvers"].values()
STUDY = registry["gradients"]


def test_every_number_is_a_metric_with_raw_times() -> None:
    """All gradients of a setting are timed, in rounds that they share with the reference."""
    cases = gradient_cases(solvers={"dopri5": [1e-3]}, updates=[0], dtypes=["float32"])
    results = results_of(cases)
    assert len(cases) == len(results) == 3
    for result in results.values():
        assert set(result.metrics) <= set(METRICS)
        assert {"gradient_error", "gradient_bytes"} <= set(result.metrics)
        raw = result.metrics["gradient_seconds"]
        assert isinstance(raw, list)
        assert len(raw) >= 3
        assert min(raw) > 0
    references = [result.metrics["reference_seconds"] for result in results.values()]
    assert references[0] == references[1] == references[2]


def test_a_block_has_every_gradient_of_one_setting() -> None:
    """No seminorm of fixed steps, which have no norm; the key has all that changes a number."""
    groups = [
        [case.options["solver"]["gradient"] for case in task.cases]
        for task in tasks(gradient_cases())
    ]
    adaptive, fixed = 2 * 2 * len(TOLERANCES), 2 * 2 * len(STEPS)
    assert groups.count(["adjoint", "seminorm", "backprop"]) == adaptive
    assert groups.count(["adjoint", "backprop"]) == fixed
    assert len(groups) == adaptive + fixed
    changes: dict[str, Any] = {
        "batch": 17,
        "reference": 1e-10,
        "training_batch": 65,
        "training_solver": {"rtol": 1e-3},
        "training": {"clip": 1.0},
        "options": {"solver": {"error_norm": "state"}},
    }
    keys = {case.key for case in gradient_cases()}
    for name, value in changes.items():
        assert keys.isdisjoint(case.key for case in gradient_cases(**{name: value})), name


def test_the_weights_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all solvers, gradients and precisions of one field."""
    trainings = []
    monkeypatch.setattr(gradients, "train", lambda *arguments: trainings.append(arguments))
    few = {"dopri5": [1e-2], "rk4": [0.5]}
    own = {"training_batch": 63, "seconds": 0}  # of no other test
    results = results_of(
        gradient_cases(solvers=few, gradients=["backprop"], updates=[3], batch=4, **own)
    )
    assert not any(result.failure for result in results.values())
    assert len(results) == 4
    assert len(trainings) == 1


def test_a_case_that_fails_has_its_reason_and_costs_no_other() -> None:
    """Here more steps than are allowed: the looser tolerance is measured, and shown beside it."""
    cases = gradient_cases(
        solvers={"dopri5": (1e-1, 1e-8)},
        options={"solver": {"max_steps": 2}},
        updates=[0],
        dtypes=["float64"],
        gradients=["adjoint", "backprop"],
    )
    results = results_of(cases)
    assert len(results) == len(cases) == 4
    failures = [results[case.key].failure for case in cases]
    assert failures[:2] == ["", ""]
    assert all(text.startswith("SolveError: the solve passed its limit") for text in failures[2:])
    frame = frame_of(cases, results)
    *_, table = STUDY.tables(frame)
    assert table.frame["gradient_error"].tolist()[2:] == ["failed", "failed"]
    assert len(STUDY.figures(frame)) == 2
    failed = frame[frame["status"] == "failed"]
    columns = ["key", "flow", "dataset", "updates", "dtype", "seed", "status", "option.solver"]
    (table,) = STUDY.tables(failed[[*columns, "batch"]])
    assert set(table.frame["gradient_error"]) == {"failed"}
    assert STUDY.figures(failed) == []


def test_a_flow_without_an_ode_is_refused() -> None:
    """Before anything is measured."""
    with pytest.raises(ValueError, match="flow 'glow' has no option 'solver'"):
        gradient_cases(flows=["glow"])
