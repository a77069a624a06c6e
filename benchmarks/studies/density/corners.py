"""Corner plots: samples against data in a few columns of a table."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.ndimage import gaussian_filter

from benchmarks.analysis import improvement
from benchmarks.analysis.contests import validations
from benchmarks.analysis.paired import facts_of
from benchmarks.core.exhibit import Figure
from benchmarks.core.formats import number
from benchmarks.core.naming import is_baseline, series
from benchmarks.core.store import arrays
from benchmarks.plotting import draw

BINS, SMOOTH = 40, 1.5  # bins of a histogram, and the width of its smoothing in bins
LEVELS = (0.5, 0.8, 0.95)  # shares of the data within the contours
DATA, SAMPLES = "#555555", "#D55E00"
NOTE = (
    "{name}, test log-likelihood {ll} nats. Diagonal: the distribution of each column in "
    "test rows (grey) and samples. Below the diagonal: samples as dots over contours that hold "
    "50, 80 and 95 % of the test rows. Shown are the least normally distributed of {width} "
    "columns{given}. First seed."
)


def figures(wide: pd.DataFrame) -> list[Figure]:
    """A plot of the best discrete and the best continuous flow, and the mixture, of each set."""
    pictures = []
    for name, group in wide.groupby("dataset", sort=False):
        for _, row in _chosen(group).iterrows():
            given = facts_of(row.to_frame().T).get("context_dim", 0)
            words = f", of which {given} are given: samples are drawn at theirs" if given else ""
            score, width = number(row["test_ll"], ".3f"), row["dim"] + given
            note = NOTE.format(name=row["series"], ll=score, width=width, given=words)
            note += improvement.note(row.to_frame().T)
            title = f"{name}: data and samples of {row['series']}"
            draw = partial(_draw, row)
            pictures.append(
                Figure(f"corner-{name}-{row['flow']}", title, note, draw, (row["key"],))
            )
    return pictures


def _chosen(group: pd.DataFrame) -> pd.DataFrame:
    """The first seeds of the best series of each kind by validation likelihood."""
    rows = group.assign(series=series(group)).sort_values("seed", kind="stable")
    rows = rows.drop_duplicates("series")
    best = np.argsort(-validations(rows), kind="stable")
    rows = rows.iloc[best]
    solved = rows["test_nfe"].notna() if "test_nfe" in rows else pd.Series(False, rows.index)
    baseline = is_baseline(rows)
    kinds = (~baseline & ~solved, ~baseline & solved, rows["flow"] == "mixture")
    return pd.concat([rows[kind].iloc[:1] for kind in kinds])


def _names(row: pd.Series, columns: np.ndarray) -> list[str]:
    """Names of these columns: those of the file, else their numbers from 0; marked if given."""
    own, dim = facts_of(row.to_frame().T).get("columns"), row["dim"]
    names = [own[i] if own else f"column {i}" for i in columns]
    return [name if i < dim else f"{name} (given)" for name, i in zip(names, columns, strict=True)]


def _draw(row: Any) -> Any:
    held = arrays(row)
    data, samples = (held[name].astype(float) for name in ("data_samples", "samples"))
    names = _names(row, held["columns"])
    ends = np.quantile(data, [0.005, 0.995], axis=0)
    ends += np.array([[-0.08], [0.08]]) * np.ptp(ends, axis=0)
    count = len(names)
    with draw.figure(count, count, height=1.5) as (figure, axes):
        figure.set_size_inches(1.5 * count + 0.3, 1.5 * count + 0.3)
        for i in range(count):
            for j in range(count):
                panel = axes[i, j]
                panel.grid(False)
                panel.set_xlim(ends[:, j])
                if i < j:
                    panel.set_visible(False)
                elif i == j:
                    _margin(panel, data[:, i], samples[:, i], ends[:, i])
                else:
                    panel.set_ylim(ends[:, i])
                    _pair(panel, data[:, [j, i]], samples[:, [j, i]], ends[:, [j, i]])
                panel.tick_params(labelbottom=i == count - 1, labelleft=j == 0 < i, labelsize=7)
                if i == count - 1:
                    panel.set_xlabel(names[j])
                if j == 0 < i:
                    panel.set_ylabel(names[i])
        dots = Line2D([], [], ls="", marker="o", ms=4, mec="none", color=SAMPLES)
        figure.legend(
            [Patch(color=DATA, alpha=0.4), dots], ["data", str(row["series"])], loc="upper right"
        )
    return figure


def _margin(panel: Any, data: np.ndarray, samples: np.ndarray, ends: np.ndarray) -> None:
    bins = np.linspace(ends[0], ends[1], BINS + 1)
    panel.hist(data, bins, density=True, color=DATA, alpha=0.4)
    panel.hist(samples, bins, density=True, histtype="step", color=SAMPLES, lw=1.2)
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)


def _pair(panel: Any, data: np.ndarray, samples: np.ndarray, ends: np.ndarray) -> None:
    counts, xs, ys = np.histogram2d(data[:, 0], data[:, 1], bins=BINS, range=ends.T)
    smooth = gaussian_filter(counts, SMOOTH).T
    ranked = np.sort(smooth.flatten())[::-1]
    within = np.cumsum(ranked) / ranked.sum()
    levels = sorted({float(ranked[np.searchsorted(within, share)]) for share in LEVELS})
    middles = [(edges[1:] + edges[:-1]) / 2 for edges in (xs, ys)]
    panel.plot(
        *samples.T, ls="", marker=".", ms=1.6, mec="none", color=SAMPLES, alpha=0.6, rasterized=True
    )
    panel.contour(*middles, smooth, levels=levels, colors=DATA, linewidths=[0.6, 0.9, 1.2])
