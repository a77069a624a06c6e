"""Densities that are fitted, not trained: what a flow has to beat."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg, stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture


@dataclass(frozen=True)
class Baseline:
    """A fitted density: ``log_prob`` (N, D) -> (N,) nats, ``sample`` n -> (n, D)."""

    parameters: int
    log_prob: Callable[[np.ndarray], np.ndarray]
    sample: Callable[[int], np.ndarray]


def gaussian(train: np.ndarray, seed: int) -> Baseline:
    """One Gaussian with full covariance, by maximum likelihood."""
    dim = train.shape[1]
    mean, covariance = train.mean(0), np.atleast_2d(np.cov(train, rowvar=False, bias=True))
    model = stats.multivariate_normal(mean, covariance, allow_singular=False, seed=seed)
    factor = linalg.cholesky(covariance, lower=True)
    generator = np.random.default_rng(seed)
    return Baseline(
        parameters=dim + dim * (dim + 1) // 2,
        log_prob=model.logpdf,
        sample=lambda n: mean + generator.standard_normal((n, dim)) @ factor.T,
    )


def mixture(
    train: np.ndarray, seed: int, *, components: int = 20, rows: int = 10_000, steps: int = 30
) -> Baseline:
    """A mixture of ``components`` Gaussians with full covariance: EM ``steps`` on ``rows`` rows."""
    picked = np.random.default_rng(seed).permutation(len(train))[:rows]
    model = GaussianMixture(components, max_iter=steps, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of steps is the protocol
        model.fit(train[picked])
    dim = train.shape[1]
    return Baseline(
        parameters=components * (dim + dim * (dim + 1) // 2) + components - 1,
        log_prob=model.score_samples,
        sample=lambda n: model.sample(n)[0],
    )


BASELINES: dict[str, Callable[..., Baseline]] = {"gaussian": gaussian, "mixture": mixture}
