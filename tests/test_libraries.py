"""Libraries side by side: groups of one architecture, errors, and ratios with intervals."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import flows
import peer_processes
from benchmarks.analysis.inference import ratio_of_medians
from benchmarks.core.case import Case
from benchmarks.core.metrics import METRICS
from benchmarks.core.study import registry
from benchmarks.execution import suite
from benchmarks.execution.tasks import tasks
from benchmarks.measure.foreign import peers
from benchmarks.studies.architectures import architectures
from benchmarks.studies.libraries.study import copy_weights
from benchmarks.studies.libraries.tables import CALLS, comparisons
from measuring import cases_of, frame_of, results_of

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own notices, and absent peers

SUITE = "libraries"
STUDY = registry["libraries"]
SIZES = {"depth": 2, "layers": 2}
SOLVERS = [
    {"flow": "cnf", "label": f"{tol:g}", "options": {"solver": {"rtol": tol, "atol": tol}}}
    for tol in (1e-3, 1e-6)
]
GROUPS = [
    {"name": "couplings", "members": ["realnvp", "glow"]},
    {"name": "solvers", "members": SOLVERS},
]
samples = st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=30)


def cases(dtype: str = "float32", **changes: Any) -> list[Case]:
    """The study's cases for groups that need no other library, small."""
    options = {"groups": GROUPS, "dims": [3], "sizes": {"depth": 1, "layers": 2}, "batch": 8}
    options |= {"parameters": 4000, "seconds": 0.01, **changes}
    return cases_of("libraries", options, dtype=dtype)


@given(samples, samples, st.floats(0.1, 10))
@settings(max_examples=30)
def test_a_ratio_scales_with_its_numerator(a: list[float], b: list[float], factor: float) -> None:
    """And its interval with it; a constant has no interval."""
    value, low, high = ratio_of_medians(a, b, 50)
    scaled = ratio_of_medians([factor * x for x in a], b, 50)
    assert scaled == pytest.approx((factor * value, factor * low, factor * high))
    assert low <= high
    assert ratio_of_medians([a[0]] * 5, [b[0]] * 5, 50) == pytest.approx((a[0] / b[0],) * 3)


def test_the_interval_covers_the_true_ratio() -> None:
    """About as often as it says."""
    generator, covered = np.random.default_rng(0), 0
    for seed in range(200):
        a, b = (scale * generator.lognormal(0, 0.3, 25) for scale in (3.0, 2.0))
        _, low, high = ratio_of_medians(a, b, 300, seed)
        covered += low <= 1.5 <= high
    assert 0.88 <= covered / 200 <= 1.0


def test_a_group_is_measured_together() -> None:
    """One block a group and dimension, of equal batch and updates, the reference first."""
    blocks = [task.cases for task in tasks(cases(dims=[3, 5]))]
    assert len(blocks) == 4
    for block in blocks:
        assert [case.roles["place"] for case in block] == [0, 1]
        assert len({(case.batch, case.dim, case.updates) for case in block}) == 1


@pytest.mark.parametrize("name", architectures())
def test_every_library_computes_the_density_of_its_weights(name: str) -> None:
    """In float32 within what rounding and solvers leave; all of a group have equal sizes."""
    block = cases(groups=[name], dims=[2], seconds=0, sizes=SIZES, tolerance=1e-5, accuracy=1e-2)
    results = results_of(block)
    assert {result.failure for result in results.values()} == {""}
    for case in block:
        metrics = results[case.key].metrics
        limit = 1e-2 if "solver_rtol" in metrics else 1e-4
        assert float(metrics["log_prob_error"]) <= limit, case.label
        assert metrics["parameters"] == pytest.approx(case.settings["parameters"], rel=0.05)


