"""Small arrays of a record that pictures of a density are drawn from, without the data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
import torch
from torch import Tensor

from benchmarks.datasets import Dataset
from benchmarks.evaluation import paths
from flows.flow import Flow

ROWS = 2000  # of the data
BINS = 80  # per side of the histogram of the data
COLUMNS = 4  # of more than two dimensions
SAMPLES = 1000  # of those columns
CHOSEN_BY = 5000  # training rows that decide the columns


@torch.no_grad()
def plane(flow: Flow, x: Tensor, data: Dataset, *, grid: int, layers: int) -> dict[str, Any]:
    """Return arrays of a two-dimensional density, of samples x (N, 2) of it, and of its data.

    ``image`` (grid, grid), the log-density over ``extent`` (x0, x1, y0, y1), rows from below;
    ``samples``; ``data_image``, a histogram of the training rows over the same extent as a density;
    ``data_samples``, test rows; and those of `paths.along`, which takes ``layers``.
    """
    low, high = data.train.amin(0), data.train.amax(0)
    margin = 0.05 * (high - low)
    extent = torch.stack([low - margin, high + margin], 1).flatten().numpy()
    image = flow.log_prob(paths.grid(extent, grid).to(x)).clamp(min=-1e4).reshape(grid, grid)
    xs, ys = data.train.numpy().T
    histogram, _, _ = np.histogram2d(xs, ys, BINS, extent.reshape(2, 2), density=True)
    return {
        "image": paths.half(image),
        "extent": extent,
        "samples": paths.half(x),
        "data_image": histogram.T.astype(np.float16),
        "data_samples": paths.half(_some(data.test, ROWS)),
        **paths.along(flow, layers=layers),
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
        "samples": paths.half(_some(x, SAMPLES)[:, columns]),
        "data_samples": paths.half(_some(data.test, ROWS)[:, columns]),
    }


def _some(rows: Tensor, most: int) -> Tensor:
    """Take at most ``most`` rows at equal steps: samples of a mixture come by component."""
    return rows[:: -(-len(rows) // most)]
