"""Pictures of the density study, from records alone: of every flow, of few and of many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import flows
from benchmarks import datasets
from benchmarks.core.store import content_hash
from benchmarks.evaluation import pictures
from benchmarks.plotting import panels
from benchmarks.studies.density.figures import figures
from benchmarks.training.baselines import BASELINES, BaselineEntry, fit

SIZES = {"hidden": 8, "depth": 2, "layers": 2}


def _history(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "losses": np.array([5.0, np.nan, *rng.normal(3, 0.1, 28)], dtype=np.float32),
        "validated": np.array([0, 10, 20]),
        "validation_ll": np.array([-np.inf, -3.0, -3.1]),
        "validation_seconds": np.array([0.0, 1.0, 2.0]),
    }


def _plane(name: str, data: datasets.Dataset) -> dict[str, np.ndarray]:
    flow = flows.build(name, 2, **flows.members[name].applicable(SIZES))
    flow.initialize(data.train[:500].float())
    view = flow.using(trace="exact", solver={"method": "dopri5", "rtol": 1e-2, "atol": 1e-2})
    return pictures.plane(view, view.sample(50), data, grid=20, layers=2)


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
        held = _plane(name, flat) | _history(rng)
        rows += [_row(folder, flat.name, name, seed, **held) for seed in (1, 0)]
    for name in ("realnvp", "maf", "cnf"):
        flow = flows.build(name, table.dim, hidden=8)
        held = pictures.corner(flow.initialize(table.train[:500].float()).sample(1000), table)
        rows.append(_row(folder, table.name, name, 0, **held, **_history(rng)))
    for name in BASELINES:
        entry = {"flow": name} | ({"effort": 1e9} if name == "mixture" else {})
        rows_of = (table.train.numpy()[:2000], 0, table.val.numpy())
        fitted = fit(BaselineEntry.model_validate(entry), *rows_of)
        row = _row(
            folder,
            table.name,
            name,
            0,
            **pictures.corner(torch.as_tensor(fitted.sample(1000)), table),
        )
        rows.append({**row, "updates": 0})
    return pd.DataFrame(rows)


def test_every_picture_is_drawn_without_the_data(
    frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And has the records that it shows."""

    def absent(*_: Any, **__: Any) -> None:
        raise AssertionError("a picture loads no data set")

    monkeypatch.setattr(datasets, "load", absent)
    by_name = {figure.name: figure for figure in figures(frame)}
    corners = {f"corner-magic-{name}" for name in ("realnvp", "cnf", "mixture")}
    plane = {"pictures", "picture-checkerboard", "steps-checkerboard", "trajectories"}
    assert set(by_name) == plane | corners | {"validation"}
    for figure in by_name.values():
        assert figure.draw() is not None
        assert set(figure.records) <= set(frame["key"])


def test_the_slide_comes_first_then_the_best(frame: pd.DataFrame) -> None:
    """Data, realnvp, glow, cnf, ffjord; whatever the order of records, and one seed of each."""
    rows = frame[frame["dataset"] == "checkerboard"].copy()
    rows.loc[rows["flow"] == "planar", "test_ll"] = -1.0
    names = panels.ordered(rows)["flow"].tolist()
    assert names[:5] == ["realnvp", "glow", "cnf", "ffjord", "planar"]
    assert len(names) == len(set(names)) == len(set(rows["flow"]))
    (glance,) = (figure for figure in figures(rows) if figure.name == "pictures")
    titles = [panel.get_title().partition("\n")[0] for panel in glance.draw().axes]
    assert [name for name in titles if name][:5] == ["Data", "realnvp", "glow", "cnf", "ffjord"]


def test_pictured_columns_are_the_least_gaussian() -> None:
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
