"""The way of a trained two-dimensional flow from noise to data, in a few steps, for pictures.

A flow x -> z cut at any place is a flow still: what stands between there and the noise is the
density of what the rest has made of the noise by then. A continuous part is cut in time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, takewhile

import numpy as np
import torch
from nflows.transforms import CompositeTransform
from torch import Tensor, nn

from flows.bijection import parts
from flows.continuous.cnf import CNF
from flows.flow import Flow
from flows.whitening import Whitening

STEPS = 8  # on the way at the most, noise and data among them
BETWEEN = 4  # solves from one step to the next, whose ends are the points of a trajectory
EDGE = 0.002  # of a step's samples that may lie beyond its image, to each side
FARTHEST = 6e4  # what float16 holds


@torch.no_grad()
def along(
    flow: Flow, *, layers: int = 0, rows: int = 800, side: int = 64, traced: int = 100
) -> dict[str, np.ndarray]:
    """Small arrays of a flow's way from noise to data.

    ``path_samples`` (steps, rows, 2), the same rows at every step; ``path_densities`` (steps, side,
    side), rows from below, in 255ths of ``path_peaks`` (steps,), which `densities` reads; and
    ``path_extents`` (steps, 4), their images' (x0, x1, y0, y1), of a continuous flow all the same.
    Of such a flow also ``path_times`` (steps,), 0 at the noise and 1 at the data, and
    ``path_lines`` (points, traced, 2), trajectories; of any other ``path_layers`` (steps,), the
    layers done by then: its transforms, evenly shared out among ``layers`` where that is known. A
    whitening that precedes a flow is no step: all is in the coordinates of the data. Raises
    ValueError for a flow that is not of two dimensions.
    """
    if flow.dim != 2:
        raise ValueError(f"a path is drawn of a flow in two dimensions, got dim={flow.dim}")
    every = parts(flow.transform)
    fixed = list(takewhile(lambda part: isinstance(part, Whitening), every))
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
    shown = torch.stack([_inverse(fixed, x) for x in points])
    samples = shown[::solves]
    extents = [_extent(samples if continuous else x) for x in samples]
    images = [
        Flow(
            CompositeTransform([*fixed, *between(learned, place, len(learned))]), 2, base=flow.base
        )
        .log_prob(grid(extent, side).to(x))
        .double()
        .exp()
        .reshape(side, side)
        for place, extent in zip(places, extents, strict=True)
    ]
    found = {
        "path_samples": half(samples),
        **_coded(torch.stack(images).cpu().numpy()),
        "path_extents": np.array(extents),
    }
    if continuous:
        return found | {"path_times": 1 - places / places[0], "path_lines": half(shown[:, :traced])}
    return found | {"path_layers": np.ceil((places[0] - places) / unit).astype(int)}


def _coded(images: np.ndarray) -> dict[str, np.ndarray]:
    """Densities (steps, side, side) as a picture needs them, in a third of the space of float16."""
    peaks = np.maximum(images.max((1, 2)), np.finfo(images.dtype).tiny)
    shares = images / peaks[:, None, None]
    return {"path_densities": np.round(255 * shares).astype(np.uint8), "path_peaks": peaks}


def densities(found: Mapping[str, np.ndarray]) -> np.ndarray:
    """The densities of the steps, (steps, side, side), from the arrays of `along`."""
    peaks = found["path_peaks"].astype(float)[:, None, None]
    images: np.ndarray = found["path_densities"] * peaks / 255
    return images


def between(learned: Sequence[nn.Module], low: float, high: float) -> list[nn.Module]:
    """The transforms from place ``low`` to place ``high``: 1.5 is half through the second of them.

    What is cut has to be a CNF.
    """
    found = []
    for k, part in enumerate(learned):
        start, end = max(low - k, 0.0), min(high - k, 1.0)
        if start < end:
            found.append(part if end - start == 1 else _within(part, start, end))
    return found


def _within(cnf: nn.Module, start: float, end: float) -> CNF:
    """The same field, solved over a share of the time alone."""
    assert isinstance(cnf, CNF)
    t0, t1 = float(cnf.t0), float(cnf.t1)
    first, last = (t0 + share * (t1 - t0) for share in (start, end))
    return CNF(cnf.field, trace=cnf.trace, solver=cnf.solver, t0=first, t1=last)


def _places(count: int, unit: int) -> np.ndarray:
    """Where to look, from ``count`` (noise) down to 0 (data): whole units alone, unless 0."""
    if not unit:
        return np.linspace(count, 0, STEPS)
    whole = np.unique(np.round(np.linspace(0, count // unit, STEPS))) * unit
    whole[-1] = count
    return whole[::-1]


def _inverse(transforms: Sequence[nn.Module], x: Tensor) -> Tensor:
    return CompositeTransform(transforms).inverse(x)[0] if transforms else x


def _extent(x: Tensor) -> np.ndarray:
    """A square (x0, x1, y0, y1) around all but the outermost samples (..., 2), with a margin."""
    finite = x[torch.isfinite(x).all(-1)].double().cpu().numpy()
    ends = np.quantile(finite, [EDGE, 1 - EDGE], axis=0)
    middle, half_side = ends.mean(0), 0.55 * np.ptp(ends, axis=0).max()
    return np.stack([middle - half_side, middle + half_side], 1).flatten()


def grid(extent: np.ndarray, side: int) -> Tensor:
    """Points (side², 2) that cover (x0, x1, y0, y1), row by row from below, float64."""
    x0, x1, y0, y1 = map(float, extent)
    xs, ys = torch.linspace(x0, x1, side), torch.linspace(y0, y1, side)
    x, y = torch.meshgrid(xs, ys, indexing="xy")
    return torch.stack([x.flatten(), y.flatten()], 1).double()


def half(x: Tensor) -> np.ndarray:
    """As float16, what is too large for it cut down."""
    return x.cpu().clamp(-FARTHEST, FARTHEST).numpy().astype(np.float16)
