"""Tables of identities: what is left of each equality, and how it falls with the steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from benchmarks.core.exhibit import RECORDS, Column, Table, cells
from benchmarks.core.naming import name_runs
from flows.continuous.trace import Trace

PLACES = {"hutchinson": "d", "bottleneck": "k"}  # estimator: space of its probes, R^D or R^K
TITLES = {
    "euler": "A residual network and Euler's method",
    "order": "Orders of convergence",
    "density": "Densities against a dense Jacobian",
    "rate": "d log p/dt against the trace",
    "estimate": "Trace in R^D and in R^K, exact and estimated",
}
NOTES = {
    "euler": "A residual network z + f_k(z), layer by layer with the weights of the field at t = "
    "k, compared with Euler's method at step size one for the same field: float64, 16 rows.",
    "order": "Root mean square error at t = 1 for each number of steps, relative to a solution "
    "by dopri8 at 1e-12. Order: log2 of the ratio of errors between the two largest numbers "
    "of steps.",
    "density": "Largest difference between the log-determinant and that of the Jacobian by "
    "autograd, and |∫ p dx - 1| in two dimensions on a grid. Beside each: the error that "
    "rounding, the solver's tolerance (1e-10) and the grid allow. Weights are moved off "
    "their initial values.",
    "rate": "Largest |d log p/dt + tr ∂f/∂z| along trajectories, over the root mean square of "
    "the trace. d log p/dt is a finite difference of fourth order of log |det| of the "
    "solution's Jacobian, which rk4 computes in the given number of steps.",
    "estimate": "A field g(h(x)) with h in R^K; the projection is x U Uᵀ with orthonormal U. "
    "Error: root mean square over rows and draws of one probe, relative to ‖∂f/∂x‖, in R^D "
    "and in R^K. Theory: √ of the closed formula, 2 (‖S‖² − Σ S_ii²) for Rademacher and 2 "
    "‖S‖² for Gaussian noise. Variance: that in R^K over that in R^D. Largest z: the largest "
    "mean error of a row, in its standard errors. Traces differ: tr of K × K less tr of D × "
    "D, relative to ‖∂f/∂x‖.",
}
ERRORS = {"order": "solver_error", "rate": "rate_error"}  # by step, of a convergence
COLUMNS = {
    "flow": Column("Flow"),
    "method": Column("Method"),
    "time": Column("Weights"),
    "dim": Column("D"),
    "blocks": Column("Blocks"),
    "different_elements": Column.of("different_elements", digits="d"),
    **{
        name: Column.of(name, digits=".1e")
        for name in ("solver_error", "ladj_error", "ladj_bound", "mass_error", "mass_bound")
    },
    "convergence_order": Column.of("convergence_order", digits=".3f"),
    "width": Column("K"),
    "field": Column("Field"),
    "noise": Column("Noise"),
    "rmse_d": Column("Error in R^D", error="rmse_d_se"),
    "theory_d": Column("Theory in R^D"),
    "rmse_k": Column("Error in R^K", error="rmse_k_se"),
    "theory_k": Column("Theory in R^K"),
    "variance": Column("Variance", digits=".3g"),
    "trace_bias": Column.of("trace_bias", unit="", digits=".2f"),
    "cyclic_error": Column.of("cyclic_error", unit="", digits=".1e"),
    "status": Column("Status"),
}

NAMES = ("flow", "setting.field", "setting.method", "option.time")  # of a case, in some identity


def tables(frame: pd.DataFrame) -> list[Table]:
    """A table for each identity that has cases, done or not."""
    groups = name_runs(frame, *NAMES).groupby("setting.identity", sort=False)
    return [_table(str(identity), rows) for identity, rows in groups]


def done(frame: pd.DataFrame, identity: str) -> pd.DataFrame:
    """The done cases of one identity."""
    rows = frame[(frame["study"] == "identities") & (frame["status"] == "done")]
    return rows[rows["setting.identity"] == identity] if len(rows) else rows


def convergence(row: Any) -> tuple[list[int], list[float], float]:
    """Numbers of steps of a case, the errors with them, and the order at the most steps.

    The order is NaN for a single number of steps.
    """
    steps = [int(n) for n in row["setting.steps"]]
    order = [math.nan, *row["convergence_order.values"]][-1]
    return steps, list(row[f"{ERRORS[row['setting.identity']]}.values"]), float(order)


def estimates(rows: pd.DataFrame) -> pd.DataFrame:
    """Errors of one probe in R^D and in R^K, a row for each field and noise.

    ``rmse_d`` and ``rmse_k`` are root mean square errors over ‖∂f/∂x‖, ``<name>_se`` their standard
    errors, ``theory_d`` and ``theory_k`` the closed formula; ``variance`` is the ratio of the
    variances, K over D, where both were measured.
    """
    traces = [Trace.of(trace) for trace in rows["option.trace"]]
    places = [PLACES[trace.estimator] for trace in traces]
    rows = rows.assign(noise=[trace.noise for trace in traces], place=places)
    fields = []
    for key, group in rows.groupby(
        ["dim", "option.bottleneck", "setting.field", "noise"], sort=False
    ):
        field: dict[str, Any] = dict(zip(("dim", "width", "field", "noise"), key, strict=True))
        for _, case in group.sort_values("place").iterrows():
            place = case["place"]
            field[f"rmse_{place}"] = case["trace_rmse"]
            field[f"rmse_{place}_se"] = case["trace_rmse_se"]
            field[f"theory_{place}"] = case["trace_rmse_theory"]
        if group["place"].nunique() == 2:
            field["variance"] = (field["rmse_k"] / field["rmse_d"]) ** 2
        field |= {name: group[name].max() for name in ("trace_bias", "cyclic_error")}
        fields.append(field | {RECORDS: tuple(group["key"])})
    return pd.DataFrame(fields)


def _table(identity: str, rows: pd.DataFrame) -> Table:
    frame, columns = FRAMES[identity](rows)
    frame = frame.dropna(axis="columns", how="all").reset_index(drop=True)
    name, title = f"identities-{identity}", TITLES[identity]
    return Table(name, title, NOTES[identity], frame, columns={**COLUMNS, **columns})


Framed = tuple[pd.DataFrame, dict[str, Column]]  # and columns of its own


def _values(names: dict[str, str], *metrics: str) -> Callable[[pd.DataFrame], Framed]:
    """Frame with a row a case: columns of the records by name, and metrics or else the status."""

    def frame(rows: pd.DataFrame) -> Framed:
        known = {name: rows[column] for name, column in names.items() if column in rows}
        measured = {name: cells(rows, rows[name]) for name in metrics if name in rows}
        measured = measured or {"status": rows["status"]}
        return pd.DataFrame({**known, **measured, **_keys(rows)}, rows.index), {}

    return frame


def _keys(rows: pd.DataFrame) -> dict[str, list[tuple[str, ...]]]:
    return {RECORDS: [(key,) for key in rows["key"]]}


def _falling(rows: pd.DataFrame) -> Framed:
    """The error of each case at each number of steps, and its order."""
    cases: list[dict[str, Any]] = []
    columns: dict[str, Column] = {}
    for _, row in rows.iterrows():
        method = row.get("setting.method")
        case: dict[str, Any] = (
            {"method": method} if isinstance(method, str) else {"time": row["option.time"]}
        )
        case |= {"dim": row["dim"], RECORDS: (row["key"],)}
        if row["status"] == "done":
            steps, errors, order = convergence(row)
            case |= {f"error_{n}": error for n, error in zip(steps, errors, strict=True)}
            columns |= {f"error_{n}": Column(f"{n} steps", digits=".1e") for n in steps}
            cases.append(case | {"convergence_order": order})
        else:
            cases.append(case | {"convergence_order": row["status"]})
    return pd.DataFrame(cases), columns


def _estimates(rows: pd.DataFrame) -> Framed:
    """The estimates of the done cases; the status of each case where none is done."""
    if (finished := rows["status"] == "done").any():
        return estimates(rows[finished]), {}
    return _values({"dim": "dim", "width": "option.bottleneck"})(rows)


FRAMES: dict[str, Callable[[pd.DataFrame], Framed]] = {
    "euler": _values(
        {"time": "option.time", "dim": "dim", "blocks": "setting.blocks"},
        "different_elements",
        "solver_error",
    ),
    "order": _falling,
    "density": _values(
        {"flow": "flow", "dim": "dim"}, "ladj_error", "ladj_bound", "mass_error", "mass_bound"
    ),
    "rate": _falling,
    "estimate": _estimates,
}
