"""How cost grows with N, H, depth and layers, on made-up records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.analysis import sizes
from benchmarks.analysis.growth import growth
from benchmarks.studies.cost.figures import figures
from benchmarks.studies.cost.tables import tables

Sizes = tuple[int, int, int, int, int]  # D, N, H, depth, layers
Cost = Callable[[int, int, int, int, int], float]
BASE = (16, 64, 32, 2, 4)


def _frame(points: Iterable[Sizes], cost_of: Cost, flow: str = "glow", **more: Any) -> pd.DataFrame:
    """FLOPs and nanoseconds of ``cost_of`` the sizes, with a spread of a hundredth."""
    rng, rows = np.random.default_rng(0), []
    for d, n, h, depth, layers in points:
        flops = float(cost_of(d, n, h, depth, layers))
        times = (flops * 1e-9 * np.exp(rng.normal(0, 0.01, 9))).tolist()
        row = {"flow": flow, "dim": d, "batch": n, "option.hidden": h, "option.depth": depth}
        row |= {"option.layers": layers, "key": f"{flow}{len(rows)}", "status": "done"}
        row |= {"device": "cpu", "setting.seconds": float(d), "log_prob_nfe": 4.0 * layers}
        row |= {f"{call}_flops": flops for call in ("log_prob", "step")}
        row |= {f"{call}_seconds": float(np.median(times)) for call in ("log_prob", "step")}
        row |= {f"{call}_seconds.values": times for call in ("log_prob", "step")}
        rows.append({**row, **more})
    return pd.DataFrame(rows)


def _cross(*ranges: Iterable[int], base: Sizes = BASE) -> list[Sizes]:
    """The base, and each size varied alone over its range."""
    moved = [
        (*base[:i], size, *base[i + 1 :]) for i, values in enumerate(ranges) for size in values
    ]
    return list(dict.fromkeys([base, *moved]))


def test_each_axis_has_its_degree() -> None:
    """N (H² (depth - 1) + D²) layers + D³ layers: a degree each, and exponents at the end."""
    points = _cross((), (1, 16, 256), (8, 16, 64, 128), (3, 4, 6), (1, 2, 8))
    frame = _frame(points, lambda d, n, h, k, m: m * (n * (h**2 * (k - 1) + d**2) + d**3))
    frame["log_prob_determinant_flops"] = frame["dim"] ** 3.0 * frame["option.layers"]
    (table,) = (table for table in tables(frame) if table.name == "cost-axes")
    rows = table.frame.set_index("axis")
    assert rows["log_prob_flops"].to_dict() == {"N": 1, "H": 2, "ℓ": 1, "L": 1}
    assert rows["log_prob_determinant_flops"].to_dict() == {"N": 0, "H": 0, "ℓ": 0, "L": 1}
    assert rows["from"].to_dict() == {"N": 1, "H": 8, "ℓ": 2, "L": 1}
    assert rows["to"].to_dict() == {"N": 256, "H": 128, "ℓ": 6, "L": 8}
    assert set(rows["flow"]) == {"glow"}
    share = 128**2 / (128**2 + 16**2 + 16**3 / 64)
    assert rows["log_prob_seconds"]["H"] == pytest.approx(2 * share, abs=0.05)
    (group,) = sizes.lines(frame)["option.hidden"].values()
    grown = growth(group, "log_prob_flops", "option.hidden")
    assert grown is not None
    assert grown.exponent == pytest.approx(2 * share)


def test_all_else_is_equal_along_an_axis() -> None:
    """Three sizes are no axis, a D of its own is told, and widths that follow D are no grid."""
    at_two = [*_cross((), (1, 4, 16)), *_cross((), (1, 4, 16), base=(8, *BASE[1:]))]
    lines = sizes.lines(_frame(at_two, lambda d, n, *_: n * d))
    assert {axis: list(along) for axis, along in lines.items()} == {
        "batch": ["glow D=16", "glow D=8"]
    }
    assert all(group["dim"].nunique() == 1 for group in lines["batch"].values())
    assert not sizes.lines(_frame(_cross((), (1, 4)), lambda d, n, *_: n * d))
    widths = [(16, 64, h, 2, 4) for h in (8, 16, 32, 64)]
    ruled = {"setting.parameters": 1e4}
    assert not sizes.lines(_frame(widths, lambda d, n, h, *_: h, **ruled))
    assert list(sizes.lines(_frame(widths, lambda d, n, h, *_: h))) == ["option.hidden"]


def test_a_grid_has_its_tables_and_figure() -> None:
    """Beside those of a scan of D; without a clock the counts alone, of counted rows none."""
    points = _cross((2, 4, 8, 32), (1, 4, 256), (8, 16, 64, 128), (3, 4, 6), (1, 2, 8))
    frame = _frame(points, lambda d, n, h, k, m: m * n * (d * h + h**2 * (k - 1)))
    assert {"cost-growth", "cost-axes"} <= {table.name for table in tables(frame)}
    counts = frame[[column for column in frame if "_seconds" not in column]]
    for rows, panels in ((frame, 8), (counts, 4)):
        (figure,) = (figure for figure in figures(rows) if figure.name == "cost-axes")
        assert len(figure.draw().axes) == panels
    times = [column for column in frame if "_seconds" in column]
    smallest = frame[["batch", "option.hidden", "option.depth", "option.layers"]].min(axis=1) == 1
    quoted = frame.assign(**{name: frame[name].mask(smallest) for name in times})
    (figure,) = (figure for figure in figures(quoted) if figure.name == "cost-axes")
    figure.draw()  # some times may not be quoted: their lines are left out
    at_one = frame.assign(**{name: frame[name].where(frame["dim"] == 16) for name in times})
    assert "cost-against-dimension" in [figure.name for figure in figures(frame)]
    assert "cost-against-dimension" not in [figure.name for figure in figures(at_one)]
    assert not sizes.lines(frame.assign(device="meta"))
