"""Non-negative sums of given terms that fit positive costs, by least squares of relative errors."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

TIE = 4.0  # in the midst of what Kass and Raftery (Bayes Factors, 1995) call positive evidence
EXACT = 1e-7  # root mean square of relative errors below which no model is told from another


@dataclass(frozen=True)
class Fits:
    """The best fit of each support: a set of terms, all others zero. B problems at once.

    ``supports`` (S, K) says which of the K terms a support has, ``coefficients`` (S, B, K) are
    their best values, and ``bic`` (S, B) is the `criterion` of a fit, infinite where a coefficient
    would be negative.
    """

    supports: np.ndarray
    coefficients: np.ndarray
    bic: np.ndarray


def criterion(squares: np.ndarray, n: int, parameters: ArrayLike) -> np.ndarray:
    """BIC of n relative errors with this sum of squares, up to a constant (Schwarz, 1978).

    Its penalty is raised by n / (n - parameters - 1), as that of AICc is (Hurvich and Tsai,
    Regression and time series model selection in small samples, 1989): else one law in ten of few
    sizes has a term too many. Infinite where they are too many for n.
    """
    spread, k = np.maximum(squares / n, EXACT**2), np.asarray(parameters)
    left = n - k - 1
    penalty = np.where(left > 0, k * np.log(n) * n / np.maximum(left, 1), np.inf)
    return np.asarray(n * np.log(spread) + penalty)


def fit(terms: np.ndarray, costs: np.ndarray) -> Fits:
    """Fit costs (B, n) by the terms (n, K), for every support but the empty one.

    What is minimised is Σ (model / cost - 1)². The best non-negative fit is the best of the
    supports whose own least squares are positive, so no search is needed.
    """
    problems, n = costs.shape
    count = terms.shape[-1]
    rows = terms / costs[:, :, None]
    scale = np.sqrt((rows**2).sum(1, keepdims=True))
    rows = np.divide(rows, scale, out=np.zeros_like(rows), where=scale > 0)
    supports = np.array(list(itertools.product([False, True], repeat=count))[1:])
    supports = supports[supports.sum(1) < n - 1]
    coefficients = np.zeros((len(supports), problems, count))
    bic = np.full((len(supports), problems), np.inf)
    for index, support in enumerate(supports):
        q, r = np.linalg.qr(rows[:, :, support])
        solvable = np.abs(np.diagonal(r, axis1=1, axis2=2)).min(1) > 1e-12
        r[~solvable] = np.eye(r.shape[-1])
        best = np.linalg.solve(r, q.sum(1)[:, :, None])[:, :, 0]
        residuals = (rows[:, :, support] @ best[:, :, None])[:, :, 0] - 1
        valid = solvable & (best > 0).all(1)
        bic[index, valid] = criterion((residuals[valid] ** 2).sum(1), n, support.sum())
        coefficients[index][:, support] = best / scale[:, 0, support]
    return Fits(supports, coefficients, bic)
