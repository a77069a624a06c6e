"""Densities, shown: tables of likelihoods and of what they cost."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks import datasets, draw
from benchmarks.exhibit import RECORDS, Table
from benchmarks.stats import standard_error
from benchmarks.store import arrays

# header: metric, factor, format
COLUMNS = {
    "Test LL (nats)": ("test_ll", 1, ".3f"),
    "Gap to entropy (nats)": ("gap", 1, ".3f"),
    "Parameters": ("parameters", 1, ",.0f"),
    "log_prob (FLOP/row)": ("row_flops", 1, ".3g"),
    "Training (s)": ("train_seconds", 1, ".1f"),
    "log_prob of 1,000 (ms)": ("per_1000_seconds", 1e3, ".3g"),
    "Samples per second": ("sample_rate", 1, ".3g"),
    "NFE an update": ("train_nfe", 1, ".1f"),
    "NFE test": ("test_nfe", 1, ".0f"),
    "LL moved (nats)": ("ll_shift", 1, ".1e"),
    "Own solver (nats)": ("solver_gap", 1, "+.1e"),
}


BEHIND = "Behind best (nats)"


def tables(frame: pd.DataFrame) -> list[Table]:
    """Likelihoods at a glance, then a table a data set: likelihood, and what it cost."""
    each = [_table(str(name), group) for name, group in frame.groupby("dataset", sort=False)]
    return [_glance(each), *each] if each else []


def _glance(each: list[Table]) -> Table:
    """The test log-likelihoods of all tables side by side, a row a model."""
    models: dict[str, tuple[str, ...]] = {}
    for table in each:
        for model, keys in zip(table.frame["Model"], table.rows_from, strict=True):
            models[model] = models.get(model, ()) + keys
    shown = pd.DataFrame({"Model": list(models)})
    errors = {}
    for table in each:
        name, rows = table.title.partition(" (")[0], table.frame.set_index("Model")
        shown[name] = shown["Model"].map(rows["Test LL (nats)"])
        if error := table.errors.get("Test LL (nats)"):
            errors[name] = f"± {name}"
            shown[errors[name]] = shown["Model"].map(rows[error])
    sets = [str(c) for c in shown if c not in ("Model", *errors.values())]
    shown[RECORDS] = list(models.values())
    note = (
        "Mean log-density of the test rows in nats; the tables below have costs and paired errors."
    )
    return Table(
        "density",
        "Test log-likelihood by data set",
        note,
        shown,
        dict.fromkeys(sets, ".3f"),
        errors,
        dict.fromkeys(sets, "higher"),
    )


def _table(name: str, group: pd.DataFrame) -> Table:
    """Rows by likelihood; several seeds of a flow become their mean with a standard error."""
    data = datasets.load(name)
    group = group.assign(series=draw.series(group))
    rows, behind = [], _behind_the_best(group[group["status"] == "done"], data)
    for flow, seeds in group.groupby("series", sort=False):
        done = seeds[seeds["status"] == "done"]
        row: dict[str, object] = {"Model": str(flow), "Seeds": len(done)}
        row[RECORDS] = tuple(seeds["key"])
        for header, (metric, factor, _) in COLUMNS.items():
            if done.empty:
                row[header] = str(seeds["status"].iloc[0]) if metric == "test_ll" else None
            elif metric in done and done[metric].notna().any():
                row[header] = done[metric].mean() * factor
        if len(done) > 1:
            row["± (seeds)"] = done["test_ll"].std() / len(done) ** 0.5
        if flow in behind:
            row[BEHIND], row["± (paired)"] = behind[str(flow)]
        if len(done):
            row["± (test set)"] = done["test_ll_se"].mean()
        rows.append(row)
    rows.sort(key=lambda row: -v if isinstance(v := row.get("Test LL (nats)"), float) else 0)
    shown = pd.DataFrame(rows).dropna(axis=1, how="all")
    first = [h for h in ("Model", "Test LL (nats)", BEHIND, "Gap to entropy (nats)") if h in shown]
    order = dict.fromkeys([*first, "Seeds", *COLUMNS, *shown])  # a baseline lacks some of them
    shown = shown[[header for header in order if header in shown]]
    error = "± (seeds)" if "± (seeds)" in shown else "± (test set)"
    floor = f" Entropy: {data.entropy:.4f} nats." if data.entropy is not None else ""
    errors_note = (
        "± is the standard error over seeds"
        if error == "± (seeds)"
        else "One seed: ± is the standard error over the test set"
    )
    note = (
        f"{data.about}{floor} {errors_note}; Behind best compares row by row, so that what is hard "
        "for all models cancels. Every flow's test log-likelihood is that of its "
        "exact trace, in float64, at a tolerance at least as tight as in training; LL moved is by "
        "how much a tenfold tighter one changed it, Own solver by how much the solver of its "
        "training overstates it. NFE an update counts forward and backward."
    )
    return Table(
        f"density-{name}",
        f"{name} ({data.dim}-D, {data.units})",
        note,
        shown,
        {h: spec for h, (_, _, spec) in COLUMNS.items() if h in shown} | {BEHIND: ".3f"},
        {h: e for h, e in {"Test LL (nats)": error, BEHIND: "± (paired)"}.items() if e in shown},
        {"Test LL (nats)": "higher"},
    )


def _behind_the_best(done: pd.DataFrame, data: datasets.Dataset) -> dict[str, tuple[float, float]]:
    """How far each model's mean log-density is behind the best one's, with its paired error."""
    groups = done[done["arrays"].notna()].groupby("series", sort=False)
    means = {str(flow): by_row(seeds) for flow, seeds in groups}
    if len({len(mean) for mean in means.values()}) != 1:
        return {}
    best = max(means.values(), key=np.mean)
    return {flow: lead(best, mean, data) for flow, mean in means.items()}


def by_row(seeds: pd.DataFrame) -> np.ndarray:
    """The log-density of each test row, nats, (rows,): the mean over these cases."""
    rows = [arrays(row)["test_log_prob"] for _, row in seeds.iterrows()]
    return np.asarray(np.mean(rows, axis=0, dtype=float))


def lead(one: np.ndarray, other: np.ndarray, data: datasets.Dataset) -> tuple[float, float]:
    """How far the mean of one is above that of the other, with its paired error; NaN of itself."""
    groups = None if data.groups is None else data.groups[: len(one)].numpy()
    error = standard_error(one - other, groups) if one is not other else float("nan")
    return float((one - other).mean()), error
