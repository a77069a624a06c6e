"""Parts of any figure: ticks, labels set apart, looks of series."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.plotting import draw


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((8, 40), {"10", "20"}),
        ((2e-6, 3e-5), {"2·10⁻⁶", "5·10⁻⁶", "10⁻⁵", "2·10⁻⁵"}),
        ((1, 1000), {"10⁰", "10¹", "10²", "10³"}),
    ],
)
def test_a_short_logarithmic_axis_has_ticks_within_its_powers_of_ten(
    values: tuple[float, float], named: set[str]
) -> None:
    with draw.figure() as (_, axes):
        panel = axes[0, 0]
        panel.plot(values, values)
        draw.logarithmic(panel.xaxis)
        low, high = panel.get_xlim()
        marks = panel.xaxis.get_majorticklocs()
        texts = panel.xaxis.get_major_formatter().format_ticks(marks)
    assert {t for t, m in zip(texts, marks, strict=True) if low <= m <= high} == named


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_numbers_are_set_apart(wishes: list[float]) -> None:
    """By the gap or as far as there is room, within the panel, in order, and unmoved if apart."""
    places = draw.apart(wishes, 0.08, 0.05, 0.95)
    gap = min(0.08, 0.9 / max(1, len(wishes) - 1))
    assert (np.diff(np.sort(places)) >= gap - 1e-9).all()
    assert (np.abs(places - 0.5) <= 0.45 + 1e-9).all()
    order = np.argsort(wishes, kind="stable")
    assert (np.diff(places[order]) > 0).all()
    free = np.clip(np.sort(wishes), 0.05, 0.95)
    if (np.diff(free) >= gap).all():
        assert np.sort(places) == pytest.approx(free)


def test_every_series_has_a_look_of_its_own() -> None:
    """Colour, mark and filling of no two of thirty are the same; eight are as they always were."""
    looks = draw.looks(f"{i:02}" for i in range(30))
    assert len({tuple(sorted(look.items())) for look in looks.values()}) == 30
    pairs = [(look["color"], look["marker"]) for look in looks.values()]
    assert pairs[:8] == list(zip(draw.COLOURS, draw.MARKS, strict=True))
    assert len(set(pairs)) == 30
