"""Tables of the trace study: cost beside the determinant, errors, and errors at equal time."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.inference import of_repetitions, standard_error
from benchmarks.core.exhibit import RECORDS, Column, Table, cells, columns, described, with_interval
from benchmarks.core.frame import arrays_by_case
from benchmarks.core.naming import series

NAMES = {  # of the works that are no estimator
    "field": "field alone",
    "kept": "closed_form, kept",
    "determinant": "determinant",
    "jacobian": "forming the Jacobian",
    "trace_of_formed": "trace of a formed Jacobian",
    "determinant_of_formed": "log|det| of a formed Jacobian",
}
WHICH = columns(  # row of a table
    *("field", "dim", {"exact": "Exact trace", "name": "Work"}, "mode", "noise", "probes")
)
MEASURED = columns(
    "evaluation_seconds",
    {"seconds_ratio": Column("Seconds / field", digits=".3g", kind="time")},
    {"flops_ratio": Column("FLOPs / field", digits=".3g"), "error": Column.of("trace_error")},
    "trace_rmse_theory",
) | {"evaluation_seconds": Column.of("evaluation_seconds", row=True)}
ESTIMATED = {**MEASURED, "error": replace(MEASURED["error"], error="trace_rmse_se")}
REACHED = {
    "seconds_ratio": Column("Seconds of the fewest probes / exact", digits=".3g", kind="time"),
    "fitting": Column("Probes that fit", kind="time"),
    "error": replace(MEASURED["error"], kind="time"),  # of as many as fit in a time
}
COSTS = ("evaluation_seconds", "seconds_ratio", "flops_ratio")
METRICS: tuple[str, ...] = ("trace_rmse", "trace_error", "trace_rmse_se", "trace_rmse_theory")
METRICS += ("evaluation_seconds", "evaluation_flops")
COST_NOTE = (
    "Medians of one evaluation without a graph; its noise is drawn before, as in a solve. Error: "
    "of exact traces the largest in a batch, of estimates by the fewest probes the root mean "
    "square over rows and draws; both over ‖J‖, the root mean square over rows of the Frobenius "
    "norm of the float64 Jacobian J. The determinant includes forming the Jacobian; where H < D it "
    "is 0. Kept: a later evaluation of a solve, which reuses the products of weights that do not "
    "depend on t."
)
ERROR_NOTE = (
    "Root mean square error over rows and draws, over ‖J‖, with its standard error. Theory, with S "
    "= (J + Jᵀ)/2 and K probes: √(2 ‖S‖²/K) for Gaussian noise, √(2 (‖S‖² − Σ S_ii²)/K) for "
    "Rademacher noise."
)
TIME_NOTE = (
    "The largest number of whole probes that takes no longer than an exact trace, and the error "
    "with it, interpolated between the measured numbers. Exact traces are the closed form, and the "
    "fastest that works without one."
)


TRAINING = "Training with the trace in R^D and in R^K"
TRAINING_NOTE = (
    "One field g(h(x)) with h in R^K, trained by an estimate of the trace in R^D or, by the "
    "bottleneck trick, in R^K, with either noise. Loss: -log p of the batches as it was trained, a "
    "mean of a tenth of the updates; ± over seeds. Less: the loss at the end below that of the "
    "other estimate, paired by seed, with its 95 % interval. Validation: the best of a training by "
    "the exact trace. FFJORD (arXiv:1810.01367, section 5.1 and Fig. 4, on MNIST) reports that the "
    "trick can speed up training with Gaussian noise, and saw no such gain with Rademacher's."
)
TRAINED = columns(
    *("dataset", {"estimator": "Estimate"}, "noise", "seeds", {"updates": "Updates"}),
    {"half": Column("Loss half way", "nats", digits=".2f")},
    {"end": Column("Loss at the end", "nats", digits=".2f")},
    {"less": Column("Less by the bottleneck", "nats", digits=".2f")},
    *("val_ll", "train_nfe", "train_flops"),
)
PLACES = {"hutchinson": "in R^D", "bottleneck": "in R^K"}


def tables(frame: pd.DataFrame) -> Iterator[Table]:
    """Cost of one evaluation, estimates by their probes and in equal time; trainings."""
    measured, trained = parted(frame)
    if len(measured):
        rows = evaluations(measured)
        table = rows.assign(**{name: cells(rows, rows[name]) for name in COSTS})
        costs, estimates = table[~rows["estimate"] | rows["fewest"]], table[rows["estimate"]]
        beside = ["fitting.prefix", "fitting.mark", RECORDS]
        equal = pd.DataFrame(equal_times(rows), columns=[*WHICH, *REACHED, *beside])
        title, varying = "Estimates in the time of exact traces", WHICH.keys() - {"dim", "exact"}
        cost, error, time = (WHICH | layout for layout in (MEASURED, ESTIMATED, REACHED))
        yield Table.of("trace-cost", "Cost of one evaluation", COST_NOTE, costs, cost, varying)
        yield Table.of("trace-error", "Estimates", ERROR_NOTE, estimates, error, varying)
        yield Table.of("trace-equal-time", title, TIME_NOTE, equal, time, varying)
    if len(trained):
        yield _trainings(trained)


def parted(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of evaluations; done trainings, with the place of the estimate, noise and losses."""
    part = frame.get("setting.part", pd.Series(None, frame.index, dtype=object)).notna()
    trained = frame[part & (frame["status"] == "done") & frame["arrays"].notna()]
    trace = described(trained["option.trace"], estimator="exact", noise="rademacher")
    losses = [curves["losses"].astype(float) for curves in arrays_by_case(trained)]
    estimate = {"noise": trace["noise"], "estimator": trace["estimator"].map(PLACES)}
    trained = trained.assign(**estimate, losses=pd.Series(losses, trained.index, dtype=object))
    return frame[~part].reset_index(drop=True), trained


