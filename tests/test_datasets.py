"""Data sets: shapes, determinism, disjoint splits, exact densities and known Gaussian scores."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from benchmarks import datasets
from benchmarks.datasets import Dataset, known, tabular, toy

PATCHES = ("patches", *(f"patches{k}" for k in range(2, 8)))
SIZES = {
    **dict.fromkeys(("8gaussians", "checkerboard", "2spirals"), (20_000, 5_000, 20_000)),
    **dict.fromkeys(PATCHES, (60_000, 5_000, 20_000)),
    "magic": (15_125, 1_890, 1_890),
}
PARTS = ("train", "val", "test")
WIDE = {
    f"{family}_2" for family in known.FAMILIES
}  # test_known.py integrates them, with heavy tails
every_set = pytest.mark.parametrize("name", datasets.names())


@cache
def _first(name: str) -> Dataset | None:
    try:
        return datasets.load(name)
    except FileNotFoundError:  # a set whose files do not come with the package
        return None


def _load(name: str) -> Dataset:
    data = _first(name)
    if data is None:
        pytest.skip(f"{name} needs files that are not in the package")
    return data


def _rows(x: Tensor) -> set[bytes]:
    return {row.tobytes() for row in x.numpy() + 0.0}  # + 0.0: -0.0 equals 0.0


def _gaussian_test_ll(data: Dataset) -> float:
    """Mean test log-likelihood, nats, of a full-covariance Gaussian fitted on train."""
    mean, root = data.train.mean(dim=0), torch.linalg.cholesky(torch.cov(data.train.T))
    z = torch.linalg.solve_triangular(root, (data.test - mean).T, upper=False)
    constant = root.diagonal().log().sum() + 0.5 * data.width * math.log(2 * math.pi)
    return float(-0.5 * z.square().sum(dim=0).mean() - constant)


@every_set
def test_parts_are_finite_float64_of_the_right_shape(name: str) -> None:
    data = _load(name)
    assert data.name == name
    assert (datasets.dim(name), datasets.context_dim(name)) == (data.dim, data.context_dim)
    assert data.units
    for part in (data.train, data.val, data.test):
        assert part.dtype == torch.float64
        assert part.shape[1:] == (data.width,)
        assert torch.isfinite(part).all()
    sizes = tuple(len(getattr(data, part)) for part in PARTS)
    assert sizes == SIZES.get(name, sizes)
    assert sizes[0] > sizes[1] > 0
    assert sizes[2] > 0


@every_set
def test_the_seed_decides_everything(name: str) -> None:
    data, again, other = _load(name), datasets.registry[name](None, 0), datasets.load(name, seed=1)
    for part in PARTS:
        assert torch.equal(getattr(data, part), getattr(again, part))
    assert not torch.equal(data.train, other.train)
    assert data.split == ("drawn" if data.sample else "random")


@every_set
def test_no_row_stands_in_two_parts(name: str) -> None:
    data = _load(name)
    train, val, test = (_rows(getattr(data, part)) for part in PARTS)
    assert not train & test
    assert not train & val
    assert not val & test


@every_set
def test_groups_label_the_test_rows(name: str) -> None:
    data = _load(name)
    if data.groups is None:
        pytest.skip("rows are independent")
    assert data.groups.shape == (len(data.test),)
    assert not data.groups.is_floating_point()
    assert len(set(data.groups.tolist())) >= 10


@every_set
def test_entropy_is_the_floor_of_the_negative_log_likelihood(name: str) -> None:
    data = _load(name)
    if data.log_prob is None or data.entropy is None:
        pytest.skip("entropy not known")
    nll = -data.log_prob(data.test)
    standard_error = float(nll.std()) / math.sqrt(len(nll))
    assert abs(float(nll.mean()) - data.entropy) <= 5 * standard_error + 1e-9


@every_set
def test_the_sampler_draws_from_the_density(name: str) -> None:
    data = _load(name)
    if data.sample is None:
        pytest.skip("no sampler")
    x = data.sample(4_000, datasets.stream(7, "test"))
    assert x.shape == (4_000, data.width)
    assert x.dtype == torch.float64
    gap = (x.mean(dim=0) - data.train.mean(dim=0)).abs()
    assert (gap <= 6 * data.train.std(dim=0) / math.sqrt(4_000)).all()
    if data.log_prob is not None:
        assert torch.isfinite(data.log_prob(x)).all()


@every_set
def test_a_density_in_two_dimensions_has_mass_one(name: str) -> None:
    data = _load(name)
    if data.log_prob is None or data.width != 2 or name in WIDE:
        pytest.skip("no density in two dimensions that fits a grid")
    # Midpoints of cells whose edges fall on the integers, where the checkerboard jumps.
    low, high = data.train.amin(dim=0).floor() - 2, data.train.amax(dim=0).ceil() + 2
    step = 1 / max(1, 300 // int((high - low).max()))
    x, y = (torch.arange(a + step / 2, b, step).double() for a, b in zip(low, high, strict=True))
    mass = data.log_prob(torch.cartesian_prod(x, y)).exp().sum() * step**2
    assert float(mass) == pytest.approx(1.0, abs=1e-6)


def test_8gaussians_entropy_has_converged() -> None:
    coarse, fine = toy.eight_gaussians_entropy(), toy.eight_gaussians_entropy(0.025, 7.0)
    assert abs(coarse - fine) < 1e-12
    assert fine == pytest.approx(2.832, abs=1e-3)


def test_2spirals_lie_on_two_opposite_arms() -> None:
    x = _load("2spirals").train
    assert float(x.norm(dim=1).max()) < math.pi + 0.5
    assert (x.mean(dim=0).abs() < 6 * x.std(dim=0) / math.sqrt(len(x))).all()


def test_magic_file_is_the_one_described() -> None:
    path = tabular.DATA / "magic.parquet"
    text = (tabular.DATA / "README.md").read_text(encoding="utf-8")
    _, file_sha, values_sha = re.findall(r"`([0-9a-f]{64})`", text)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == file_sha
    assert path.stat().st_size < 1_000_000
    values = pd.read_parquet(path).to_numpy()
    assert values.shape == (19_020, 10)
    assert hashlib.sha256(values.astype("<f8").tobytes()).hexdigest() == values_sha
    assert (values == np.round(values, 4)).all()  # the text has at most four decimals


def test_magic_drops_duplicates_and_standardises() -> None:
    x, dropped = tabular.distinct_rows(pd.read_parquet(tabular.DATA / "magic.parquet"))
    data = _load("magic")
    assert dropped == 115
    assert "115 duplicate rows dropped" in data.about
    assert len(_rows(x)) == len(x) == 19_020 - 115
    everything = [data.train, data.val, data.test]
    assert len(_rows(torch.cat(everything))) == sum(map(len, everything)) == len(x)
    assert data.train.mean(dim=0).abs().max() < 1e-12
    assert (data.train.std(dim=0, correction=0) - 1).abs().max() < 1e-12


@pytest.mark.parametrize(("name", "low", "high"), [("magic", -12, -9), ("patches", 80, 110)])
def test_gaussian_score_is_in_the_known_band(name: str, low: float, high: float) -> None:
    assert low < _gaussian_test_ll(_load(name)) < high


def test_unknown_name_is_refused_with_the_choices() -> None:
    with pytest.raises(
        ValueError, match=r"unknown data set 'mnist'; .*choose from.* magic"
    ) as error:
        datasets.load("mnist")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="unknown data set 'mnist'"):
        datasets.module_of("mnist")


def test_duplicate_name_is_refused_naming_both_modules() -> None:
    def loader(root: Path | None, seed: int) -> Dataset:
        raise NotImplementedError  # the registry refuses it, so that nobody calls it

    holder = datasets.module_of("magic")
    assert holder == tabular.__name__
    with pytest.raises(ValueError, match=rf"'magic' of {__name__}.* by {holder}"):
        datasets.register("magic")(loader)


@pytest.mark.parametrize(
    ("test", "groups", "message"),
    [
        (torch.zeros(4, 3), None, "float64"),
        (torch.zeros(4, 2).double(), None, r"\(4, 2\)"),
        (torch.full((4, 3), math.nan).double(), None, "NaN"),
        (torch.zeros(4, 3).double(), torch.zeros(5), "groups"),
    ],
)
def test_a_malformed_data_set_is_refused(test: Tensor, groups: Tensor | None, message: str) -> None:
    good = torch.zeros(4, 3).double()
    with pytest.raises(ValueError, match=message):
        Dataset("bad", 3, good, good, test, "raw units", "made up", groups=groups)


@pytest.mark.parametrize(("columns", "shape"), [(slice(None), "(8, 2)"), (slice(1), "(8, 1)")])
def test_a_density_of_another_shape_is_refused(columns: slice, shape: str) -> None:
    """(n, 1) would be averaged over n² differences."""

    def density(x: Tensor) -> Tensor:
        return x[:, columns]

    with datasets.registry.temporary():

        @datasets.register("misshapen")
        def load(root: Path | None, seed: int) -> datasets.Dataset:
            return replace(datasets.load("8gaussians"), log_prob=density)

        with pytest.raises(ValueError, match=re.escape(f"of shape (n,), got {shape}")):
            datasets.load("misshapen")
