"""The trace study: cases, errors as theory has them, counts that add up, tables and figures."""

import itertools
import math
from typing import Any, get_args

import numpy as np
import pytest
import torch

from benchmarks.core.case import Case
from benchmarks.core.metrics import METRICS
from benchmarks.core.study import Result, registry
from benchmarks.studies.trace.study import WORKS, Subject
from benchmarks.studies.trace.tables import evaluations, fitting
from flows.continuous.trace import TRACES, Noise, Trace
from measuring import TRACE, cases_of, frame_of, results_of, trace_cases

BATCH, DIMS, PROBES = (TRACE[name] for name in ("batch", "dims", "probes"))
STUDY = registry["trace"]
DTYPES, NOISES = ("float32", "float64"), get_args(Noise)
FIELD = {"bottleneck": 3, "solver": {"method": "rk4", "step_size": 1.0, "gradient": "backprop"}}


@pytest.fixture(scope="module")
def runs() -> dict[str, tuple[list[Case], dict[str, Result]]]:
    return {dtype: (small, results_of(small)) for dtype in DTYPES for small in [trace_cases(dtype)]}


def _of(run: tuple[list[Case], dict[str, Result]], dim: int, work: str, **trace: Any) -> Any:
    """The metrics of the one case of this work and trace."""
    chosen = [case for case in run[0] if (case.dim, case.settings["work"]) == (dim, work)]
    for name, value in trace.items():
        chosen = [c for c in chosen if getattr(Trace.of(c.options["trace"]), name) == value]
    (case,) = chosen
    return run[1][case.key].metrics


@pytest.mark.parametrize(
    ("flow", "options", "missing"),
    [
        ("cnf", {}, {"hollow", "bottleneck"}),
        ("hollow", {}, {"closed_form", "bottleneck"}),
        ("ffjord", {"bottleneck": 2}, {"hollow"}),
    ],
)
def test_every_estimator_that_a_field_offers_has_its_cases(flow, options, missing):
    """In each mode and noise that it has, stochastic ones with each number of probes."""
    cases = trace_cases(flow=flow, options=options, dims=[4])
    traces = [Trace.of(case.options["trace"]) for case in cases if case.settings["work"] == "trace"]
    assert {trace.estimator for trace in traces} == TRACES.keys() - missing - {"exact"}
    for name in {trace.estimator for trace in traces}:
        modes = 2 if TRACES[name].modes else 1
        noises = 2 * len(PROBES) if Trace(name).stochastic else 1
        assert sum(trace.estimator == name for trace in traces) == modes * noises
    works = WORKS.keys() if flow == "cnf" else WORKS.keys() - {"kept"}
    assert {case.settings["work"] for case in cases} == works


def test_a_case_is_keyed_by_all_that_tells_it_from_others():
    """No two are alike; one block holds one field, whatever is done with it."""
    cases = trace_cases() + trace_cases(gain=2) + trace_cases(hidden_per_dim=2)
    assert len({case.key for case in cases}) == len(cases)
    fields = {(STUDY.block(c), c.dim, c.options["hidden"], c.settings["gain"]) for c in cases}
    assert len({block for block, *_ in fields}) == len(fields) == 3 * len(DIMS)
    wide = trace_cases(hidden_per_dim=2.5, sizes={"depth": 1})
    assert {(case.dim, case.options["hidden"]) for case in wide} == {(3, 8), (5, 12)}


