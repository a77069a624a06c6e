"""Data sets: shapes, determinism, disjoint splits, values; densities, mass and entropy."""

import itertools
import math
import re
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal, Normal

from benchmarks import datasets
from benchmarks.datasets import Dataset, analytic, bounds, images, tables, tabular, toys
from benchmarks.execution import suite

PARTS = ("train", "val", "test")
# with heavy tails: their formulas are compared below
WIDE = {f"{family}_2" for family in analytic.FAMILIES}
every_set = pytest.mark.parametrize("name", [*datasets.registry])

# Of seed 0, two of each family: means of squares of the rows' weighted sums, summed over parts.
VALUES = """
    25gaussians 237.4901123 | 2spirals 89.75986594 | 8gaussians 123.973407 | abalone 4107.847533 |
    anuran 5466.678127 | banana_16 15168.28461 | banana_2 59.59995184 | california 2032.108698 |
    casp 3198.917959 | ccpp 277.7687453 | checkerboard 183.6271223 | circles 87.23091218 |
    cytometry 7196.617275 | digits 2665828.924 | fires 606.2225656 | funnel_16 651730.7021 |
    funnel_2 2439.56811 | gaussian_16 52478.23222 | gaussian_2 48.92865626 |
    gaussian_linear 3079.64615 | gaussian_linear_posterior 4301.509476 | htru2 1051.345891 |
    magic 1751.074052 | mixture_16 80485.98597 | mixture_2 271.2538185 | moons 26.32623115 |
    page_blocks 2183.487923 | patches 7749.187646 | patches2 0.06704508035 | pinwheel 66.56372367 |
    rings 63.25967971 | sdss 1990.669358 | slcp 54701.70962 | student_t_16 14926.37104 |
    student_t_2 50.80890256 | swissroll 63.38650233 | two_moons 64.77903665 | zee 1250.022398
"""


@cache
def _load(name: str) -> Dataset:
    try:
        return datasets.load(name)
    except FileNotFoundError:
        pytest.skip(f"{name} needs files that are not in the package")


@pytest.mark.parametrize("pair", VALUES.split("|"), ids=lambda pair: pair.split()[0])
def test_values_stay_while_the_version_does(pair):
    """Raise the set's version where they move: records of earlier rows are then stale."""
    name, expected = pair.split()
    data = _load(name)
    weights = torch.arange(1, data.width + 1).double()
    train, val, test = (((getattr(data, part) @ weights) ** 2).mean() for part in PARTS)
    assert float(train + 2 * val + 3 * test) == pytest.approx(float(expected), rel=1e-8)


@every_set
def test_parts_have_the_right_shape_and_no_row_in_common(name):
    data = _load(name)
    assert data.name == name
    assert (datasets.dim(name), datasets.context_dim(name)) == (data.dim, data.context_dim)
    assert data.units
    assert len(data.train) > len(data.val) > 0
    if data.support is not None and data.sample is not None:
        replace(data, train=data.sample(1000, torch.Generator()))  # which checks them
    parts = [{row.tobytes() for row in getattr(data, part).numpy() + 0.0} for part in PARTS]
    assert not any(one & other for one, other in itertools.combinations(parts, 2))  # -0.0 is 0.0


@every_set
def test_the_seed_decides_everything(name):
    data, again, other = _load(name), datasets.registry[name](None, 0), datasets.load(name, seed=1)
    for part in PARTS:
        assert torch.equal(getattr(data, part), getattr(again, part))
    assert not torch.equal(data.train, other.train)
    assert data.split in (("drawn",) if data.sample else ("random", "disjoint"))


@every_set
def test_entropy_is_the_floor_of_the_negative_log_likelihood(name):
    data = _load(name)
    if data.log_prob is None or data.entropy is None:
        pytest.skip("entropy not known")
    nll = -data.log_prob(data.test)
    standard_error = float(nll.std()) / math.sqrt(len(nll))
    assert abs(float(nll.mean()) - data.entropy) <= 5 * standard_error + 1e-9


