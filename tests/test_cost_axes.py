"""How cost grows with N, H, depth and layers, and what it is made of, on made-up records."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.studies.cost import axes, cost_terms
from benchmarks.studies.cost import tables as cost

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
    rows = axes.table(frame).frame.set_index("Axis")
    assert rows["log_prob: FLOPs"].str[0].to_dict() == {"N": "1", "H": "2", "ℓ": "1", "L": "1"}
    assert rows["determinant: FLOPs"].str[0].to_dict() == {"N": "0", "H": "0", "ℓ": "0", "L": "1"}
    assert rows["Range"].to_dict() == {
        "N": "1 to 256",
        "H": "8 to 128",
        "ℓ": "2 to 6",
        "L": "1 to 8",
    }
    assert set(rows["Flow"]) == {"glow"}
    share = 128**2 / (128**2 + 16**2 + 16**3 / 64)
    assert float(rows["log_prob: seconds"]["H"].split()[0]) == pytest.approx(2 * share, abs=0.05)


def test_all_else_is_equal_along_an_axis() -> None:
    """Three sizes are no axis, a D of its own is told, and widths that follow D are no grid."""
    at_two = [*_cross((), (1, 4, 16)), *_cross((), (1, 4, 16), base=(8, *BASE[1:]))]
    found = axes.lines(_frame(at_two, lambda d, n, *_: n * d))
    assert {axis: list(along) for axis, along in found.items()} == {
        "batch": ["glow D=16", "glow D=8"]
    }
    assert all(group["dim"].nunique() == 1 for group in found["batch"].values())
    assert not axes.lines(_frame(_cross((), (1, 4)), lambda d, n, *_: n * d))
    widths = [(16, 64, h, 2, 4) for h in (8, 16, 32, 64)]
    ruled = {"setting.parameters": 1e4}
    assert not axes.lines(_frame(widths, lambda d, n, h, *_: h, **ruled))
    assert list(axes.lines(_frame(widths, lambda d, n, h, *_: h))) == ["option.hidden"]


GRID = list(itertools.product((4, 16, 64), (1, 32), (8, 32, 128), (1, 2, 4), (1, 4)))
MODELS: dict[str, tuple[Cost, dict[str, float], dict[str, Any]]] = {
    "coupling": (
        lambda d, n, h, k, m: 9e4 * m + n * m * (2 * d * h + (k - 1) * h**2),
        {"K": 9e4, "N D H K": 2.0, "N (ℓ−1) H² K": 1.0},
        {},
    ),
    "naive linear layers": (
        lambda d, n, h, k, m: 5e4 + n * m * (3 * d * h + d**2) + 2 * m * d**3,
        {"1": 5e4, "N D H K": 3.0, "N D² K": 1.0, "D³ K": 2.0},
        {"log_prob_determinant_flops": 1.0, "linear_flops": 1.0},
    ),
    "closed form": (
        lambda d, n, h, k, m: 4 * m * (1e3 + n * (2 * d * h + (k - 1) * h**2)) + 50 * d * h**2 * m,
        {"K": 1e3, "N D H K": 2.0, "N (ℓ−1) H² K": 1.0, "D H² L": 50.0},
        {"field_flops": 1.0, "rate_flops": 2.0, "precomputation_flops": 1.0},
    ),
    "loop": (
        lambda d, n, h, k, m: 4 * m * (1e3 + n * d * (2 * d * h + (k - 1) * h**2)),
        {"K": 1e3, "N D² H K": 2.0, "N D (ℓ−1) H² K": 1.0},
        {"field_flops": 1.0, "rate_flops": 65.0, "precomputation_flops": 0.0},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_terms_come_back(name: str) -> None:
    """Those that the times were made of and no others, with their coefficients in nanoseconds."""
    cost_of, terms, more = MODELS[name]
    table = cost_terms.table(_frame(GRID, cost_of, **more))
    found = table.frame.set_index("Term")
    assert set(found.index) == set(terms)
    for term, coefficient in terms.items():
        assert found["Coefficient (ns)"][term] == pytest.approx(coefficient, rel=0.1)
        assert found["from (ns)"][term] <= found["Coefficient (ns)"][term] <= found["to (ns)"][term]
    assert found["Share"].sum() == pytest.approx(1)
    assert (found["Error"] < 0.02).all()
    assert set(found["Points"]) == {len(GRID)}


def test_a_jacobian_is_told_from_a_determinant_of_weights() -> None:
    """By the FLOPs of its LU: two thirds D³ for each sample, or for the batch."""
    frame = _frame(GRID, lambda *_: 1.0)
    once = 2 / 3 * frame["dim"] ** 3 * frame["option.layers"]
    weights = cost_terms.candidates(frame.assign(log_prob_determinant_flops=once))
    samples = cost_terms.candidates(frame.assign(log_prob_determinant_flops=once * frame["batch"]))
    cubes = {"D³ K", "N D³ K"}
    assert cubes & set(weights) == {"D³ K"}
    assert cubes & set(samples) == {"N D³ K"}


def test_terms_that_points_cannot_tell_apart() -> None:
    """Of those the first stands; points of one size alone, or counted ones, have no model."""
    alone = _frame([(d, *BASE[1:]) for d in (2, 4, 8, 16, 32, 64, 128)], lambda d, *_: d)
    assert list(cost_terms.candidates(alone)) == ["1", "N (D + ℓ H) K", "N D H K"]
    assert cost_terms.table(alone).frame.empty
    together = _frame([(d, 64, 2 * d, 2, 4) for d in (2, 4, 8, 16, 32, 64, 128)], lambda d, *_: d)
    assert cost_terms.table(together).frame.empty
    counted = _frame(GRID, lambda d, *_: d).assign(device="meta")
    assert cost_terms.table(counted).frame.empty
    assert not axes.lines(counted)


def test_a_grid_has_its_tables_and_figure() -> None:
    """Beside all that a scan of D has; without a clock the counts alone."""
    points = _cross((2, 4, 8, 32), (1, 4, 256), (8, 16, 64, 128), (3, 4, 6), (1, 2, 8))
    frame = _frame(points, lambda d, n, h, k, m: m * n * (d * h + h**2 * (k - 1)))
    names = [table.name for table in cost.tables(frame)]
    assert names == ["cost-growth", "cost-axes", "cost-model", "cost-by-dimension"]
    (figure,) = (figure for figure in cost.figures(frame) if figure.name == "cost-axes")
    assert len(figure.draw().axes) == 8
    counts = frame[[column for column in frame if "_seconds" not in column]]
    assert "cost-model" not in [table.name for table in cost.tables(counts)]
    assert len(cost.figures(counts)[-1].draw().axes) == 4
