"""Function evaluations against the dimension: does a solve need more where D is larger?"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.stats import slope
from benchmarks.core.exhibit import RECORDS, Figure, Table
from benchmarks.core.series import series
from benchmarks.plotting import draw

DIMS = 3  # at which a family of data sets has to be measured
SLOPES = {  # header -> metric
    "Before training": "nfe_start",
    "After training": "nfe_end",
    "FLOPs per row": "solve_flops",
}


def families(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Done cases by series and family of data sets, of those that have enough dimensions.

    A family is data of one name but for the number at its end: patches of all sizes, say.
    """
    done = frame[frame["status"] == "done"].copy()
    if done.empty:
        return {}
    done["family"] = [re.sub(r"\d+$", "", str(name)) for name in done["dataset"]]
    done["series"] = [
        f"{name}, {family}" for name, family in zip(series(done), done["family"], strict=True)
    ]
    groups = {str(name): group.sort_values("dim") for name, group in done.groupby("series")}
    return {name: group for name, group in groups.items() if group["dim"].nunique() >= DIMS}


def growth(group: pd.DataFrame, metric: str) -> tuple[float, float, float] | None:
    """The slope in ln D of the metric's logarithm with its interval, over means of the seeds.

    None where too few dimensions have the metric, which old records may lack.
    """
    group = group[group[metric].notna()]
    if group["dim"].nunique() < DIMS:
        return None
    means = np.log(group[metric]).groupby(group["dim"]).mean()
    return slope(np.log(means.index.to_numpy(dtype=float)), means.to_numpy())


def told(grown: tuple[float, float, float] | None) -> str | None:
    """A slope and its interval as text."""
    return grown and "{:.2f} [{:.2f}, {:.2f}]".format(*grown).replace("-", "−")


def tables(frame: pd.DataFrame) -> list[Table]:
    """A row for each family: the slopes in ln D of ln NFE and of the logarithm of FLOPs."""
    found = families(frame)
    if not found:
        return []
    metrics = {h: metric for h, metric in SLOPES.items() if metric in frame}
    rows = [
        {
            "Flow, data": name,
            "D": f"{group['dim'].min():g} to {group['dim'].max():g}",
            "Dimensions": int(group["dim"].nunique()),
            "Seeds": int(group["seed"].nunique()),
            RECORDS: tuple(group["key"]),
        }
        | {header: told(growth(group, metric)) for header, metric in metrics.items()}
        for name, group in found.items()
    ]
    note = (
        "Slope of ln NFE against ln D with its 95 % interval, over the means of the seeds at each "
        "dimension: 0 where the number of evaluations does not depend on D. FLOPs per row: the "
        "slope of what one log_prob takes after training, by the flow's own solver and trace."
    )
    title = "Evaluations against the dimension"
    return [Table("nfe-growth", title, note, pd.DataFrame(rows))]


def figures(frame: pd.DataFrame) -> list[Figure]:
    """NFE after training against D, every seed a point and a line through the means."""
    found = families(frame)
    if not found:
        return []
    note = (
        "Forward evaluations on a fixed batch after training: a point for each seed, a line "
        "through their means. Dashed: before training."
    )
    keys = tuple(key for group in found.values() for key in group["key"])
    title = "Evaluations against the dimension"
    return [Figure("nfe-against-dimension", title, note, lambda: _picture(found), keys)]


def _picture(found: dict[str, pd.DataFrame]) -> Any:
    looks = draw.looks(found)
    with draw.figure(1, 1) as (figure, axes):
        panel = axes[0, 0]
        for name, group in found.items():
            look = looks[name]
            points = {"ls": "", "alpha": 0.4, **look}
            panel.plot(group["dim"], group["nfe_end"], **points)
            for metric, style in (("nfe_start", "--"), ("nfe_end", "-")):
                means = group.groupby("dim")[metric].mean()
                label = name if style == "-" else None
                panel.plot(means.index, means, ls=style, label=label, **look)
        panel.set(xscale="log", xlabel="D", ylabel="NFE", ylim=(0, None))
        draw.ticks(panel.xaxis, [d for group in found.values() for d in group["dim"]])
        draw.legend_below(figure, *panel.get_legend_handles_labels())
    return figure