def test_errors_tell_a_loose_solver_from_a_tight_one() -> None:
    """In float64 a flow without an ODE has none, a CNF about its tolerance."""
    results = results_of(block := cases("float64"))
    errors = [results[case.key].metrics["log_prob_error"] for case in block]
    assert errors[:2] == [0, 0]
    assert errors[3] <= errors[2] < 1e-1
    assert errors[3] < 1e-4
    for result in results.values():
        assert not result.failure
        assert set(result.metrics) <= set(METRICS)


def test_accurate_solvers_are_as_accurate_as_asked_and_no_tighter_than_needed() -> None:
    """In float64: the error holds, and more accuracy takes at least as many evaluations."""
    previous = [0.0, 0.0]
    for accuracy in (1e-1, 1e-3, 1e-5):
        block = cases("float64", accuracy=accuracy)[2:]
        results = dict(STUDY.measure(block))
        metrics = [results[case.key].metrics for case in block]
        assert all(m["log_prob_error"] <= accuracy for m in metrics)
        evaluations = [m["log_prob_nfe"] for m in metrics]
        assert all(new >= old for new, old in zip(evaluations, previous, strict=True))
        assert len({m["solver_rtol"] for m in metrics}) == 1  # one flow: what it came with is gone
        previous = evaluations


def test_same_weights_are_copied_and_need_equal_shapes() -> None:
    """Two flows of one architecture become one density."""
    with torch.random.fork_rng():
        ours, theirs = (flows.build(name, 3, hidden=8) for name in ("cnf", "ffjord"))
        x = torch.randn(5, 3)
    copy_weights(ours, theirs)
    torch.testing.assert_close(theirs.using(trace="exact").log_prob(x), ours.log_prob(x))
    group = {"name": "unequal", "members": ["cnf", "realnvp"], "same_weights": True}
    block = cases(groups=[group])
    first, second = (result for _, result in STUDY.measure(block))
    assert [bool(r.failure) for r in (first, second)].count(True) == 1


def test_zuko_solves_the_field_of_ours() -> None:
    """With its weights, without time: equal densities, each solver as accurate as asked."""
    pytest.importorskip("zuko", reason="the suite compares with zuko")
    theirs = {"flow": "zuko_cnf", "options": {"frequencies": 0, "activation": "tanh"}}
    members = [{"flow": "cnf", "options": {"time": "ignore"}}, theirs]
    group = {"name": "cnf", "members": members, "same_weights": True}
    changes = {"groups": [group], "sizes": {"depth": 2}, "accuracy": 1e-4, "seconds": 0}
    block = cases("float64", **changes)
    results = dict(STUDY.measure(block))
    metrics = [results[case.key].metrics for case in block]
    assert metrics[0]["parameters"] == metrics[1]["parameters"]
    assert all(m["log_prob_error"] <= 1e-4 for m in metrics)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flow, other = (flows.build(c.flow, 3, **c.options).double() for c in block)
    copy_weights(flow, other)
    views = [f.using(solver={"rtol": 1e-10, "atol": 1e-10}).log_prob(x) for f in (flow, other)]
    torch.testing.assert_close(*views, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("default")
def test_without_the_other_library_its_flows_are_left_out_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What to install stands there, and the suite's others are compared at equal sizes."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda wanted: None if wanted == "zuko" else find(wanted)
    )
    with pytest.warns(UserWarning, match=r"^flows of zuko .*'flowgauge\[zuko\]'$") as caught:
        listed = suite.read(SUITE).cases()
    assert len({str(w.message) for w in caught if "zuko" in str(w.message)}) == 1
    assert not any(case.flow.startswith("zuko_") for case in listed)
    groups: dict[tuple[Any, ...], list[Case]] = {}
    for case in listed:
        key = (case.study, case.settings["group"], case.dataset, case.dim)
        groups.setdefault(key, []).append(case)
    assert {study for study, *_ in groups} == {"libraries", "library_likelihoods"}
    for own in groups.values():
        assert own[0].flow in flows.own()
        assert len({(case.settings["parameters"], case.options.get("depth")) for case in own}) == 1


