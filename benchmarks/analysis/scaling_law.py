"""Scaling laws: how times grow with a size, with an interval for the local exponent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Literal

import numpy as np

from benchmarks.analysis import least_squares
from benchmarks.analysis.least_squares import TIE

DEGREES = 3  # of the polynomial, at most
POWERS = np.r_[np.linspace(-2.0, -0.1, 77), np.linspace(0.1, 4.0, 157)]  # of a shifted power law
REPETITIONS = 600  # of the bootstrap
ABREAST = 50  # problems at once: their arrays stay in the cache
JUMPS = np.exp(np.linspace(-1.2, 1.2, 49))  # factors by which all sizes from a break on may differ
STRONG = 10.0  # difference in BIC that a break has to make


@dataclass(frozen=True)
class Law:
    """t(D) = Σ cₖ Dᵏ with cₖ ≥ 0, or a + b Dᵖ where that is clearly better: then ``form`` says so.

    ``degree`` is the polynomial's and ``coefficients`` are its cₖ from k = 0; ``power`` is (a, b,
    p). ``exponent`` is d ln t / d ln D at the largest size and ``interval`` its 95 % interval;
    ``share`` what the leading term contributes there. ``asymptotic`` is False where that is less
    than half, where a constant law leaves room for a linear term of half the cost, and where no
    polynomial fits: then the exponent is a lower bound of the one to come.
    ``breaks`` has the size from which on all times differ by a common factor, if there is one:
    another cache, or a library that begins to use threads. The law is then that of the largest
    sizes.
    """

    degree: int
    coefficients: tuple[float, ...]
    power: tuple[float, float, float]
    form: Literal["polynomial", "power"]
    exponent: float
    interval: tuple[float, float]
    share: float
    asymptotic: bool
    breaks: tuple[float, ...]

    def __str__(self) -> str:
        low, high = self.interval
        text = f"{'' if self.asymptotic else '≥ '}{self.exponent:.2f} [{low:.2f}, {high:.2f}]"
        return text.replace("-", "−")


def fit(
    sizes: Sequence[float],
    samples: Sequence[Sequence[float]],
    seed: int = 0,
    repetitions: int = REPETITIONS,
) -> Law:
    """Fit the law of times to the raw samples of each size.

    Non-negative terms up to D³ are fitted to the medians by relative error; the degree is that with
    the least BIC, of ties the lowest. The interval draws anew the raw samples of each size, and,
    since a drift at a size moves all of its samples together, the deviations of the sizes from
    the law. Which law is the truth of a draw, and which is fitted to it, is drawn from all forms
    and degrees with the weight exp(-BIC / 2), so that the choice is uncertain too (Buckland,
    Burnham and Augustin, Model selection: an integral part of inference, 1997).

    ValueError below four sizes, for sizes that are not positive and finite or repeat, and for times
    that are not.
    """
    x, times = _checked(sizes, samples)
    scale = float(np.exp(np.mean([np.log(np.median(t)) for t in times])))
    times = [t / scale for t in times]
    medians = np.array([np.median(t) for t in times])
    start, factor = _break(x, medians)
    regime = np.where(np.arange(len(x)) < start, factor, 1.0)  # the law is that of the largest size
    medians, times = medians * regime, [t * f for t, f in zip(times, regime, strict=True)]
    polynomial, power = _polynomials(x, medians[None]), _powers(x, medians[None])
    better = bool(power.bic[0] < polynomial.bic[0] - TIE)
    chosen, degree = power if better else polynomial, int(polynomial.degree[0])
    rng = np.random.default_rng(seed)
    truths = _drawn(x, np.broadcast_to(medians, (repetitions, len(x))), rng)
    refitted = _drawn(x, _redrawn(times, truths, seed), rng)
    low, high = np.quantile(refitted.exponent, [0.025, 0.975])
    exponent, share = float(chosen.exponent[0]), float(chosen.share[0])
    reached = not better and share >= 0.5 and (degree > 0 or high < 0.5)
    a, b, p = map(float, power.coefficients[0])
    return Law(
        degree=degree,
        coefficients=tuple(scale * float(c) for c in polynomial.coefficients[0, : degree + 1]),
        power=(scale * a, scale * b, p),
        form="power" if better else "polynomial",
        exponent=exponent,
        interval=(min(float(low), exponent), max(float(high), exponent)),
        share=share,
        asymptotic=bool(reached),
        breaks=(float(x[start]),) if start else (),
    )


@dataclass(frozen=True)
class _Family:
    """The best member of a family of laws for each of B problems."""

    bic: np.ndarray  # (B,)
    exponent: np.ndarray  # (B,), at the largest size
    share: np.ndarray  # (B,), of the leading term there
    predicted: np.ndarray  # (B, n)
    degree: np.ndarray  # (B,)
    coefficients: np.ndarray  # (B, K): cₖ from k = 0, or a, b and p


def _checked(
    sizes: Sequence[float], samples: Sequence[Sequence[float]]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Sizes in order, and their samples."""
    if len(sizes) != len(samples):
        raise ValueError(f"{len(sizes)} sizes, but samples of {len(samples)}")
    order = np.argsort(sizes)
    x = np.asarray(sizes, dtype=float)[order]
    times = [np.asarray(samples[i], dtype=float) for i in order]
    if len(x) < 4 or not np.isfinite(x).all() or (np.diff(x) <= 0).any() or x[0] <= 0:
        raise ValueError(f"a law needs four different positive sizes or more, got {list(sizes)}")
    for size, t in zip(x, times, strict=True):
        if not (t.ndim == 1 and len(t) and np.isfinite(t).all() and (t > 0).all()):
            raise ValueError(f"the samples at size {size:g} have to be positive numbers, got {t}")
    return x, times


