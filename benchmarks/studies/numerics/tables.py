"""Tables of numerics: gradients by error and solver; what is left of each equality."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.inference import ratio_of_medians
from benchmarks.core.exhibit import RECORDS, Column, Table, columns, described, with_interval
from benchmarks.core.naming import name_runs, series

# ---- gradients ----------------------------------------------------------------------------------

LEVELS = (1e-2, 1e-3, 1e-4, 1e-5)  # errors that a gradient may be asked to keep
PLACE = ["dataset", "series", "updates", "dtype"]  # a field, in one precision
METRICS = ["gradient_error", "gradient_cosine", "gradient_bytes", "nfe_forward", "nfe_backward"]
GRADIENTS = columns(
    *("dataset", "series"),
    {
        "updates": Column("Updates", digits=",d"),
        "dtype": "Precision",
        "level": Column("Error at most", digits="g"),
        "method": "Solver",
        "setting": Column("Setting", digits="g"),
        "gradient": "Gradient",
        "reference_ratio": Column("Time / reference", digits=".3g", kind="time"),
        "backprop_ratio": Column("Time / backprop", digits=".3g", kind="time"),
    },
    *METRICS,
)
MASS = "A density integrates to one as far as its solver's tolerance"
MASS_NOTE = (
    "|∫ p dx - 1| of a trained field in one dimension, by the trapezoid rule on a grid over three "
    "times the range of the training rows; medians over seeds. The solver's tolerance is rtol = "
    "atol, in the precision that is named; dotted: the tolerance itself. FFJORD (arXiv:1810.01367, "
    "Fig. 8) reports an error of the order of the tolerance."
)
MASSES = columns(
    *("dataset", "series", "updates", {"dtype": "Precision"}, "solver"),
    {"setting": Column("Tolerance", digits="g")},
    *("mass_error", "nfe_forward"),
)
MEANING = (
    "Error: ‖g - g*‖ / ‖g*‖ over all parameters, with g* by backprop in float64 at a tight "
    "tolerance. Saved: the most bytes that autograd holds for backward, without parameters. "
    "Medians over seeds. "
)
QUICKEST_NOTE = (
    f"The fastest solver setting with at most this error, of {', '.join(map(str, LEVELS))}; once, "
    "at the smallest, where it is fastest for several."
)
SETTINGS_NOTE = (
    "Setting: the tolerance rtol = atol, or the step size of a fixed-step method. Time: loss and "
    "backward as a ratio of medians, with its 95 % bootstrap interval."
)


def tables(frame: pd.DataFrame) -> Iterator[Table]:
    """Gradients of a given error, gradients by solver setting, and a table for each identity."""
    parts = dict(list(frame.groupby("setting.part")))
    if "gradients" in parts:
        rows = with_solver(parts["gradients"])
        for name, title, note, table in (
            ("gradients-at-error", "Fastest gradient within an error", QUICKEST_NOTE, by_error),
            ("gradients", "Each gradient at each solver setting", SETTINGS_NOTE, by_setting),
        ):
            if len(solvers := table(rows)):
                yield Table.of(name, title, MEANING + note, solvers, GRADIENTS)
    if "mass" in parts:
        rows = with_solver(parts["mass"]).rename(columns={"method": "solver"})
        alike = rows[rows["status"] == "done"].groupby([*PLACE, "solver", "setting"])
        masses = alike[["mass_error", "nfe_forward"]].median()
        masses = masses.assign(**{RECORDS: alike["key"].agg(tuple)}).reset_index()
        yield Table.of("mass", MASS, MASS_NOTE, masses, MASSES)
    if "identities" in parts:
        groups = name_runs(parts["identities"], *NAMES).groupby("setting.identity", sort=False)
        yield from (_identity(str(identity), rows) for identity, rows in groups)


def with_solver(frame: pd.DataFrame) -> pd.DataFrame:
    """Add what tells gradients apart: series, method, fixed, setting and gradient.

    The setting is the tolerance, or the step size where steps are fixed.
    """
    defaults = {"method": "dopri5", "rtol": 1e-5, "step_size": math.nan, "gradient": "adjoint"}
    solver = described(frame["option.solver"], **defaults)
    steps = solver["step_size"].astype(float)
    columns = frame.columns.str.match(r"flow$|run$|batch$|setting\.|option\.(?!solver$)")
    names, settings = series(frame.loc[:, columns]), steps.fillna(solver["rtol"])
    frame = frame.assign(series=names, fixed=steps.notna(), setting=settings)
    return frame.assign(**solver[["method", "gradient"]])


def by_setting(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each field, solver setting and gradient, loosest first; medians over seeds.

    Where no seed is done, the status stands for the error.
    """
    table = []
    rows = rows.assign(order=-rows["setting"])
    for _, block in rows.groupby([*PLACE, "method", "order"]):
        base = block[(block["gradient"] == "backprop") & (block["status"] == "done")]
        for gradient, group in block.groupby("gradient"):
            done = group[group["status"] == "done"]
            row: dict[Any, Any] = group[[*PLACE, "method", "setting", "gradient"]].iloc[0].to_dict()
            row[RECORDS] = tuple(dict.fromkeys([*group["key"], *base["key"]]))
            row["gradient_error"] = group["status"].iloc[0]
            if len(done):
                row |= done[METRICS].median().to_dict()
            if len(done) and "gradient_seconds" in done:
                row |= {"backprop_ratio": 1.0} if gradient == "backprop" else _ratio(done, base)
            table.append(row)
    return pd.DataFrame(table)


