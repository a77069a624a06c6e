"""Small arrays of a record that pictures of a density are drawn from, without the data set.

Of a two-dimensional flow they have its path from noise to data in a few steps. A flow x -> z cut at
any place is again a flow: the part between there and the noise gives the density of the samples at
that place. A continuous part is cut in time.
"""

from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Any

import numpy as np
import scipy
import torch
from nflows.transforms import CompositeTransform
from torch import Tensor, nn

from benchmarks.datasets import Dataset
from flows.bijection import parts
from flows.continuous.cnf import CNF
from flows.flow import Flow
from flows.preprocessing import Preprocessing

ROWS = 2000  # of the data
BINS = 80  # per side of the histogram of the data
COLUMNS = 4  # of more than two dimensions
SAMPLES = 1000  # of those columns
CHOSEN_BY = 5000  # training rows that decide the columns
STEPS = 8  # at most, noise and data included
BETWEEN = 4  # solves between two steps; their ends are the points of a trajectory
EDGE = 0.002  # share of a step's samples that may lie beyond each side of its image
FARTHEST = 6e4  # largest value in float16, about


@torch.no_grad()
def plane(flow: Flow, x: Tensor, data: Dataset, *, grid: int, layers: int) -> dict[str, Any]:
    """Return arrays of a two-dimensional density, of samples x (N, 2) of it, and of its data.

    ``image`` (grid, grid), the log-density over ``extent`` (x0, x1, y0, y1), rows from below;
    ``samples``; ``data_image``, a histogram of the training rows over the same extent as a density;
    ``data_samples``, test rows; and those of `along`, which takes ``layers``.
    """
    low, high = data.train.amin(0), data.train.amax(0)
    margin = 0.05 * (high - low)
    extent = torch.stack([low - margin, high + margin], 1).flatten().numpy()
    image = flow.log_prob(lattice(extent, grid).to(x)).clamp(min=-1e4).reshape(grid, grid)
    xs, ys = data.train.numpy().T
    histogram, _, _ = np.histogram2d(xs, ys, BINS, extent.reshape(2, 2), density=True)
    return {
        "image": half(image),
        "extent": extent,
        "samples": half(x),
        "data_image": histogram.T.astype(np.float16),
        "data_samples": half(_some(data.test, ROWS)),
        **along(flow, layers=layers),
    }


def corner(x: Tensor, data: Dataset) -> dict[str, Any]:
    """Return arrays of the least Gaussian columns, for a corner plot of samples x (N, D).

    Their training rows are farthest from a normal distribution by Kolmogorov's distance; of a
    context columns are only taken where those of y are too few. ``columns`` (c,), from 0, in order;
    ``samples`` (rows, c) and ``data_samples`` (rows, c) of the test set.
    """
    rows = data.train[:CHOSEN_BY]
    scaled = ((rows - rows.mean(0)) / rows.std(0)).numpy()
    distances = [scipy.stats.kstest(column, "norm").statistic for column in scaled.T]
    order = np.argsort(distances)[::-1]
    order = np.concatenate([order[order < data.dim], order[order >= data.dim]])
    columns = np.sort(order[:COLUMNS])
    return {
        "columns": columns,
        "samples": half(_some(x, SAMPLES)[:, columns]),
        "data_samples": half(_some(data.test, ROWS)[:, columns]),
    }


