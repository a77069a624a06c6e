"""What blocks of `flowgauge ab` say: verdicts, intervals, the order of visits."""

from __future__ import annotations

from itertools import islice
from random import Random

import numpy as np
import pytest

from benchmarks.ab import rendering
from benchmarks.ab.judgement import LEVEL, Judgement, judge, log_ratios
from benchmarks.ab.schedule import ABBA, BAAB, BASE, NEW, blocks, calls_of, orders
from benchmarks.ab.session import Measurement

NAMES = [f"bench{index}" for index in range(6)]


def samples(seed: int, slowed: float = 0.0, noise: float = 0.03, count: int = 40):
    """Log-ratios of six benchmarks, skewed as times are, the first slower by a share."""
    random = np.random.default_rng(seed)
    drawn = {n: noise * (random.gamma(2, size=(2, count)).T @ [1, -1]) / 2**0.5 for n in NAMES}
    return {**drawn, NAMES[0]: drawn[NAMES[0]] + np.log1p(slowed)}


def test_a_slowdown_is_found_and_no_other():
    for seed in range(40):
        verdicts = {n: j.verdict for n, j in judge(samples(seed, slowed=0.1)).items()}
        assert verdicts == {n: "slower" if n == NAMES[0] else "same" for n in NAMES}


def test_the_test_alone_holds_its_level_for_all_benchmarks_together():
    runs = [judge(samples(seed, noise=0.3), factor=1.0) for seed in range(300)]
    wrong = sum(any(j.verdict != "same" for j in run.values()) for run in runs)
    assert wrong <= 300 * LEVEL + 3 * np.sqrt(300 * LEVEL * (1 - LEVEL))


def test_the_interval_covers_and_the_sides_are_alike():
    covered = 0
    for seed in range(200):
        values = samples(seed, slowed=0.1, noise=0.2)[NAMES[0]]
        one, mirrored = (judge({"one": v})["one"] for v in (values, -values))
        assert one.ratio == pytest.approx(1 / mirrored.ratio)
        assert (one.low, one.high) == pytest.approx((1 / mirrored.high, 1 / mirrored.low))
        covered += one.low <= 1.1 <= one.high
    assert covered >= 200 * 0.95 - 3 * np.sqrt(200 * 0.95 * 0.05)


def test_a_difference_below_the_factor_is_none_and_one_that_is_not_significant_neither():
    assert judge(samples(0, slowed=0.04))[NAMES[0]].verdict == "same"
    assert judge(samples(0, slowed=0.04), factor=1.02)[NAMES[0]].verdict == "slower"
    assert judge(samples(0, slowed=-0.1))[NAMES[0]].verdict == "faster"
    assert judge(samples(0, slowed=0.1, noise=5.0))[NAMES[0]].verdict == "same"


def test_too_few_blocks_are_said_to_be():
    assert judge({"one": np.full(5, 0.5)})["one"].verdict == "too few"
    assert judge({"one": np.full(6, 0.5)})["one"].verdict == "slower"
    assert judge({"one": np.zeros(6)})["one"].verdict == "same"
    assert judge({n: np.full(7, 0.5) for n in NAMES})["bench0"].verdict == "too few"


def visits(base, new):
    """A block of visits with these shortest calls."""
    return {
        side: [{"processor": [2 * t, t, 3 * t], "clock": [t]} for t in times]
        for side, times in ((BASE, base), (NEW, new))
    }


def test_a_drift_common_to_both_sides_cancels():
    for order in (ABBA, BAAB):
        for drift in (1.0, 1.5):  # of the time from a visit to the next
            times = {BASE: [], NEW: []}
            for step, side in enumerate(order):
                times[side].append((1.1 if side == NEW else 1.0) * drift**step)
            assert log_ratios([visits(*times.values())]) == pytest.approx(np.log(1.1))


def test_every_two_blocks_are_balanced():
    drawn = list(islice(orders(Random(0)), 40))
    assert all({*pair} == {ABBA, BAAB} for pair in zip(drawn[::2], drawn[1::2], strict=True))
    assert {*drawn[::2]} == {ABBA, BAAB}


def test_rounds_visit_both_sides_alike_until_the_deadline(monkeypatch):
    now, requests = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def ask(side, name, calls):
        now[0] += 1.0
        requests.append((side, name, calls))
        return (
            None if name == "bad" and len(requests) > 60 else {"processor": [1.0], "clock": [1.0]}
        )

    timed = list(blocks(ask, {"good": 1e-4, "bad": 1.0}, 200.0, Random(0)))
    assert now[0] <= 200.0 < now[0] + 5
    assert all(len(block[side]) == 2 for _, block in timed for side in (BASE, NEW))
    assert 5 < sum(name == "bad" for name, _ in timed) < sum(name == "good" for name, _ in timed)
    assert {c for _, name, c in requests if name == "good"} == {calls_of(1e-4)}
    assert calls_of(1e-4) > calls_of(1.0) >= 1
    assert not list(blocks(ask, {}, 1000.0, Random(0)))


@pytest.mark.parametrize(
    ("base", "new", "undeclared"),
    [
        ([1, 1], [1, 1], True),
        ([1, 1], [1, 2], False),
        ([1, 1], [2, 1], False),
        (None, [1, 1], False),
        ([1, 1], None, False),
        (None, None, False),
    ],
)
def test_a_time_that_moved_needs_a_raised_pace_or_version(base, new, undeclared):
    sides = {BASE: base, NEW: new}
    declared = {k: v and {"flow glow": v, "flows": [1, 1]} for k, v in sides.items()}
    for verdict in ("slower", "faster", "same", "too few"):
        judgement = Judgement(1.0, 1.0, 1.0, 1.0, verdict)
        result = Measurement(judgement=judgement, declared=declared)
        assert result.undeclared == (undeclared and verdict in ("slower", "faster"))
        assert any("pace" in line for line in rendering.reasons({"glow/gradient": result})) == (
            result.undeclared
        )


def test_benchmarks_of_one_side_alone_are_no_pass_and_a_reason_is_said_once() -> None:
    failed = Measurement(exception=f"failed in {BASE}", reason="no module")
    results = {
        "a/log_prob": failed,
        "b/log_prob": failed,
        "c/log_prob": Measurement(exception="appeared"),
    }
    assert "none slower" not in rendering.summary(results)
    assert rendering.reasons(results) == ["a/log_prob, b/log_prob: no module"]
