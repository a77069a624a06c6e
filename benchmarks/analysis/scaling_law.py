"""Scaling laws: how times grow with a size, with an interval for the local exponent."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

DEGREES = 3  # of the polynomial, at most
POWERS = np.r_[np.linspace(-2.0, -0.1, 77), np.linspace(0.1, 4.0, 157)]  # of a shifted power law
REPETITIONS = 600  # of the bootstrap
JUMPS = np.exp(np.linspace(-1.2, 1.2, 49))  # factors by which all sizes from a break on may differ
TIE = 4.0  # difference in BIC, amid the positive evidence of Kass and Raftery (Bayes Factors, 1995)
STRONG = 10.0  # difference in BIC that a break has to make
EXACT = 1e-7  # root mean square of relative errors below which models are not told apart


@dataclass(frozen=True)
class Law:
    """t(D) = Σ cₖ Dᵏ with cₖ ≥ 0, or a + b Dᵖ where that is clearly better.

    The exponent is a lower bound of the one to come unless the law is ``asymptotic``: not where the
    leading term is less than half, where a constant law leaves room for a linear term of half the
    cost, and where no polynomial fits. Times that differ by a common factor from a size on have met
    another cache, or a library that begins to use threads: the law is that of the largest sizes.
    """

    degree: int  #: of the polynomial
    exponent: float  #: d ln t / d ln D at the largest size
    interval: tuple[float, float]  #: of the exponent, 95 %
    asymptotic: bool
    breaks: tuple[float, ...]  #: the size from which on all times differ by a factor, if any


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

    Takes four different positive sizes or more, in any order, and positive times.
    """
    order = np.argsort(sizes)
    x, times = np.asarray(sizes, dtype=float)[order], [np.asarray(samples[i]) for i in order]
    scale = float(np.exp(np.mean([np.log(np.median(t)) for t in times])))
    times = [t / scale for t in times]
    medians = np.array([np.median(t) for t in times])
    start, factor = _break(x, medians)
    regime = np.where(np.arange(len(x)) < start, factor, 1.0)  # the law is that of the largest size
    medians, times = medians * regime, [t * f for t, f in zip(times, regime, strict=True)]
    polynomials, power = _polynomials(x, medians[None]), _powers(x, medians[None])
    polynomial = polynomials.take(polynomials.simplest())
    better = bool(power.bic[0, 0] < polynomial.bic[0] - TIE)
    chosen = power.take(np.zeros(1, dtype=int)) if better else polynomial
    rng = np.random.default_rng(seed)
    truths = _drawn(x, np.broadcast_to(medians, (repetitions, len(x))), rng)
    exponents = _drawn(x, _redrawn(times, truths, seed), rng).exponent
    low, high = np.quantile(exponents, [0.025, 0.975])
    degree, exponent = int(polynomial.degree[0]), float(chosen.exponent[0])
    leads = chosen.share[0] >= 0.5 and (degree > 0 or high < 0.5)
    return Law(
        degree=degree,
        exponent=exponent,
        interval=(min(float(low), exponent), max(float(high), exponent)),
        asymptotic=bool(not better and leads),
        breaks=(float(x[start]),) if start else (),
    )


class _Laws(NamedTuple):
    """Laws that were fitted to B problems: of each problem S of them, or one that was taken.

    The exponent and the ``share`` of the leading term are those at the largest size; ``bic`` is
    infinite where a coefficient would be negative. The degree of a shifted power is 0.
    """

    exponent: np.ndarray  # (S, B)
    predicted: np.ndarray  # (S, B, n)
    parameters: np.ndarray  # (S, B), their number
    bic: np.ndarray  # (S, B)
    share: np.ndarray  # (S, B)
    degree: np.ndarray  # (S, B)

    def take(self, which: np.ndarray) -> _Laws:
        """The law of this index (B,) of each problem."""
        return _Laws(*(field[which, np.arange(len(which))] for field in self))

    def simplest(self) -> np.ndarray:
        """The index (B,) of the best law of the lowest degree that is as good as any."""
        good = self.bic <= self.bic.min(0) + TIE
        degree = np.where(good, self.degree, DEGREES + 1).min(0)
        return np.asarray(np.where(self.degree == degree, self.bic, np.inf).argmin(0))


