"""Standard errors, bootstrap, units of times, and names of series."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from benchmarks.analysis.inference import ratio_of_medians, standard_error
from benchmarks.core.metrics import METRICS
from benchmarks.core.naming import series
from benchmarks.plotting import draw


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40))
def test_standard_error_is_the_textbook_one_without_groups(values):
    assert standard_error(values) == pytest.approx(scipy_stats.sem(values), abs=1e-9)


def test_clustered_standard_error_counts_copies_once():
    values = np.random.default_rng(0).normal(size=50)
    copies, groups = np.repeat(values, 7), np.repeat(np.arange(50), 7)
    assert standard_error(copies, groups) == pytest.approx(standard_error(values))
    assert standard_error(copies) < standard_error(values) / 2
    assert np.isnan(standard_error([1.0]))


def test_the_interval_of_a_ratio_covers_it() -> None:
    """About as often as it says."""
    generator, covered = np.random.default_rng(0), 0
    for seed in range(200):
        a, b = (scale * generator.lognormal(0, 0.3, 25) for scale in (3.0, 2.0))
        value, low, high = ratio_of_medians(a, b, 300, seed)
        covered += low <= 1.5 <= high
        assert ratio_of_medians(2 * a, b, 300, seed) == pytest.approx(
            (2 * value, 2 * low, 2 * high)
        )
    assert 0.88 <= covered / 200 <= 1.0


def test_times_are_in_seconds_or_rates():
    for name, metric in METRICS.items():
        assert metric.kind != "time" or metric.unit in ("s", "1/s"), name


def test_a_series_is_named_by_what_tells_its_variants_apart():
    solvers = [{"method": "rk4", "gradient": g} for g in ("adjoint", "backprop", "adjoint")]
    frame = pd.DataFrame({"flow": ["cnf", "cnf", "glow"], "option.solver": solvers})
    frame["option.hidden"] = 8
    assert series(frame) == ["cnf gradient=adjoint", "cnf gradient=backprop", "glow"]
    frame["updates"], frame["setting.training"] = [5, 6, 5], [{"clip": 1.0}] * 3
    named = series(frame)
    assert all("gradient=" in n and "updates=" in n for n in named[:2])
    frame["option.solver"], frame["updates"] = [solvers[0]] * 3, 5
    assert series(frame) == ["cnf", "cnf", "glow"]  # two seeds of one configuration
    frame["setting.preprocessing"] = [float("nan"), "radial", float("nan")]
    assert series(frame) == ["cnf", "cnf preprocessing=radial", "glow"]
    frame["option.solver"] = solvers
    assert len(set(map(str, draw.looks(series(frame)).values()))) == 3
