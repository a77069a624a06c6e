"""Baselines: densities that are fitted, not trained, which a flow has to beat."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy

LIBRARIES = ("scipy.stats", "sklearn.mixture")  # imported by the first fit
COMPONENTS = (5, 10, 20, 40, 80)  # choices of `mixture`
WORK = 100_000  # largest components · D² that it tries, so that 63 dimensions take seconds


@dataclass(frozen=True)
class Baseline:
    """A fitted density: ``log_prob`` (N, D) -> (N,) nats, ``sample`` n -> (n, D)."""

    parameters: int
    log_prob: Callable[[np.ndarray], np.ndarray]
    sample: Callable[[int], np.ndarray]
    notes: Mapping[str, Any] = field(default_factory=dict)  # choices that were made


def gaussian(train: np.ndarray, seed: int, validation: np.ndarray | None = None) -> Baseline:
    """One Gaussian with full covariance, by maximum likelihood."""
    dim = train.shape[1]
    mean, covariance = train.mean(0), np.atleast_2d(np.cov(train, rowvar=False, bias=True))
    model = scipy.stats.multivariate_normal(mean, covariance, allow_singular=False, seed=seed)
    factor = scipy.linalg.cholesky(covariance, lower=True)
    generator = np.random.default_rng(seed)
    return Baseline(
        parameters=dim + dim * (dim + 1) // 2,
        log_prob=model.logpdf,
        sample=lambda n: mean + generator.standard_normal((n, dim)) @ factor.T,
    )


def mixture_20(
    train: np.ndarray,
    seed: int,
    validation: np.ndarray | None = None,
    *,
    components: int = 20,
    rows: int = 10_000,
    steps: int = 30,
) -> Baseline:
    """Twenty Gaussians with full covariance, by EM.

    ``components`` replaces their number; EM makes ``steps`` steps on ``rows`` rows.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    picks = np.random.default_rng(seed).permutation(len(train))[:rows]
    model = GaussianMixture(components, max_iter=steps, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of steps is fixed
        model.fit(train[picks])
    dim, generator = train.shape[1], np.random.default_rng(seed)
    return Baseline(
        parameters=components * (dim + dim * (dim + 1) // 2) + components - 1,
        log_prob=model.score_samples,
        sample=lambda n: generator.permutation(model.sample(n)[0]),  # ordered by component
        notes={"components": components},
    )


def mixture(train: np.ndarray, seed: int, validation: np.ndarray, rows: int = 5000) -> Baseline:
    """Gaussians with full covariance, by EM; their number is chosen on validation rows.

    `COMPONENTS` are tried in order, up to `WORK`, until one is worse than an earlier one.
    """
    best: Baseline | None = None
    tried: dict[int, float] = {}
    for components in COMPONENTS:
        if best is not None and components * train.shape[1] ** 2 > WORK:
            break
        fitted = mixture_20(train, seed, components=components)
        tried[components] = float(fitted.log_prob(validation[:rows]).mean())
        if best is not None and tried[components] < max(tried.values()):
            break
        best = replace(fitted, notes={"components": components, "tried": tried})
    if best is None:
        raise ValueError("a mixture has no number of components to choose from")
    return best


# functions of training rows (N, D), a seed, and validation rows
BASELINES: dict[str, Callable[..., Baseline]] = {
    "gaussian": gaussian,
    "mixture_20": mixture_20,
    "mixture": mixture,
}