def _ratio(done: pd.DataFrame, base: pd.DataFrame) -> dict[str, Any]:
    """Seconds over backprop's of the same seed, all seeds pooled."""
    ours, theirs = (
        side[side["gradient_seconds"].notna()].set_index("seed")["gradient_seconds.values"]
        for side in (done, base)
    )
    if not (seeds := sorted(set(ours.index) & set(theirs.index))):
        return {}
    pooled, base_pooled = (
        np.concatenate([np.asarray(side[seed]) / np.median(theirs[seed]) for seed in seeds])
        for side in (ours, theirs)
    )
    return with_interval("backprop_ratio", *ratio_of_medians(pooled, base_pooled))


def by_error(rows: pd.DataFrame) -> pd.DataFrame:
    """For each field, error and gradient the quickest solver setting that keeps the error.

    A setting once, with the smallest of the errors that it is the quickest for.
    """
    done = rows[rows["status"] == "done"]
    if done.empty or "gradient_seconds" not in done:
        return pd.DataFrame()
    done = done.assign(reference_ratio=done["gradient_seconds"] / done["reference_seconds"])
    alike = done.groupby([*PLACE, "gradient", "method", "setting"])
    settings = alike[["reference_ratio", *METRICS]].median()
    settings = settings.assign(**{RECORDS: alike["key"].agg(tuple)}).reset_index()
    timed = settings.dropna(subset="reference_ratio")
    quickest = []
    for level in LEVELS:
        enough = timed[timed["gradient_error"] <= level].groupby([*PLACE, "gradient"])
        quickest.append(timed.loc[enough["reference_ratio"].idxmin()].assign(level=level))
    table = pd.concat(quickest)
    table = table[~table.index.duplicated(keep="last")]
    return table.assign(order=-table["level"]).sort_values([*PLACE, "order", "gradient"])


# ---- identities ---------------------------------------------------------------------------------