def _polynomials(x: np.ndarray, costs: np.ndarray) -> _Laws:
    """Fit costs (B, n) by sums of powers of D, one law for every set of terms but the empty one.

    What is minimised is Σ (model / cost - 1)². The best non-negative fit is the best of the sets
    whose own least squares are positive, so no search is needed.
    """
    powers = np.arange(min(DEGREES, len(x) - 3) + 1)  # that so many sizes can tell apart
    basis = (x[:, None] / x[-1]) ** powers
    rows = basis / costs[:, :, None]
    scale = np.sqrt((rows**2).sum(1, keepdims=True))
    rows = np.divide(rows, scale, out=np.zeros_like(rows), where=scale > 0)
    supports = np.array(list(itertools.product([False, True], repeat=len(powers)))[1:])
    supports = supports[supports.sum(1) < len(x) - 1]
    c = np.zeros((len(supports), len(costs), len(powers)))
    bic = np.full((len(supports), len(costs)), np.inf)
    for index, support in enumerate(supports):
        q, r = np.linalg.qr(rows[:, :, support])
        solvable = np.abs(np.diagonal(r, axis1=1, axis2=2)).min(1) > 1e-12
        r[~solvable] = np.eye(r.shape[-1])
        best = np.linalg.solve(r, q.sum(1)[:, :, None])[:, :, 0]
        residuals = (rows[:, :, support] @ best[:, :, None])[:, :, 0] - 1
        valid = solvable & (best > 0).all(1)
        bic[index, valid] = _criterion((residuals[valid] ** 2).sum(1), len(x), support.sum())
        c[index][:, support] = best / scale[:, 0, support]
    terms, degrees = supports.sum(1), np.array([np.flatnonzero(s).max() for s in supports])
    leading = np.take_along_axis(c, degrees[:, None, None], axis=2)[:, :, 0]
    with np.errstate(divide="ignore", invalid="ignore"):  # of what no problem takes
        exponent, share = (c * powers).sum(2) / c.sum(2), leading / c.sum(2)
    parameters, degree = (np.repeat(of[:, None], len(costs), axis=1) for of in (terms, degrees))
    return _Laws(exponent, c @ basis.T, parameters, bic, share, degree)


def _criterion(squares: np.ndarray, n: int, parameters: ArrayLike) -> np.ndarray:
    """BIC of n relative errors with this sum of squares, up to a constant (Schwarz, 1978).

    Its penalty is raised by n / (n - parameters - 1), as that of AICc is (Hurvich and Tsai,
    Regression and time series model selection in small samples, 1989): else one law in ten of few
    sizes has a term too many. Infinite where they are too many for n.
    """
    spread, k = np.maximum(squares / n, EXACT**2), np.asarray(parameters)
    freedom = n - k - 1
    penalty = np.where(freedom > 0, k * np.log(n) * n / np.maximum(freedom, 1), np.inf)
    return np.asarray(n * np.log(spread) + penalty)


def _powers(x: np.ndarray, costs: np.ndarray) -> _Laws:
    """For each of the costs (B, n) the best shifted power law a + b Dᵖ, a ≥ 0 and b > 0."""
    w, g = 1 / costs, (x / x[-1]) ** POWERS[:, None]
    aa, ab, bb = (w**2).sum(1), g @ (w**2).T, g**2 @ (w**2).T
    to_a, to_b = w.sum(1), g @ w.T
    determinant = np.maximum(aa * bb - ab**2, 1e-12 * aa * bb)  # all weight on one size
    a, b = (to_a * bb - to_b * ab) / determinant, (aa * to_b - ab * to_a) / determinant
    shifted = a > 0
    a, b = np.where(shifted, a, 0.0), np.where(shifted, b, to_b / bb)
    squares = np.maximum(len(x) - a * to_a - b * to_b, 0.0)
    bic = np.where(b > 0, _criterion(squares, len(x), 2 + shifted), np.inf)
    best, problems = bic.argmin(0), np.arange(len(costs))
    a, b = a[best, problems], b[best, problems]
    share = b / (a + b)
    law = _Laws(
        exponent=POWERS[best] * share,
        predicted=a[:, None] + b[:, None] * g[best],
        parameters=2 + (a > 0),  # b, the power, and the shift
        bic=bic[best, problems],
        share=share,
        degree=np.zeros_like(best),
    )
    return _Laws(*(field[None] for field in law))


def _drawn(x: np.ndarray, costs: np.ndarray, rng: np.random.Generator) -> _Laws:
    """Draw a law for each of the costs (B, n) from all laws by their weights."""
    every = zip(_polynomials(x, costs), _powers(x, costs), strict=True)
    laws = _Laws(*(np.concatenate(fields) for fields in every))
    weights = np.cumsum(np.exp((laws.bic.min(0) - laws.bic) / 2), axis=0)
    return laws.take((weights < rng.random(len(costs)) * weights[-1]).sum(0))


def _redrawn(times: Sequence[np.ndarray], truths: _Laws, seed: int) -> np.ndarray:
    """Medians (B, n) that the same measurement might have given, were the ``truths`` true.

    Each has the deviations of the sizes from its law in another order and with other signs, as
    large as their number and that of the law's parameters leaves uncertain, and those of a size's
    raw samples.
    """
    rng, (count, n) = np.random.default_rng(seed), truths.predicted.shape
    medians = np.array([np.median(t) for t in times])
    freedom = np.maximum(1, n - truths.parameters)[:, None]  # degrees of freedom
    residuals = np.log(medians / truths.predicted) * np.sqrt(n / freedom)
    deviations = np.take_along_axis(residuals, rng.integers(n, size=(count, n)), axis=1)
    deviations *= rng.choice([-1, 1], (count, n)) * np.sqrt(freedom / rng.chisquare(freedom))
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
    costs = np.concatenate([(medians * factors).reshape(-1, n), medians[None]])
    laws = _polynomials(x, costs)
    *bic, plain = laws.take(laws.simplest()).bic
    best = int(np.argmin(bic))
    if bic[best] + 2 * np.log(n) < plain - STRONG:
        start, jump = divmod(best, len(JUMPS))
        return starts[start], float(JUMPS[jump])
    return 0, 1.0
