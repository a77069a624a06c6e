"""Tables of densities: likelihoods and samples, costs, likelihoods at equal budgets, exactness."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import improvement, paired
from benchmarks.analysis.criteria import LEVEL, margin
from benchmarks.analysis.improvement import Curve
from benchmarks.analysis.inference import Standing
from benchmarks.analysis.models import Models, models_of, notes_of
from benchmarks.core.exhibit import RECORDS, Column, Table, scientific
from benchmarks.core.formats import number
from benchmarks.core.frame import arrays_by_case
from benchmarks.core.naming import of_plugins

TESTED = f"at a level of {LEVEL:g} over all of its rivals (Student's t, Holm)"
ABOVE = 3.0  # standard errors above the truth from which on a likelihood is marked
MARK = "‡"
MATCHED = 1.05  # ratio of the most to the least up to which flows count as matched
UNTRAINED = "untrained"  # in place of a likelihood: no update was validated within the budget
# columns: half of the interval of test_ll over seeds, its standard error over rows
OVER_SEEDS, OVER_ROWS = "half_over_seeds", "se_over_rows"
BESIDE: dict[Standing, str] = {"ahead": "behind", "level": "level", "open": "not decided"}
FITTED = {  # baselines in words
    "gaussian": "one Gaussian with full covariance, by maximum likelihood",
    "kde": "gaussian kernels about 20,000 training rows, of a bandwidth chosen on validation",
    "mixture": "gaussians by EM, up to 200; number, covariance and regulariser are chosen on "
    "validation",
}
MODEL = Column("Model")
COLUMNS = {
    "model": MODEL,
    "test_ll": Column.of("test_ll", digits=".3f", leads="leads", mark=improvement.MARKS),
    OVER_SEEDS: Column("± over seeds"),
    OVER_ROWS: Column("± over test rows", digits=".3f"),
    "behind": Column("Behind best", "nats", digits=".3f", error="behind_half"),
    "standing": Column("Beside the best"),
    "behind_flow": Column("Behind best flow", "nats", digits=".3f", error="behind_flow_half"),
    "gap": Column.of("gap", digits=".4f", error="gap_se", mark="gap_mark"),
    "sliced_wasserstein": Column.of("sliced_wasserstein", digits=".3g"),
    "told_apart": Column.of("told_apart", digits=".3f", error="told_apart_se"),
    "components": Column("Components"),
    "trained_by": Column("Trained by"),
    improvement.GAIN: Column.of(improvement.GAIN, digits="+.3f", error="gain_half"),
    "seeds": Column("Seeds"),
}
COSTS = {
    "model": MODEL,
    "parameters": Column.of("parameters", digits=",.0f"),
    "train_updates": Column.of("train_updates", digits=",.0f"),
    "train_flops": Column.of("train_flops", digits=".3g"),
    "train_seconds": Column.of("train_seconds", digits=".1f"),
    "train_cpu_seconds": Column.of("train_cpu_seconds", digits=".1f"),
    "train_nfe": Column.of("train_nfe", digits=".1f"),
    "row_flops": Column.of("row_flops", row=True, digits=".3g"),
    "per_1000_seconds": Column.of("per_1000_seconds", digits=".3g"),
    "per_1000_cpu_seconds": Column.of("per_1000_cpu_seconds", digits=".3g"),
    "sample_rate": Column.of("sample_rate", digits=".3g"),
    "sample_cpu_rate": Column.of("sample_cpu_rate", digits=".3g"),
    "test_nfe": Column.of("test_nfe", digits=".0f"),
}
MATCHES: dict[str, tuple[str, Callable[[float], str]]] = {  # metric: name, number as text
    "parameters": ("parameters", "{:,.0f}".format),
    "train_flops": ("training FLOPs", scientific),
    "train_seconds": ("seconds of training", "{:.3g}".format),
    "train_cpu_seconds": ("CPU seconds of training", "{:.3g}".format),
}
AXES: dict[str, tuple[str, str, Callable[[float], str]]] = {  # array, name, number as text
    "flops": ("validation_flops", "FLOPs", lambda budget: f"{scientific(budget)} FLOP"),
    "seconds": ("validation_seconds", "seconds", "{:.2g} s".format),
    "cpu": ("validation_cpu_seconds", "CPU seconds", "{:.2g} CPU s".format),
}
EXACT = {
    "model": MODEL,
    "test_tolerance": Column.of("test_tolerance", digits=".0e"),
    "ll_shift": Column.of("ll_shift", digits=".1e"),
    "ll_shift_row": Column.of("ll_shift_row", digits=".1e"),
    "solver_gap": Column.of("solver_gap", digits="+.1e"),
    "checked_ll": Column.of("checked_ll", digits=".3f"),
    "hutchinson_ll": Column.of("hutchinson_ll", digits=".3f"),
    "difference": Column("Hutchinson less exact", "nats", digits="+.4f", error="hutchinson_ll_se"),
    "hutchinson_ll_se": Column(digits=".4f"),
}
FAULTS = {"not_settled": "has not settled", "no_hutchinson": "no estimate"}  # notes of records


def tables(frame: pd.DataFrame) -> list[Table]:
    """Likelihoods of all data sets; then of each its densities, costs, budgets and exactness."""
    sets = [models_of(str(name), group) for name, group in frame.groupby("dataset", sort=False)]
    if not sets:
        return []
    rows = [_summary(models) for models in sets]
    listed: list[Table | None] = [_overview(sets, rows)]
    for models, own in zip(sets, rows, strict=True):
        listed += [_likelihoods(models, own), _costs(models), _budgets(models), exactness(models)]
    return [table for table in listed if table is not None]


def _summary(models: Models) -> pd.DataFrame:
    """A row a model of one data set, best first: means over its seeds, and how it stands."""
    behind, behind_flow = _behind_first(models.done), _behind_first(models.flows)
    first, first_flow = (next(iter(m), None) for m in (models.done, models.flows))
    lags = {"behind": (first, behind)}
    if first_flow not in (first, None):
        lags["behind_flow"] = (first_flow, behind_flow)
    standings, leads = paired.standing(behind), paired.leader(behind)
    rows = []
    for model, every in models.every.items():
        row: dict[str, Any] = {"model": model, "seeds": 0, RECORDS: tuple(every["key"])}
        if model not in models.done:
            rows.append(row | {"test_ll": str(every["status"].iloc[0]), "leads": False})
            continue
        seeds = models.done[model]
        mark = improvement.mark(seeds)
        row |= {**_means(seeds), improvement.MARKS: mark}
        row["leads"] = leads and model == first and not mark
        row["standing"] = BESIDE[standings[model]] if model in standings else None
        for name, (best, others) in lags.items():
            row[name] = 0.0 if model == best else None
            if model in others:
                row[name] = others[model].estimate.value
                row[f"{name}_half"] = others[model].half
        rows.append(row)
    return pd.DataFrame(rows)


def _behind_first(models: dict[str, pd.DataFrame]) -> dict[str, paired.Comparison]:
    """The first model compared with each of the others, by their names."""
    first = next(iter(models), None)
    return {m: paired.compare(models[first], s) for m, s in models.items() if first and m != first}


def _means(seeds: pd.DataFrame) -> dict[str, Any]:
    """Means over a model's seeds with their errors; medians of the tests of samples."""
    notes = notes_of(seeds)[0]
    row: dict[str, Any] = {"seeds": len(seeds), "test_ll": seeds["test_ll"].mean()}
    row[OVER_ROWS] = paired.error_over_rows(seeds)
    if len(seeds) > 1:
        row[OVER_SEEDS] = paired.over_seeds(seeds, seeds["test_ll"].to_numpy()).half(LEVEL)
    if "gap" in seeds and seeds["gap"].notna().any():
        row["gap"] = seeds["gap"].mean()
        row["gap_se"] = seeds.get("gap_se", pd.Series(dtype=float)).mean()
        row["gap_mark"] = MARK if row["gap"] < -ABOVE * row["gap_se"] else ""
    if (gain := improvement.gain_of(seeds)) is not None:
        row |= {improvement.GAIN: gain.value, "gain_half": gain.half(LEVEL)}
    tests = ["sliced_wasserstein", "told_apart", "told_apart_se"]
    row |= seeds.reindex(columns=tests).median().to_dict()
    return row | {name: notes.get(name) for name in ("components", "trained_by")}


