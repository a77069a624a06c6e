"""Cost against dimension, shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmarks import draw
from benchmarks.exhibit import Figure, Table, cells
from benchmarks.scaling_law import local_exponent

CALLS = {"log_prob": "log_prob", "step": "training step", "sample": "sampling"}


def tables(frame: pd.DataFrame) -> list[Table]:
    """The growth of each series at its largest size, and all figures by dimension."""
    return [_growth(frame), _by_dimension(frame)] if len(frame) else []


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Seconds and FLOPs a sample against D, a column for each call."""
    done = frame[frame["status"] == "done"]
    if done.empty:
        return []
    keys = tuple(done["key"])
    note = (
        "Per sample: a batch's figure divided by its rows. Points are medians, bars the middle "
        "half of the raw samples. Dotted: slopes D, D² and D³. FLOPs count products, LU and "
        "triangular solves. Continuous flows at the fixed number of evaluations in the table."
    )
    return [
        Figure(
            "cost-against-dimension",
            "Cost against dimension",
            note,
            lambda: _picture(done),
            keys,
        )
    ]


def _series(frame: pd.DataFrame) -> list[str]:
    """The series' names; a budget's widths differ from D to D and are one series for all that."""
    if "setting.parameters" in frame:
        budget = frame["setting.parameters"]
        told = budget.map("{:,.0f} parameters".format)
        width = frame["option.hidden"].astype(object).where(budget.isna(), told)
        frame = frame.drop(columns="setting.parameters").assign(**{"option.hidden": width})
    return draw.series(frame)


def _measured(done: pd.DataFrame) -> dict[str, str]:
    """The calls that the records have: old ones are without sampling."""
    return {call: title for call, title in CALLS.items() if f"{call}_flops" in done}


def _growth(frame: pd.DataFrame) -> Table:
    rows = []
    done = frame[frame["status"] == "done"]
    for name, group in done.assign(series=_series(done)).groupby("series"):
        if group["dim"].nunique() < 3:
            continue
        row: dict[str, Any] = {"Flow": name, "D": int(group["dim"].max())}
        for call, title in _measured(done).items():
            known = group[group[f"{call}_flops"].notna()]
            if known["dim"].nunique() < 3:
                continue
            flops = [[value] for value in known[f"{call}_flops"]]
            row[f"{title}: FLOPs"] = str(local_exponent(list(known["dim"]), flops)).split(" [")[0]
            seconds = list(known[f"{call}_seconds.values"])
            row[f"{title}: seconds"] = str(local_exponent(list(known["dim"]), seconds))
        rows.append(row)
    note = (
        "Exponent of D between the two largest sizes; for seconds with a 95 % bootstrap interval. "
        "≥ where it still rises from one pair of sizes to the next: the asymptote is not reached."
    )
    return Table(
        "cost-growth",
        "Growth with the dimension",
        note,
        pd.DataFrame(rows),
        records=tuple(done["key"]),
    )


def _by_dimension(frame: pd.DataFrame) -> Table:
    shown = pd.DataFrame({"Flow": _series(frame), "D": frame["dim"]}, index=frame.index)
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
    }
    for header, metric in measured.items():
        values = frame.get(metric, pd.Series(float("nan"), index=frame.index))
        if "/sample" in header:
            values = values / frame["batch"] * (1e6 if "µs" in header else 1)
        elif "(ms)" in header:
            values = values * 1e3
        elif "reference" in header:
            values = values / frame["reference_seconds"]
        shown[header] = cells(frame, values)
    note = (
        "Medians of the raw samples. Determinant: the part of log_prob that is LU factorisation, "
        "the rest forms what is factorised. The last column is the batch's time over that of the "
        "reference workload in the same rounds, which is how times travel between machines."
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


def _picture(done: pd.DataFrame) -> Any:
    done = done.assign(series=_series(done))
    looks = draw.looks(done["series"])
    shown = _measured(done)
    with draw.figure(2, len(shown)) as (figure, axes):
        for column, (call, title) in enumerate(shown.items()):
            for row, (metric, unit) in enumerate([("seconds", "s"), ("flops", "FLOP")]):
                panel = axes[row, column]
                for name, group in done.groupby("series"):
                    group = group[group[f"{call}_flops"].notna()].sort_values("dim")
                    scale = 1 / group["batch"]
                    y = group[f"{call}_{metric}"] * scale
                    panel.plot(group["dim"], y, label=name, **looks[str(name)])
                    if metric == "seconds":
                        raw = group[f"{call}_seconds.values"]
                        low, high = (
                            raw.map(lambda v, q=q: np.quantile(v, q)) for q in (0.25, 0.75)
                        )
                        colour = looks[str(name)]["color"]
                        panel.vlines(group["dim"], low * scale, high * scale, color=colour)
                draw.logarithmic(panel.xaxis, panel.yaxis)
                panel.set(xlabel="D", ylabel=f"{unit} per sample", title=title)
                largest = (done[f"{call}_{metric}"] / done["batch"]).max()
                draw.guide(panel, [6, 18], largest, [1, 2, 3])
        draw.legend_below(figure, *axes[0, 0].get_legend_handles_labels())
    return figure
