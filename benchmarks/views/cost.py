"""Cost against dimension: tables and figures."""

from __future__ import annotations

import pandas as pd

from benchmarks import draw
from benchmarks.exhibit import Figure, Table, cells
from benchmarks.views import cost_pictures, growth

CALLS = {"log_prob": "log_prob", "step": "training step", "sample": "sampling"}


def tables(frame: pd.DataFrame) -> list[Table]:
    """The growth of each series, where they cross, and all figures by dimension."""
    if frame.empty:
        return []
    done = frame[frame["status"] == "done"]
    done = done.assign(series=draw.series(done)).sort_values("dim")
    grown = [growth.growth(done, _measured(done)), growth.crossings(done, _measured(done))]
    return [*(table for table in grown if len(table.frame)), _by_dimension(frame)]


def figures(frame: pd.DataFrame) -> list[Figure]:
    """What a sample costs against D, and what a solve is made of."""
    done = frame[frame["status"] == "done"]
    if done.empty:
        return []
    keys = tuple(done["key"])
    done = done.assign(series=draw.series(done))
    pictures = cost_pictures.of(done, _measured(done))
    return [Figure(*said, draw=drawn, records=keys) for said, drawn in pictures]


def _measured(done: pd.DataFrame) -> dict[str, str]:
    """The calls that the records have: old ones are without sampling."""
    return {call: title for call, title in CALLS.items() if f"{call}_flops" in done}


def _by_dimension(frame: pd.DataFrame) -> Table:
    shown = pd.DataFrame({"Flow": draw.series(frame), "D": frame["dim"]}, index=frame.index)
    shown["Layers"], shown["Batch"] = frame.get("option.layers"), frame["batch"]
    measured = {
        "Parameters": "parameters",
        "NFE": "log_prob_nfe",
        "log_prob (FLOP/sample)": "log_prob_flops",
        "Determinant (FLOP/sample)": "log_prob_determinant_flops",
        "Step (FLOP/sample)": "step_flops",
        "Sampling (FLOP/sample)": "sample_flops",
        "log_prob (µs/sample)": "log_prob_seconds",
        "Step (µs/sample)": "step_seconds",
        "Sampling (µs/sample)": "sample_seconds",
        "Build (ms)": "build_seconds",
        "log_prob / reference": "log_prob_seconds",
        "Saved (B/sample)": "step_saved_bytes",
        "Peak (B/sample)": "step_peak_bytes",
        "Precomputed (FLOP)": "precomputation_flops",
    }
    measured = {header: metric for header, metric in measured.items() if metric in frame}
    for header, metric in measured.items():
        values = frame.get(metric, pd.Series(float("nan"), index=frame.index))
        if "/sample" in header:
            values = values / frame["batch"] * (1e6 if "µs" in header else 1)
        elif "(ms)" in header:
            values = values * 1e3
        elif "reference" in header:
            values = values / frame.get("reference_seconds", values)
        shown[header] = cells(frame, values)
    note = (
        "Medians of the raw samples. Determinant: the part of log_prob that is LU factorisation, "
        "the rest forms what is factorised. log_prob / reference is the batch's time over that of "
        "the reference workload in the same rounds, which is how times travel between machines. "
        "Saved: what a training step keeps for its backward pass; peak: the most that is alive in "
        "it at once. Precomputed: what a solve makes of the weights once, for the whole batch."
    )
    digits = dict.fromkeys(measured, ".4g")
    return Table(
        "cost-by-dimension",
        "Cost by dimension",
        note,
        shown.sort_values(["Flow", "D"], ignore_index=True),
        digits,
        records=tuple(frame["key"]),
    )