def _overview(sets: list[Models], summaries: list[pd.DataFrame]) -> Table:
    """The test log-likelihoods of all data sets side by side, a row a model."""
    every = pd.concat(summaries)
    records = every.groupby("model", sort=False)[RECORDS].sum()
    frame, columns = pd.DataFrame({"model": records.index}), {"model": MODEL}
    for models, summary in zip(sets, summaries, strict=True):
        rows = summary.set_index("model").reindex(records.index)
        column = Column(models.data, digits=".3f", error=f"se.{models.data}")
        value, column = (
            f"test_ll.{models.data}",
            replace(column, leads=f"leads.{models.data}", mark=f"mark.{models.data}"),
        )
        frame[value] = rows["test_ll"].tolist()
        frame[column.leads] = rows["leads"].eq(True).tolist()
        if (error := _error_of(summary)) in rows:
            frame[column.error] = rows[error].tolist()
        if improvement.MARKS in rows:
            frame[column.mark] = rows[improvement.MARKS].tolist()
        columns[value] = column
    frame[RECORDS] = records.tolist()
    conditional = [models.data for models in sets if models.facts.get("context_dim")]
    given = f" ({', '.join(conditional)}: given their context)" if conditional else ""
    note = (
        f"Mean log-density of the test rows in nats{given}; the tables below have costs and paired "
        f"errors. Bold: ahead of every other, {TESTED}."
    )
    note += improvement.note(every)
    kinds = {model.partition(" ")[0] for model in records.index}
    if baselines := [f"{name}, {about}" for name, about in FITTED.items() if name in kinds]:
        note += f" Fitted to the training rows, and no flows: {'; '.join(baselines)}."
    return Table("density", "Test log-likelihood by data set", note, frame, columns=columns)


