"""Pictures: parts of any figure, densities from records alone, the way from noise to data."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import flows
from benchmarks import datasets
from benchmarks.core.store import content_hash
from benchmarks.evaluation import pictures
from benchmarks.plotting import draw, panels
from benchmarks.studies.density.figures import densities, detours, figures
from benchmarks.training.baselines import BASELINES, BaselineEntry, fit
from flows.bijection import parts
from flows.continuous.solve import Solver
from flows.preprocessing import Whitening


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((8, 40), {"10", "20"}),
        ((2e-6, 3e-5), {"2·10⁻⁶", "5·10⁻⁶", "10⁻⁵", "2·10⁻⁵"}),
        ((1, 1000), {"10⁰", "10¹", "10²", "10³"}),
    ],
)
def test_a_short_logarithmic_axis_has_ticks_within_its_powers_of_ten(values, named):
    with draw.figure() as (_, axes):
        panel = axes[0, 0]
        panel.plot(values, values)
        draw.logarithmic(panel.xaxis)
        low, high = panel.get_xlim()
        marks = panel.xaxis.get_majorticklocs()
        texts = panel.xaxis.get_major_formatter().format_ticks(marks)
    assert {t for t, m in zip(texts, marks, strict=True) if low <= m <= high} == named


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_numbers_are_set_apart(wishes):
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


def test_every_series_has_a_look_of_its_own():
    """Colour and mark of no two of thirty are the same; eight are as they always were."""
    looks = draw.looks(f"{i:02}" for i in range(30))
    pairs = [(look["color"], look["marker"]) for look in looks.values()]
    assert pairs[:8] == list(zip(draw.COLOURS, draw.MARKS, strict=True))
    assert len(set(pairs)) == 30


SIZES = {"hidden": 8, "depth": 2, "layers": 2}


def _history(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "losses": np.array([5.0, np.nan, *rng.normal(3, 0.1, 28)], dtype=np.float32),
        "validated": np.array([0, 10, 20]),
        "validation_ll": np.array([-np.inf, -3.0, -3.1]),
        "validation_seconds": np.array([0.0, 1.0, 2.0]),
    }


def _row(folder: Path, dataset: str, flow: str, seed: int, **arrays: Any) -> dict[str, Any]:
    key = f"{dataset}-{flow}-{seed}"
    np.savez(folder / f"{key}.npz", **arrays)
    hashes = {name: content_hash(np.asarray(value)) for name, value in arrays.items()}
    solved = 60.0 if flow in ("cnf", "ffjord", "rnode") else np.nan
    return {
        "key": key, "dataset": dataset, "flow": flow, "seed": seed, "status": "done",
        "arrays": str(folder / f"{key}.npz"), "array_hashes": hashes,
        "updates": 30, "train_updates": 20, "batch": 4,
        "test_ll": -3.0 - seed, "dim": datasets.load(dataset).dim, "test_nfe": solved,
        "setting.training": {"keep": "best"},
    }  # fmt: skip


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Every flow on a set of two dimensions, three of them and the baselines on a table."""
    torch.manual_seed(0)
    folder, rng, rows = tmp_path_factory.mktemp("records"), np.random.default_rng(0), []
    flat, table = datasets.load("checkerboard"), datasets.load("magic")
    for name in sorted(flows.own(), reverse=True):
        flow = flows.build(name, 2, **flows.members[name].applicable(SIZES))
        flow.initialize(flat.train[:500].float())
        view = flow.using(trace="exact", solver={"method": "dopri5", "rtol": 1e-2, "atol": 1e-2})
        held = pictures.plane(view, view.sample(50), flat, grid=20, layers=2) | _history(rng)
        rows += [_row(folder, flat.name, name, seed, **held) for seed in (1, 0)]
    for name in ("realnvp", "maf", "cnf"):
        flow = flows.build(name, table.dim, hidden=8)
        held = pictures.corner(flow.initialize(table.train[:500].float()).sample(1000), table)
        rows.append(_row(folder, table.name, name, 0, **held, **_history(rng)))
    for name in BASELINES:
        entry = {"flow": name} | ({"effort": 1e9} if name == "mixture" else {})
        rows_of = (table.train.numpy()[:2000], 0, table.val.numpy())
        fitted = fit(BaselineEntry.model_validate(entry), *rows_of)
        held = pictures.corner(torch.as_tensor(fitted.sample(1000)), table)
        rows.append(_row(folder, table.name, name, 0, **held) | {"updates": 0})
    return pd.DataFrame(rows)


