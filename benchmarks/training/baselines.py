"""Baselines: densities that are fitted, not trained, which a flow has to beat.

One Gaussian, a kernel density estimate, and a Gaussian mixture that grows by EM. All choices are
made on validation rows. Everything is in float64.

EM is products of matrices: a component's log-density is linear in the products of two entries of
(1, x), so that one matrix product evaluates all components, and one more forms all statistics of a
step. Its data are (D, N), a column a row of the data set. A step of scikit-learn's GaussianMixture
takes 4 to 20 times as long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Self, cast

import numpy as np
import torch
from pydantic import PositiveFloat
from pydantic import model_validator as validator
from torch import Tensor

from benchmarks.core.case import Settings
from flows import preprocessing
from flows.bijection import Bijection

Covariance = Literal["full", "tied", "diagonal", "spherical"]
Entry = tuple[Covariance, float, int]  # ridge on all variances, and steps of EM at a size

KERNELS = 20_000  # training rows that carry a kernel, at most
KERNEL_VALIDATION = 2_000  # validation rows of the bandwidth, at most
KERNEL_CHUNK = 32  # rows whose distances are held together
NOTHING = -100.0  # least exponent of a kernel beside the largest: others round to 0
OCTAVES = range(-5, 3)  # bandwidths tried first: Scott's times 2 to these powers
FINER = (-0.75, -0.5, -0.25, 0.25, 0.5, 0.75)  # octaves about the best of those

CHUNK = 1024  # rows whose products are formed together
# FLOPs that take as long as the work of an EM step outside its matrix products:
WEIGHING = 250  # per row and component
FORMING = 100  # per row and product of two entries
NARROW = 0.9  # share of the variance along a split that moves between the halves
SIZES = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 200)  # components
ROWS = 100_000  # of the training set, at most
PRODUCTS = 20_000_000  # entries of the matrix (features, rows) that it grows on, at least
VALIDATION = 5_000  # rows at most
PATIENCE = 2  # sizes, or fits at the end, without a better validation
SEPARATE = ("diagonal", "spherical")  # covariances without those of two columns
ENTRANTS: tuple[Entry, ...] = (
    ("full", 1e-6, 5),
    ("full", 1e-6, 10),
    ("full", 1e-6, 10),  # from another seed
    ("full", 1e-4, 5),
    ("tied", 1e-4, 5),
    ("diagonal", 1e-4, 5),
    ("diagonal", 1e-2, 5),
    ("spherical", 1e-4, 5),
)
EFFORT = 1e13  # FLOPs of EM: minutes of one thread at 63 dimensions, seconds at two


@dataclass(frozen=True)
class Mixture:
    """Gaussians: ``logits`` (K,), ``means`` (K, D), ``factors`` (K, D, D) lower triangular."""

    covariance: Covariance
    logits: Tensor  # logarithms of the weights
    means: Tensor
    factors: Tensor  # of Cholesky

    @classmethod
    def of(cls, statistics: Tensor, covariance: Covariance, ridge: float) -> Mixture:
        """The M-step: components from their sums of products (K, F), ``ridge`` on all variances.

        A component that has less than one row is left out.
        """
        statistics = statistics[statistics[:, 0] >= 1]
        rows, features = statistics[:, 0], statistics.shape[1]
        dim = (features - 1) // 2 if covariance in SEPARATE else math.isqrt(2 * features) - 1
        means = statistics[:, 1 : dim + 1] / rows[:, None]
        i, j = _pairs(dim, covariance)
        spread = statistics[:, dim + 1 :] / rows[:, None] - means[:, i] * means[:, j]
        if covariance == "tied":
            spread = (rows @ spread / rows.sum()).expand_as(spread)
        if covariance == "spherical":
            spread = spread.mean(1, keepdim=True).expand_as(spread)
        matrices = means.new_zeros(len(rows), dim, dim)
        matrices[:, i, j] = matrices[:, j, i] = spread
        matrices.diagonal(dim1=1, dim2=2).add_(ridge)
        return cls(covariance, rows.div(rows.sum()).log(), means, torch.linalg.cholesky(matrices))

    @property
    def features(self) -> int:
        """F, the number of products of a row."""
        dim = self.means.shape[1]
        return 1 + dim + len(_pairs(dim, self.covariance)[0])

    @property
    def parameters(self) -> int:
        count, dim = self.means.shape
        free = 1 if self.covariance == "spherical" else self.features - 1 - dim
        return count * (1 + dim) - 1 + free * (1 if self.covariance == "tied" else count)

    def coefficients(self) -> Tensor:
        """(K, F): times the `products` of a row, each component's log weight + log density."""
        dim = self.means.shape[1]
        i, j = _pairs(dim, self.covariance)
        precisions = torch.cholesky_inverse(self.factors)
        slopes = (precisions @ self.means[:, :, None])[:, :, 0]
        constants = self.logits - 0.5 * (self.means * slopes).sum(1)
        constants = constants - 0.5 * dim * math.log(math.tau)
        constants = constants - self.factors.diagonal(dim1=1, dim2=2).log().sum(1)
        curvatures = -precisions[:, i, j] * torch.where(i == j, 0.5, 1.0)
        return torch.cat([constants[:, None], slopes, curvatures], 1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-densities of data: (D, N) -> (N,)."""
        coefficients = self.coefficients()
        parts = [coefficients @ products(part, self.covariance) for part in x.split(CHUNK, 1)]
        return torch.cat([part.logsumexp(0) for part in parts])

    def step(self, x: Tensor, ridge: float) -> Mixture:
        """One step of EM on data (D, N)."""
        coefficients = self.coefficients()
        statistics = torch.zeros_like(coefficients)
        buffer = x.new_empty(self.features, CHUNK)
        for chunk in x.split(CHUNK, 1):
            features = products(chunk, self.covariance, buffer[:, : chunk.shape[1]])
            statistics.addmm_((coefficients @ features).softmax(0), features.T)
        return Mixture.of(statistics, self.covariance, ridge)

    def flops(self, rows: int) -> float:
        """The work of a step on ``rows`` rows, in FLOPs of a matrix product."""
        weighing = len(self.means) * (4 * self.features + WEIGHING)
        return float(rows * (weighing + self.features * FORMING))

    def split(self, directions: Tensor) -> Mixture:
        """The heaviest components halved along ``directions`` (n, D); moments are kept.

        Directions are unit vectors in the components' own coordinates.
        """
        picks, rest = self.logits.argsort(descending=True).tensor_split([len(directions)])
        logits, means, factors = self.logits[picks], self.means[picks], self.factors[picks]
        shift = NARROW**0.5 * (factors @ directions[: len(picks), :, None])
        matrices = factors @ factors.mT - shift @ shift.mT
        if self.covariance in SEPARATE:
            matrices = torch.diag_embed(matrices.diagonal(dim1=1, dim2=2))
        return Mixture(
            self.covariance,
            torch.cat([self.logits[rest], (logits - math.log(2)).repeat(2)]),
            torch.cat([self.means[rest], means + shift[:, :, 0], means - shift[:, :, 0]]),
            torch.cat([self.factors[rest], torch.linalg.cholesky(matrices).repeat(2, 1, 1)]),
        )

    def sample(self, rows: int, generator: torch.Generator) -> Tensor:
        """Draws (rows, D)."""
        picks = torch.multinomial(self.logits.exp(), rows, replacement=True, generator=generator)
        noise = torch.randn(rows, self.means.shape[1], 1, generator=generator).to(self.means)
        draws = self.means.new_empty(rows, self.means.shape[1])
        for component in picks.unique():
            places = picks == component
            draws[places] = self.means[component] + noise[places, :, 0] @ self.factors[component].T
        return draws

    def leading(self, count: int) -> Mixture:
        """The density of the first ``count`` columns alone."""
        if count == self.means.shape[1]:
            return self
        factors = self.factors[:, :count, :count]
        return Mixture(self.covariance, self.logits, self.means[:, :count], factors)

    def completed(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Draws (N, D) whose first C columns are x (N, C)."""
        first = self.leading(x.shape[1])
        off = x.T - first.means[:, :, None]
        noise = torch.linalg.solve_triangular(first.factors, off, upper=False)  # (K, C, N)
        scale = first.factors.diagonal(dim1=1, dim2=2).log().sum(1)
        weights = (self.logits - scale)[:, None] - 0.5 * noise.square().sum(1)
        picks = torch.multinomial(weights.softmax(0).T, 1, generator=generator)[:, 0]
        first_noise = noise.permute(2, 0, 1)[torch.arange(len(x)), picks]
        rest = torch.randn(len(x), self.means.shape[1] - x.shape[1], generator=generator).to(x)
        steps = self.factors[picks] @ torch.cat([first_noise, rest], 1)[:, :, None]
        return torch.cat([x, (self.means[picks] + steps[:, :, 0])[:, x.shape[1] :]], 1)


def products(x: Tensor, covariance: Covariance, out: Tensor | None = None) -> Tensor:
    """1, the entries of each column of x (D, N) and their products: (F, N), in ``out`` if given.

    F = (D + 1) (D + 2) / 2 with a full or tied covariance, else 2 D + 1.
    """
    one = torch.cat([torch.ones_like(x[:1]), x])
    if covariance in SEPARATE:
        return torch.cat([one, x.square()], out=out)
    if out is None:
        out = x.new_empty(len(one) * (len(one) + 1) // 2, x.shape[1])
    for row, part in zip(one, out.split([*range(len(one), 0, -1)]), strict=True):
        torch.mul(row, one[-len(part) :], out=part)
    return out


def _pairs(dim: int, covariance: Covariance) -> tuple[Tensor, Tensor]:
    """Indices of the entries of a covariance that are free, in the order of `products`."""
    if covariance in SEPARATE:
        return torch.arange(dim), torch.arange(dim)
    i, j = torch.triu_indices(dim, dim)
    return i, j


def single(x: Tensor, covariance: Covariance) -> Mixture:
    """One Gaussian, by maximum likelihood, of data (D, N)."""
    chunks = [products(chunk, covariance).sum(1) for chunk in x.split(CHUNK, 1)]
    return Mixture.of(torch.stack(chunks).sum(0, keepdim=True), covariance, 0.0)


class Entrant:
    """A mixture that grows on data (D, N), and the best that it was on held ones."""

    def __init__(self, entry: Entry, seed: int, x: Tensor, held: Tensor) -> None:
        covariance, self.ridge, self.steps = entry
        self.x, self.held, self.generator = x, held, torch.Generator().manual_seed(seed)
        self.model = self.best = single(x, covariance)
        self.score = float(self.best.log_prob(held).mean())  # nats
        self.stale, self.spent = 0, 0.0  # fits since the best one; FLOPs

    def about(self) -> dict[str, Any]:
        about = {"components": len(self.best.means), "covariance": self.best.covariance}
        return {**about, "regulariser": self.ridge, "validation_ll": self.score}

    def grow(self, limit: float) -> bool:
        """Split the heaviest components up to the next size, and `fit`; False of the largest.

        The first split is along the direction of least kurtosis, which shows two clusters best
        (Cardoso, Source separation using higher order moments, ICASSP 1989), others at random.
        """
        count, dim = self.model.means.shape
        if count >= SIZES[-1]:
            return False
        more = next(size for size in SIZES if size > count) - count
        directions = torch.randn(more, dim, generator=self.generator).to(self.x)
        if count == 1:
            off = self.x - self.model.means.T
            z = torch.linalg.solve_triangular(self.model.factors[0], off, upper=False)
            directions = torch.linalg.eigh((z * z.square().sum(0)) @ z.T)[1][:, :1].T
        model = self.model.split(directions / directions.norm(dim=1, keepdim=True))
        return self.fit(model, max(model.parameters, PRODUCTS // model.features), limit)

    def fit(self, model: Mixture, rows: int, limit: float) -> bool:
        """Take steps of EM on so many rows and validate; False beyond ``limit`` or all patience."""
        x = self.x[:, :rows]
        work = self.steps * model.flops(x.shape[1]) + model.flops(self.held.shape[1]) / 2
        if self.stale >= PATIENCE or work > limit:
            return False
        for _ in range(self.steps):
            model = model.step(x, self.ridge)
        self.model, self.spent, self.stale = model, self.spent + work, self.stale + 1
        if (score := float(model.log_prob(self.held).mean())) > self.score:
            self.best, self.score, self.stale = model, score, 0
        return True


@dataclass(frozen=True)
class Baseline:
    """A fitted density: ``log_prob`` (N, D) -> (N,) nats, ``sample`` n -> (n, D).

    Of rows (N, C) of fewer columns ``log_prob`` is that of the first C, and ``completed`` (N, C) ->
    (N, D) draws rows that have them.
    """

    parameters: int
    log_prob: Callable[[np.ndarray], np.ndarray]
    sample: Callable[[int], np.ndarray]
    completed: Callable[[np.ndarray], np.ndarray]
    notes: Mapping[str, Any]  # choices that were made

    @classmethod
    def of(cls, model: Mixture, seed: int, notes: Mapping[str, Any]) -> Self:
        """A mixture with a stream of samples."""
        generator = torch.Generator().manual_seed(seed)
        return cls(
            parameters=model.parameters,
            log_prob=lambda x: model.leading(x.shape[1]).log_prob(columns(x)).numpy(),
            sample=lambda n: model.sample(n, generator).numpy(),
            completed=lambda x: model.completed(torch.from_numpy(x), generator).numpy(),
            notes=notes,
        )


def columns(rows: np.ndarray) -> Tensor:
    """(N, D) -> (D, N) in float64."""
    return torch.from_numpy(np.ascontiguousarray(rows.T, dtype=np.float64))


def gaussian(train: np.ndarray, seed: int, validation: np.ndarray) -> Baseline:
    """One Gaussian with full covariance, by maximum likelihood."""
    return Baseline.of(single(columns(train), "full"), seed, {})


def kde(train: np.ndarray, seed: int, validation: np.ndarray) -> Baseline:
    """Gaussian kernels about 20,000 training rows, of a bandwidth chosen on validation."""
    picks = np.random.default_rng(seed).permutation(len(train))[:KERNELS]
    centres = torch.from_numpy(train[picks]).double()
    held = torch.from_numpy(validation[:KERNEL_VALIDATION]).double()
    rows, dim = centres.shape
    scott = rows ** (-1 / (dim + 4))  # Scott, Multivariate Density Estimation, 1992
    scores: dict[float, float] = {}
    for octaves in (OCTAVES, FINER):
        middle = max(scores, key=lambda width: scores[width]) if scores else scott
        widths = [middle * 2**octave for octave in octaves]
        means = _by_kernels(held, centres, widths).mean(1).tolist()
        scores.update(zip(widths, means, strict=True))
    width = max(scores, key=lambda width: scores[width])
    generator = torch.Generator().manual_seed(seed)

    def noisy(picks: Tensor) -> Tensor:
        draws = centres[picks]
        return draws + width * torch.randn(draws.shape, generator=generator, dtype=draws.dtype)

    def log_prob(x: np.ndarray) -> np.ndarray:
        kernels = centres[:, : x.shape[1]] if x.shape[1] < dim else centres
        values: np.ndarray = _by_kernels(torch.from_numpy(x).double(), kernels, [width])[0].numpy()
        return values

    def completed(x: np.ndarray) -> np.ndarray:
        draws = []
        for chunk in torch.from_numpy(x).double().split(KERNEL_CHUNK):
            squares = torch.cdist(chunk, centres[:, : x.shape[1]]).square()
            weights = (-0.5 / width**2 * squares).softmax(1)
            draw = noisy(torch.multinomial(weights, 1, generator=generator)[:, 0])
            draws.append(torch.cat([chunk, draw[:, x.shape[1] :]], 1))
        return torch.cat(draws).numpy()

    return Baseline(
        parameters=rows * dim + 1,
        log_prob=log_prob,
        sample=lambda n: noisy(torch.randint(rows, (n,), generator=generator)).numpy(),
        completed=completed,
        notes={
            "bandwidth": width,
            "validation_ll": scores[width],
            "validation_rows": len(held),
            "rows": rows,
            "tried": [{"bandwidth": h, "validation_ll": scores[h]} for h in sorted(scores)],
        },
    )


def _by_kernels(x: Tensor, centres: Tensor, widths: Sequence[float]) -> Tensor:
    """Log-densities of x (N, D) by Gaussian kernels about (M, D), for each width: (W, N)."""
    rows, dim = centres.shape
    squares = centres.square().sum(1)
    parts = []
    for chunk in x.split(KERNEL_CHUNK):
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


def mixture(
    train: np.ndarray, seed: int, validation: np.ndarray, effort: float = EFFORT
) -> Baseline:
    """Gaussians by EM; number, covariance and ridge are chosen on validation.

    For whitened rows (N, D): the ridges are in units of their variances. ``effort`` bounds the
    FLOPs. Each of `ENTRANTS` grows by splitting components; the best three grow on, then the best,
    each round with an equal share of the effort. That one is then fitted to all rows, as long as
    validation gains. Splitting: Ueda et al., SMEM algorithm for mixture models, Neural Computation
    12, 2000.
    """
    picks = np.random.default_rng(seed).permutation(len(train))[:ROWS]
    x, held = columns(train[picks]), columns(validation[:VALIDATION])
    entrants = [Entrant(entry, seed + k, x, held) for k, entry in enumerate(ENTRANTS)]
    growing = list(entrants)
    for rounds in (3, 2, 1):  # left
        share = (effort - sum(entrant.spent for entrant in entrants)) / rounds / len(growing)
        for entrant in growing:
            end = entrant.spent + share
            while entrant.grow(end - entrant.spent):
                pass
        growing.sort(key=lambda entrant: -entrant.score)
        del growing[max(1, len(growing) * 2 // 5) :]
    winner, tried = growing[0], [entrant.about() for entrant in entrants]
    end = effort - sum(entrant.spent for entrant in entrants if entrant is not winner)
    winner.model, winner.stale = winner.best, 0
    while winner.fit(winner.model, x.shape[1], end - winner.spent):
        pass
    counts = {"rows": x.shape[1], "validation_rows": held.shape[1]}
    spent = sum(entrant.spent for entrant in entrants)
    notes = {**winner.about(), **counts, "flops": spent, "tried": tried}
    return Baseline.of(winner.best, seed, notes)


class Method(NamedTuple):
    """How a baseline is fitted, and the version of its fit and of its scores: see `Declared`.

    ``fit`` takes training rows (N, D), of about unit variance, a seed and validation rows, and
    ``effort`` if it is ``bounded``.
    """

    fit: Callable[..., Baseline]
    version: int = 2
    bounded: bool = False


BASELINES: dict[str, Method] = {
    "gaussian": Method(gaussian),
    "kde": Method(kde),
    "mixture": Method(mixture, version=3, bounded=True),
}


class BaselineEntry(Settings, frozen=True):
    """A baseline of a suite, by its name alone or as a table."""

    flow: str
    """Name of the baseline: "gaussian", "kde" or "mixture". A name alone may stand in place of the
    table.
    """
    preprocessing: str = "whiten"
    """Preprocessing that is fitted to the training rows and put before the baseline, by the name
    that `flows.preprocessing.fit` takes.
    """
    effort: PositiveFloat | None = None
    """FLOPs that the search of a baseline may take, for one that searches (`mixture`)."""

    @validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"flow": value} if isinstance(value, str) else value

    @validator(mode="after")
    def _known(self) -> Self:
        if self.flow not in BASELINES:
            choices = ", ".join(BASELINES)
            raise ValueError(f"unknown baseline: {self.flow!r}; choose from: {choices}")
        preprocessing.check(self.preprocessing)
        if self.effort and not BASELINES[self.flow].bounded:
            raise ValueError(f"baseline {self.flow!r} has one way to be fitted: leave out effort")
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """What differs from the defaults, for a case."""
        return self.model_dump(exclude={"flow"}, exclude_defaults=True)


def fit(
    baseline: BaselineEntry | str,
    train: np.ndarray,
    seed: int,
    validation: np.ndarray,
    given: int = 0,
    support: Tensor | None = None,
) -> Baseline:
    """Fit a baseline to raw rows (N, D), after its preprocessing.

    Densities and samples are those of whole raw rows; ``completed`` of the result takes those that
    are preprocessed, x first. With ``given`` C the rows are (y, x), (N, D + C), and the density is
    q(x, y) / q(x): for one Gaussian a linear regression. y and x have separate preprocessings.
    Samples reuse the x of the training set. ``support`` (2, D + C) are their bounds.
    """
    entry = BaselineEntry.model_validate(baseline)
    split = train.shape[1] - given
    maps = [
        preprocessing.fit(
            entry.preprocessing,
            torch.from_numpy(train[:, part]).double(),
            support[:, part] if given and support is not None else support,
        )
        for part in (slice(split), slice(split, None))[: 2 if given else 1]
    ]
    first, *context = cast(list[Bijection], maps)

    def mapped(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows that are fitted, x before y, and the log-determinant of y's map."""
        z, ladj = first.forward(torch.from_numpy(rows[:, :split]).double())
        x = [move.forward(torch.from_numpy(rows[:, split:]).double())[0] for move in context]
        return np.concatenate([*x, z], 1), ladj.numpy()

    def log_prob(rows: np.ndarray) -> np.ndarray:
        z, ladj = mapped(rows)
        density: np.ndarray = fitted.log_prob(z) + ladj
        return density - fitted.log_prob(z[:, :given]) if given else density

    def sample(n: int) -> np.ndarray:
        x = train[np.arange(n) % len(train)]
        z = fitted.completed(mapped(x)[0][:, :given]) if given else fitted.sample(n)
        y: np.ndarray = first.inverse(torch.from_numpy(z[:, given:]).double())[0].numpy()
        return np.concatenate([y, x[:, split:]], 1)

    settings = {"effort": entry.effort} if entry.effort else {}
    held, ladj = mapped(validation)
    fitted = BASELINES[entry.flow].fit(mapped(train)[0], seed, held, **settings)
    notes = {**fitted.notes, "preprocessing": entry.preprocessing}
    if "tried" in notes:  # the likelihoods become those of raw rows
        shift, tried = float(ladj[: notes["validation_rows"]].mean()), notes["tried"]
        notes["validation_ll"] += shift
        notes["tried"] = [{**one, "validation_ll": one["validation_ll"] + shift} for one in tried]
    return replace(fitted, log_prob=log_prob, sample=sample, notes=notes)