PLACES = {"hutchinson": "d", "bottleneck": "k"}  # estimator: space of its probes, R^D or R^K
ERRORS = {"order": "solver_error", "rate": "rate_error"}  # by step, of a convergence
IDENTITIES = {  # title and note
    "euler": (
        "A residual network and Euler's method",
        "A residual network z + f_k(z), layer by layer with the weights of the field at t = k, "
        "beside Euler's method at step size one for the same field: float64, 16 rows.",
    ),
    "order": (
        "Orders of convergence",
        "Root mean square error at t = 1 for each number of steps, relative to a solution by "
        "dopri8 at 1e-12. Order: log2 of the ratio of errors between the two largest numbers of "
        "steps.",
    ),
    "density": (
        "Densities against a dense Jacobian",
        "Largest difference between the log-determinant and that of the Jacobian by autograd, and "
        "|∫ p dx - 1| in two dimensions on a grid. Beside each: the error that rounding, the "
        "solver's tolerance (1e-10) and the grid allow.",
    ),
    "rate": (
        "d log p/dt against the trace",
        "Largest |d log p/dt + tr ∂f/∂z| along trajectories, over the root mean square of the "
        "trace. d log p/dt is a finite difference of fourth order of log |det| of the solution's "
        "Jacobian, which rk4 computes in the given number of steps.",
    ),
    "estimate": (
        "Trace in R^D and in R^K, exact and estimated",
        "A field g(h(x)) with h in R^K; the projection is x U Uᵀ with orthonormal U. Error: root "
        "mean square over rows and draws of one probe, relative to ‖∂f/∂x‖. Theory: √ of the "
        "closed formula, 2 (‖S‖² − Σ S_ii²) for Rademacher and 2 ‖S‖² for Gaussian noise. "
        "Variance: that in R^K over that in R^D. Largest z: the largest mean error of a row, in "
        "its standard errors.",
    ),
}
SOURCES = {"option.time": "time", "option.bottleneck": "width", "setting.blocks": "blocks"}
SOURCES |= {"setting.method": "method", "setting.field": "field"}
COLUMNS = columns(
    *("flow", "method", {"time": "Weights"}, "dim", "blocks", "different_elements"),
    *("solver_error", "ladj_error", "ladj_bound", "mass_error", "mass_bound", "convergence_order"),
    *({"width": "K"}, "field", "noise"),
    {"rmse_d": "Error in R^D", "theory_d": "Theory in R^D"},
    {"rmse_k": "Error in R^K", "theory_k": "Theory in R^K"},
    {
        "variance": Column("Variance", digits=".3g"),
        "trace_bias": Column.of("trace_bias", unit=""),
        "cyclic_error": Column.of("cyclic_error", unit=""),
    },
    "status",
)
NAMES = ("flow", "setting.field", "setting.method", "option.time")  # of a case, in some identity


def done(frame: pd.DataFrame, identity: str) -> pd.DataFrame:
    """The done cases of one identity."""
    rows = frame[frame["status"] == "done"]
    return rows[rows["setting.identity"] == identity] if "setting.identity" in rows else rows[:0]


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
    trace = described(rows["option.trace"], estimator="exact", noise="rademacher")
    rows = rows.assign(noise=trace["noise"], place=trace["estimator"].map(PLACES))
    names = {"dim": "dim", "width": "option.bottleneck", "field": "setting.field", "noise": "noise"}
    fields = []
    for key, group in rows.groupby([*names.values()], sort=False):
        field: dict[str, Any] = dict(zip(names, key, strict=True))
        for case in group.sort_values("place").to_dict("records"):
            rmse, theory = f"rmse_{case['place']}", f"theory_{case['place']}"
            field |= {rmse: case["trace_rmse"], f"{rmse}_se": case["trace_rmse_se"]}
            field[theory] = case["trace_rmse_theory"]
        if group["place"].nunique() == 2:
            field["variance"] = (field["rmse_k"] / field["rmse_d"]) ** 2
        field |= {name: group[name].max() for name in ("trace_bias", "cyclic_error")}
        fields.append(field | {RECORDS: tuple(group["key"])})
    return pd.DataFrame(fields)


def _identity(identity: str, rows: pd.DataFrame) -> Table:
    """A row a case, or a field of estimates; of a convergence errors by step."""
    (title, note), done = IDENTITIES[identity], rows[rows["status"] == "done"]
    frame = rows.rename(columns=SOURCES).assign(status=rows["status"].drop(done.index))
    hidden = ("time", "width") if identity == "density" else ()  # options of some flows alone
    layout = {name: column for name, column in COLUMNS.items() if name not in hidden}
    if identity == "estimate" and len(done):
        frame = estimates(done)
    elif identity in ERRORS:
        frame = frame.drop(columns=["solver_error", "convergence_order"], errors="ignore")
        for place, row in done.iterrows():
            steps, errors, order = convergence(row)
            layout |= {f"error_{n}": Column(f"{n} steps", digits=".1e") for n in steps}
            frame.loc[place, [*(f"error_{n}" for n in steps), "convergence_order"]] = *errors, order
        layout["convergence_order"] = layout.pop("convergence_order")  # after the errors
    frame = frame.dropna(axis="columns", how="all")
    which = ("flow", "method", "time")
    return Table.of(f"identities-{identity}", title, note, frame, layout, varying=which)