def test_every_picture_is_drawn_without_the_data(frame, monkeypatch):
    """And has the records that it shows."""
    monkeypatch.setattr(datasets, "load", None)  # which would be called
    by_name = {figure.name: figure for figure in figures(frame)}
    corners = {f"corner-magic-{name}" for name in ("realnvp", "cnf", "mixture")}
    plane = {"pictures", "picture-checkerboard", "steps-checkerboard", "trajectories"}
    assert set(by_name) == plane | corners | {"validation"}
    for figure in by_name.values():
        assert figure.draw() is not None
        assert set(figure.records) <= set(frame["key"])


def test_the_slide_comes_first_then_the_best(frame):
    """Data, realnvp, glow, cnf, ffjord; whatever the order of records, and one seed of each."""
    rows = frame[frame["dataset"] == "checkerboard"].copy()
    rows.loc[rows["flow"] == "planar", "test_ll"] = -1.0
    names = panels.ordered(rows)["flow"].tolist()
    assert names[:5] == ["realnvp", "glow", "cnf", "ffjord", "planar"]
    assert len(names) == len(set(names)) == len(set(rows["flow"]))
    (glance,) = (figure for figure in figures(rows) if figure.name == "pictures")
    titles = [panel.get_title().partition("\n")[0] for panel in glance.draw().axes]
    assert [name for name in titles if name][:5] == ["Data", "realnvp", "glow", "cnf", "ffjord"]


def test_pictured_columns_are_the_least_gaussian():
    """Of columns of which one half is normal, the other is chosen, and stays in its order."""
    x = torch.randn(2000, 8, dtype=torch.float64)
    x[:, ::2] = x[:, ::2].exp()
    data = datasets.Dataset("probe", 8, x, x, x[:300], "", "")
    samples = torch.linspace(0, 1, 5000)[:, None].expand(-1, 8)  # in order, as a mixture's are
    held = pictures.corner(samples, data)
    assert held["columns"].tolist() == [0, 2, 4, 6]
    assert held["samples"].shape == (1000, 4)
    assert held["samples"].mean() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(held["data_samples"], x[:300, ::2], rtol=1e-3, atol=1e-3)


THREE = {"hidden": 8, "depth": 2, "layers": 3}
SIDE = 64
EXACT = [name for name in flows.own() if flows.capabilities(name).density != "approximate"]


@pytest.mark.parametrize("name", EXACT)
def test_a_path_ends_in_the_flow_and_each_step_is_a_density_of_its_samples(name, make_flow):
    """Behind a whitening that shifts, stretches and turns; the first density is N(0, I).

    The mass of each is one, and so is its mean over samples, over ∫ p².
    """
    flow = make_flow(name, 2, spread=0.1, **flows.members[name].applicable(THREE))
    factor = torch.tensor([[2.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    flow.prepend(Whitening(torch.ones(2, dtype=torch.float64), factor))
    flow = flow.using(trace="exact", solver=Solver("rk4", step_size=1 / 4))
    layers = THREE["layers"] if "layers" in flows.members[name].uses else 0
    path = pictures.along(flow, rows=400, side=SIDE, traced=20, layers=layers)
    path = {key: array.astype(float) for key, array in path.items()}
    images = densities(path)
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
        np.testing.assert_allclose(images[end], expected, rtol=0, atol=unit)
    extents = path["path_extents"].reshape(-1, 2, 2)
    lengths = np.diff(extents, axis=2)[:, :, 0]
    cells = lengths.prod(1) / (SIDE - 1) ** 2
    np.testing.assert_allclose(images.sum((1, 2)) * cells, 1, atol=0.03)
    for step, (samples, density) in enumerate(zip(path["path_samples"], images, strict=True)):
        places = (samples - extents[step, :, 0]) / lengths[step] * (SIDE - 1)
        inside = ((places >= 0) & (places <= SIDE - 1)).all(1)
        assert inside.mean() > 0.98
        column, row = np.round(places[inside]).astype(int).T
        own, squared = density[row, column], np.square(density).sum() * cells[step]
        error = own.std() / len(own) ** 0.5
        assert own.mean() == pytest.approx(squared, abs=5 * error + 0.05 * squared)


def test_detours_of_known_paths():
    """A straight line; a half circle, π/2 times as long; a line at a speed that grows with t."""
    t = np.linspace(0, 1, 2001)[:, None]
    straight = np.stack([t, 2 * t], 2)
    circle = np.stack([np.cos(np.pi * t), np.sin(np.pi * t)], 2)
    faster = np.stack([t**2, 0 * t], 2)
    assert detours(straight) == pytest.approx((1, 1))
    assert detours(circle) == pytest.approx((np.pi / 2, np.pi**2 / 4), rel=1e-5)
    assert detours(faster) == pytest.approx((1, 4 / 3), rel=1e-5)
