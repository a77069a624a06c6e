"""Identities, shown: what is left of each equality, and how it falls."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.exhibit import RECORDS, Figure, Table, cells
from benchmarks.plotting import draw
from flows.continuous.trace import Trace

PLACES = {"hutchinson": "R^D", "bottleneck": "R^K"}
COLUMNS: dict[str, dict[str, str]] = {  # identity: header -> column
    "euler": {
        "Weights": "option.time",
        "D": "dim",
        "Blocks": "setting.blocks",
        "Elements that differ": "different_elements",
        "RMS difference": "solver_error",
    },
    "density": {
        "Flow": "flow",
        "D": "dim",
        "log p (nats)": "ladj_error",
        "Allowed (nats)": "ladj_bound",
        "Mass": "mass_error",
        "Mass allowed": "mass_bound",
    },
}
TITLES = {
    "euler": "A residual network and Euler's method",
    "order": "Orders of convergence",
    "density": "Densities against a dense Jacobian",
    "rate": "d log p/dt against the trace",
    "estimate": "The trace of D × D and of K × K, and their estimates",
}
NOTES = {
    "euler": "z + f_k(z) layer after layer, with the weights that the field has at t = k, beside "
    "Euler's method with steps of one through the same field: float64, 16 rows.",
    "order": "Root mean square error at t = 1 of so many steps, against dopri8 at 1e-12. Order: "
    "log2 of the ratio of errors between the two largest numbers of steps.",
    "density": "Largest difference of a log-determinant from that of the Jacobian by autograd, and "
    "|∫ p dx - 1| in two dimensions by a grid; beside each what rounding, the solver's tolerance "
    "(1e-10) and the grid leave open. Weights are moved off their initial values.",
    "rate": "Largest |d log p/dt + tr ∂f/∂z| along trajectories over the root mean square of the "
    "trace. d log p/dt is a difference of fourth order of log |det| of the solution's Jacobian, "
    "solved in so many steps of rk4.",
    "estimate": "A field g(h(x)) with h in R^K; as projection x U Uᵀ with orthonormal U. Error: "
    "root mean square over rows and draws of one probe, relative to ‖∂f/∂x‖, in R^D and in R^K, "
    "and √ of the closed formula 2 (‖S‖² − Σ S_ii²) for Rademacher, 2 ‖S‖² for Gaussian noise. "
    "Variance: that in R^K over that in R^D. Largest z: of the mean error of a row, in its "
    "standard errors. Traces differ: tr of K × K less tr of D × D, relative to ‖∂f/∂x‖.",
}


def done(frame: pd.DataFrame, identity: str) -> pd.DataFrame:
    """The done cases of one identity."""
    chosen = frame[(frame["study"] == "identities") & (frame["status"] == "done")]
    return chosen[chosen["setting.identity"] == identity] if len(chosen) else chosen


def tables(frame: pd.DataFrame) -> list[Table]:
    """A table for each identity that has cases, failed ones as such."""
    return list(_tables(frame)) if len(frame) else []


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Errors against the number of steps, and errors of estimates in R^D and R^K."""
    drawn = (("order", _orders), ("rate", _orders), ("estimate", _estimates))
    return [
        Figure(_name(i), TITLES[i], NOTES[i], partial(picture, rows), tuple(rows["key"]))
        for i, picture in drawn
        if len(frame) and len(rows := done(frame, i))
    ]