def _some(rows: Tensor, most: int) -> Tensor:
    """Take at most ``most`` rows at equal steps: samples of a mixture come by component."""
    return rows[:: -(-len(rows) // most)]


@torch.no_grad()
def along(
    flow: Flow, *, layers: int = 0, rows: int = 800, side: int = 64, traced: int = 100
) -> dict[str, np.ndarray]:
    """Return small arrays of a two-dimensional flow's path from noise to data.

    ``path_samples`` (steps, rows, 2), the same rows at every step; ``path_densities`` (steps, side,
    side), rows from below, in 255ths of ``path_peaks`` (steps,), which the figures read; and
    ``path_extents`` (steps, 4), the (x0, x1, y0, y1) of their images, equal for all steps of a
    continuous flow. Continuous flows also have ``path_times`` (steps,), 0 at the noise and 1 at the
    data, and ``path_lines`` (points, traced, 2), trajectories; others have ``path_layers``
    (steps,), the number of layers passed: transforms are divided evenly among ``layers`` if that is
    known. A preprocessing is not a step: coordinates are those of the data.
    """
    every = parts(flow.transform)
    fixed = list(takewhile(lambda part: isinstance(part, Preprocessing), every))
    learned = every[len(fixed) :]
    continuous = all(isinstance(part, CNF) for part in learned)
    unit = max(1, len(learned) // layers) if layers else 1
    places = _places(len(learned), 0 if continuous else unit)
    solves = BETWEEN if continuous else 1
    x = flow.base.rsample(next(flow.parameters()).new_empty(rows, 2))
    points = [x]
    for near, far in pairwise(places):
        for start, end in pairwise(np.linspace(near, far, solves + 1)):
            x = _inverse(between(learned, end, start), x)
            points.append(x)
    trajectories = torch.stack([_inverse(fixed, x) for x in points])
    samples = trajectories[::solves]
    extents = [_extent(samples if continuous else x) for x in samples]
    images = []
    for place, extent in zip(places, extents, strict=True):
        rest = CompositeTransform([*fixed, *between(learned, place, len(learned))])
        log_prob = Flow(rest, 2, base=flow.base).log_prob(lattice(extent, side).to(x))
        images.append(log_prob.double().exp().reshape(side, side))
    densities = torch.stack(images).cpu().numpy()  # kept in a third of the space of float16
    peaks = np.maximum(densities.max((1, 2)), np.finfo(densities.dtype).tiny)
    arrays = {
        "path_samples": half(samples),
        "path_densities": np.round(255 * (densities / peaks[:, None, None])).astype(np.uint8),
        "path_peaks": peaks,
        "path_extents": np.array(extents),
    }
    if continuous:
        lines = half(trajectories[:, :traced])
        return arrays | {"path_times": 1 - places / places[0], "path_lines": lines}
    return arrays | {"path_layers": np.ceil((places[0] - places) / unit).astype(int)}


def between(learned: Sequence[Any], low: float, high: float) -> list[nn.Module]:
    """Return the transforms from place ``low`` to ``high``; 1.5 is half way through the second.

    Only a CNF can be cut: it becomes one of the same field over a part of the time.
    """
    transforms = []
    for k, part in enumerate(learned):
        start, end = max(low - k, 0.0), min(high - k, 1.0)
        if end - start == 1:
            transforms.append(part)
        elif start < end:
            t0, t1 = float(part.t0), float(part.t1)
            first, last = (t0 + share * (t1 - t0) for share in (start, end))
            cut = CNF(part.field, trace=part.trace, solver=part.solver, t0=first, t1=last)
            transforms.append(cut)
    return transforms


def _places(count: int, unit: int) -> np.ndarray:
    """Return the places of steps, from ``count`` (noise) to 0 (data), in whole units unless 0."""
    if not unit:
        return np.linspace(count, 0, STEPS)
    boundaries = np.unique(np.round(np.linspace(0, count // unit, STEPS))) * unit
    boundaries[-1] = count
    return boundaries[::-1]


def _inverse(transforms: Sequence[nn.Module], x: Tensor) -> Tensor:
    return CompositeTransform(transforms).inverse(x)[0] if transforms else x


def _extent(x: Tensor) -> np.ndarray:
    """Return a square (x0, x1, y0, y1) around all but the outermost samples (..., 2)."""
    finite = x[torch.isfinite(x).all(-1)].double().cpu().numpy()
    ends = np.quantile(finite, [EDGE, 1 - EDGE], axis=0)
    middle, half_side = ends.mean(0), 0.55 * np.ptp(ends, axis=0).max()
    return np.stack([middle - half_side, middle + half_side], 1).flatten()


def lattice(extent: np.ndarray, side: int) -> Tensor:
    """Return points (side², 2) that cover (x0, x1, y0, y1), row by row from below, float64."""
    x0, x1, y0, y1 = map(float, extent)
    xs, ys = torch.linspace(x0, x1, side), torch.linspace(y0, y1, side)
    x, y = torch.meshgrid(xs, ys, indexing="xy")
    return torch.stack([x.flatten(), y.flatten()], 1).double()


def half(x: Tensor) -> np.ndarray:
    """Convert to float16, clamped to its range."""
    return x.cpu().clamp(-FARTHEST, FARTHEST).numpy().astype(np.float16)
