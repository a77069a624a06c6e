"""How the gate judges likelihoods and times: noise passes, and what is worse does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.inference import holm
from benchmarks.core.record import Values
from benchmarks.gate import comparison
from benchmarks.gate.sources import Entry
from records import Metrics

SIMULATED = 200


def entry(group: str, seed: int, metrics: Metrics, place: str = "here") -> Entry:
    """A case as the judges see it."""
    values = {name: Values.of(name, value) for name, value in metrics.items()}
    return Entry(f"{group} seed {seed}", group, str(seed), "done", "", values, place)


def test_seeds_are_paired_where_both_sides_have_the_same_ones():
    old = {str(seed): value for seed, value in enumerate([-5.0, -7.0, -9.0])}
    new = {seed: value - 0.1 + 0.001 * int(seed) for seed, value in old.items()}
    paired = comparison.difference(old, new, (0.0, 0.0))
    moved = [new[seed] - old[seed] for seed in old]
    assert paired.p == pytest.approx(stats.ttest_1samp(moved, 0).pvalue)
    other = {f"{seed}'": value for seed, value in new.items()}
    apart = comparison.difference(old, other, (0.0, 0.0))
    assert apart.value == pytest.approx(paired.value)
    assert apart.p > 0.5 > 0.001 > paired.p


def test_counts_that_all_move_by_one_step_are_no_certainty():
    """Few prove nothing, nor do those that scatter as much; many do."""
    old, new = ({str(seed): n for seed in range(3)} for n in (14.0, 20.0))
    assert comparison.difference(old, new, (0.0, 0.0)) is None
    assert comparison.difference(old, {**new, "0": 14.0}, (0.0, 0.0)).p > LEVEL
    old, new = ({str(seed): n + seed for seed in range(6)} for n in (14.0, 20.0))
    assert comparison.difference(old, new, (0.0, 0.0)).p < LEVEL


def test_holm_is_the_closed_test_of_bonferroni():
    """A hypothesis is rejected if every set that it is in has a p-value below level / size."""
    generator = np.random.default_rng(0)
    for _ in range(50):
        p = generator.uniform(size=5) ** 3
        for index, adjusted in enumerate(holm(p)):
            sets = [s for s in range(1, 32) if s >> index & 1]
            members = [[i for i in range(5) if s >> i & 1] for s in sets]
            worst = max(min(1.0, len(m) * min(p[i] for i in m)) for m in members)
            assert adjusted == pytest.approx(worst)


def simulated_qualities(generator, shift: float, groups: int = 8, seeds: int = 4):
    """The outcomes for trained flows whose seeds scatter by 0.02 nats on both sides."""
    sides: list[list[Entry]] = [[], []]
    for group in range(groups):
        for seed in range(seeds):
            for side, mean in zip(sides, (0.0, shift if group == 0 else 0.0), strict=True):
                value = mean + 0.02 * generator.standard_normal()
                side.append(entry(f"flow {group}", seed, {"test_ll": value}))
    return list(comparison.judge_qualities(*sides))


def test_noise_of_seeds_raises_few_alarms_and_a_worse_likelihood_one():
    generator = np.random.default_rng(1)
    verdicts = [simulated_qualities(generator, 0.0) for _ in range(SIMULATED)]
    assert sum(any(c.fails for c in run) for run in verdicts) <= 0.05 * SIMULATED
    verdicts = [simulated_qualities(generator, -1.0) for _ in range(20)]
    assert sum(run[0].fails for run in verdicts) >= 18


# times


def simulated_times(generator, slowdown: float, works: int = 8, samples: int = 20):
    """The outcomes for works of 4 % noise, on a machine whose speed differs from run to run."""
    pairs = []
    speeds = generator.uniform(0.5, 2, size=2)
    for work in range(works):
        sides = []
        for speed, factor in zip(speeds, (1.0, slowdown if work == 0 else 1.0), strict=True):
            noise = np.exp(0.04 * generator.standard_normal((2, samples)))
            noise[:, 0] *= 3  # once, something else took the processor
            seconds = {"log_prob_seconds": speed * factor, "reference_seconds": 0.3 * speed}
            values = {n: list(s * noise[i]) for i, (n, s) in enumerate(seconds.items())}
            sides.append(entry(f"work {work}", 0, values))
        pairs.append(tuple(sides))
    return list(comparison.judge_times(pairs, 1.1))


def test_noise_of_times_raises_few_alarms_and_a_slower_layer_one():
    generator = np.random.default_rng(2)
    verdicts = [simulated_times(generator, 1.0) for _ in range(SIMULATED)]
    assert sum(any(c.fails for c in run) for run in verdicts) <= 0.05 * SIMULATED
    verdicts = [simulated_times(generator, 1.2) for _ in range(50)]
    assert sum(run[0].fails for run in verdicts) >= 48
    verdicts = [simulated_times(generator, 1 / 1.2) for _ in range(50)]
    assert sum(run[0].outcome == "better" for run in verdicts) >= 48
    assert not any(c.fails for run in verdicts for c in run)


def timed(
    seconds: list[float], *, place: str = "here", reference: float | list[float] = 1.0
) -> Entry:
    return entry("work", 0, {"log_prob_seconds": seconds, "reference_seconds": reference}, place)


@pytest.mark.parametrize(
    ("new", "outcome", "words"),
    [
        (timed(list(np.linspace(1.25, 1.3, 9))), "worse", "× 1.259"),
        (timed(list(np.linspace(1.06, 1.07, 9))), "stayed", "× 1.052"),  # surely, but by little
        (timed([1.0, 1.0, 1.0, 1.0, 1.3, 1.3, 1.3, 1.3, 1.3]), "stayed", "× 1.284"),  # by chance
        (timed(list(np.linspace(2.0, 2.1, 9)), reference=2.0), "stayed", "× 1.012"),  # slow machine
        (timed(list(np.linspace(1.25, 1.3, 9)), place=""), "incomparable", "not known"),
        (timed([2.0] * 9, reference=[1.0, 1.0, 1.3]), "incomparable", "too noisy"),
    ],
)
def test_a_time_is_worse_by_a_factor_and_a_rank_test_on_one_machine(new, outcome, words):
    old = timed(list(np.linspace(1.0, 1.025, 9)))
    if new.metrics["log_prob_seconds"].values[0] == 1.0:
        old = timed([0.98, 0.99, 1.0, 1.01, 1.0125, 1.1, 1.29, 1.31, 1.32])
    (verdict,) = comparison.judge_times([(old, new)], 1.1)
    assert verdict.outcome == outcome
    assert words in verdict.change + verdict.note
    assert verdict.fails == (outcome == "worse")