def _error_of(summary: pd.DataFrame) -> str:
    """The column with the error of test_ll: over seeds where there are several, else over rows."""
    several = OVER_SEEDS in summary and summary[OVER_SEEDS].notna().any()
    return OVER_SEEDS if several else OVER_ROWS


def _likelihoods(models: Models, summary: pd.DataFrame) -> Table:
    """The models of one data set by likelihood, each with the mean of its seeds."""
    frame = summary.dropna(axis=1, how="all")
    order = [part for name, column in COLUMNS.items() for part in (name, *column.beside)]
    frame = frame[[name for name in (*order, RECORDS) if name in frame]]
    columns = {name: column for name, column in COLUMNS.items() if name in frame}
    columns["test_ll"] = replace(COLUMNS["test_ll"], error=_error_of(summary))
    units = f", {models.facts['units']}" if "units" in models.facts else ""
    title = f"{models.data} ({models.dim}-D{units})"
    note = _note(models, frame) + improvement.note(frame) + of_plugins(list(models.flows))
    return Table(f"density-{models.data}", title, note, frame, columns=columns)


def _note(models: Models, frame: pd.DataFrame) -> str:
    facts, every = models.facts, pd.concat(models.every.values())
    parts = [str(facts["about"])] if "about" in facts else []
    if given := facts.get("context_dim"):
        parts.append(f"Densities are those of {models.dim} columns given {given} others.")
    if isinstance(facts.get("entropy"), float):
        parts.append(f"Entropy: {number(facts['entropy'], '.4f')} nats.")
    parts.append(
        f"± is half of the {1 - LEVEL:.0%} interval over seeds, that over test rows one s.e."
        if any(len(seeds) > 1 for seeds in models.done.values())
        else "One seed: ± is the standard error over the test set."
    )
    compared = _behind_first(models.done).values()
    bases = dict.fromkeys(c.about for c in compared if not math.isnan(c.half))
    interval = f" ± half of its {1 - LEVEL:.0%} interval, over {'; or over '.join(bases)}"
    parts.append(
        f"Behind best is a difference{interval if bases else ' without an interval'}. Bold: ahead "
        f"of every other, {TESTED}; level: less than {margin(models.dim):g} nats apart, by two "
        "one-sided tests. Where a baseline leads, Behind best flow is the same difference to the "
        "best flow."
    )
    if "gap" in every and every["gap"].notna().any():
        parts.append(
            "Gap to the truth: the data's own log-density less the model's, paired over test rows "
            "where it is known, else from the entropy."
        )
    marks = frame.get("gap_mark", pd.Series("", frame.index))
    if above := frame.loc[marks == MARK, "model"].tolist():
        parts.append(
            f"{MARK} {', '.join(above)}: above the truth by more than {ABOVE:g} standard errors, "
            "which is impossible for a density: the log-determinant is wrong (flowgauge check)."
        )
    return " ".join(parts + note_on_samples(every) + _note_on_fields(models))