def _trainings(done: pd.DataFrame) -> Table:
    tenths = done["losses"].map(lambda losses: np.array_split(losses, 10))
    done = done.assign(half=tenths.str[4].map(np.nanmean), end=tenths.str[9].map(np.nanmean))
    rows = []
    for (data, noise, estimator), group in done.groupby(["dataset", "noise", "estimator"]):
        row: dict[str, Any] = {"dataset": data, "estimator": estimator, "noise": noise}
        row |= {"seeds": group["seed"].nunique(), "updates": group["updates"].max()}
        for name in ("half", "end", "val_ll"):
            row |= {name: group[name].mean(), f"{name}_se": standard_error(group[name])}
        row |= {name: group[name].mean() for name in ("train_nfe", "train_flops")}
        other = done[(done["dataset"] == data) & (done["noise"] == noise)]
        ends = other.pivot_table("end", "seed", "estimator").dropna()
        if estimator == PLACES["bottleneck"] and ends.shape[1] == 2:
            gain = of_repetitions(ends[PLACES["hutchinson"]] - ends[estimator])
            row |= with_interval("less", gain.value, *gain.interval(LEVEL))
        rows.append({**row, RECORDS: tuple(group["key"])})
    return Table.of("trace-training", TRAINING, TRAINING_NOTE, rows, TRAINED)


def evaluations(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each case, in order, times of a row of data.

    Columns: field, dim, work (the setting), estimator, name (of the work or its estimator), mode
    and noise (None where a work has one alone), probes (of estimates), estimate, fewest (probes of
    the field), error with trace_rmse_se and trace_rmse_theory, evaluation_seconds, the ratios of
    seconds and FLOPs to those of the field alone, status and key.
    """
    defaults = {"estimator": "exact", "probes": 1, "noise": "rademacher", "mode": "backward"}
    options = described(frame["option.trace"], **defaults)
    rows = frame.reindex(columns=["key", "dim", "status", *METRICS])
    rows["work"] = frame["setting.work"]
    rows["field"] = series(frame.drop(columns=["option.trace", "setting.work"]))
    rows["estimator"] = options["estimator"]
    rows["name"] = options["estimator"].where(rows["work"] == "trace", rows["work"].map(NAMES))
    rows["error"] = rows["trace_rmse"].fillna(rows["trace_error"])
    rows["estimate"] = rows["trace_rmse"].notna().groupby(rows["name"]).transform("any")
    rows["probes"] = options["probes"].where(rows["estimate"])
    for option in ("mode", "noise"):
        varies = options[option].groupby(rows["name"]).transform("nunique") > 1
        rows[option] = options[option].where(varies, None)
    rows["fewest"] = rows["probes"] == rows.groupby("field")["probes"].transform("min")
    place = pd.MultiIndex.from_frame(rows[["field", "dim"]])
    alone = rows[rows["work"] == "field"].set_index(["field", "dim"])
    for unit in ("seconds", "flops"):
        metric = f"evaluation_{unit}"
        rows[f"{unit}_ratio"] = rows[metric] / alone[metric].reindex(place).to_numpy()
    rows["evaluation_seconds"] /= frame["batch"]
    rows["place"] = rows["work"].replace("trace", "kept").map(list(NAMES).index)
    order = ["field", "dim", "place", "name", "mode", "noise", "probes"]
    return rows.sort_values(order, ignore_index=True).drop(columns="place")


def equal_times(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """A row for each D, estimate and exact trace: the closed forms, and the quickest of others."""
    for (field, dim), group in rows[rows["evaluation_seconds"].notna()].groupby(["field", "dim"]):
        exact = group[group["work"].isin(["trace", "kept"]) & ~group["estimate"]]
        closed = exact["estimator"] == "closed_form"
        quickest = exact[~closed].nsmallest(1, "evaluation_seconds")
        estimates = group[group["estimate"]].groupby(["name", "mode", "noise"], dropna=False)
        for (_, reference), (which, line) in product(
            pd.concat([exact[closed], quickest]).iterrows(), estimates
        ):
            budget, seconds = reference["evaluation_seconds"], line["evaluation_seconds"].tolist()
            probes = line["probes"].astype(int).tolist()
            fits, error = fitting(budget, probes, seconds, line["error"].tolist())
            yield {
                "field": field,
                "dim": dim,
                "exact": reference["name"],
                **dict(zip(("name", "mode", "noise"), which, strict=True)),
                "seconds_ratio": seconds[0] / budget,
                "fitting": fits or probes[0],
                "fitting.prefix": "" if fits else "fewer than ",
                "fitting.mark": "or more" if fits == probes[-1] else "",
                "error": error,
                RECORDS: (reference["key"], *line["key"]),
            }


def fitting(
    budget: float, probes: Sequence[int], seconds: Sequence[float], errors: Sequence[float]
) -> tuple[int, float]:
    """Return how many whole probes fit in ``budget`` seconds, and their error.

    By interpolation between the numbers that were measured, never beyond: seconds are linear in
    the probes and errors in their inverse square root, as theory has it. 0 and NaN where not even
    the fewest fit.
    """
    order = np.argsort(probes)
    k, error = np.asarray(probes, float)[order], np.asarray(errors, float)[order]
    spent = np.maximum.accumulate(np.asarray(seconds, float)[order])  # more cannot take less
    if budget < spent[0]:
        return 0, float("nan")
    fits = int(np.interp(budget, spent, k) + 1e-9)
    return fits, float(np.interp(-(fits**-0.5), -(k**-0.5), error))
