"""A kernel density estimate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.training.baselines.density import Baseline

ROWS = 20_000  # of the training set that carry a kernel, at most
VALIDATION = 2_000  # rows at most
CHUNK = 32  # rows whose distances are held together
NOTHING = -100.0  # exponent beside the largest, below which a kernel is lost in rounding
OCTAVES = range(-5, 3)  # of the bandwidth beside Scott's
FINER = (-0.75, -0.5, -0.25, 0.25, 0.5, 0.75)  # octaves about the best of those


def kde(train: np.ndarray, seed: int, validation: np.ndarray) -> Baseline:
    """Gaussian kernels about 20,000 training rows, of a bandwidth chosen on validation."""
    picks = np.random.default_rng(seed).permutation(len(train))[:ROWS]
    centres, held = (torch.from_numpy(x).double() for x in (train[picks], validation[:VALIDATION]))
    rows, dim = centres.shape
    scott = rows ** (-1 / (dim + 4))  # Scott, Multivariate Density Estimation, 1992
    tried: dict[float, float] = {}
    for octaves in (OCTAVES, FINER):
        middle = max(tried, key=lambda width: tried[width]) if tried else scott
        widths = [middle * 2**octave for octave in octaves]
        tried |= zip(widths, log_prob(held, centres, widths).mean(1).tolist(), strict=True)
    width = max(tried, key=lambda width: tried[width])
    generator = torch.Generator().manual_seed(seed)

    def sample(n: int) -> np.ndarray:
        own = centres[torch.randint(rows, (n,), generator=generator)]
        noise = torch.randn(n, dim, generator=generator, dtype=own.dtype)
        return (own + width * noise).numpy()

    def density(x: np.ndarray) -> np.ndarray:
        """Of the first columns, as many as x (N, C) has."""
        count, rows = x.shape[1], torch.from_numpy(x).double()
        own = centres[:, :count] if count < centres.shape[1] else centres
        values: np.ndarray = log_prob(rows, own, [width])[0].numpy()
        return values

    def completed(x: np.ndarray) -> np.ndarray:
        first, draws = torch.from_numpy(x).double(), []
        for chunk in first.split(CHUNK):
            squares = torch.cdist(chunk, centres[:, : x.shape[1]]).square()
            weights = (-0.5 / width**2 * squares).softmax(1)
            own = centres[torch.multinomial(weights, 1, generator=generator)[:, 0]]
            noise = torch.randn(own.shape, generator=generator, dtype=own.dtype)
            draws.append(torch.cat([chunk, (own + width * noise)[:, x.shape[1] :]], 1))
        return torch.cat(draws).numpy()

    return Baseline(
        parameters=rows * dim + 1,
        log_prob=density,
        sample=sample,
        marginal=density,
        completed=completed,
        notes={
            "bandwidth": width,
            "validation_ll": tried[width],
            "validation_rows": len(held),
            "rows": rows,
            "tried": [{"bandwidth": h, "validation_ll": tried[h]} for h in sorted(tried)],
        },
    )


def log_prob(x: Tensor, centres: Tensor, widths: Sequence[float]) -> Tensor:
    """Log-densities of x (N, D) by Gaussian kernels about (M, D), for each width: (W, N)."""
    rows, dim = centres.shape
    squares = centres.square().sum(1)
    parts = []
    for chunk in x.split(CHUNK):
        distances = torch.addmm(squares, chunk, centres.T, alpha=-2)
        nearest = distances.amin(1, keepdim=True)
        distances -= nearest
        nearest = nearest[:, 0] + chunk.square().sum(1)
        sums = []
        for width in widths:  # clamped, since numbers below the smallest normal one are slow
            kernels = torch.mul(distances, -0.5 / width**2).clamp_(min=NOTHING).exp_()
            sums.append(kernels.sum(1).log() - 0.5 / width**2 * nearest)
        parts.append(torch.stack(sums))
    scales = [math.log(rows) + dim * math.log(math.sqrt(math.tau) * width) for width in widths]
    return torch.cat(parts, 1) - x.new_tensor(scales)[:, None]
