"""Two-sample tests of samples and data: sliced Wasserstein distance and classifier (C2ST)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from benchmarks.analysis.inference import standard_error
from benchmarks.datasets import Dataset

FOLDS = 5
LEAST = 100  # rows of a sample below which tests have no power


def sliced_wasserstein(
    one: np.ndarray, other: np.ndarray, projections: int = 200, seed: int = 0
) -> float:
    """Return the sliced Wasserstein distance of two samples of equal size, (N, D) each.

    It is the root of the mean over random directions of the squared W₂ in one dimension. Bonneel et
    al., Sliced and Radon Wasserstein Barycenters of Measures, 2015.
    """
    directions = np.random.default_rng(seed).standard_normal((one.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)
    ordered = [np.sort(x @ directions, axis=0) for x in (one, other)]
    return float(np.sqrt(np.mean((ordered[0] - ordered[1]) ** 2)))


def c2st(
    one: np.ndarray, other: np.ndarray, seed: int = 0, groups: np.ndarray | None = None
) -> tuple[float, float]:
    """Return the accuracy of a classifier two-sample test, and its standard error over the rows.

    Of two samples of equal size, (N, D) each; 0.5 if they cannot be distinguished. ``groups`` (N,)
    are those of dependent rows of the other sample, by which the error is clustered. Gradient-
    boosted trees, cross-validated in `FOLDS` parts. Lopez-Paz and Oquab, Revisiting Classifier
    Two-Sample Tests, 2016, arXiv:1610.06545.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    rows = np.concatenate((one, other))
    label = np.repeat((0, 1), (len(one), len(other)))
    model = HistGradientBoostingClassifier(
        max_iter=30, max_leaf_nodes=15, early_stopping=False, random_state=seed
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    correct = cross_val_predict(model, rows, label, cv=folds) == label
    accuracy = correct.mean()
    if groups is None:
        return float(accuracy), float(np.sqrt(accuracy * (1 - accuracy) / len(correct)))
    alone = groups.max() + 1 + np.arange(len(one))  # rows of the first sample are independent
    return float(accuracy), standard_error(correct, np.concatenate((alone, groups)))


def compare(
    samples: np.ndarray, data: Dataset, rows: int, projections: int, notes: dict[str, Any]
) -> dict[str, float | list[float]]:
    """Return both metrics of samples (N, D) and test rows, and of training and test rows (floors).

    Distances are in units of the training set's standard deviations; samples have ``rows`` rows
    each, or as many as there are. If there are no metrics, the reason is added to ``notes``.
    """
    size = min(rows, len(samples), len(data.test), len(data.train))
    if size < LEAST:
        notes["no_comparison"] = f"{size} rows are fewer than the {LEAST} that are needed"
        return {}
    if not np.isfinite(samples[:size]).all():
        notes["no_comparison"] = "samples are not all finite"
        return {}
    (test, picks), _ = _parts(data, size)
    spread = data.train.std(0).numpy()
    own = samples[:size].astype(float) / spread
    groups = None if data.groups is None else data.groups.numpy()[picks]
    accuracy, error = c2st(own, test, groups=groups)
    floor, distance_floor = _floors(data.original or data, size, projections)
    return {
        "sliced_wasserstein": sliced_wasserstein(own, test, projections),
        "sliced_wasserstein_floor": distance_floor,
        "told_apart": accuracy,
        "told_apart_se": error,
        "told_apart_floor": floor,
        "compared_rows": size,
    }


def _parts(data: Dataset, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pick equal numbers of test and training rows at random: the rows, and their places.

    Rows are in units of the training set's standard deviations.
    """
    stream, spread = np.random.default_rng(0), data.train.std(0).numpy()
    parts = [part.numpy() for part in (data.test, data.train)]
    places = [stream.permutation(len(part))[:size] for part in parts]
    return [(part[picks] / spread, picks) for part, picks in zip(parts, places, strict=True)]


@lru_cache(maxsize=4)
def _floors(data: Dataset, size: int, projections: int) -> tuple[float, float]:
    """Return accuracy and distance of training and test rows."""
    test, train = (rows for rows, _ in _parts(data, size))
    return c2st(train, test)[0], sliced_wasserstein(train, test, projections)
