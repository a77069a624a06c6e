"""Scaling laws: degrees from exact counts, and laws of times on truths that are known."""

from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from benchmarks.analysis.growth import Growth, law_of, polynomial

SIZES = 2.0 ** np.arange(1, 11)
SEEDS = 16
REPETITIONS = 200
Truth = Callable[[np.ndarray], np.ndarray]

# truth: the time, its degree, and d ln t / d ln D at the largest size
TRUTHS: dict[str, tuple[Truth, int, float]] = {
    "100 + D": (lambda d: 100 + d, 1, 1024 / 1124),
    "300 + 0.02 D²": (lambda d: 300 + 0.02 * d**2, 2, 1.9718),
    "50 + 2D + 2e-4 D³": (lambda d: 50 + 2 * d + 2e-4 * d**3, 3, 2.98074),
    "0.01 D²": (lambda d: 0.01 * d**2, 2, 2.0),
    "70": (lambda d: 70 + 0 * d, 0, 0.0),
    "1000 + 0.2 D": (lambda d: 1000 + 0.2 * d, 1, 0.17),
}


def _laws(truth: Truth, sample: float, size: float, sizes: np.ndarray = SIZES) -> list[Growth]:
    """Of nine samples a size, each with noise of its own, and all of a size with one drift."""
    laws = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        drift = rng.normal(0, size, (len(sizes), 1))
        noise = np.exp(drift + rng.normal(0, sample, (len(sizes), 9)))
        laws.append(law_of(sizes, truth(sizes)[:, None] * noise, repetitions=REPETITIONS))
    return laws


def _often(hits: Iterable[bool], share: float) -> bool:
    """Whether as many hit as chance has it, in 99 of 100, where this share of all do."""
    return sum(hits) >= binom.ppf(0.01, SEEDS, share)


@pytest.mark.parametrize("noise", [(0.05, 0.0), (0.02, 0.03)], ids=str)
@pytest.mark.parametrize("name", TRUTHS)
def test_truths_of_the_class(name: str, noise: tuple[float, float]) -> None:
    """The degree is found, and the interval has the true exponent as often as it says."""
    truth, degree, exponent = TRUTHS[name]
    laws = _laws(truth, *noise)
    assert _often([law.degree == degree for law in laws], 0.9)
    covered = [law.interval[0] - 1e-4 <= exponent <= law.interval[1] + 1e-4 for law in laws]
    assert _often(covered, 0.95)
    reached = truth(SIZES)[-1] > 2 * truth(SIZES * 0)[-1] or degree == 0
    assert _often([law.reached == reached for law in laws], 0.9)
    assert _often([not law.breaks for law in laws], 0.95)


@pytest.mark.parametrize("offset", [0.0, 20.0])
def test_a_power_between_degrees(offset: float) -> None:
    """D^1.5 is no polynomial: the shifted power law is better, and says so."""
    for law in _laws(lambda d: offset + d**1.5, 0.05, 0.03):
        assert not law.reached
        assert law.exponent == pytest.approx(1.5, abs=0.15)
        assert law.interval[0] <= 1.5 <= law.interval[1] + 0.05


@pytest.mark.parametrize("size", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("name", ["D^0.1", "1 + 0.01 D"])
def test_few_sizes_that_tell_little(name: str, size: float) -> None:
    """Four sizes that hardly grow: whatever law is chosen, the interval has the true exponent."""
    truth: Truth = {"D^0.1": lambda d: d**0.1, "1 + 0.01 D": lambda d: 1 + 0.01 * d}[name]
    exponent = {"D^0.1": 0.1, "1 + 0.01 D": 0.32 / 1.32}[name]
    laws = _laws(truth, 0.03, size, np.array([4.0, 8.0, 16.0, 32.0]))
    assert _often([law.interval[0] <= exponent <= law.interval[1] for law in laws], 0.9)
    assert all(law.interval[1] > law.interval[0] for law in laws)


def test_times_that_fall() -> None:
    laws = _laws(lambda d: 1 / d, 0.03, 0.03)
    assert not any(law.reached for law in laws)
    assert _often([law.interval[0] <= -1 <= law.interval[1] for law in laws], 0.95)


def test_a_break_is_found_and_left_behind() -> None:
    """Times that jump by 60 % from D = 128 on: where, and the exponent of what comes after."""
    laws = _laws(lambda d: (100 + d) * np.where(d >= 128, 1.6, 1), 0.05, 0.0)
    assert _often([law.breaks == (128,) for law in laws], 0.95)
    assert _often([law.degree == 1 for law in laws], 0.95)
    assert np.median([law.exponent for law in laws]) == pytest.approx(0.91, abs=0.03)


def test_a_tie_goes_to_the_lower_degree() -> None:
    """What fits by either of two degrees has the lower one, and exact values their own law."""
    sizes = np.array([2.0, 3.0, 4.0, 6.0, 8.0])
    laws = _laws(lambda d: 10 + d + 1e-3 * d**2, 0.05, 0.03, sizes)
    assert _often([law.degree <= 1 for law in laws], 0.85)
    law = law_of(SIZES, [[3 + 2 * d**2] for d in SIZES])
    assert (law.degree, law.exponent) == (2, pytest.approx(2, abs=1e-4))
    assert law.interval == pytest.approx((law.exponent, law.exponent), abs=1e-4)


@settings(max_examples=100)
@given(
    coefficients=st.lists(st.fractions(max_denominator=6), min_size=1, max_size=5),
    sizes=st.lists(st.integers(1, 5000), min_size=7, max_size=9, unique=True),
)
def test_polynomials_of_exact_counts(coefficients: list[Fraction], sizes: list[int]) -> None:
    while len(coefficients) > 1 and not coefficients[-1]:
        coefficients.pop()
    counts: list = [sum(c * size**k for k, c in enumerate(coefficients)) for size in sizes]
    assert polynomial(sizes, counts) == coefficients
