"""Gradients of numerics: errors, memory and evaluations of each, cases, faults and tables."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from benchmarks.core.metrics import METRICS
from benchmarks.core.study import registry
from benchmarks.execution.plan import tasks
from benchmarks.studies.numerics.tables import METRICS as MEASURED
from benchmarks.studies.numerics.tables import by_error, by_setting, with_solver
from flows.continuous import Solver
from measuring import GRADIENTS, frame_of, gradient_cases, results_of

pytestmark = pytest.mark.usefixtures("frozen")
TOLERANCES, STEPS = GRADIENTS["solvers"].values()
STUDY = registry["numerics"]

# untrained fields are so easy that the direct first step is as good at any tolerance
HEURISTIC = {"solver": {"first_step": "torchdiffeq"}}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """The records of the cases, with a column for each part of the solver, and equal times.

    Of the untrained field, dopri5 in float64 alone.
    """
    torch.set_num_threads(1)
    cases = [
        case
        for case in gradient_cases(seconds=0, options=HEURISTIC)
        if case.updates or (case.dtype, case.options["solver"]["method"]) == ("float64", "dopri5")
    ]
    rows = frame_of(cases, results_of(cases))
    assert set(rows["status"]) == {"done"}
    solver = pd.DataFrame([vars(Solver.of(options)) for options in rows["option.solver"]])
    times = {"gradient_seconds": 1.0, "reference_seconds": 0.5}
    times["gradient_seconds.values"] = [[0.9, 1.0, 1.2]] * len(rows)
    rows = rows.assign(**times)
    return pd.concat([rows, solver[["method", "rtol", "step_size", "gradient"]]], axis=1)


def along(frame: pd.DataFrame, metric: str, **where: Any) -> list[float]:
    """A metric at each tolerance or step size, from the loosest on."""
    for column, value in where.items():
        frame = frame[frame[column] == value]
    knob = "step_size" if frame["step_size"].notna().all() else "rtol"
    assert frame[knob].is_unique
    return frame.sort_values(knob, ascending=False)[metric].tolist()


@pytest.mark.parametrize("updates", [0, 40])
@pytest.mark.parametrize("gradient", ["adjoint", "seminorm", "backprop"])
def test_the_error_falls_with_the_tolerance(
    frame: pd.DataFrame, gradient: str, updates: int
) -> None:
    """In float64 by orders of magnitude, down to what the reference itself is known to."""
    place = {"method": "dopri5", "dtype": "float64", "updates": updates, "gradient": gradient}
    loose, middle, tight = along(frame, "gradient_error", **place)
    assert loose > middle > tight
    assert tight < (1e-3 if updates else 0.1) * loose
    assert tight < 1e-6
    assert max(along(frame, "reference_shift", **place)) < 0.1 * tight
    assert along(frame, "gradient_cosine", **place)[-1] == pytest.approx(1, abs=1e-9)


def test_steps_of_order_four_have_errors_of_order_four(frame: pd.DataFrame) -> None:
    """Adjoint and backprop alike: half the step of rk4 leaves about a sixteenth of the error."""
    for gradient in ("adjoint", "backprop"):
        place = {"method": "rk4", "dtype": "float64", "updates": 40, "gradient": gradient}
        first, second, third = along(frame, "gradient_error", **place)
        assert 6 < first / second < 60
        assert 8 < second / third < 40


def test_float32_has_a_floor(frame: pd.DataFrame) -> None:
    """At the tightest tolerance its rounding is all that is left, and far above float64's error."""
    for gradient in ("adjoint", "seminorm", "backprop"):
        place = {"method": "dopri5", "updates": 40, "gradient": gradient}
        single, double = (
            along(frame, "gradient_error", dtype=dtype, **place)[-1]
            for dtype in ("float32", "float64")
        )
        assert 1e-8 < single < 1e-4
        assert double < 0.3 * single


def test_tables_and_figures_are_drawn_from_the_frame(frame: pd.DataFrame) -> None:
    """A row a field, setting and gradient; what an error costs; a column a field."""
    quickest, every = by_error(with_solver(frame)), by_setting(with_solver(frame))
    assert len(every) == len(frame)
    assert set(every["updates"]) == {0, 40}
    assert (every["backprop_ratio"] == 1).all()  # by times that are equal
    assert set(quickest["reference_ratio"]) == {2.0}
    assert (quickest["gradient_error"] <= quickest["level"]).all()
    which = ["updates", "dtype", "gradient", "method", "setting"]
    assert not quickest.duplicated(which).any()
    for table in STUDY.tables(frame):
        assert set(MEASURED) <= set(table.frame)
    assert {key for keys in table.rows_from for key in keys} == set(frame["key"])
    (figure,) = STUDY.figures(frame)
    assert len(figure.draw().axes) == 6
    assert STUDY.tables(frame.iloc[:0]) == STUDY.figures(frame.iloc[:0]) == []


def test_seeds_are_pooled_and_flows_told_apart(frame: pd.DataFrame) -> None:
    """Two seeds are one row, two widths two flows."""
    (_, once), columns = STUDY.tables(frame), len(STUDY.figures(frame))
    again = pd.concat([frame, frame.assign(seed=1, gradient_error=3 * frame["gradient_error"])])
    _, pooled = STUDY.tables(again.reset_index(drop=True))
    assert len(pooled.frame) == len(once.frame)
    errors = [table.frame["gradient_error"] for table in (once, pooled)]
    assert errors[1].tolist() == pytest.approx((2 * errors[0]).tolist())
    wider = pd.concat([frame, frame.assign(**{"option.hidden": 32})]).reset_index(drop=True)
    assert set(STUDY.tables(wider)[1].frame["series"]) == {"cnf hidden=16", "cnf hidden=32"}
    assert len(STUDY.figures(wider)) == 2 * columns


def test_without_a_clock_there_are_no_times(frame: pd.DataFrame) -> None:
    """Errors and counts have their table and figure all the same."""
    counts = frame[[column for column in frame if "_seconds" not in column]]
    (table,) = STUDY.tables(counts)
    assert "backprop_ratio" not in table.frame
    (figure,) = STUDY.figures(counts)
    assert figure.draw()


# ---- cases and faults ---------------------------------------------------------------------------


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
    assert len(STUDY.figures(frame)) == 1
    failed = frame[frame["status"] == "failed"]
    columns = [
        "key",
        "flow",
        "dataset",
        "updates",
        "dtype",
        "seed",
        "status",
        "option.solver",
        "setting.part",
    ]
    (table,) = STUDY.tables(failed[[*columns, "batch"]])
    assert set(table.frame["gradient_error"]) == {"failed"}
    assert STUDY.figures(failed) == []


def test_a_flow_without_an_ode_is_refused() -> None:
    """Before anything is measured."""
    with pytest.raises(ValueError, match="flow 'glow' has no option 'solver'"):
        gradient_cases(flows=["glow"])
