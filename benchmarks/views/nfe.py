"""Function evaluations, shown."""

from __future__ import annotations

from typing import Any

import pandas as pd

from benchmarks import draw
from benchmarks.exhibit import Figure, Table, cells
from benchmarks.store import arrays
from benchmarks.views import nfe_growth, totals

COLUMNS = {  # header -> metric, factor, format
    "NFE before": ("nfe_start", 1, ".0f"),
    "NFE after": ("nfe_end", 1, ".0f"),
    "Parameters": ("parameters", 1, ",.0f"),
    "log_prob (FLOP/row)": ("row_flops", 1, ".3g"),
    "log_prob of 1,000 (ms)": ("per_1000_seconds", 1e3, ".3g"),
    "Training (s)": ("train_seconds", 1, ".3g"),
}


def tables(frame: pd.DataFrame) -> list[Table]:
    """Forward evaluations before and after training, their growth, and totals by the cost study."""
    own = _own(frame)
    if own.empty:
        return []
    shown = pd.DataFrame(
        {
            "Data": own["dataset"],
            "Flow": own["flow"],
            "Seed": own["seed"],
            "Updates": own["updates"],
        }
    )
    for header, (metric, factor, _) in COLUMNS.items():
        values = own.get(metric, pd.Series(float("nan"), index=own.index)) * factor
        shown[header] = cells(own, values)
    note = (
        "Evaluations of field and trace in one log_prob of a fixed batch at the training "
        "tolerance; FLOPs and seconds of log_prob by the exact trace."
    )
    training = Table(
        "nfe-training",
        "Evaluations before and after training",
        note,
        shown,
        {header: digits for header, (_, _, digits) in COLUMNS.items()},
        records=tuple(own["key"]),
    )
    return [training, *nfe_growth.tables(own), *totals.tables(frame)]


def figures(frame: pd.DataFrame) -> list[Figure]:
    """NFE against updates and tolerance, error against tolerance; NFE and totals against D."""
    own = _own(frame)
    done = own[(own["status"] == "done") & own["arrays"].notna()]
    if done.empty:
        return []
    note = (
        "Left: forward (solid) and adjoint (dashed) evaluations on a fixed batch as training "
        "goes. Middle and right: float64, tolerance atol = rtol; the error is the largest "
        "|log p - log p at the tightest tolerance| over the batch. Dashed: before training."
    )
    keys = tuple(done["key"])
    training = Figure("nfe", "Function evaluations", note, lambda: _picture(done), keys)
    return [training, *nfe_growth.figures(own), *totals.figures(frame)]


def _own(frame: pd.DataFrame) -> pd.DataFrame:
    """The study's records among those of others."""
    return frame if frame.empty else frame[frame["study"] == "nfe"]


def _picture(done: pd.DataFrame) -> Any:
    names = [f"{flow}, {data}" for flow, data in zip(done["flow"], done["dataset"], strict=True)]
    looks = draw.looks(names)
    with draw.figure(1, 3) as (figure, axes):
        training, tolerance, error = axes[0]
        for name, (_, row) in zip(names, done.iterrows(), strict=True):
            a, look = arrays(row), looks[name]
            first = row["seed"] == done["seed"].min()
            training.plot(a["updates"], a["nfe_forward"], label=name if first else None, **look)
            training.plot(a["updates"], a["nfe_backward"], ls="--", **look)
            for curve, style in ((0, "--"), (1, "-")):
                tolerance.plot(a["tolerances"], a["nfe"][curve], ls=style, **look)
                positive = a["error"][curve] > 0
                error.plot(a["tolerances"][positive], a["error"][curve][positive], ls=style, **look)
        training.set(xlabel="updates", ylabel="NFE", title="Against training", ylim=(0, None))
        draw.logarithmic(tolerance.xaxis, error.xaxis, error.yaxis)
        tolerance.set(
            xlabel="tolerance",
            ylabel="NFE",
            title="Against tolerance",
            ylim=(0, None),
        )
        error.set(
            xlabel="tolerance",
            ylabel="error in log p (nats)",
            title="What the tolerance buys",
        )
        draw.legend_below(figure, *training.get_legend_handles_labels())
    return figure
