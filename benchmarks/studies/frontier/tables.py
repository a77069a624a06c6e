"""Tables of the frontier: likelihoods at each budget, what they took, and the log of the search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import improvement, paired
from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.models import models_of
from benchmarks.core.exhibit import RECORDS, Column, Table, columns
from benchmarks.core.formats import number
from benchmarks.core.naming import counted, is_baseline, of_plugins
from benchmarks.studies.density.tables import exactness, note_on_samples
from benchmarks.studies.frontier.overview import BOLD, MEANS, overview
from benchmarks.studies.frontier.rows import by_budget, finals, labelled, last

MOST = 5  # models that a note names
EXTREME = 10  # times the usual error over test rows, which then few rows decide
BUDGET = {"seconds": Column("Budget", "s", digits="g")}
UPDATES = {"updates": Column("Updates", digits=",.0f")}
COSTS = columns(
    *("model", BUDGET, "configuration", "val_ll"),
    {"test_ll": Column.of("test_ll", error="half", mark=improvement.MARKS)},
    *("bits_per_dim", UPDATES, "train_flops", "train_seconds", "train_cpu_seconds"),
    *({"timed": "Seeds timed"}, "parameters"),
)
USES = columns(
    *("model", BUDGET, "gap", "sliced_wasserstein", "told_apart", "row_flops"),
    *("per_1000_seconds", "per_1000_cpu_seconds", "test_nfe", "sample_rate", "sample_cpu_rate"),
)
TRIALS = columns(
    *("model", {"seconds": Column("Budget", "s", digits=".4g")}, "configuration"),
    *(UPDATES, "val_ll"),
)


def tables(frame: pd.DataFrame) -> list[Table]:
    """Likelihoods of all data sets; of each its budgets, costs, uses, accuracy, search."""
    sets = [(str(n), labelled(group)) for n, group in frame.groupby("dataset", sort=False)]
    likelihoods = {name: _likelihoods(name, rows) for name, rows in sets}
    ordered: list[Table | None] = [overview(likelihoods)] if len(sets) > 1 else []
    for name, rows in sets:
        others = (table(name, rows) for table in (_costs, _uses, _accuracy, _ladder, trials))
        ordered += [likelihoods[name], *others]
    return [table for table in ordered if table is not None and len(table.frame)]


def _likelihoods(name: str, rows: pd.DataFrame) -> Table:
    """A row a model, a column a budget; baselines have one value. Empty without any budget."""
    scored = finals(rows)
    budgets = by_budget(scored)
    models = scored.groupby("model", sort=False)
    frame = pd.DataFrame({"model": list(models.groups)})
    columns = {"model": Column("Model")}
    few: dict[str, str] = {}  # models of fewer splits, by name
    lags: dict[str, float] = {}  # behind the best at the largest budget of each model
    splits = scored.groupby("seconds")["data_seed"].nunique()
    for budget, ours in budgets.items():
        seeds = {str(model): own for model, own in ours.groupby("model", sort=False)}
        means = {model: float(own["test_ll"].mean()) for model, own in seeds.items()}
        most = max(len(own) for own in seeds.values() if own["seconds"].notna().any())
        few |= {m: f"{m} ({len(own)} of {most})" for m, own in seeds.items() if len(own) < most}
        best = max(means, key=lambda model: means[model])
        rivals = {m: paired.compare(seeds[best], own) for m, own in seeds.items() if m != best}
        leads = paired.leader(rivals)
        lags |= {best: 0.0} | {model: lag.estimate.value for model, lag in rivals.items()}
        value, error, ahead, mark, behind, behind_half = (
            f"{part}.{budget:g}"
            for part in ("test_ll", "half", "leads", "mark", "behind", "behind_half")
        )
        marks = {model: improvement.mark(own) for model, own in seeds.items()}
        frame[value] = [means.get(model) for model in frame["model"]]
        halves = {model: _half(own) for model, own in seeds.items()}
        frame[error] = [halves.get(model, np.nan) for model in frame["model"]]
        frame[mark] = [marks.get(model, "") for model in frame["model"]]
        frame[ahead] = [leads and model == best and not marks[best] for model in frame["model"]]
        fewer = splits[budget] < splits.max()
        over = f", {counted(int(splits[budget]), 'split')}" if fewer else ""
        label = f"{budget:g} s{over}"
        columns[value] = Column(label, digits=".3f", error=error, leads=ahead, mark=mark)
        frame[behind] = frame["model"].map({m: lag.estimate.value for m, lag in rivals.items()})
        frame[behind_half] = frame["model"].map({m: lag.half for m, lag in rivals.items()})
        columns[behind] = Column(f"Behind best, {budget:g} s", digits=".3f", error=behind_half)
    frame[RECORDS] = [tuple(own["key"]) for _, own in models]
    ranks = ""
    if budgets:
        largest = f"test_ll.{max(budgets):g}"
        frame = frame.loc[frame["model"].map(lags).sort_values(kind="stable").index]
        fitted = set(scored.loc[is_baseline(scored), "model"])
        named = frame.loc[frame[largest].notna(), "model"]
        ranks = of_plugins([model for model in named if model not in fitted])
    note = (
        f"{MEANS}. At each budget, as many updates as the rate that was timed first gives in so "
        "many seconds, the configuration that the search has found best by validation; a budget "
        "includes the smaller ones: of each seed the training counts that validates best. Behind "
        "best is the difference on the same splits, with its own interval; at the largest budget "
        f"of each model it orders the rows. {BOLD}"
    )
    if few:
        note += f" Means over fewer splits, not comparable as such: {', '.join(few.values())}."
    if rare := _few_rows({str(model): own for model, own in models}):
        note += f" Decided by few test rows: {', '.join(rare)}."
    note += improvement.note(frame) + ranks
    frame = frame if budgets else frame.iloc[:0]
    return Table(f"frontier-{name}", f"{name}: likelihood by budget", note, frame, columns=columns)


def _half(seeds: pd.DataFrame) -> float:
    return paired.over_seeds(seeds, seeds["test_ll"].to_numpy()).half(LEVEL)


def _costs(name: str, rows: pd.DataFrame) -> Table:
    """What each family's best configuration is at each budget, and what it took."""
    scored = finals(rows).dropna(subset=["seconds"])
    listed: list[dict[str, Any]] = []
    for (model, seconds), seeds in scored.groupby(["model", "seconds"], sort=False):
        row: dict[str, Any] = {"model": model, "seconds": seconds, RECORDS: tuple(seeds["key"])}
        row["configuration"] = seeds["configuration"].iloc[0]
        row["half"], row[improvement.MARKS] = _half(seeds), improvement.mark(seeds)
        for column in ("val_ll", "test_ll", "bits_per_dim"):
            row[column] = seeds.get(column, pd.Series(dtype=float)).mean()
        medians = ("updates", "train_flops", "train_seconds", "train_cpu_seconds", "parameters")
        for column in medians:
            row[column] = seeds.get(column, pd.Series(dtype=float)).median()
        timed = seeds.get("train_seconds", pd.Series(dtype=float)).count()
        row["timed"] = f"{timed} of {len(seeds)}" if timed else None
        listed.append(row)
    names = [*COSTS, "half", improvement.MARKS, RECORDS]
    frame = pd.DataFrame(listed, columns=names).dropna(axis=1, how="all")
    where = "".join(f", on {processors}" for processors in rows["rated_on"].unique() if processors)
    note = (
        "Configurations chosen by validation; means of likelihoods and medians of the rest over "
        "seeds, of the trainings of each budget by themselves. The number of updates is the budget "
        f"times the rate of updates that was measured first{where}; the seconds are those of the "
        "updates as they were timed afterwards, of those seeds whose times may be quoted."
    )
    note += improvement.note(frame)
    return Table(f"frontier-costs-{name}", f"{name}: choices and costs", note, frame, columns=COSTS)