def note_on_samples(every: pd.DataFrame) -> list[str]:
    """What the tests of samples are, their floor, and the models that have none."""
    if "told_apart" not in every or every["told_apart"].isna().all():
        return []
    first = every[every["told_apart"].notna()].iloc[0]
    return [
        "Samples beside test rows, in standard deviations of the training set, "
        f"{first['compared_rows']:,.0f} of each: the sliced Wasserstein distance W₂, and the "
        "accuracy of a classifier two-sample test (C2ST) by gradient-boosted trees, "
        "cross-validated (0.5: indistinguishable). Medians over seeds. Training rows have "
        f"{first['sliced_wasserstein_floor']:.3f} and {first['told_apart_floor']:.3f}: the floor.",
        *(
            f"{flow}: {notes['no_comparison']}."
            for flow, notes in zip(every["flow"], notes_of(every), strict=True)
            if "no_comparison" in notes
        ),
    ]


def _note_on_fields(models: Models) -> list[str]:
    """Flows that train one and the same field in different ways, and the lead of the best."""
    about = {model: notes_of(seeds)[0] for model, seeds in models.flows.items()}
    parts = []
    for field in dict.fromkeys(notes["field"] for notes in about.values() if notes.get("field")):
        members = [model for model, notes in about.items() if notes.get("field") == field]
        if len(members) < 2:
            continue
        ways = ", ".join(f"{m} ({about[m]['trained_by']})" for m in members)
        parts.append(f"One and the same field, {field}, is trained as {ways}.")
        best, *others = members
        leads = []
        for other in others:
            one, two = (models.flows[m] for m in (best, other))
            if one[["updates", "batch"]].iloc[0].equals(two[["updates", "batch"]].iloc[0]):
                lead = paired.compare(one, two)
                words = f"{lead.estimate.value:.4f} ± {lead.half:.4f} nats ahead of {other}"
                leads.append(words)
        if leads:
            parts.append(f"At as many updates {best} is {' and '.join(leads)}, in pairs.")
    return parts


def _costs(models: Models) -> Table | None:
    """Means over the seeds of each model, best first; None if nothing is done."""
    if not models.done:
        return None
    done = pd.concat(models.done.values())
    means = done.reindex(columns=[*COSTS][1:]).groupby(done["series"], sort=False).agg(_mean)
    frame = means.dropna(axis=1, how="all").rename_axis("model").reset_index()
    frame[RECORDS] = [tuple(seeds["key"]) for seeds in models.done.values()]
    note = (
        f"{matches(models)} Means over seeds. FLOPs count matrix products and factorisations. "
        "Training FLOPs are those of one counted update times the number of updates or, if an "
        "ODE is solved, times the ratio of evaluations. NFE per update counts forward and "
        "backward evaluations; NFE of the exact log_prob counts the forward evaluations of a "
        "chunk of rows. Times are of one process on the record's machine; densities are "
        "evaluated by the exact trace and the solver of the training."
    )
    title = f"{models.data}: cost of the densities"
    return Table(f"density-cost-{models.data}", title, note, frame, columns=COSTS)


