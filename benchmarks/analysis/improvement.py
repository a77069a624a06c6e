"""Learning curves: where one comes to a level, and whether a training was still improving.

A curve is the arrays of a record: ``validation_ll`` (nats) and, by validation, ``validated``
(updates) and the efforts. A learning rate that falls to zero flattens every curve, so a
continuation of the training at a constant rate says whether more updates would help. Their gain is
counted from the best weights, which a training that overfits has left behind at its end.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from benchmarks.analysis.criteria import LEVEL, margin
from benchmarks.analysis.inference import Estimate, of_rows, with_error_of
from benchmarks.core.frame import arrays_by_case
from benchmarks.core.naming import named

MARK = "↑"
CURVE = "validation_ll"  # the array of a training's validations
NOTE = (
    f"{MARK}: undertrained. A continuation at a constant learning rate, or the constant part of a "
    "course, shows that as many updates again would raise the validation log-likelihood by more "
    "than what counts as level."
)
MARKS = "undertrained"  # the column of a table that has them
LAST = "val_ll_last"  # at the end of a training, where a row has the best of another
GAINS = GAIN, ERROR, FREEDOM = "val_ll_gain", "val_ll_gain_se", "val_ll_gain_freedom"

Curve = Mapping[str, np.ndarray]


def cost_at(curve: Curve, axis: str, level: float) -> float:
    """The value of an axis at the first validation at or above a level, nats.

    Infinite if there is none; NaN for an axis that the curve lacks, such as seconds.
    """
    above = np.flatnonzero(curve[CURVE] >= level)
    if not len(above):
        return math.inf
    return float(curve[axis][above[0]]) if axis in curve else math.nan


def gain_per_doubling(
    curves: ArrayLike, effort: ArrayLike, groups: ArrayLike | None = None
) -> Estimate:
    """Estimate the rise of the mean of ``curves`` (K, N), nats, as ``effort`` (K,) doubles.

    That is the slope of least squares against log2 of the effort. Its error is that of the K means
    about the line, and in squares that over the N rows, clustered by ``groups`` (N,).
    """
    values, x = np.asarray(curves, dtype=float), np.log2(np.asarray(effort, dtype=float))
    centred = x - x.mean()
    weights = centred / (centred**2).sum()
    means = values.mean(axis=1)
    slope, freedom = float(weights @ means), len(x) - 2
    residuals = means - means.mean() - slope * centred
    error = math.sqrt((residuals**2).sum() / freedom / (centred**2).sum())
    return with_error_of(Estimate(slope, error, freedom), of_rows(weights @ values, groups))


def gain_of(seeds: pd.DataFrame) -> Estimate | None:
    """Mean gain of a model's seeds per doubling, over their best, nats; None if one is unknown."""
    gains = seeds.reindex(columns=GAINS).astype(float)
    if gains.empty or gains.isna().any(axis=None):
        return None
    variances = gains[ERROR] ** 2
    error = math.sqrt(variances.sum()) / len(gains)
    freedom = float(variances.sum() ** 2 / (variances**2 / gains[FREEDOM]).sum()) if error else 1.0
    behind = (seeds.get("val_ll", np.nan) - last(seeds)).fillna(0.0)
    return Estimate(float((gains[GAIN] - behind).mean()), error, freedom)


def last(cases: pd.DataFrame) -> pd.Series:
    """Validation likelihood at the end of each training, nats; NaN where it is not known.

    A curve may be on fewer rows than ``val_ll``: its end counts from its own best.
    """
    known = cases.get(LAST, pd.Series(np.nan, cases.index)).astype(float)
    falls = of_curves(cases.drop(columns=LAST, errors="ignore"), LAST, lambda c: c[-1] - c.max())
    return known.fillna(of_curves(cases, "val_ll", np.max) + falls)


def of_curves(cases: pd.DataFrame, column: str, score: Callable[[np.ndarray], float]) -> pd.Series:
    """A column of the cases; what is missing there is the score of a validation curve, or NaN."""
    values = cases.get(column, pd.Series(np.nan, cases.index)).astype(float)
    if (missing := values.isna()).any():
        curves = [case.get(CURVE, np.empty(0)) for case in arrays_by_case(cases[missing], CURVE)]
        values[missing] = np.array([score(curve) if len(curve) else np.nan for curve in curves])
    return values


def improving(seeds: pd.DataFrame) -> bool | None:
    """Whether the seeds of a model were still improving; None if it is not known.

    They were where as many updates again gain more than `margin`, and more than 0 by a one-sided
    test.
    """
    gain = gain_of(seeds)
    if gain is None:
        return None
    significant = gain.value > 0 and gain.p / 2 < LEVEL
    return bool(significant and gain.value > margin(int(seeds["dim"].iloc[0])))


def mark(seeds: pd.DataFrame) -> str:
    """`MARK` of a model that was still improving, else empty."""
    return MARK if improving(seeds) else ""


def marked(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the column `MARKS`: the `mark` of the model of each case that is done."""
    marks = pd.Series("", frame.index)
    if GAIN in frame:
        done = frame[(frame["status"] == "done") & frame[GAIN].notna()]
        for _, group in done.groupby(["study", "dataset"], sort=False):
            for _, seeds in named(group).groupby("series", sort=False):
                marks[seeds.index] = mark(seeds)
    return frame.assign(**{MARKS: marks})


def note(frame: pd.DataFrame) -> str:
    """What the `mark` says, to follow a table's note; empty where no cell of the frame has it."""
    return f" {NOTE}" if frame.isin([MARK]).any(axis=None) else ""