def _uses(name: str, rows: pd.DataFrame) -> Table:
    """How good the samples of each model are, and what its calls cost, the best model first."""
    scored = last(rows).reindex(
        columns=["model", "key", "test_ll", *list(USES)[1:], "told_apart_se"]
    )
    models = scored.drop(columns="key").groupby("model")
    frame = models.median().sort_values("test_ll", ascending=False).reset_index()
    keys = {model: tuple(own["key"]) for model, own in scored.groupby("model")}
    frame[RECORDS] = [keys[model] for model in frame["model"]]
    note = (
        "Medians over seeds, at the largest budget of each model or, of a seed, the smaller one "
        "that validates best. Densities are evaluated by the "
        "exact trace and the solver of the training, and NFE is that of a chunk of rows."
    )
    note = " ".join([note, *note_on_samples(last(rows))])
    frame = frame.drop(columns="test_ll").dropna(axis=1, how="all")
    return Table(f"frontier-uses-{name}", f"{name}: samples and calls", note, frame, columns=USES)


def _accuracy(name: str, rows: pd.DataFrame) -> Table | None:
    """How exact the likelihoods of the flows that solve an ODE are, at their largest budgets."""
    scored = last(rows)
    return exactness(models_of(name, scored), "frontier") if len(scored) else None