def _polynomials(x: np.ndarray, costs: np.ndarray) -> _Family:
    """For each of the costs (B, n) the polynomial of the lowest degree that is as good as any."""
    powers, basis = _basis(x)
    fits = least_squares.fit(basis, costs)
    degrees = np.array([np.flatnonzero(support).max() for support in fits.supports])
    by_degree = np.array([fits.bic[degrees == d].min(0) for d in powers])  # (K, B)
    chosen = np.argmax(by_degree <= by_degree.min(0) + TIE, axis=0)
    problems = np.arange(costs.shape[0])
    best = np.where(degrees[:, None] == chosen, fits.bic, np.inf).argmin(0)
    c = fits.coefficients[best, problems]
    return _Family(
        bic=fits.bic[best, problems],
        exponent=(c * powers).sum(1) / c.sum(1),
        share=c[problems, chosen] / c.sum(1),
        predicted=c @ basis.T,
        degree=chosen,
        coefficients=c / x[-1] ** powers,
    )


def _basis(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The powers of D that so many sizes can tell apart, and their values, 1 at the largest."""
    powers = np.arange(min(DEGREES, len(x) - 3) + 1)
    return powers, (x[:, None] / x[-1]) ** powers


@dataclass(frozen=True)
class _Drawn:
    """A law for each of B problems, drawn by the weights of all laws."""

    exponent: np.ndarray  # (B,), at the largest size
    predicted: np.ndarray  # (B, n)
    parameters: np.ndarray  # (B,)


def _drawn(x: np.ndarray, costs: np.ndarray, rng: np.random.Generator) -> _Drawn:
    powers, basis = _basis(x)
    fits, shifted = least_squares.fit(basis, costs), _powers(x, costs)
    bic = np.concatenate([fits.bic, shifted.bic[None]])  # (laws, B)
    weights = np.cumsum(np.exp((bic.min(0) - bic) / 2), axis=0)
    which = (weights < rng.random(len(costs)) * weights[-1]).sum(0)
    sums, problems = which < len(fits.bic), np.arange(len(costs))
    c = fits.coefficients[np.where(sums, which, 0), problems]
    c[~sums] = 1.0  # of no account
    terms = (shifted.coefficients > 0).sum(1) + (shifted.coefficients[:, 2] < 0)
    return _Drawn(
        np.where(sums, (c * powers).sum(1) / c.sum(1), shifted.exponent),
        np.where(sums[:, None], c @ basis.T, shifted.predicted),
        np.where(sums, (c > 0).sum(1), terms),
    )


def _powers(x: np.ndarray, costs: np.ndarray) -> _Family:
    """For each of the costs (B, n) the best shifted power law a + b Dᵖ, a ≥ 0 and b > 0."""
    parts = np.array_split(costs, -(-len(costs) // ABREAST))
    fields = zip(*(astuple(_shifted(x, part)) for part in parts), strict=True)
    return _Family(*map(np.concatenate, fields))


def _shifted(x: np.ndarray, costs: np.ndarray) -> _Family:
    """The same, of few costs."""
    w, g = 1 / costs, (x / x[-1]) ** POWERS[:, None]
    aa, ab, bb = (w**2).sum(1), g @ (w**2).T, g**2 @ (w**2).T
    to_a, to_b = w.sum(1), g @ w.T
    determinant = np.maximum(aa * bb - ab**2, 1e-12 * aa * bb)  # all weight on one size
    a, b = (to_a * bb - to_b * ab) / determinant, (aa * to_b - ab * to_a) / determinant
    shifted = a > 0
    a, b = np.where(shifted, a, 0.0), np.where(shifted, b, to_b / bb)
    squares = np.maximum(len(x) - a * to_a - b * to_b, 0.0)
    bic = np.where(b > 0, least_squares.criterion(squares, len(x), 2 + shifted), np.inf)
    best, problems = bic.argmin(0), np.arange(len(costs))
    a, b, p = a[best, problems], b[best, problems], POWERS[best]
    share = b / (a + b)
    return _Family(
        bic=bic[best, problems],
        exponent=p * share,
        share=share,
        predicted=a[:, None] + b[:, None] * g[best],
        degree=np.zeros_like(best),
        coefficients=np.stack([a, b / x[-1] ** p, p], axis=1),
    )


def _redrawn(times: Sequence[np.ndarray], truths: _Drawn, seed: int) -> np.ndarray:
    """Medians (B, n) that the same measurement might have given, were the ``truths`` true.

    Each has the deviations of the sizes from its law in another order and with other signs, as
    large as their number and that of the law's parameters leaves uncertain, and those of a size's
    raw samples.
    """
    rng, (count, n) = np.random.default_rng(seed), truths.predicted.shape
    medians = np.array([np.median(t) for t in times])
    left = np.maximum(1, n - truths.parameters)[:, None]  # degrees of freedom
    residuals = np.log(medians / truths.predicted) * np.sqrt(n / left)
    deviations = np.take_along_axis(residuals, rng.integers(n, size=(count, n)), axis=1)
    deviations *= rng.choice([-1, 1], (count, n)) * np.sqrt(left / rng.chisquare(left))
    for index, t in enumerate(times):
        picks = rng.integers(len(t), size=(count, len(t)))
        deviations[:, index] += np.log(np.median(t[picks], axis=1) / medians[index])
    return np.asarray(truths.predicted * np.exp(deviations))


def _break(x: np.ndarray, medians: np.ndarray) -> tuple[int, float]:
    """The size from which on a common factor makes the polynomial fit far better; 0 for none."""
    n = len(x)
    if n < 7:
        return 0, 1.0
    starts = range(3, n - 2)
    below = np.array([np.where(np.arange(n) < start, 1.0, 0.0) for start in starts])
    factors = np.exp(below[:, None] * np.log(JUMPS)[None, :, None])  # (starts, jumps, n)
    bic = _polynomials(x, (medians * factors).reshape(-1, n)).bic + 2 * np.log(n)
    start, jump = np.unravel_index(bic.argmin(), factors.shape[:2])
    if bic.min() < _polynomials(x, medians[None]).bic[0] - STRONG:
        return starts[int(start)], float(JUMPS[jump])
    return 0, 1.0
