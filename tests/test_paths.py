"""The way from noise to data: its ends are the flow's, every step a density of its samples."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import flows
from benchmarks.evaluation import pictures
from benchmarks.studies.density.figures import densities, detours
from flows import Flow
from flows.bijection import parts
from flows.continuous.solve import Solver
from flows.preprocessing import Whitening

SIZES = {"hidden": 8, "depth": 2, "layers": 3}
SIDE = 64
_found: dict[str, dict[str, Any]] = {}  # paths by flow: three tests look at the same one
EVERY = pytest.mark.parametrize("name", flows.own())


def _whitened(make_flow: Callable[..., Flow], name: str) -> Flow:
    """A flow away from its initial weights, behind a whitening that shifts, stretches and turns."""
    flow = make_flow(name, 2, spread=0.1, **flows.members[name].applicable(SIZES))
    factor = torch.tensor([[2.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    flow.prepend(Whitening(torch.ones(2, dtype=torch.float64), factor))
    return flow.using(trace="exact", solver=Solver("rk4", step_size=1 / 4))


def _along(flow: Flow, name: str) -> dict[str, Any]:
    if name not in _found:
        layers = SIZES["layers"] if "layers" in flows.members[name].uses else 0
        path = pictures.along(flow, rows=400, side=SIDE, traced=20, layers=layers)
        _found[name] = {key: array.astype(float) for key, array in path.items()}
    return _found[name]


@EVERY
def test_the_ends_of_a_path_are_the_flow(name: str, make_flow: Callable[..., Flow]) -> None:
    """The noise is that of the last samples, the last density the flow's, the first one N(0, I)."""
    flow = _whitened(make_flow, name)
    path = _along(flow, name)
    first, last = (torch.tensor(path["path_samples"][end]) for end in (0, -1))
    whitening = parts(flow.transform)[0]
    with torch.no_grad():
        apart = flow.to_noise(last) - whitening(first)[0]
        exact = flow.log_prob(pictures.lattice(path["path_extents"][-1], SIDE)).exp()
        z, ladj = whitening(pictures.lattice(path["path_extents"][0], SIDE))
        normal = (flow.base.log_prob(z) + ladj).exp()
    assert apart.abs().median() < 0.01  # what float16 leaves of a sample
    for end, density in ((-1, exact), (0, normal)):
        expected = density.reshape(SIDE, SIDE).numpy()
        unit = path["path_peaks"][end] / 255
        np.testing.assert_allclose(densities(path)[end], expected, rtol=0, atol=unit)


@EVERY
def test_every_step_is_a_density_of_its_samples(name: str, make_flow: Callable[..., Flow]) -> None:
    """Its mass is one, and so is its mean over samples, over ∫ p²."""
    path = _along(_whitened(make_flow, name), name)
    extents = path["path_extents"].reshape(-1, 2, 2)
    lengths = np.diff(extents, axis=2)[:, :, 0]
    cells = lengths.prod(1) / (SIDE - 1) ** 2
    images = densities(path)
    np.testing.assert_allclose(images.sum((1, 2)) * cells, 1, atol=0.03)
    for step, (samples, density) in enumerate(zip(path["path_samples"], images, strict=True)):
        places = (samples - extents[step, :, 0]) / lengths[step] * (SIDE - 1)
        inside = ((places >= 0) & (places <= SIDE - 1)).all(1)
        assert inside.mean() > 0.98
        column, row = np.round(places[inside]).astype(int).T
        own, squared = density[row, column], np.square(density).sum() * cells[step]
        error = own.std() / len(own) ** 0.5
        assert own.mean() == pytest.approx(squared, abs=5 * error + 0.05 * squared)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_path_is_that_of_the_ode(layers: int, make_flow: Callable[..., Flow]) -> None:
    """Pieces of time, each with a field of its own, solved in other pieces come to the same."""
    flow = make_flow("cnf", 2, hidden=8, layers=layers)
    x = torch.randn(5, 2, dtype=torch.float64)
    learned = parts(flow.transform)
    with torch.no_grad():
        once = flow.transform(x)[0]
        y, places = x, np.linspace(0, layers, 6)
        for low, high in pairwise(places):
            for part in pictures.between(learned, low, high):
                y = part(y)[0]
    torch.testing.assert_close(y, once, rtol=1e-3, atol=1e-4)


def test_flow_matching_runs_the_other_way(make_flow: Callable[..., Flow]) -> None:
    """Its time is 1 at the data, and cuts count from there all the same."""
    (cnf,) = parts(make_flow("flow_matching", 2, hidden=8).transform)
    (cut,) = pictures.between([cnf], 0.25, 1.0)
    assert (cut.t0, cut.t1) == (0.75, 0.0)


def test_detours_of_known_paths() -> None:
    """A straight line; a half circle, π/2 times as long; a line at a speed that grows with t."""
    t = np.linspace(0, 1, 2001)[:, None]
    straight = np.stack([t, 2 * t], 2)
    circle = np.stack([np.cos(np.pi * t), np.sin(np.pi * t)], 2)
    faster = np.stack([t**2, 0 * t], 2)
    assert detours(straight) == pytest.approx((1, 1))
    assert detours(circle) == pytest.approx((np.pi / 2, np.pi**2 / 4), rel=1e-5)
    assert detours(faster) == pytest.approx((1, 4 / 3), rel=1e-5)