def _ladder(name: str, rows: pd.DataFrame) -> Table:
    """The best validation likelihood by preprocessing, of each model at each budget."""
    trained = rows[(rows["status"] == "done") & rows["stage"].isin(["trial", "final"])]
    settings = trained.get("setting.training", pd.Series(dtype=object))
    names = {key: own.get("preprocessing") for key, own in settings.dropna().items()}
    trained = trained.assign(first=pd.Series(names, trained.index, dtype=object))
    trained = trained[trained["seed"] == trained["seed"].min()].dropna(subset=["first"])
    kinds, budgets = (sorted(trained[column].unique()) for column in ("first", "seconds"))
    models = trained.groupby("model", sort=False)
    frame = pd.DataFrame({"model": list(models.groups)})
    columns = {"model": Column("Model")}
    for kind in kinds if len(kinds) > 1 else ():
        for budget in budgets:
            own = trained[(trained["first"] == kind) & (trained["seconds"] == budget)]
            best = own.groupby("model")["val_ll"].max()
            frame[f"{kind}.{budget:g}"] = frame["model"].map(best)
            columns[f"{kind}.{budget:g}"] = Column(f"{kind}, {budget:g} s", digits=".3f")
    frame[RECORDS] = [tuple(own["key"]) for _, own in models]
    frame = frame.dropna(axis=1, how="all") if len(columns) > 1 else frame.iloc[:0]
    note = (
        "The best validation log-likelihood in nats of the trials of each preprocessing, on the "
        "split and weights of the first seed: of all at the first budget, at a larger one of those "
        "that the search went on with, and at an extended one of the training that it chose."
    )
    title = f"{name}: what preprocessing is worth"
    return Table(f"frontier-preprocessing-{name}", title, note, frame, columns=columns)


def trials(name: str, rows: pd.DataFrame) -> Table:
    """All trials of the search in rows that are `labelled`, the best first."""
    tried = rows[rows["stage"] == "trial"]
    frame = tried.reindex(columns=list(TRIALS))
    if "train_updates" in tried:  # of a budget of seconds, which plans one update
        frame["updates"] = tried["train_updates"].fillna(frame["updates"])
    frame["val_ll"] = (
        frame["val_ll"].astype(object).where(tried["status"] == "done", tried["status"])
    )
    frame[RECORDS] = [(key,) for key in tried["key"]]
    order = tried.reindex(columns=["model", "seconds", "val_ll"])
    frame = frame.loc[
        order.sort_values(["model", "seconds", "val_ll"], ascending=[True, True, False]).index
    ]
    note = "Every configuration that was tried, on the split and weights of the first seed."
    return Table(f"frontier-trials-{name}", f"{name}: the search", note, frame, columns=TRIALS)


def _few_rows(models: dict[str, pd.DataFrame]) -> list[str]:
    """The first models of which few test rows decide the mean of a split.

    Its error over these rows is `EXTREME` times the median over all models.
    """
    errors = [error for seeds in models.values() for error in seeds["test_ll_se"]]
    usual = float(pd.Series(errors, dtype=float).median())
    parts = []
    for model, seeds in models.items():
        for _, row in seeds[seeds["test_ll_se"] > EXTREME * usual].iterrows():
            value, error = (number(row[name], ",.0f") for name in ("test_ll", "test_ll_se"))
            parts.append(f"{model} ({value}, s.e. {error}, on split {row['seed']})")
    return [*parts[:MOST], *([f"and {len(parts) - MOST} more"] if len(parts) > MOST else [])]
