"""Function evaluations, shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.exhibit import RECORDS, Figure, Table, cells
from benchmarks.core.series import series
from benchmarks.core.store import arrays
from benchmarks.plotting import draw
from benchmarks.studies.nfe import growth as nfe_growth
from benchmarks.studies.nfe import totals

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
            "Flow": series(own),
            "Seed": own["seed"],
            "Updates": own["updates"],
            RECORDS: [(key,) for key in own["key"]],
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
    )
    return [training, *nfe_growth.tables(own), *totals.tables(frame)]


def figures(frame: pd.DataFrame) -> list[Figure]:
    """NFE against updates and tolerance, error against tolerance; NFE and totals against D."""
    own = _own(frame)
    done = own[(own["status"] == "done") & own["arrays"].notna()]
    if done.empty:
        return []
    note = (
        "Means over the seeds, a row for each flow. Left: evaluations on a fixed batch as training "
        "goes, dashed those of the adjoint. Middle and right: float64, tolerance atol = rtol; the "
        "error is the largest |log p - log p at the tightest tolerance| over the batch. Dashed: "
        "before training."
    )
    keys = tuple(done["key"])
    training = Figure("nfe", "Function evaluations", note, lambda: _picture(done), keys)
    return [training, *nfe_growth.figures(own), *totals.figures(frame)]


def _own(frame: pd.DataFrame) -> pd.DataFrame:
    """The study's records among those of others."""
    return frame if frame.empty else frame[frame["study"] == "nfe"]


def _picture(done: pd.DataFrame) -> Any:
    groups = [(str(name), group) for name, group in done.groupby(series(done))]
    looks = draw.looks(done["dataset"])
    with draw.figure(len(groups), 3, height=3.0) as (figure, axes):
        for row, (name, group) in zip(axes, groups, strict=True):
            for data, repeated in group.sort_values("dim").groupby("dataset", sort=False):
                _lines(row, _mean(repeated), str(data), looks[str(data)])
            training, tolerance, error = row
            training.set(xlabel="updates", ylabel="NFE", ylim=(0, None), title=name)
            draw.logarithmic(tolerance.xaxis, error.xaxis, error.yaxis)
            tolerance.set(xlabel="tolerance", ylabel="NFE", ylim=(0, None))
            error.set(xlabel="tolerance", ylabel="error in log p (nats)")
        every = {h.get_label(): h for row in axes for h in row[0].get_legend_handles_labels()[0]}
        draw.legend_below(figure, list(every.values()), list(every))
    return figure


def _mean(repeated: pd.DataFrame) -> dict[str, np.ndarray]:
    """The arrays of a case, averaged over its seeds."""
    found = [arrays(row) for _, row in repeated.iterrows()]
    return {name: np.mean([a[name] for a in found], axis=0) for name in found[0]}


def _lines(panels: Any, a: dict[str, np.ndarray], label: str, look: dict[str, Any]) -> None:
    training, tolerance, error = panels
    training.plot(a["updates"], a["nfe_forward"], label=label, **look)
    if a["nfe_backward"].any():
        training.plot(a["updates"], a["nfe_backward"], ls="--", **look)
    for curve, style in ((0, "--"), (1, "-")):
        tolerance.plot(a["tolerances"], a["nfe"][curve], ls=style, **look)
        positive = a["error"][curve] > 0
        error.plot(a["tolerances"][positive], a["error"][curve][positive], ls=style, **look)
