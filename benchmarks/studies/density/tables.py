"""Densities, shown: likelihood and samples of each model on each data set, and who leads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from benchmarks.analysis import paired
from benchmarks.analysis.models import Models, models_of, notes_of
from benchmarks.analysis.stats import standard_error
from benchmarks.core.exhibit import RECORDS, Table
from benchmarks.studies.density import budgets, exactness
from benchmarks.studies.density import costs as density_costs
from benchmarks.training.baselines import BASELINES, Baseline

BEHIND, GAP, LL = "Behind best (nats)", "Gap to the truth (nats)", "Test LL (nats)"
ABOVE = 3.0  # standard errors of the paired difference above the truth, from which on it is marked
MARK = "‡"
SLICED, APART = "Sliced Wasserstein (s.d.)", "Told apart (accuracy)"


def tables(frame: pd.DataFrame) -> list[Table]:
    """Likelihoods at a glance, then of each data set: densities, costs, budgets and exactness."""
    sets = [models_of(str(name), group) for name, group in frame.groupby("dataset", sort=False)]
    if not sets:
        return []
    each = [_table(models) for models in sets]
    made = [_glance(sets, each)]
    for models, table in zip(sets, each, strict=True):
        more = (density_costs.table, budgets.table, exactness.table)
        made += [table, *(t for t in (make(models) for make in more) if t is not None)]
    return made


def _glance(sets: list[Models], each: list[Table]) -> Table:
    """The test log-likelihoods of all tables side by side, a row a model."""
    records: dict[str, tuple[str, ...]] = {}
    for table in each:
        for model, keys in zip(table.frame["Model"], table.rows_from, strict=True):
            records[model] = records.get(model, ()) + keys
    shown = pd.DataFrame({"Model": list(records)})
    errors, leads = {}, {}
    for models, table in zip(sets, each, strict=True):
        name, rows = models.data, table.frame.set_index("Model")
        shown[name] = shown["Model"].map(rows[LL])
        leads[name] = f"{name} leads"
        shown[leads[name]] = [bool(led) for led in shown["Model"].map(rows["leads"]).eq(True)]
        if error := table.errors.get(LL):
            errors[name] = f"± {name}"
            shown[errors[name]] = shown["Model"].map(rows[error])
    shown[RECORDS] = list(records.values())
    note = (
        "Mean log-density of the test rows in nats; the tables below have costs and paired errors. "
        f"Bold: ahead of every other by more than {paired.ERRORS:g} errors of the difference."
    )
    if fitted := [f"{name}, {_said(made)}" for name, made in BASELINES.items() if name in records]:
        note += f" Fitted to the training rows, and no flows: {'; '.join(fitted)}."
    return Table(
        "density",
        "Test log-likelihood by data set",
        note,
        shown,
        dict.fromkeys((models.data for models in sets), ".3f"),
        errors,
        leads=leads,
    )


def _said(baseline: Callable[..., Baseline]) -> str:
    """What a baseline is, by the first line of its docstring."""
    told = (baseline.__doc__ or "").partition("\n")[0].replace("`", "").rstrip(".")
    return told[:1].lower() + told[1:]


def _table(models: Models) -> Table:
    """Rows by likelihood; several seeds of a flow become their mean with a standard error."""
    best = next(iter(models.done), None)
    leads = {m: paired.lead(models.done[best], s) for m, s in models.done.items() if best}
    first = paired.winner({m: s["test_ll"].mean() for m, s in models.done.items()}, leads.items())
    rows = []
    for model, seeds in models.every.items():
        row: dict[str, object] = {"Model": model, "Seeds": 0, RECORDS: tuple(seeds["key"])}
        if model in models.done:
            row |= _row(models.done[model])
            row[BEHIND], row["± (paired)"] = leads[model]
        else:
            row[LL] = str(seeds["status"].iloc[0])
        rows.append(row | {"leads": model == first})
    shown = pd.DataFrame(rows).dropna(axis=1, how="all")
    order = (
        "Model",
        LL,
        "± over seeds",
        "± over test rows",
        BEHIND,
        "± (paired)",
        GAP,
        "± (gap)",
        SLICED,
        APART,
        "± (accuracy)",
        "Components",
        "Trained by",
        "Seeds",
        "leads",
        "mark",
        RECORDS,
    )
    shown = shown[[header for header in order if header in shown]]
    over = "± over seeds" if "± over seeds" in shown else "± over test rows"
    pairs = {LL: over, BEHIND: "± (paired)", GAP: "± (gap)", APART: "± (accuracy)"}
    units = f", {models.facts['units']}" if "units" in models.facts else ""
    return Table(
        f"density-{models.data}",
        f"{models.data} ({models.dim}-D{units})",
        _note(models, over),
        shown,
        {
            LL: ".3f",
            "± over test rows": ".3f",
            BEHIND: ".3f",
            GAP: ".4f",
            SLICED: ".3g",
            APART: ".3f",
        },
        {header: error for header, error in pairs.items() if error in shown},
        leads={LL: "leads"},
        marks={GAP: "mark"} if GAP in shown else {},
    )


def _row(seeds: pd.DataFrame) -> dict[str, object]:
    """Of a model's seeds: means, and each mean's error."""
    notes = notes_of(seeds)[0]
    row: dict[str, Any] = {"Seeds": len(seeds), LL: seeds["test_ll"].mean()}
    row["± over test rows"] = _over_rows(seeds)
    if len(seeds) > 1:
        row["± over seeds"] = standard_error(seeds["test_ll"])
    if "gap" in seeds and seeds["gap"].notna().any():
        row[GAP] = seeds["gap"].mean()
        row["± (gap)"] = seeds["gap_se"].mean() if "gap_se" in seeds else math.nan
        row["mark"] = MARK if row[GAP] < -ABOVE * row["± (gap)"] else ""
    for header, metric in (
        (SLICED, "sliced_wasserstein"),
        (APART, "told_apart"),
        ("± (accuracy)", "told_apart_se"),
    ):
        row[header] = seeds[metric].median() if metric in seeds else math.nan
    return row | {"Components": notes.get("components"), "Trained by": notes.get("trained_by")}


def _over_rows(seeds: pd.DataFrame) -> float:
    """The standard error over test rows of the mean over seeds."""
    if seeds["arrays"].isna().any():
        return float(seeds["test_ll_se"].mean())
    return standard_error(paired.by_row(seeds), paired.groups(seeds))


def _note(models: Models, over: str) -> str:
    facts, every = models.facts, pd.concat(models.every.values())
    told = [str(facts["about"])] if "about" in facts else []
    if isinstance(facts.get("entropy"), float):
        told.append(f"Entropy: {facts['entropy']:.4f} nats.")
    if over == "± over seeds":
        told.append("± is the standard error over seeds; that over the test set stands beside it.")
    else:
        told.append("One seed: ± is the standard error over the test set.")
    told.append(
        "Behind best is a paired difference, so that what is hard for all models cancels; its "
        "error is over test rows and over seeds, where there are several. Bold: ahead of every "
        f"other by more than {paired.ERRORS:g} errors of that."
    )
    if "gap" in every and every["gap"].notna().any():
        told.append(
            "Gap to the truth: the data's own log-density less the model's, paired over test rows "
            "where it is known, else from the entropy."
        )
    marked = [m for m, seeds in models.done.items() if _row(seeds).get("mark")]
    if marked:
        told.append(
            f"{MARK} {', '.join(marked)}: above the truth by more than {ABOVE:g} standard errors, "
            "which no density can be; it means a wrong log-determinant (flowgauge check)."
        )
    told += _samples_note(every)
    return " ".join(told + _same_field(models))


def _samples_note(every: pd.DataFrame) -> list[str]:
    if "told_apart" not in every or every["told_apart"].isna().all():
        return []
    one = every[every["told_apart"].notna()].iloc[0]
    return [
        "Samples beside test rows, in standard deviations of the training set, "
        f"{one['compared_rows']:,.0f} of each: the sliced Wasserstein distance W₂, and the "
        "accuracy of gradient-boosted trees that tell the two apart, cross-validated (0.5: they "
        "cannot). "
        f"Medians over seeds. Training rows come to {one['sliced_wasserstein_floor']:.3f} and "
        f"{one['told_apart_floor']:.3f}: the floor.",
        *(
            f"{flow}: {notes['no_comparison']}."
            for flow, notes in zip(every["flow"], notes_of(every), strict=True)
            if "no_comparison" in notes
        ),
    ]


def _same_field(models: Models) -> list[str]:
    """Which flows differ in how one and the same field is trained, and what that makes of it."""
    fields: dict[str, list[str]] = {}
    for model, seeds in models.flows.items():
        if field := notes_of(seeds)[0].get("field"):
            fields.setdefault(field, []).append(model)
    told = []
    for field, members in fields.items():
        if len(members) > 1:
            how = [f"{m} ({notes_of(models.flows[m])[0]['trained_by']})" for m in members]
            told.append(f"One and the same field, {field}, is trained as {', '.join(how)}.")
            told += _at_equal_updates({m: models.flows[m] for m in members})
    return told


def _at_equal_updates(members: dict[str, pd.DataFrame]) -> list[str]:
    """How far the first of these, best first, is ahead of those with as many updates and rows."""
    first, *others = members
    same = ["updates", "batch"]
    told = []
    for other in others:
        if members[first][same].iloc[0].equals(members[other][same].iloc[0]):
            ahead, error = paired.lead(members[first], members[other])
            told.append(f"{ahead:.4f} ± {error:.4f} nats ahead of {other}")
    return [f"At as many updates {first} is {' and '.join(told)}, in pairs."] if told else []