def _mean(values: pd.Series) -> float:
    """The mean; pandas' own of groups differs from it by a rounding."""
    return float(values.mean())


def matches(models: Models) -> str:
    """A sentence on what the flows of a table are matched in, and in what they differ."""
    if len(models.flows) < 2:
        return ""
    every = pd.concat(models.flows.values())
    budgets = every.get("setting.parameters", pd.Series(np.nan, every.index))
    target = float(budgets.iloc[0]) if budgets.notna().all() and budgets.nunique() == 1 else None
    same: list[str] = []
    different: list[str] = []
    for metric, (name, text) in MATCHES.items():
        means = every.reindex(columns=[metric])[metric].groupby(every["series"]).mean()
        if means.isna().any():
            continue
        least, most = float(means.min()), float(means.max())
        by_width = target is not None and metric == "parameters"
        span = f"{name} ({text(least)} to {text(most)}"
        alike = least > 0 and most / least <= MATCHED
        if target is not None and by_width:
            alike = target / MATCHED <= least and most <= target * MATCHED
        span += ", by their width)" if alike and by_width else ")"
        (same if alike else different).append(span)
    what = f"in {' and '.join(same)}, within {MATCHED - 1:.0%}" if same else "in nothing"
    rest = f"; they differ in {', '.join(different)}." if different else "."
    return f"The flows are matched {what}{rest}"


def _budgets(models: Models) -> Table | None:
    """Best validation likelihood so far at the least budget that all flows have spent.

    None if fewer than two flows have curves.
    """
    flows = models.flows
    cases = pd.concat(flows.values()).copy() if flows else pd.DataFrame()  # in one block
    curves = arrays_by_case(cases) if flows else []
    axes = {name: axis for name, axis in AXES.items() if all(axis[0] in c for c in curves)}
    if len(flows) < 2 or not axes:
        return None
    marks = {model: improvement.mark(seeds) for model, seeds in flows.items()}
    frame, columns = pd.DataFrame({"model": list(flows)}), {"model": MODEL}
    frame[RECORDS] = [tuple(seeds["key"]) for seeds in flows.values()]
    for name, (axis, quantity, text) in axes.items():
        # a total of 0 is that of a training whose updates were not counted
        budget = min(float(c[axis][-1]) for c in curves if c[axis][-1] > 0)
        best = np.array([best_within(curve, axis, budget) for curve in curves])
        bests = cases.assign(best_ll=best[:, 0], best_se=best[:, 1], until=best[:, 2])
        groups = {str(model): seeds for model, seeds in bests.groupby("series", sort=False)}
        reached = {model: own for model, own in groups.items() if (own["until"] > 0).all()}
        leader = _leader(reached)
        value, error, leads, until = (f"{p}_at_{name}" for p in ("ll", "se", "leads", "updates"))
        frame[value] = [
            float(own["best_ll"].mean()) if model in reached else UNTRAINED
            for model, own in groups.items()
        ]
        frame[error] = [
            _half(own) if model in reached else math.nan for model, own in groups.items()
        ]
        frame[leads] = [model == leader and not marks[model] for model in groups]
        frame[improvement.MARKS] = list(marks.values())
        frame[until] = [float(own["until"].mean()) for own in groups.values()]
        columns[value] = Column(
            f"Validation LL at {text(budget)}",
            "nats",
            digits=".3f",
            error=error,
            leads=leads,
            mark=improvement.MARKS,
        )
        columns[until] = Column(f"Updates until then ({quantity})")
    first = pd.to_numeric(frame[f"ll_at_{next(iter(axes))}"], errors="coerce")
    frame = frame.loc[first.sort_values(ascending=False).index].reset_index(drop=True)
    note = (
        "Validation log-likelihood in nats of the best weights so far, at the last validation "
        "within the smallest total budget that all of these flows have spent, read off the "
        f"learning curves. {UNTRAINED}: the first validation after an update came later. FLOPs "
        f"count matrix products and factorisations. {matches(models)} "
    )
    note += (
        f"± is half of the {1 - LEVEL:.0%} interval over seeds; bold: ahead of every other over "
        f"seeds, {TESTED}."
        if max(map(len, flows.values())) > 1
        else "One seed: ± is the standard error over the validation rows. No row is bold: one "
        "seed cannot show a significant difference."
    )
    note += " A learning rate that decays over a longer training is still high at this budget."
    note += improvement.note(frame)
    title = f"{models.data}: at matched budgets"
    return Table(f"density-budget-{models.data}", title, note, frame, columns=columns)