def estimates(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each field and noise: errors in either space with theory's, and their variances."""
    traces = pd.DataFrame([vars(Trace.of(trace)) for trace in rows["option.trace"]], rows.index)
    rows = rows.assign(noise=traces["noise"], place=traces["estimator"].map(PLACES))
    found = []
    which = ["dim", "option.bottleneck", "setting.field", "noise"]
    for place, group in rows.groupby(which, sort=False):
        row: dict[str, Any] = dict(zip(("D", "K", "Field", "Noise"), place, strict=True))
        for _, case in group.sort_values("place").iterrows():
            row[f"Error in {case['place']}"] = case["trace_rmse"]
            row[f"± in {case['place']}"] = case["trace_rmse_se"]
            row[f"Theory in {case['place']}"] = case["trace_rmse_theory"]
        if group["place"].nunique() == 2:
            row["Variance"] = (row["Error in R^K"] / row["Error in R^D"]) ** 2
        row["Largest z"] = group["trace_bias"].max()
        row["Traces differ"] = group["cyclic_error"].max()
        row[RECORDS] = tuple(group["key"])
        found.append(row)
    return pd.DataFrame(found)


def errors(row: Any) -> tuple[list[int], list[float], float]:
    """Numbers of steps, the errors with them, and the order at the largest; NaN for one number."""
    metric = "rate_error" if row["setting.identity"] == "rate" else "solver_error"
    steps = [int(n) for n in row["setting.steps"]]
    order = [math.nan, *row["convergence_order.values"]][-1]
    return steps, list(row[f"{metric}.values"]), float(order)


def _name(identity: str) -> str:
    return f"identities-{identity}"


def _tables(frame: pd.DataFrame) -> Iterator[Table]:
    for identity, rows in frame.groupby("setting.identity", sort=False):
        finished = rows[rows["status"] == "done"]
        digits: dict[str, str] = {}
        uncertain: dict[str, str] = {}
        if identity == "estimate":
            shown = estimates(finished) if len(finished) else _failed(rows)
            digits = {"Variance": ".3g", "Largest z": ".2f", "Traces differ": ".1e"}
            uncertain = {f"Error in {p}": f"± in {p}" for p in PLACES.values()}
        elif identity in COLUMNS:
            named = COLUMNS[str(identity)]
            shown = pd.DataFrame({h: rows[c] for h, c in named.items() if c in rows})
            shown[RECORDS] = [(key,) for key in rows["key"]]
            measured = [h for h, c in named.items() if f"{c}.values" in rows and h in shown]
            for header in measured:
                shown[header] = cells(rows, shown[header])
            digits = dict.fromkeys(measured, ".1e") | {"Elements that differ": "d"}
        else:
            shown = pd.DataFrame([_falling(row) for _, row in rows.iterrows()])
            digits = {str(h): ".1e" for h in shown if str(h).endswith("steps")} | {"Order": ".3f"}
        shown = shown.dropna(axis="columns", how="all").reset_index(drop=True)
        i = str(identity)
        yield Table(_name(i), TITLES[i], NOTES[i], shown, digits, uncertain)


def _failed(rows: pd.DataFrame) -> pd.DataFrame:
    shown = pd.DataFrame({"D": rows["dim"], "K": rows["option.bottleneck"], "": rows["status"]})
    shown[RECORDS] = [(key,) for key in rows["key"]]
    return shown


def _falling(row: Any) -> dict[str, Any]:
    """The errors of a case at each number of steps, and its order."""
    method = row.get("setting.method")
    named = {"Method": method} if isinstance(method, str) else {"Weights": row["option.time"]}
    named |= {"D": row["dim"], RECORDS: (row["key"],)}
    if row["status"] != "done":
        return {**named, "Order": row["status"]}
    steps, values, order = errors(row)
    return {
        **named,
        **{f"{n} steps": v for n, v in zip(steps, values, strict=True)},
        "Order": order,
    }


def _orders(rows: pd.DataFrame) -> Any:
    method = rows.get("setting.method", pd.Series(index=rows.index, dtype=object))
    names = method.fillna(rows["option.time"] + ", D = " + rows["dim"].astype(str))
    looks = draw.looks(names)
    with draw.figure(1, 1) as (figure, axes):
        panel = axes[0, 0]
        for name, (_, row) in zip(names, rows.iterrows(), strict=True):
            steps, values, order = errors(row)
            panel.plot(steps, values, label=f"{name}: order {order:.2f}", **looks[name])
        draw.logarithmic(panel.xaxis, panel.yaxis)
        draw.ticks(panel.xaxis, [n for _, row in rows.iterrows() for n in errors(row)[0]])
        panel.set(xlabel="steps", ylabel="error")
        draw.legend_below(figure, *panel.get_legend_handles_labels())
    return figure


def _estimates(rows: pd.DataFrame) -> Any:
    shown = estimates(rows)
    names = [f"{r['Field']}, {r['D']} → {r['K']:g}, {r['Noise']}" for _, r in shown.iterrows()]
    places = np.arange(len(shown))[::-1]
    looks = draw.looks(PLACES.values())
    with draw.figure(1, 1, 0.3 * len(shown) + 1) as (figure, axes):
        panel = axes[0, 0]
        for place, look in looks.items():
            if f"Error in {place}" not in shown:
                continue
            bars = {"xerr": 2 * shown[f"± in {place}"], **look, "ls": ""}
            panel.errorbar(shown[f"Error in {place}"], places, label=f"in {place}", **bars)
            theory = shown[f"Theory in {place}"]
            told = {"color": look["color"], "marker": "|", "ms": 13, "ls": ""}
            panel.plot(theory, places, label=f"theory in {place}", **told)
        panel.set_yticks(places, names)
        panel.set(xlabel="error of one probe / ‖∂f/∂x‖", xlim=(0, None))
        draw.legend_below(figure, *panel.get_legend_handles_labels())
    return figure
