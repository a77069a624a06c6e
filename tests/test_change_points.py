"""Change points: planted ones are found, and noise gives them at most at the stated level."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.analysis.change_points import change_points

LEVEL, SERIES = 0.1, 300
Noise = Callable[[np.random.Generator, int], np.ndarray]
NOISES: dict[str, Noise] = {
    "normal": lambda random, n: random.normal(size=n),
    "heavy tails": lambda random, n: random.standard_cauchy(n),
    "skewed": lambda random, n: np.exp(2 * random.normal(size=n)),
    "few values": lambda random, n: random.integers(0, 3, n).astype(float),
    "one outlier": lambda random, n: np.eye(1, n, random.integers(n))[0],
}


@pytest.mark.parametrize("length", [12, 40])
@pytest.mark.parametrize("noise", NOISES)
def test_noise_has_change_points_at_most_at_the_level(noise: str, length: int) -> None:
    """Within three standard errors of the number of series in which there may be one."""
    random = np.random.default_rng(length)
    alarms = sum(bool(change_points(NOISES[noise](random, length), LEVEL)) for _ in range(SERIES))
    assert alarms / SERIES <= LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / SERIES)


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(10, 25), min_size=1, max_size=4), seed=st.integers(0, 2**32 - 1)
)
def test_levels_that_do_not_overlap_are_cut_where_they_meet(lengths: list[int], seed: int) -> None:
    """In any unit, and whether they rise or fall."""
    random = np.random.default_rng(seed)
    values = np.concatenate([2 * i + random.uniform(size=n) for i, n in enumerate(lengths)])
    places = list(np.cumsum(lengths)[:-1])
    assert change_points(values, 0.01) == places
    assert change_points(-1e-6 * values, 0.01) == places


def test_a_smaller_level_finds_no_more() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        values = random.normal(size=20) + (np.arange(20) >= 12)
        assert {*change_points(values, 0.001)} <= {*change_points(values, 0.2)}


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [3.0] * 50])
def test_what_has_no_scatter_or_no_length_has_none(values: list[float]) -> None:
    assert change_points(values, 0.5) == []
