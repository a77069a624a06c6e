"""Tables of densities: likelihood and samples of each model on each data set, and the leader."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from benchmarks.analysis import improvement, paired
from benchmarks.analysis.criteria import LEVEL, margin
from benchmarks.analysis.inference import Standing
from benchmarks.analysis.models import Models, models_of, notes_of
from benchmarks.core.exhibit import RECORDS, Column, Table
from benchmarks.core.formats import number
from benchmarks.core.naming import of_plugins
from benchmarks.studies.density import costs, exactness

BASELINES = {
    "gaussian": "one Gaussian with full covariance, by maximum likelihood",
    "kde": "gaussian kernels about 20,000 training rows, of a bandwidth chosen on validation",
    "mixture": "gaussians by EM, up to 200; number, covariance and regulariser are chosen on "
    "validation",
}
TESTED = f"at a level of {LEVEL:g} over all of its rivals (Student's t, Holm)"
ABOVE = 3.0  # standard errors above the truth from which on a likelihood is marked
MARK = "‡"
# columns: half of the interval of test_ll over seeds, its standard error over rows
OVER_SEEDS, OVER_ROWS = "half_over_seeds", "se_over_rows"
BESIDE: dict[Standing, str] = {"ahead": "behind", "level": "level", "open": "not decided"}
COLUMNS = {
    "model": Column("Model"),
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


def tables(frame: pd.DataFrame) -> list[Table]:
    """Likelihoods of all data sets; then of each its densities, costs, budgets and exactness."""
    sets = [models_of(str(name), group) for name, group in frame.groupby("dataset", sort=False)]
    if not sets:
        return []
    likelihoods = [_likelihoods(models) for models in sets]
    ordered = [_overview(sets, likelihoods)]
    for models, table in zip(sets, likelihoods, strict=True):
        others = (costs.table(models), costs.at_budgets(models), exactness.table(models))
        ordered += [table, *(other for other in others if other is not None)]
    return ordered


def _overview(sets: list[Models], likelihoods: list[Table]) -> Table:
    """The test log-likelihoods of all data sets side by side, a row a model."""
    records: dict[str, tuple[str, ...]] = {}
    for table in likelihoods:
        for model, keys in zip(table.frame["model"], table.rows_from, strict=True):
            records[model] = records.get(model, ()) + keys
    frame, columns = pd.DataFrame({"model": list(records)}), {"model": COLUMNS["model"]}
    for models, table in zip(sets, likelihoods, strict=True):
        value, error, leads, mark = (
            f"{part}.{models.data}" for part in ("test_ll", "se", "leads", "mark")
        )
        rows = table.frame.set_index("model").reindex(frame["model"])
        frame[value] = rows["test_ll"].tolist()
        frame[leads] = rows["leads"].eq(True).tolist()
        if (own := table.columns["test_ll"].error) in rows:
            frame[error] = rows[own].tolist()
        if improvement.MARKS in rows:
            frame[mark] = rows[improvement.MARKS].tolist()
        columns[value] = Column(models.data, digits=".3f", error=error, leads=leads, mark=mark)
    frame[RECORDS] = list(records.values())
    conditional = [models.data for models in sets if models.facts.get("context_dim")]
    given = f" ({', '.join(conditional)}: given their context)" if conditional else ""
    note = (
        f"Mean log-density of the test rows in nats{given}; the tables below have costs and paired "
        f"errors. Bold: ahead of every other, {TESTED}."
    )
    note += improvement.note(pd.concat(table.frame for table in likelihoods))
    kinds = {model.partition(" ")[0] for model in records}
    if baselines := [f"{name}, {about}" for name, about in BASELINES.items() if name in kinds]:
        note += f" Fitted to the training rows, and no flows: {'; '.join(baselines)}."
    title = "Test log-likelihood by data set"
    return Table("density", title, note, frame, columns=columns)


def _likelihoods(models: Models) -> Table:
    """The models of one data set by likelihood, each with the mean of its seeds."""
    behind = _behind_first(models.done)
    first_flow, first = (next(iter(m), None) for m in (models.flows, models.done))
    behind_flow = {} if first_flow == first else _behind_first(models.flows)
    standings, leads = paired.standing(behind), paired.leader(behind)
    rows = []
    for model, seeds in models.every.items():
        row: dict[str, Any] = {"model": model, "seeds": 0, RECORDS: tuple(seeds["key"])}
        if model in models.done:
            row |= _means(models.done[model])
            row[improvement.MARKS] = improvement.mark(models.done[model])
            row["behind"] = 0.0 if model == first else None
            row["behind_flow"] = 0.0 if behind_flow and model == first_flow else None
            for name, of in (("behind", behind), ("behind_flow", behind_flow)):
                if model in of:
                    row[name], row[f"{name}_half"] = of[model].estimate.value, of[model].half
            row["standing"] = BESIDE[standings[model]] if model in standings else None
        else:
            row["test_ll"] = str(seeds["status"].iloc[0])
        leading = leads and model == first and not row.get(improvement.MARKS)
        rows.append(row | {"leads": leading})
    frame = pd.DataFrame(rows).dropna(axis=1, how="all")
    order = [part for name, column in COLUMNS.items() for part in (name, *column.beside)]
    frame = frame[[name for name in (*order, RECORDS) if name in frame]]
    error = OVER_SEEDS if OVER_SEEDS in frame else OVER_ROWS
    columns = {name: column for name, column in COLUMNS.items() if name in frame}
    columns["test_ll"] = replace(COLUMNS["test_ll"], error=error)
    units = f", {models.facts['units']}" if "units" in models.facts else ""
    title = f"{models.data} ({models.dim}-D{units})"
    note = _note(models, behind, [row["model"] for row in rows if row.get("gap_mark")])
    note += improvement.note(frame) + of_plugins(list(models.flows))
    return Table(f"density-{models.data}", title, note, frame, columns=columns)


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
    for metric in ("sliced_wasserstein", "told_apart", "told_apart_se"):
        row[metric] = seeds.get(metric, pd.Series(dtype=float)).median()
    return row | {name: notes.get(name) for name in ("components", "trained_by")}


def _note(models: Models, behind: dict[str, paired.Comparison], above: list[str]) -> str:
    facts, every = models.facts, pd.concat(models.every.values())
    parts = [str(facts["about"])] if "about" in facts else []
    if given := facts.get("context_dim"):
        parts.append(f"Densities are those of {models.dim} columns given {given} others.")
    if isinstance(facts.get("entropy"), float):
        parts.append(f"Entropy: {number(facts['entropy'], '.4f')} nats.")
    if any(len(seeds) > 1 for seeds in models.done.values()):
        parts.append(
            f"± is half of the {1 - LEVEL:.0%} interval over seeds, that over test rows one s.e."
        )
    else:
        parts.append("One seed: ± is the standard error over the test set.")
    bases = dict.fromkeys(c.about for c in behind.values() if c.half == c.half)
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
    if above:
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
    fields: dict[str, list[str]] = {}
    for model, seeds in models.flows.items():
        if field := notes_of(seeds)[0].get("field"):
            fields.setdefault(field, []).append(model)
    parts = []
    for field, members in fields.items():
        if len(members) > 1:
            ways = [f"{m} ({notes_of(models.flows[m])[0]['trained_by']})" for m in members]
            parts.append(f"One and the same field, {field}, is trained as {', '.join(ways)}.")
            parts += _at_equal_updates({m: models.flows[m] for m in members})
    return parts


def _at_equal_updates(members: dict[str, pd.DataFrame]) -> list[str]:
    """Lead of the first of these, the best, over those of as many updates and rows a batch."""
    best, *others = members
    same = ["updates", "batch"]
    leads = []
    for other in others:
        if members[best][same].iloc[0].equals(members[other][same].iloc[0]):
            lead = paired.compare(members[best], members[other])
            leads.append(f"{lead.estimate.value:.4f} ± {lead.half:.4f} nats ahead of {other}")
    return [f"At as many updates {best} is {' and '.join(leads)}, in pairs."] if leads else []