def test_a_flow_without_a_field_is_named_as_such():
    with pytest.raises(ValueError, match="a flow with a vector field, such as 'cnf'"):
        trace_cases(flow="realnvp", sizes={"hidden": 4})


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-12)])
def test_exact_traces_are_exact_to_rounding(runs, dtype, bound):
    """Relative to the Jacobian's norm; a Jacobian that the gain has made no tiny one."""
    cases, results = runs[dtype]
    errors = [r.metrics["trace_error"] for r in results.values() if "trace_error" in r.metrics]
    exact = [c for c in cases if c.settings["work"] in ("trace", "kept", "trace_of_formed")]
    exact = [c for c in exact if not Trace.of(c.options["trace"]).stochastic]
    assert len(errors) == len(exact) > 0
    assert max(errors) < bound
    for result in results.values():
        assert not result.failure
        assert set(result.metrics) <= set(METRICS)
        assert result.metrics["jacobian_norm"] > 1
        assert min(result.metrics["evaluation_seconds"]) > 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_estimates_err_as_theory_says(runs, dtype):
    """Within five standard errors, which themselves are a few hundredths of the error."""
    metrics = [r.metrics for r in runs[dtype][1].values() if "trace_rmse" in r.metrics]
    assert len(metrics) == len(DIMS) * 2 * 2 * len(PROBES)
    for m in metrics:
        assert abs(m["trace_rmse"] - m["trace_rmse_theory"]) < 5 * m["trace_rmse_se"]
        assert 0 < m["trace_rmse_se"] < 0.05 * m["trace_rmse"]


def test_theory_is_the_mean_over_all_rademacher_probes(runs):
    """Over all sign vectors one probe has exactly the variance that is given, K have 1/K of it."""
    run = runs["float64"]
    for dim in DIMS:
        subject = Subject.of(next(case for case in run[0] if case.dim == dim))
        signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=dim))).double()
        estimates = torch.einsum("ki,nij,kj->kn", signs, subject.jacobian, signs)
        expected = subject.error(estimates).square().mean().sqrt().item()
        for probes in PROBES:
            estimate = {"estimator": "hutchinson", "mode": "backward", "probes": probes}
            m = _of(run, dim, "trace", noise="rademacher", **estimate)
            assert m["trace_rmse_theory"] == pytest.approx(expected / math.sqrt(probes))
            gaussian = _of(run, dim, "trace", noise="gaussian", **estimate)
            assert gaussian["trace_rmse_theory"] > m["trace_rmse_theory"]


