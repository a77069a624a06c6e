"""Two libraries side by side: pairs of one architecture, errors, and ratios with intervals."""

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
from benchmarks.analysis.stats import ratio_of_medians
from benchmarks.core.case import Case
from benchmarks.core.metrics import METRICS
from benchmarks.core.study import registry
from benchmarks.execution import suite
from benchmarks.execution.tasks import tasks
from benchmarks.measure.foreign import peers
from benchmarks.studies.libraries.study import copy_weights
from benchmarks.studies.libraries.tables import CALLS, comparisons
from flows.budget import WITHIN
from measuring import cases_of, frame_of, results_of

SUITE = "libraries"
STUDY = registry["libraries"]
samples = st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=30)


def cases(dtype: str = "float32", **changes: Any) -> list[Case]:
    """The study's cases for pairs that need no other library, small."""
    options = {
        "pairs": [
            {"ours": {"flow": "realnvp"}, "theirs": {"flow": "glow"}},
            {
                "ours": {"flow": "cnf", "options": {"solver": {"rtol": 1e-3, "atol": 1e-3}}},
                "theirs": {"flow": "cnf", "options": {"solver": {"rtol": 1e-6, "atol": 1e-6}}},
            },
        ],
        "dims": [3],
        "sizes": {"depth": 1, "layers": 2},
        "parameters": 3000,
        "batch": 8,
        "seconds": 0.01,
        **changes,
    }
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


def test_both_of_a_pair_are_measured_together_at_one_size() -> None:
    """One block a pair and dimension; equal batch, depth and layers; a matched budget."""
    pairs = [task.cases for task in tasks(cases(dims=[3, 5]))]
    assert len(pairs) == 4
    for ours, theirs in pairs:
        assert [case.settings["side"] for case in (ours, theirs)] == ["ours", "theirs"]
        assert (ours.batch, ours.dim, ours.updates) == (theirs.batch, theirs.dim, theirs.updates)
        for case in (ours, theirs):
            flow = flows.build(case.flow, case.dim, **case.options)
            size = sum(p.numel() for p in flow.parameters())
            assert abs(size - case.settings["parameters"]) <= WITHIN * case.settings["parameters"]
            assert case.options["depth"] == 1


def test_errors_tell_a_loose_solver_from_a_tight_one() -> None:
    """In float64 a flow without an ODE has none, a CNF about its tolerance."""
    pairs = cases("float64")
    results = results_of(pairs)
    errors = [results[case.key].metrics["log_prob_error"] for case in pairs]
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
        pair = cases("float64", accuracy=accuracy)[2:]
        results = dict(registry["libraries"].measure(pair))
        metrics = [results[case.key].metrics for case in pair]
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
    pair = {"ours": {"flow": "cnf"}, "theirs": {"flow": "realnvp"}, "same_weights": True}
    block = cases(pairs=[pair])
    first, second = (result for _, result in registry["libraries"].measure(block))
    assert [bool(r.failure) for r in (first, second)].count(True) == 1


def test_zuko_solves_the_field_of_ours() -> None:
    """With its weights, without time: equal densities, each solver as accurate as asked."""
    pytest.importorskip("zuko", reason="the suite compares with zuko")
    options = {"frequencies": 0, "activation": "tanh"}
    pair = {
        "ours": {"flow": "cnf", "options": {"time": "ignore"}},
        "theirs": {"flow": "zuko_cnf", "options": options},
        "same_weights": True,
    }
    changes = {"pairs": [pair], "sizes": {"depth": 2}, "accuracy": 1e-4, "seconds": 0}
    block = cases("float64", **changes)
    results = dict(registry["libraries"].measure(block))
    metrics = [results[case.key].metrics for case in block]
    assert metrics[0]["parameters"] == metrics[1]["parameters"]
    assert all(m["log_prob_error"] <= 1e-4 for m in metrics)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flow, other = (flows.build(c.flow, 3, **c.options).double() for c in block)
    copy_weights(flow, other)
    views = [f.using(solver={"rtol": 1e-10, "atol": 1e-10}).log_prob(x) for f in (flow, other)]
    torch.testing.assert_close(*views, rtol=0, atol=1e-6)


def test_the_suite_pairs_registered_flows_of_one_architecture() -> None:
    """Every pair is ours against an adapter's, with the same sizes where both use them."""
    pytest.importorskip("zuko", reason="the suite compares with zuko")
    members = [case for case in suite.read(SUITE).cases() if case.study == "libraries"]
    assert members
    for ours, theirs in zip(members[::2], members[1::2], strict=True):
        by = str(theirs.settings.get("by", ""))
        name = f"{ours.flow} | {by}{'_' * bool(by)}{theirs.flow}"
        assert ours.settings["pair"] == theirs.settings["pair"] == name
        assert not flows.members.module_of(ours.flow).startswith("flows.adapters.")
        assert flows.members[theirs.flow].library or theirs.settings["by"] in peers.names()
        for option in ("depth", "layers", "bins"):
            if option in ours.options and option in theirs.options:
                assert ours.options[option] == theirs.options[option]