@pytest.mark.parametrize("absent", [False, True])
def test_a_peer_is_a_member_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, absent: bool
) -> None:
    """Fitted as ours, compiled apart, not counted; left out in a line where it is absent."""
    monkeypatch.setattr(peers, "peer", lambda _: peer_processes)
    members = ["realnvp", {"flow": "realnvp", "by": "gauss"}]
    groups = [{"name": "realnvp", "members": members}]
    if absent:
        monkeypatch.setattr(peer_processes, "PACKAGES", ("no_such_package",))
        with pytest.warns(UserWarning, match=r"^flows of gauss .*'flowgauge\[peers\]'$"):
            assert [case.settings["member"] for case in cases(groups=groups)] == ["realnvp"]
        return
    block = cases(groups=groups)
    results = results_of(block)
    assert not any(result.failure for result in results.values())
    theirs = results[block[1].key].metrics
    assert 0 < float(theirs["log_prob_error"]) < 1e-5
    assert {f"{call}_compile_seconds" for call in ("log_prob", "step", "sample")} <= set(theirs)
    _, row = comparisons(frame_of(block, results)).to_dict("records")
    assert (row["member"], row["log_prob_flops"]) == ("gauss_realnvp", "not counted")
    assert all(row[f"{call}.ratio"] > 0 for call in CALLS)


def _frame(**changes: Any) -> pd.DataFrame:
    """Records of one group: the second takes twice the first's time, on a machine half as fast."""
    rows = []
    for place, (key, scale) in enumerate((("a", 1.0), ("b", 4.0))):
        row: dict[str, Any] = {"key": key, "setting.group": "g", "setting.member": key, "dim": 3}
        row |= {"setting.place": place, "status": "done", "parameters": 10.0}
        row |= {"log_prob_flops": 7.0, "log_prob_error": 1e-5}
        beside = {"reference_seconds.values": scale**0.5, "step_compile_seconds.values": 50 * scale}
        row |= {name: [seconds] for name, seconds in beside.items()}
        for name in (f"{call}_seconds" for call in CALLS):
            row |= {name: scale, f"{name}.values": [scale * s for s in (0.9, 1.0, 1.1)]}
        rows.append(row | (changes if place else {}))
    return pd.DataFrame(rows)


def test_the_table_has_a_row_a_member_and_its_ratios() -> None:
    """Relative to the reference workload, so that two runs would compare as one."""
    first, second = comparisons(_frame()).to_dict("records")
    for call in CALLS:
        assert (first[call], second[call]) == pytest.approx((1.0, 4.0))
        assert second[f"{call}.half"] == pytest.approx((3.8, 4.2))
        assert second[f"{call}.ratio"] == pytest.approx(2.0)
        assert np.isnan(first[f"{call}.ratio"])
    assert second["step.compiling"] == pytest.approx(50.0)
    assert STUDY.tables(_frame())[0].column("step").scale == 1000
    (figure,) = STUDY.figures(_frame())
    assert len(figure.draw().axes) == len(CALLS)
    assert any("2 (b)" in line for line in STUDY.says(_frame()))


def test_a_member_that_failed_is_shown_as_such() -> None:
    """Without a ratio, and without a figure if there is no other."""
    frame = _frame(status="failed")
    (table,) = STUDY.tables(frame)
    assert table.frame["step"].iloc[1] == "failed"
    assert "step.ratio" not in table.frame
    assert STUDY.figures(frame) == []
    assert STUDY.tables(frame.iloc[:0]) == STUDY.figures(frame.iloc[:0]) == []


def test_without_a_clock_errors_are_shown_all_the_same() -> None:
    """Counted and solved, but not timed."""
    frame = _frame()
    (table,) = STUDY.tables(frame[[name for name in frame if "_seconds" not in name]])
    assert {"log_prob_error", "log_prob_flops"} <= set(table.frame)
    assert not {"step", "step.ratio"} & set(table.frame)
