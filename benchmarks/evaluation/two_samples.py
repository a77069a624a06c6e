"""Are two samples of one distribution? Sliced Wasserstein distance, and a classifier's test."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from benchmarks.datasets import Dataset

FOLDS = 5
LEAST = 100  # rows of a sample, below which nothing can be told


def sliced_wasserstein(
    one: np.ndarray, other: np.ndarray, projections: int = 200, seed: int = 0
) -> float:
    """Root of the mean over random directions of the squared distance W₂ in one dimension.

    Of two samples of equal size, (N, D) each. Bonneel et al., Sliced and Radon Wasserstein
    Barycenters of Measures, 2015.
    """
    directions = np.random.default_rng(seed).standard_normal((one.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)
    ordered = [np.sort(x @ directions, axis=0) for x in (one, other)]
    return float(np.sqrt(np.mean((ordered[0] - ordered[1]) ** 2)))


def c2st(one: np.ndarray, other: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Accuracy of a classifier two-sample test (C2ST), and its standard error over rows.

    Of two samples of equal size, (N, D) each: 0.5 for equal distributions. The classifier is
    gradient-boosted trees, cross-validated in `FOLDS` parts. Lopez-Paz and Oquab, Revisiting
    Classifier Two-Sample Tests, 2016, arXiv:1610.06545.
    """
    rows = np.concatenate((one, other))
    label = np.repeat((0, 1), (len(one), len(other)))
    model = HistGradientBoostingClassifier(
        max_iter=30, max_leaf_nodes=15, early_stopping=False, random_state=seed
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    right = cross_val_predict(model, rows, label, cv=folds) == label
    return float(right.mean()), float(np.sqrt(right.mean() * (1 - right.mean()) / len(right)))


def compared(
    samples: np.ndarray, data: Dataset, rows: int, projections: int, notes: dict[str, Any]
) -> dict[str, float | list[float]]:
    """Both figures of samples (N, D) beside test rows, and of training rows, which is the floor.

    In units of the training set's standard deviations, of ``rows`` rows each or as many as there
    are. Where there are no figures ``notes`` say why.
    """
    size = min(rows, len(samples), len(data.test), len(data.train))
    if size < LEAST:
        notes["no_comparison"] = f"{size} rows are fewer than the {LEAST} that it takes"
        return {}
    if not np.isfinite(samples[:size]).all():
        notes["no_comparison"] = "samples are not all finite"
        return {}
    test, _ = _parts(data, size)
    spread = data.train.std(0).numpy()
    own = samples[:size].astype(float) / spread
    accuracy, error = c2st(own, test)
    floor, distance = _floor(data, size, projections)
    return {
        "sliced_wasserstein": sliced_wasserstein(own, test, projections),
        "sliced_wasserstein_floor": distance,
        "told_apart": accuracy,
        "told_apart_se": error,
        "told_apart_floor": floor,
        "compared_rows": size,
    }


def _parts(data: Dataset, size: int) -> list[np.ndarray]:
    """As many rows of the test and of the training set, picked at random, over the spread."""
    stream, spread = np.random.default_rng(0), data.train.std(0).numpy()
    parts = (data.test.numpy(), data.train.numpy())
    return [part[stream.permutation(len(part))[:size]] / spread for part in parts]


@lru_cache(maxsize=4)
def _floor(data: Dataset, size: int, projections: int) -> tuple[float, float]:
    """Of training rows beside test rows: accuracy and distance."""
    test, train = _parts(data, size)
    return c2st(train, test)[0], sliced_wasserstein(train, test, projections)