def test_without_the_other_library_its_flows_are_left_out_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What to install stands there, and the suite's other flows are measured."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda wanted: None if wanted == "zuko" else find(wanted)
    )
    with pytest.warns(UserWarning, match=r"^flows of zuko .*'flowgauge\[zuko\]'$") as caught:
        cases = suite.read(SUITE).cases()
    assert len({str(w.message) for w in caught if "zuko" in str(w.message)}) == 1
    assert {case.flow for case in cases} & set(flows.own())
    assert not any(case.flow.startswith("zuko_") for case in cases)


@pytest.mark.parametrize("absent", [False, True])
def test_a_peer_is_a_side_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, absent: bool
) -> None:
    """Fitted as ours, compiled apart, not counted; left out in a line where a package is absent."""
    monkeypatch.setattr(peers, "peer", lambda _: peer_processes)
    pair = {"ours": {"flow": "realnvp"}, "theirs": {"flow": "realnvp", "by": "gauss"}}
    if absent:
        monkeypatch.setattr(peer_processes, "PACKAGES", ("no_such_package",))
        with pytest.warns(UserWarning, match=r"^flows of gauss .*'flowgauge\[peers\]'$"):
            assert not cases(pairs=[pair])
        return
    block = cases(pairs=[pair])
    assert [case.settings["pair"] for case in block] == 2 * ["realnvp | gauss_realnvp"]
    results = results_of(block)
    assert not any(result.failure for result in results.values())
    theirs = results[block[1].key].metrics
    assert 0 < float(theirs["log_prob_error"]) < 1e-5
    assert {f"{call}_compile_seconds" for call in ("log_prob", "step", "sample")} <= set(theirs)
    rows = comparisons(frame_of(block, results))
    assert set(rows["flops.theirs"]) == {"not counted"}
    assert (rows["ratio"] > 0).all()


def _frame(**changes: Any) -> pd.DataFrame:
    """Records of one pair: theirs takes twice our time, on a machine half as fast."""
    rows = []
    for side, scale in (("ours", 1.0), ("theirs", 4.0)):
        row: dict[str, Any] = {"setting.pair": "a | b", "setting.side": side, "dim": 3}
        row |= {"status": "done", "key": side, "parameters": 10.0, "log_prob_error": 1e-5}
        row |= {"reference_seconds": scale / 2, "log_prob_flops": 7.0}
        for call in CALLS:
            row[f"{call}_seconds.values"] = [scale * s for s in (0.9, 1.0, 1.1)]
        rows.append(row | (changes if side == "theirs" else {}))
    return pd.DataFrame(rows)


def test_the_table_has_a_row_a_call_and_its_ratio() -> None:
    """Relative to the reference workload, so that two runs would compare as one."""
    rows = comparisons(_frame())
    assert rows["call"].tolist() == list(CALLS)
    assert rows["seconds.ours"].tolist() == pytest.approx([1.0] * 4)
    assert rows["seconds.theirs"].tolist() == pytest.approx([4.0] * 4)
    assert rows["seconds.theirs.half"][0] == pytest.approx((3.8, 4.2))
    assert rows["ratio"].tolist() == pytest.approx([1.0] * 4)
    assert rows["flops.ours"][0] == 7
    (table,) = STUDY.tables(_frame())
    assert len(table.frame) == len(CALLS)
    assert table.column("seconds.ours").scale == 1000  # shown in ms
    (figure,) = STUDY.figures(_frame())
    assert len(figure.draw().axes) == len(CALLS)


def test_a_side_that_failed_is_shown_as_such() -> None:
    """Without a ratio, and without a figure if there is no other pair."""
    frame = _frame(status="failed")
    (table,) = STUDY.tables(frame)
    assert set(table.frame["seconds.theirs"]) == {"failed"}
    assert "ratio" not in table.frame
    assert STUDY.figures(frame) == []
    assert STUDY.tables(frame.iloc[:0]) == STUDY.figures(frame.iloc[:0]) == []


def test_without_a_clock_errors_are_shown_all_the_same() -> None:
    """Counted and solved, but not timed."""
    frame = _frame()
    (table,) = STUDY.tables(frame[[name for name in frame if "_seconds" not in name]])
    assert {"error.ours", "error.theirs", "flops.ours"} <= set(table.frame)
    assert not {"ratio", "seconds.ours"} & set(table.frame)