def best_within(curve: Curve, axis: str, budget: float) -> tuple[float, float, int]:
    """Best validation likelihood within a budget, its error over rows, updates until the end."""
    within = np.flatnonzero(curve[axis] <= budget * (1 + 1e-9))
    last = within[-1] if len(within) else 0
    values = curve["validation_ll"][: last + 1]
    best = int(np.argmax(values))
    errors = curve.get("validation_se", np.full(len(values), math.nan))
    return float(values[best]), float(errors[best]), int(curve["validated"][last])


def _half(seeds: pd.DataFrame) -> float:
    """Half of the interval over seeds; the standard error over rows of a single seed."""
    if len(seeds) == 1:
        return float(seeds["best_se"].iloc[0])
    return paired.over_seeds(seeds, seeds["best_ll"].to_numpy()).half(LEVEL)


def _leader(sides: dict[str, pd.DataFrame]) -> str | None:
    """The best model if it is ahead of all others over seeds."""
    if not sides:
        return None
    best = max(sides, key=lambda model: float(sides[model]["best_ll"].mean()))
    others = {m: paired.compare(sides[best], s, "best_ll") for m, s in sides.items() if m != best}
    return best if paired.leader(others) else None


def exactness(models: Models, study: str = "density") -> Table | None:
    """How exact the likelihoods of flows with an ODE are; None if there is none.

    Tightest tolerance and largest shifts of the seeds; means of the rest.
    """
    every = [seeds for seeds in models.done.values() if "ll_shift" in seeds]
    done = pd.concat(every) if every else pd.DataFrame(columns=["ll_shift", "series"])
    done = done[done["ll_shift"].notna().groupby(done["series"]).transform("any").astype(bool)]
    if done.empty:
        return None
    cases = done.reindex(columns=["series", "key", *EXACT])
    cases["difference"] = cases["hutchinson_ll"] - cases["checked_ll"]
    cases["variance"] = cases["hutchinson_ll_se"] ** 2
    ways: dict[str, Any] = {"test_tolerance": "min", "ll_shift": "max", "ll_shift_row": "max"}
    ways |= dict.fromkeys(("solver_gap", "checked_ll", "hutchinson_ll", "difference"), _mean)
    groups = cases.groupby("series", sort=False)
    frame = groups.agg(ways)
    frame["hutchinson_ll_se"] = np.sqrt(
        groups["variance"].agg(_mean) / groups["hutchinson_ll"].count()
    )
    frame = frame.dropna(axis=1, how="all").rename_axis("model").reset_index()
    frame.insert(1, RECORDS, groups["key"].agg(tuple).tolist())
    note = (
        "Test log-likelihood by the exact trace in float64, by dopri5 at the tolerance where it "
        "has settled: at a tenfold tighter tolerance the mean and the largest row of the checked "
        "rows move by the amounts shown. Own solver: the mean by the solver of the training less "
        "the exact one. Hutchinson's estimate uses one Rademacher probe a solve, on the same "
        "rows with the same solver; ± is its standard error over draws."
    )
    faults = [
        f"{model}: {words} ({notes[name]})."
        for model, seeds in models.done.items()
        for notes in notes_of(seeds)
        for name, words in FAULTS.items()
        if name in notes
    ]
    name, title = f"{study}-exact-{models.data}", f"{models.data}: accuracy of the likelihoods"
    return Table(name, title, " ".join([note, *dict.fromkeys(faults)]), frame, columns=EXACT)