@pytest.mark.parametrize("mode", ["backward", "forward"])
def test_the_determinant_is_that_of_the_jacobian(mode):
    subject = Subject.of(trace_cases("float64")[0])
    rows = [
        torch.autograd.functional.jacobian(lambda x: subject.field(subject.t, x[None])[0], row)
        for row in subject.x
    ]
    trace = Trace("jacobian", mode=mode)
    torch.testing.assert_close(WORKS["jacobian"](subject, trace)(), torch.stack(rows))
    expected = np.linalg.slogdet(np.stack(rows))[1]
    for work in ("determinant", "determinant_of_formed"):
        log_det = WORKS[work](subject, trace)().detach()
        np.testing.assert_allclose(log_det, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dim", DIMS)
def test_counts_add_up(runs, dim):
    """In evaluations of the field: D + 1 for the loop, K + 1 for an estimate; LU for each row."""

    def flops(work: str, **trace: Any) -> float:
        return float(_of(runs["float32"], dim, work, **trace)["evaluation_flops"])

    field = flops("field")
    for name in ("loop", "basis", "jacobian"):
        assert flops("trace", estimator=name, mode="backward") == (dim + 1) * field
    for probes, mode in itertools.product(PROBES, ("backward", "forward")):
        estimate = {"noise": "gaussian", "mode": mode, "probes": probes}
        assert flops("trace", estimator="hutchinson", **estimate) == (probes + 1) * field
    assert field < flops("kept") < flops("trace", estimator="closed_form") < 3 * field
    for mode in ("backward", "forward"):
        lu = flops("determinant", mode=mode) - flops("jacobian", mode=mode)
        assert lu == flops("determinant_of_formed") == BATCH * dim * (dim - 1) * (4 * dim + 1) // 6
    assert flops("trace_of_formed") == 0


def test_what_has_failed_is_shown_and_stops_no_figure(runs, monkeypatch):
    """Some works, and all where there is no field."""
    cases, results = runs["float32"]
    chosen = [case.key for case in cases if case.settings["work"] == "determinant"]
    frame = frame_of(cases, results | dict.fromkeys(chosen, Result(failure="on purpose")))
    cost, *_ = STUDY.tables(frame)
    failed = cost.frame["evaluation_seconds"] == "failed"
    assert {key for keys in cost.frame.loc[failed, "records"] for key in keys} == {*chosen}
    assert all(figure.draw() for figure in STUDY.figures(frame))
    monkeypatch.setattr(Subject, "of", lambda case: 1 / 0)
    frame = frame_of(cases, lost := results_of(cases))
    assert all(result.failure for result in lost.values())
    assert set(STUDY.tables(frame)[0].frame["evaluation_seconds"]) == {"failed"}
    assert STUDY.figures(frame) == []


def test_what_fits_in_a_time_by_known_numbers():
    """Seconds 1 + K and errors 1/√K: in 6.5 seconds five probes, whose error is 1/√5."""
    probes = [8, 1, 4, 2]
    seconds, errors = [1.0 + k for k in probes], [k**-0.5 for k in probes]
    assert fitting(6.5, probes, seconds, errors) == (5, pytest.approx(5**-0.5))
    assert fitting(5.0, probes, seconds, errors) == (4, pytest.approx(0.5))
    assert fitting(2.0, probes, seconds, errors) == (1, pytest.approx(1.0))
    assert fitting(1e3, probes, seconds, errors) == (8, pytest.approx(8**-0.5))
    assert fitting(1.9, probes, seconds, errors) == (0, pytest.approx(math.nan, nan_ok=True))
    assert fitting(2.5, [1, 2, 4], [2.0, 1.0, 3.0], [1.0, 0.7, 0.5])[0] == 3  # noisy seconds
    assert fitting(3.0, [1], [2.0], [0.0]) == (1, 0.0)


def test_tables_and_figures_of_two_fields():
    """Ratios to each field's own; a row of panels for each; no order of records is needed."""
    few: dict[str, Any] = {"probes": [1, 2], "draws": 100}
    cases = trace_cases(**few) + trace_cases(**few, hidden_per_dim=2)
    frame = frame_of(cases, results_of(cases)).sample(frac=1, random_state=0)
    cost, error, _ = (table.frame for table in STUDY.tables(frame))
    assert set(cost["field"]) == {"cnf hidden=9", "cnf hidden=2·D"}
    rows = evaluations(frame)
    alone = rows[rows["work"] == "field"]
    assert len(alone) == 2 * len(DIMS)
    assert set(alone["seconds_ratio"]) == set(alone["flops_ratio"]) == {1.0}
    assert set(error["probes"]) == {1, 2}
    every = (key for table in STUDY.tables(frame) for keys in table.rows_from for key in keys)
    assert set(every) == {case.key for case in cases}
    assert all(figure.draw() for figure in STUDY.figures(frame))
    assert STUDY.tables(frame.iloc[:0]) == STUDY.figures(frame.iloc[:0]) == []


def test_trainings_by_every_estimator_are_of_one_field():
    """Which begin at one likelihood and part; the one's gain over the other is that of its loss."""
    traces = [{"estimator": e, "noise": n} for e in ("hutchinson", "bottleneck") for n in NOISES]
    flows = [{"flow": "ffjord", "options": {**FIELD, "trace": trace}} for trace in traces]
    options: dict[str, Any] = {"part": "training", "datasets": ["digits"], "flows": flows}
    options |= {"sizes": {"hidden": 8, "depth": 1, "layers": 1}, "batch": 16, "updates": 30}
    options["training"] = {"preprocessing": "logit", "validations": 1, "validation_rows": 20}
    cases = cases_of("trace", options, seeds=(0, 1))
    results = results_of(cases)
    frame = frame_of(cases, results)
    frame["arrays"] = [dict(results[key].arrays) for key in frame["key"]]
    starts = {(row["seed"], row["arrays"]["validation_ll"][0]) for _, row in frame.iterrows()}
    assert len(starts) == 2
    assert frame["val_ll"].nunique() == len(cases) == 8
    (table,), (figure,) = STUDY.tables(frame), STUDY.figures(frame)
    ends = table.frame.pivot_table("end", "noise", "estimator")
    gains = table.frame.dropna(subset="less").set_index("noise")["less"]
    assert gains.to_dict() == pytest.approx((ends["in R^D"] - ends["in R^K"]).to_dict())
    assert figure.draw()