@every_set
def test_a_density_in_two_dimensions_has_mass_one(name):
    data = _load(name)
    if data.log_prob is None or data.width != 2 or name in WIDE:
        pytest.skip("no density in two dimensions that fits a grid")
    # Midpoints of cells whose edges fall on the integers, where the checkerboard jumps.
    low, high = data.train.amin(dim=0).floor() - 2, data.train.amax(dim=0).ceil() + 2
    cells = 400 if name.startswith("25gaussians") or name == "rings" else 160  # narrow, others
    step = 1 / max(1, cells // int((high - low).max()))
    x, y = (torch.arange(a + step / 2, b, step).double() for a, b in zip(low, high, strict=True))
    mass = data.log_prob(torch.cartesian_prod(x, y)).exp().sum() * step**2
    assert float(mass) == pytest.approx(1.0, abs=1e-6)


def _without_density(x: np.ndarray) -> list[str]:
    """Why rows (N, D) have no density, as far as it shows; logarithms show products and ratios."""
    table = pd.DataFrame(x).rename(columns=str)
    inspection = tables.examine({"all": table}, tables.Selection(Path("table")))
    if inspection.faults or inspection.steps:
        return inspection.faults or [f"columns {list(inspection.steps)} have steps"]
    reasons = ["rows are repeated"] * bool(table.astype("float32").duplicated().any())
    for name, column in table.items():
        rows = column.value_counts()
        tied = rows.max() > 0.01 * len(x) or len(rows) < 0.1 * len(x)
        reasons += [f"column {name} is tied"] * bool(tied)
    for columns in (x, np.log(x[:, (x > 0).all(axis=0)])):
        least = np.linalg.eigvalsh(np.atleast_2d(np.corrcoef(columns.T)))[:1]
        reasons += ["columns are dependent"] * bool((least < 1e-5).any())
    return reasons


@pytest.mark.parametrize("name", datasets.real())
def test_a_real_table_has_a_density_and_its_draws_share_no_row(name):
    (row,) = (row for row in tabular.TABLES if row.name == name)
    draws = [datasets.load(name, seed=seed) for seed in range(row.draws or 1)]
    assert {data.split for data in draws} == {"disjoint" if row.draws else "random"}
    wholes = (torch.cat([getattr(data, part) for part in PARTS]) for data in draws)
    pairs = zip(draws, wholes, strict=True)
    x = torch.cat([data.scaling.inverse(rows)[0] for data, rows in pairs if data.scaling]).numpy()
    assert len(x) == row.rows
    assert not _without_density(x)
    columns = {**tabular.by_column(row.steps), **tabular.by_column(row.support)}
    assert set(columns) <= set(draws[0].columns or ())
    if row.draws:
        with pytest.raises(ValueError, match=rf"{name}.* seeds 0 to {row.draws - 1}.* seed 5"):
            datasets.load(name, seed=5)
        plan = {"study": "density", "datasets": [name], "flows": ["realnvp"]}
        with pytest.raises(ValueError, match=rf"{name}.* disjoint draws.* seed 5"):
            suite.Suite(name="more", seeds=range(6), studies=[plan]).cases()


@pytest.mark.parametrize("seed", [0, 1])
def test_tiles_partition_the_photographs(seed):
    photos = images.photographs()
    seen = torch.zeros(photos.shape, dtype=torch.int64)
    split = images.tile_split(tuple(photos.shape), seed)
    for tiles in split.values():
        assert {tile.photo for tile in tiles} == {0, 1}
        for tile in tiles:
            rows = slice(tile.top, tile.top + tile.height)
            seen[tile.photo, rows, tile.left : tile.left + tile.width] += 1
    assert (seen == 1).all()
    total = sum(map(len, split.values()))
    for part, share in images.SHARE.items():
        assert len(split[part]) / total == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("k", range(2, 9))
def test_patches_lie_in_tiles_of_their_part(k):
    """So that two parts share no pixel, and errors are clustered by tile."""
    data, photos = _load(f"patches{k}" if k < 8 else "patches"), images.photographs()
    for part, tiles in images.tile_split(tuple(photos.shape), 0).items():
        by_id = {tile.id: tile for tile in tiles}
        places = images.positions(tiles, k, 10**9, datasets.stream(0, part))  # every place
        for number, photo, top, left in places[:: max(1, len(places) // 500)].tolist():
            tile = by_id[number]
            assert photo == tile.photo
            assert tile.top <= top <= tile.top + tile.height - k
            assert tile.left <= left <= tile.left + tile.width - k
        if part == "test":
            assert set(data.groups.tolist()) == set(by_id)


def test_a_patch_is_the_noisy_photograph_minus_its_mean():
    photos = torch.arange(100.0, dtype=torch.float64).reshape(1, 10, 10)
    x = images.cut(photos, torch.tensor([[5, 0, 2, 3]]), 3, datasets.stream(0, "noise"))
    square = photos[0, 2:5, 3:6].flatten() / 256
    assert x.shape == (1, 8)
    assert ((x[0] - (square - square.mean())[:-1]).abs() < 1 / 256).all()


@pytest.mark.parametrize(
    ("test", "more", "message"),
    [
        (torch.zeros(4, 3), {}, "float64"),
        (torch.zeros(4, 2).double(), {}, r"\(4, 2\)"),
        (torch.full((4, 3), math.nan).double(), {}, "NaN"),
        (torch.zeros(4, 3).double(), {"groups": torch.zeros(5)}, "groups"),
        (torch.ones(4, 3).double(), {"support": bounds((0, 1), (0, 1))}, r"\(2, 3\)"),
        (torch.ones(4, 3).double(), {"support": bounds((0, 1), (1, 0), (0, 1))}, "lower"),
        (torch.ones(4, 3).double(), {"support": bounds((0, 1), (0, 0.5), (0, 1))}, "1 .*0 to 0.5"),
    ],
)
def test_a_malformed_data_set_is_refused(test, more, message):
    good = torch.zeros(4, 3).double()
    with pytest.raises(ValueError, match=message):
        Dataset("bad", 3, good, good, test, "raw units", "made up", **more)


@pytest.mark.parametrize(("columns", "shape"), [(slice(None), "(8, 2)"), (slice(1), "(8, 1)")])
def test_a_density_of_another_shape_is_refused(columns, shape):
    """(n, 1) would be averaged over n² differences."""
    with datasets.registry.temporary():

        @datasets.register("misshapen")
        def load(root: Path | None, seed: int) -> datasets.Dataset:
            return replace(datasets.load("8gaussians"), log_prob=lambda x: x[:, columns])

        with pytest.raises(ValueError, match=re.escape(f"of shape (n,), got {shape}")):
            datasets.load("misshapen")


@every_set
def test_samples_fit_the_slope_of_the_density(name):
    """Stein's identities: E grad log p = 0 and E x_i grad_j log p = -(i = j), to 6 errors.

    They hold for densities without jumps, whose slope is not 0 almost everywhere.
    """
    data = _load(name)
    if data.sample is None or data.log_prob is None or data.dim > 8 or data.context_dim:
        pytest.skip("no sampler or density, of too many dimensions, or of y given x")
    x = data.sample(4_000, datasets.stream(1, "stein")).requires_grad_()
    log_prob = data.log_prob(x)
    if not log_prob.requires_grad:
        pytest.skip("piecewise constant")
    (slope,) = torch.autograd.grad(log_prob.sum(), x)
    factors = torch.cat((torch.ones(len(x), 1), x.detach()), dim=1).double()
    terms = factors[:, :, None] * slope[:, None, :]
    expected = torch.cat((torch.zeros(1, data.dim), -torch.eye(data.dim)))
    error = terms.std(dim=0) / math.sqrt(len(x))
    assert ((terms.mean(dim=0) - expected).abs() < 6 * error).all()


@settings(max_examples=10)
@given(dim=st.integers(1, 12))
def test_log_prob_is_that_of_other_libraries(dim):
    x = 2 * torch.randn(20, dim, generator=datasets.stream(0, "points"), dtype=torch.float64)
    zero, eye = torch.zeros(dim).double(), torch.eye(dim).double()
    index = torch.arange(dim)
    correlation = analytic.CORRELATION ** (index[:, None] - index).abs().double()
    normal = MultivariateNormal(zero, correlation)
    assert torch.allclose(analytic.gaussian_log_prob(x), normal.log_prob(x))
    assert analytic.gaussian_entropy(dim) == pytest.approx(float(normal.entropy()))
    student = scipy.stats.multivariate_t(np.zeros(dim), np.eye(dim), df=analytic.FREEDOM)
    expected = torch.tensor(student.logpdf(x.numpy())).reshape(-1)
    assert torch.allclose(analytic.student_t_log_prob(x), expected)
    assert analytic.student_t_entropy(dim) == pytest.approx(student.entropy())
    modes = [MultivariateNormal(c, eye).log_prob(x) for c in analytic.centres(dim)]
    mixed = torch.stack(modes).exp().mean(dim=0).log()
    assert torch.allclose(analytic.mixture_log_prob(x), mixed)
    neck = Normal(0.0, analytic.NECK).log_prob(x[:, 0])
    rest = Normal(0.0, (x[:, :1] / 2).exp()).log_prob(x[:, 1:]).sum(dim=1)
    assert torch.allclose(analytic.funnel_log_prob(x), neck + rest)
    straight, bent = x[:, ::2], x[:, 1::2]
    twist = Normal(straight[:, : bent.shape[1]].square() - 1, analytic.WIDTH).log_prob(bent)
    expected = Normal(0.0, 1.0).log_prob(straight).sum(dim=1) + twist.sum(dim=1)
    assert torch.allclose(analytic.banana_log_prob(x), expected)


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_the_mixture_entropy_has_converged(dim):
    assert abs(analytic.mixture_entropy(dim) - analytic.mixture_entropy(dim, 0.1, 20.0)) < 1e-10


@pytest.mark.slow
def test_plane_entropies_and_densities_have_converged():
    for rings in toys.RINGS.values():
        assert abs(toys.rings_entropy(rings) - toys.rings_entropy(rings, 1000)) < 1e-10
    for arcs in toys.ARCS.values():
        finer = arcs._replace(nodes=2 * arcs.nodes)
        assert abs(toys.arcs_entropy(arcs) - toys.arcs_entropy(finer, 0.18, 10.0)) < 1e-10
        _agree(arcs.sample, arcs.spread, arcs.log_prob, finer.log_prob)
    assert abs(toys.spirals_entropy() - toys.spirals_entropy(0.18, 10.0, 1000)) < 1e-10
    finer = partial(toys.spirals_log_prob, nodes=2 * toys.ARM_NODES)
    _agree(toys.spirals_sample, toys.ARM_SPREAD, toys.spirals_log_prob, finer)
    assert abs(toys.pinwheel_entropy() - toys.pinwheel_entropy(400, 300, 3.8)) < 1e-7


def _agree(sample, spread: float, coarse, fine) -> None:
    """Two quadratures of a density are alike within ten spreads of its samples."""
    x = sample(2000, datasets.stream(0, "x"))
    x = x + 10 * spread * torch.randn(len(x), 2, dtype=torch.float64)
    near = fine(x) > fine(x).max() - 10**2 / 2
    assert (coarse(x) - fine(x))[near].abs().max() < 1e-9


def test_plane_densities_are_finite_however_far_out():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.3]], dtype=torch.float64)
    far = torch.cat([x, *(x[1:] * 10**k for k in range(2, 8))])
    for name in ("pinwheel", "2spirals", "moons", "swissroll"):
        assert datasets.load(name).log_prob(far).isfinite().all()


def test_what_is_not_known_is_refused():
    assert analytic.loader("funnel", 5)(None, 0).dim == 5
    with pytest.raises(ValueError, match=r"unknown density 'tunnel'; choose from: gaussian"):
        analytic.loader("tunnel", 2)
    with pytest.raises(ValueError, match="dimension from 1, got 0"):
        analytic.loader("funnel", 0)
