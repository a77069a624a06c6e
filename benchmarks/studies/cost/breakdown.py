"""What the time of a solve is made of: evaluations of the field, of the trace, and the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmarks.plotting import draw

NOTE = (
    "Shares of the time of one log_prob: its evaluations of the field, of the trace beside the "
    "field, and the rest, which is the solver's own and what it makes of the weights once. One "
    "evaluation is timed alone, in the same rounds, and multiplied by their number, so that the "
    "evaluations can come out as more than the whole."
)
PARTS = {"field": "#0072B2", "trace": "#E69F00", "solver": "#999999"}


def shares(group: pd.DataFrame) -> pd.DataFrame:
    """Of the time of one log_prob, by dimension: the evaluations of field and trace, the rest."""
    layers = group["option.layers"] if "option.layers" in group else pd.Series(1, group.index)
    per_piece = group["log_prob_nfe"] / layers.fillna(1)
    field = per_piece * group["field_seconds"] / group["log_prob_seconds"]
    both = per_piece * group["rate_seconds"] / group["log_prob_seconds"]
    parts = pd.DataFrame({"field": field, "trace": both - field, "solver": 1 - both})
    return parts.clip(lower=0).groupby(group["dim"]).median()


def picture(done: pd.DataFrame) -> Any:
    """The shares at each D, a panel for each series that solves an ODE."""
    solved = done[done["rate_seconds"].notna()]
    groups = [(str(name), shares(group)) for name, group in solved.groupby("series")]
    columns = min(3, len(groups))
    with draw.figure(-(-len(groups) // columns), columns, height=2.4, sharey=True) as (
        figure,
        axes,
    ):
        for panel in axes.flat[len(groups) :]:
            panel.set_visible(False)
        for panel, (name, parts) in zip(axes.flat, groups, strict=False):
            below = np.zeros(len(parts))
            labels = [f"{dim:g}" for dim in parts.index]
            for part, colour in PARTS.items():
                panel.bar(labels, parts[part], bottom=below, label=part, color=colour, width=0.8)
                below += parts[part].to_numpy()
            panel.set(title=name, xlabel="D", ylim=(0, 1.05))
        axes.flat[0].set_ylabel("share of log_prob")
        draw.legend_below(figure, *axes.flat[0].get_legend_handles_labels())
    return figure
