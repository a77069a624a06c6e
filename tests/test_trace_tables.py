"""Tables and figures of the trace study: equal time by known numbers, faults, two fields."""

from __future__ import annotations

import math
from typing import Any

import pytest

from benchmarks.core.study import Result, registry
from benchmarks.studies.trace import study as module
from benchmarks.studies.trace.tables import equal_times, evaluations, fitting
from flows.continuous.trace import Trace
from measuring import TRACE, frame_of, results_of, trace_cases

BATCH, DIMS, PROBES = (TRACE[name] for name in ("batch", "dims", "probes"))
STUDY = registry["trace"]


def test_a_fault_costs_no_other_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """A work that fails is a failed result; without a field all are."""
    cases = trace_cases(dims=[2], probes=[1], draws=100)

    def fails(subject: Any, trace: Any) -> Any:
        raise RuntimeError("on purpose")

    with monkeypatch.context() as patch:
        patch.setitem(module.WORKS, "determinant", fails)
        results = results_of(cases)
    failed = [c.settings["work"] for c in cases if results[c.key].failure]
    assert failed == ["determinant", "determinant"]
    assert {r.failure for r in results.values()} == {"", "RuntimeError: on purpose"}
    frame = frame_of(cases, results)
    cost, *_ = STUDY.tables(frame)
    failed_rows = cost.frame["evaluation_seconds"] == "failed"
    keys = {key for keys in cost.frame.loc[failed_rows, "records"] for key in keys}
    assert keys == {case.key for case in cases if case.settings["work"] == "determinant"}
    assert all(figure.draw() for figure in STUDY.figures(frame))
    monkeypatch.setattr(module.Subject, "of", fails)
    lost = results_of(cases)
    assert lost.keys() == {case.key for case in cases}
    assert all(result.failure for result in lost.values())
    assert set(STUDY.tables(frame_of(cases, lost))[0].frame["evaluation_seconds"]) == {"failed"}
    assert STUDY.figures(frame_of(cases, lost)) == []


def test_what_fits_in_a_time_by_known_numbers() -> None:
    """Seconds 1 + K and errors 1/√K: in 6.5 seconds five probes, whose error is 1/√5."""
    probes = [8, 1, 4, 2]
    seconds, errors = [1.0 + k for k in probes], [k**-0.5 for k in probes]
    assert fitting(6.5, probes, seconds, errors) == (5, pytest.approx(5**-0.5))
    assert fitting(5.0, probes, seconds, errors) == (4, pytest.approx(0.5))
    assert fitting(2.0, probes, seconds, errors) == (1, pytest.approx(1.0))
    assert fitting(1e3, probes, seconds, errors) == (8, pytest.approx(8**-0.5))
    none = fitting(1.9, probes, seconds, errors)
    assert none.probes == 0
    assert math.isnan(none.error)
    assert fitting(2.5, [1, 2, 4], [2.0, 1.0, 3.0], [1.0, 0.7, 0.5]).probes == 3  # noisy seconds
    assert fitting(3.0, [1], [2.0], [0.0]) == (1, 0.0)


def _equal_time(closed: float) -> dict[str, Any]:
    """The row of an estimate that takes 1 + K seconds beside a closed form of ``closed``."""
    cases = [
        case
        for case in trace_cases(dims=[3], probes=[1, 2, 4])
        if case.settings["work"] == "field"
        or Trace.of(case.options["trace"]).estimator == "closed_form"
        or Trace.of(case.options["trace"]).noise == "gaussian"
    ]
    results = {}
    for case in cases:
        trace = Trace.of(case.options["trace"])
        metrics: dict[str, Any] = {"evaluation_flops": 1, "evaluation_seconds": [closed]}
        if trace.stochastic:
            metrics |= {"trace_rmse": trace.probes**-0.5, "trace_rmse_se": 0.1}
            metrics["evaluation_seconds"] = [1.0 + trace.probes]
        else:
            metrics["trace_error"] = 1e-7
        results[case.key] = Result(metrics)
    rows = list(equal_times(evaluations(frame_of(cases, results))))
    assert len(rows) == 4
    assert len({row["exact"] for row in rows}) == 2  # a first evaluation of a solve, and a later
    return rows[0]


def test_equal_time_says_where_no_probe_fits() -> None:
    """And never goes beyond what was measured."""
    row = _equal_time(4.5)
    assert (row["fitting"], row["error"]) == (3, pytest.approx(3**-0.5))
    row = _equal_time(1.5)
    assert row["fitting"] == 0
    assert math.isnan(row["error"])
    assert row["seconds_ratio"] == pytest.approx(2 / 1.5)
    row = _equal_time(99)
    assert (row["fitting"], row["most"], row["error"]) == (4, 4, 0.5)


def test_tables_and_figures_of_two_fields() -> None:
    """Ratios to each field's own; a row of panels for each; no order of records is needed."""
    cases = trace_cases(probes=[1, 2], draws=100) + trace_cases(
        probes=[1, 2], draws=100, hidden_per_dim=2
    )
    frame = frame_of(cases, results_of(cases)).sample(frac=1, random_state=0)
    cost, error, equal = (table.frame for table in STUDY.tables(frame))
    assert set(cost["field"]) == {"cnf hidden=9", "cnf hidden=2·D"}
    rows = evaluations(frame)
    alone = rows[rows["work"] == "field"]
    assert len(alone) == 2 * len(DIMS)
    assert set(alone["seconds_ratio"]) == set(alone["flops_ratio"]) == {1.0}
    of_row = frame.set_index("key")["evaluation_seconds"] / BATCH
    times = {
        keys[0]: seconds
        for keys, seconds in zip(rows["records"], rows["evaluation_seconds"], strict=True)
    }
    assert times == pytest.approx(of_row.to_dict())
    assert set(error["probes"]) == {1, 2}
    assert len(error) == 2 * len(DIMS) * 2 * 2 * 2
    assert len(equal) == 2 * len(DIMS) * 3 * 4
    every = (key for table in STUDY.tables(frame) for keys in table.rows_from for key in keys)
    assert set(every) == {case.key for case in cases}
    pictures = [figure.draw() for figure in STUDY.figures(frame)]
    assert [len(picture.axes) for picture in pictures] == [4, 6]
    legend = {text.get_text() for text in pictures[1].legends[0].get_texts()}
    assert {"loop", "hutchinson, rademacher"} <= legend
    assert STUDY.tables(frame.iloc[:0]) == STUDY.figures(frame.iloc[:0]) == []
