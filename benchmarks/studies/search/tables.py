"""Tables of the search: likelihoods by budget, costs and trials; of a race the answer."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd

from benchmarks.analysis import improvement, paired
from benchmarks.analysis.contests import best_validated, budget_of, lacks_logit, validations, within
from benchmarks.analysis.criteria import FEWEST, LEVEL, MARGIN
from benchmarks.analysis.inference import Estimate, Standing, mean_of, of_rows, standings
from benchmarks.analysis.models import models_of
from benchmarks.analysis.ranking import Ranking, in_order
from benchmarks.core.exhibit import RECORDS, Column, Table, cells, columns
from benchmarks.core.formats import number
from benchmarks.core.frame import holds
from benchmarks.core.naming import (
    BUDGET,
    ahead_of_flows,
    counted,
    in_words,
    is_baseline,
    name_runs,
    of_plugins,
    starred,
)
from benchmarks.core.store import arrays
from benchmarks.studies.density.tables import ROBUST, exactness, note_on_samples, score_table

Best = dict[float, pd.DataFrame]  # the cases of each budget
SIZES = ("hidden", "depth", "layers", "bins")  # options that the words of a configuration have
# columns beside the gap that is closed
COSTED = ("train_flops", "budget_spent", "row_flops", "test_nfe")
EXTREME = 10  # times the usual error over test rows, which then few rows decide
RARE = "Worst row: a split of which few rows decide the mean, ± its standard error over rows."
FAMILY = "family"  # column of the name of a model in tables of several data sets
FEW = "few rows decide"  # in place of a distance to the best
SHARED = 3  # splits that a mean over data sets takes of each
EDGE = "*"  # after a choice at an end of what there was to choose
MEANS = (
    "Mean test log-likelihood in nats over seeds and their splits, ± half of its "
    f"{1 - LEVEL:.0%} interval"
)
BOLD = (
    f"Bold: ahead of every other at a level of {LEVEL:g} over all of its rivals (Student's t on "
    "differences, Holm)."
)
SECONDS = {"seconds": Column("Budget", "s", digits="g")}
UPDATES = {"updates": Column("Updates", digits=",.0f")}
COSTS = columns(
    *("model", SECONDS, "configuration", "val_ll"),
    {"test_ll": Column.of("test_ll", error="half", mark=improvement.MARKS)},
    *("bits_per_dim", UPDATES, "train_flops", "train_seconds", "train_cpu_seconds"),
    "budget_spent",
    *({"timed": "Seeds timed"}, "parameters"),
)
USES = columns(
    *("model", SECONDS, "gap", "sliced_wasserstein", "told_apart", "row_flops"),
    *("per_1000_seconds", "per_1000_cpu_seconds", "test_nfe", "sample_rate", "sample_cpu_rate"),
)
TRIALS = columns(
    *("model", {"seconds": Column("Budget", "s", digits=".4g")}, "configuration"),
    *(UPDATES, "budget_spent", "val_ll"),
)


def tables(frame: pd.DataFrame) -> list[Table]:
    """Likelihoods of all data sets; of each its budgets, costs, uses, accuracy, search.

    Of a race the ranking and the search.
    """
    sets, races = parted(frame)
    ordered = [table for race in races for table in (ranking(race), trials(race.data, race.rows))]
    best = best_of(sets)
    scored = {name: finals(rows) for name, rows in sets.items()}
    likelihoods = {n: _likelihoods(n, scored[n], best[n]) for n in sets if best[n]}
    if len(sets) > 1:
        ranks = ranked(best)
        ordered += [score_table("frontier", ranks)] if ranks else []
        parts = {name: likelihoods[name] for name in counted_in(sets) if name in likelihoods}
        ordered += [*leaders(sets, best), overview(parts, best, ranks)]
    for name, rows in sets.items():
        longest = last(rows)
        ordered += [likelihoods[name]] if name in likelihoods else []
        exact = exactness(models_of(name, longest), "frontier") if len(longest) else None
        ordered += [_costs(name, scored[name]), _uses(name, longest)]
        ordered += [*filter(None, [exact]), trials(name, rows)]
    ordered = [table for table in ordered if len(table.frame)]
    if sets and ordered:
        ordered[0] = replace(ordered[0], first=baselines_ahead(best))
    return ordered


def _likelihoods(name: str, scored: pd.DataFrame, budgets: Best) -> Table:
    """A row a model, a column a budget; baselines have one value."""
    frame = pd.DataFrame(index=pd.Index(scored["model"].unique(), name="model"))
    columns = {"model": Column("Model")}
    few: dict[str, str] = {}  # models of fewer splits, by name
    # at the largest budget of each model: its distance to the best, and what few rows decide
    lags: dict[str, float] = {}
    robust: dict[str, dict[str, Any]] = {}
    gap, rare = paired.gap_of(part for _, part in scored.groupby("model")), _few_rows(scored)
    splits = scored.groupby("seconds")["data_seed"].nunique()
    for budget, ours in budgets.items():
        seeds = {str(model): part for model, part in ours.groupby("model", sort=False)}
        most = max(len(part) for part in seeds.values() if part["seconds"].notna().any())
        few |= {m: f"{m} ({len(part)} of {most})" for m, part in seeds.items() if len(part) < most}
        best, rivals = paired.rivals(seeds, gap=gap)
        distances = {model: lag.estimate.value for model, lag in rivals.items()}
        lags |= {best: 0.0} | distances
        robust |= {m: paired.robust(seeds[best], seeds[m], lag.margin) for m, lag in rivals.items()}
        parts = {
            "test_ll": {model: part["test_ll"].mean() for model, part in seeds.items()},
            "half": {model: _half(part) for model, part in seeds.items()},
            "mark": {m: improvement.mark(seeds[m]) if m in seeds else "" for m in frame.index},
            "leads": dict.fromkeys(frame.index, False) | {best: paired.leader(rivals)},
            "behind": distances,
            "behind_half": {model: lag.half for model, lag in rivals.items()},
        }
        value, error, mark, ahead, behind, behind_half = names = [f"{p}.{budget:g}" for p in parts]
        frame[names] = pd.DataFrame(parts, frame.index)
        fewer = splits[budget] < splits.max()
        over = f", {counted(int(splits[budget]), 'split')}" if fewer else ""
        at = budget_of(budget, ours)
        columns[value] = Column(at + over, digits=".3f", error=error, leads=ahead, mark=mark)
        columns[behind] = Column(f"Behind best, {at}", digits=".3f", error=behind_half)
    summaries = [robust.get(model) or rare.get(model, {}) for model in frame.index]
    decided = pd.DataFrame(summaries, frame.index, [*ROBUST]).dropna(axis=1, how="all")
    frame = frame.join(decided).assign(**{RECORDS: scored.groupby("model")["key"].agg(tuple)})
    frame = frame.loc[pd.Series(lags).reindex(frame.index).sort_values(kind="stable").index]
    fitted = set(scored.loc[is_baseline(scored), "model"])
    ranks = frame[f"test_ll.{max(budgets):g}"].dropna().index
    note = (
        f"{MEANS}. At each budget the configuration that the search has found best "
        "by validation; a budget includes the smaller ones: of each seed the training counts that "
        "validates best. Behind "
        "best is the difference on the same splits, with its own interval; at the largest budget "
        f"of each model it orders the rows. {BOLD}"
    )
    if few:
        note += f" Means over fewer splits, not comparable as such: {', '.join(few.values())}."
    if "worst" in frame:
        note += f" {paired.ROBUST}" if "trimmed" in frame else f" {RARE}"
    note += improvement.note(frame) + of_plugins([name for name in ranks if name not in fitted])
    title = f"{name}: likelihood by budget"
    return Table(f"frontier-{name}", title, note, frame.reset_index(), columns | ROBUST)


def _half(seeds: pd.DataFrame) -> float:
    return paired.over_seeds(seeds, seeds["test_ll"].to_numpy()).half(LEVEL)


def _costs(name: str, scored: pd.DataFrame) -> Table:
    """What each family's best configuration is at each budget, and what it took."""
    likelihoods = ("val_ll", "test_ll", "bits_per_dim")
    medians = ("updates", "train_flops", "train_seconds", "train_cpu_seconds", "budget_spent")
    ways = {"configuration": "first", **dict.fromkeys(likelihoods, "mean")}
    ways |= dict.fromkeys((*medians, "parameters"), "median")
    scored = scored.reindex(columns=[*dict.fromkeys((*scored, *ways))])
    groups = scored.dropna(subset=["seconds"]).groupby(["model", "seconds"], sort=False)
    frame = groups.agg(ways).reset_index()
    timed = zip(groups["train_seconds"].count(), groups.size(), strict=True)
    frame["timed"] = [f"{count} of {seeds}" if count else None for count, seeds in timed]
    frame["half"] = [_half(seeds) for _, seeds in groups]
    frame[improvement.MARKS] = [improvement.mark(seeds) for _, seeds in groups]
    frame[RECORDS] = groups["key"].agg(tuple).tolist()
    frame = frame.reindex(columns=[*COSTS, "half", improvement.MARKS, RECORDS])
    frame = frame.dropna(axis=1, how="all")
    note = (
        "Configurations chosen by validation; means of likelihoods and medians of the rest over "
        f"seeds, of the trainings of each budget by themselves. {EDGE}: an end of what there was "
        "to choose. Seconds on the clock are of those seeds whose times may be quoted."
    )
    note += improvement.note(frame)
    return Table(f"frontier-costs-{name}", f"{name}: choices and costs", note, frame, columns=COSTS)


def _uses(name: str, scored: pd.DataFrame) -> Table:
    """How good the samples of each model are, and what its calls cost, the best model first."""
    columns = [*list(USES)[1:], "told_apart_se"]
    models = scored.reindex(columns=["model", "key", "test_ll", *columns]).groupby("model")
    frame = models[["test_ll", *columns]].median().assign(**{RECORDS: models["key"].agg(tuple)})
    frame = frame.sort_values("test_ll", ascending=False).drop(columns="test_ll").reset_index()
    note = (
        "Medians over seeds, at the largest budget of each model or, of a seed, the smaller one "
        "that validates best. Densities are evaluated by the "
        "exact trace and the solver of the training; NFE is that of the scores, more accurate."
    )
    note = " ".join([note, *note_on_samples(scored)])
    frame = frame.dropna(axis=1, how="all")
    return Table(f"frontier-uses-{name}", f"{name}: samples and calls", note, frame, columns=USES)


def trials(name: str, rows: pd.DataFrame) -> Table:
    """All trials of the search in rows that are `labelled`, the best first, and baselines."""
    tried = rows[rows["stage"].isin(["trial", "baseline"]) & (rows["status"] != "skipped")]
    tried = tried[tried["seed"] == tried["seed"].min()].assign(val_ll=tried.get("val_ll", np.nan))
    tried = tried.sort_values(["model", "seconds", "val_ll"], ascending=[True, True, False])
    tried = tried.assign(val_ll=cells(tried, "val_ll"))
    note = (
        "Every configuration that was tried, and every baseline, on the split and weights of the "
        f"first seed. {EDGE}: an end of what there was to choose."
    )
    return Table.of(f"frontier-trials-{name}", f"{name}: the search", note, tried, TRIALS)


def _few_rows(scored: pd.DataFrame) -> dict[str, dict[str, str]]:
    """By model the split whose mean few test rows decide, where records lack the rows.

    Its error over these rows is `EXTREME` times the median over all models.
    """
    names = ["test_ll", "test_ll_se"]
    rows = scored.reindex(columns=["model", "data_seed", *names]).sort_values("test_ll_se")
    errors = rows["test_ll_se"].astype(float)
    wild = rows[errors > EXTREME * errors.median()].groupby("model").tail(1)
    texts = {}
    for row in wild.to_dict("records"):
        value, error = (number(row[name], ",.0f") for name in names)
        texts[str(row["model"])] = {"worst": f"{value} ± {error} over split {row['data_seed']}"}
    return texts


def overview(
    likelihoods: Mapping[str, Table], best: Mapping[str, Best], ranking: Ranking | None
) -> Table:
    """A row a model, a column a data set, from the tables of each set's likelihoods by budget.

    Each column has the budget `of_most_models`. May be empty.
    """
    records: dict[str, tuple[str, ...]] = {}
    parts, fitted = dict[str, pd.DataFrame](), set[str]()
    for data, table in likelihoods.items():
        scored = pd.concat(best[data].values()).drop_duplicates("model").set_index("model")
        fitted |= {*scored.loc[is_baseline(scored), FAMILY]}
        parts[data] = table.frame.set_index(table.frame["model"].map(scored[FAMILY]))
        for family, keys in parts[data][RECORDS].items():
            records[str(family)] = records.get(str(family), ()) + keys
    frame, columns = pd.DataFrame({"model": list(records)}), {"model": Column("Model")}
    means: dict[str, list[float]] = {}
    for data, table in likelihoods.items():
        rows = parts[data].reindex(frame["model"])
        budget, name = f"{of_most_models(best[data]):g}", f"to.{data}"
        means[data] = rows[f"test_ll.{budget}"].tolist()
        wild = rows.get("worst", pd.Series(None, rows.index, dtype=object)).notna()
        lags = rows[f"behind.{budget}"].fillna(0.0).where(rows[f"test_ll.{budget}"].notna())
        frame[name] = lags.astype(object).mask(wild, FEW).tolist()
        frame[f"{name}_se"] = rows[f"behind_half.{budget}"].mask(wild).tolist()
        frame[f"{name}.mark"] = rows[f"mark.{budget}"].fillna("").tolist()
        frame[f"{name}.leads"] = rows[f"leads.{budget}"].eq(True).tolist()
        label = f"{data}, {table.columns[f'test_ll.{budget}'].label}"
        columns[name] = Column(label, digits=".3f")
    frame[RECORDS] = list(records.values())
    values = pd.DataFrame(means, frame["model"])
    common, some = values.notna().all(axis=1), values.notna().any(axis=1)
    order = in_order(values[common | some & ~values.index.isin(fitted)], ranking)
    frame = frame.set_index("model").loc[order].reset_index()
    note = (
        "Distance to the best mean test log-likelihood in nats, on the same splits, ± half of its "
        f"{1 - LEVEL:.0%} interval, after the seconds of updates in each header; baselines, of "
        "which the preprocessing is chosen by validation, are fitted. "
        f"{BOLD} Rows are in order of mean rank. A data set's own table has likelihoods."
    )
    note += improvement.note(frame)
    return Table("frontier-sets", "Behind the best, by data set", note, frame, columns=columns)


def closed(sets: Mapping[str, pd.DataFrame], best: Mapping[str, Best]) -> Best:
    """Share of the gap between a Gaussian and the best model that each closes, by budget.

    ``sets`` are `labelled` rows by data set, ``best`` theirs `by_budget`; each set counts alike. A
    frame has a row a model that all of them have: ``share`` (an `Estimate`), geometric means of
    `COSTED`, ``baseline`` and `RECORDS`. Budgets are those at which all sets have `SHARED` splits;
    pixels that were searched without a logit are left out.
    """
    of_sets = [rows for name in with_gap(sets) if (rows := dict(_closed_on(best[name])))]
    common = set(of_sets[0]).intersection(*of_sets) if of_sets else set[float]()
    ways: dict[str, Any] = {"share": lambda shares: mean_of(shares.tolist())}
    ways |= dict.fromkeys(COSTED, lambda costs: np.exp(np.log(costs).mean()))
    ways |= {"baseline": "first", RECORDS: "sum"}
    result = {}
    for budget in sorted(common):
        every = pd.concat([budgets[budget] for budgets in of_sets])
        models = every[every["model"].map(every["model"].value_counts()) == len(of_sets)]
        result[budget] = models.groupby("model").agg(ways).reset_index()
    return result


def counted_in(sets: Mapping[str, pd.DataFrame]) -> list[str]:
    """The data sets that a score over all of them has: pixels searched without a logit are none."""
    return [name for name, rows in sets.items() if not lacks_logit(rows)]


def with_gap(sets: Mapping[str, pd.DataFrame]) -> list[str]:
    """Those of `counted_in` that have a Gaussian, from which a gap is counted."""
    return [name for name in counted_in(sets) if "gaussian" in set(sets[name]["model"])]


def _closed_on(every: Best) -> Iterator[tuple[float, pd.DataFrame]]:
    """Shares of the gap on one data set, by budget; the best is that by validation at the largest.

    The error of a share is that of the difference from the best on the same splits.
    """
    budgets = {b: cases for b, cases in every.items() if cases["data_seed"].nunique() >= SHARED}
    last = budgets[max(budgets)] if budgets else pd.DataFrame({"model": []})
    if "gaussian" not in set(last["model"]):
        return
    best = last[last["model"] == validations(last).groupby(last["model"]).mean().idxmax()]
    gap = paired.compare(best, last[last["model"] == "gaussian"]).estimate.value
    for budget, scored in budgets.items():
        models = [cases for name, cases in scored.groupby("model") if name != "gaussian"]
        every_lag = [paired.compare(best, seeds) for seeds in models]
        lags = [Estimate(0.0, 0.0, 1.0) if c.basis == "none" else c.estimate for c in every_lag]
        shares = [Estimate(1 - lag.value / gap, lag.error / gap, lag.freedom) for lag in lags]
        medians = [seeds.reindex(columns=COSTED).median() for seeds in models]
        values: dict[str, Any] = {
            "model": [str(seeds[FAMILY].iloc[0]) for seeds in models],
            "share": shares,
            "baseline": [bool(is_baseline(seeds).all()) for seeds in models],
            RECORDS: [tuple(seeds["key"]) for seeds in models],
        }
        yield budget, pd.DataFrame(medians).reset_index(drop=True).assign(**values)


def leaders(sets: Mapping[str, pd.DataFrame], best: Mapping[str, Best]) -> list[Table]:
    """What each model closes of the gap to the best over data sets, and what it costs."""
    if not (budgets := closed(sets, best)):
        return []
    columns, largest = {"model": Column("Model")}, max(budgets)
    frame = budgets[largest][["model", RECORDS]]
    for budget, rows in budgets.items():
        shares = rows.set_index("model")["share"].reindex(frame["model"])
        value, error = f"closed.{budget:g}", f"half.{budget:g}"
        halves = [share.half(LEVEL) for share in shares]
        frame = frame.assign(**{value: [share.value for share in shares], error: halves})
        label = f"Gap closed, {budget_of(budget, next(iter(sets.values())))}"
        columns[value] = Column(label, "%", scale=100, digits=".1f", error=error)
    frame = frame.join(budgets[largest][list(COSTED)])
    frame = frame.sort_values(f"closed.{largest:g}", ascending=False)
    names = ", ".join(with_gap(sets))
    note = (
        f"Share of the gap between a Gaussian and the best model, by validation at the largest "
        f"budget, that a model closes: mean over {names}, ± half of its {1 - LEVEL:.0%} interval, "
        "whose error is that of the difference from the best on the same splits, which has none "
        "itself. Costs are geometric means over these sets."
    )
    columns |= {name: Column.of(name) for name in COSTED}
    return [Table("frontier-leaders", "Who closes the gap", note, frame, columns=columns)]


def of_most_models(budgets: Best) -> float:
    """The budget that most models have, the largest if several tie."""
    return max(budgets, key=lambda budget: (budgets[budget]["model"].nunique(), budget))


def ranked(best: Mapping[str, Best]) -> Ranking | None:
    """Rank the models of data sets, each at the budget `of_most_models`."""
    parts = [budgets[of_most_models(budgets)] for budgets in best.values() if budgets]
    return Ranking.of(pd.concat(parts).rename(columns={FAMILY: "series"})) if parts else None


def baselines_ahead(best: Mapping[str, Best]) -> str:
    """A sentence on baselines that are ahead of every flow in validation; empty without any."""
    baselines = {}
    for name, budgets in best.items():
        if budgets:
            enough = [b for b, cases in budgets.items() if cases["data_seed"].nunique() >= FEWEST]
            scored = budgets[max(enough or budgets)]
            first = validations(scored).groupby(scored["model"]).mean().idxmax()
            if is_baseline(scored[scored["model"] == first]).any():
                baselines[name] = str(first)
    return ahead_of_flows(baselines)


def labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """Cases of one data set with the columns of a search: ``model``, ``stage``, ``configuration``.

    ``seconds`` is the budget; a baseline is a final without one. `FAMILY` is the model, of a
    mixture or kernel density without its preprocessing.
    """
    unknown = pd.Series(None, frame.index, dtype=object)
    names = ("label", "stage", "seconds", "preprocessing")
    get = {name: frame.get(f"setting.{name}", unknown) for name in names}
    after = [f" after {first}" if isinstance(first, str) else "" for first in get["preprocessing"]]
    rows = frame.assign(
        model=starred(get["label"].where(get["label"].notna(), frame["flow"] + after), frame),
        stage=get["stage"].where(~is_baseline(frame) | get["stage"].notna(), "baseline"),
        seconds=get["seconds"].astype(float),
        configuration="",
    )
    searched = is_baseline(frame) & (frame["flow"] != "gaussian")
    rows[FAMILY] = frame["flow"].where(searched, rows["model"])
    rows = name_runs(rows, "model", FAMILY)
    for _, family in rows.groupby("model"):
        options = [*SIZES, *_choices(family)]
        columns = ["setting.training", "setting.edges", *(f"option.{name}" for name in options)]
        chosen = family.reindex(columns=columns).to_dict("records")
        words = [_words(row, options) for row in chosen]
        rows.loc[family.index, "configuration"] = words
    return rows[rows["stage"] != "rate"]  # of records of before


def finals(rows: pd.DataFrame) -> pd.DataFrame:
    """The `_scored` cases, of a `FAMILY` those of the preprocessing that is best by validation."""
    frame = _scored(rows)
    for _, fits in frame[is_baseline(frame)].groupby(FAMILY):
        if (best := best_validated(fits.assign(series=fits["model"]))) is not None:
            frame = frame.drop(index=fits.index.difference(best.index))
    return frame


def _scored(rows: pd.DataFrame) -> pd.DataFrame:
    """The cases of rows that are `labelled` which have a test likelihood."""
    scored = rows[(rows["status"] == "done") & rows["stage"].isin(["final", "baseline"])]
    return scored.assign(test_ll=scored.get("test_ll", np.nan)).dropna(subset=["test_ll"])


def by_budget(scored: pd.DataFrame) -> Best:
    """The `finals` `within` each budget, the least first, and the baselines on their splits."""
    result = {}
    for budget in sorted(scored["seconds"].dropna().unique()):
        chosen = _within(scored, budget)
        trained = chosen["seconds"].notna()
        splits = chosen.loc[trained, "data_seed"]
        result[budget] = chosen[trained | chosen["data_seed"].isin(splits)]
    return result


def best_of(sets: Mapping[str, pd.DataFrame]) -> dict[str, Best]:
    """The finals `by_budget` of each data set."""
    return {name: by_budget(finals(rows)) for name, rows in sets.items()}


def on_common_splits(scored: pd.DataFrame) -> pd.DataFrame:
    """The `finals` on the splits that all budgets have; all of them where no split is common."""
    splits = [set(seeds) for _, seeds in scored.groupby("seconds")["data_seed"]]
    common = scored[scored["data_seed"].isin(set.intersection(*splits))]
    return common if len(common) else scored


def last(rows: pd.DataFrame) -> pd.DataFrame:
    """The `finals` of each model `within` its largest budget, and the baselines."""
    scored = finals(rows)
    return _within(scored, scored.groupby("model")["seconds"].transform("max"))


def _within(scored: pd.DataFrame, budget: float | pd.Series) -> pd.DataFrame:
    """The cases `within` a budget, with that which they stand for in ``seconds``."""
    chosen = within(scored, budget)
    return chosen.assign(seconds=chosen[BUDGET].astype(float)) if BUDGET in chosen else chosen


def _choices(family: pd.DataFrame) -> list[str]:
    """Options of a family, but for sizes, of which its cases have several values."""
    names = (str(c).removeprefix("option.") for c in family if str(c).startswith("option."))
    several = [name for name in names if family[f"option.{name}"].astype(str).nunique() > 1]
    return [name for name in several if name not in SIZES]


def _words(row: Mapping[Hashable, Any], names: Sequence[str]) -> str:
    """A configuration in words: "lr 0.003, whiten, hidden 64, layers 8"."""
    training = row.get("setting.training")
    if not isinstance(training, dict):
        return ""
    values = {name: row.get(f"option.{name}") for name in names}
    known = {name: v for name, v in values.items() if v is not None and v == v}
    options = [f"{name} {in_words(value)}" for name, value in known.items()]
    edges = row.get("setting.edges")
    at_edge = set(edges) if isinstance(edges, list | tuple) else set[str]()
    texts = [f"lr {training['learning_rate']:g}", str(training["preprocessing"])]
    if decay := training.get("weight_decay"):
        texts.append(f"weight_decay {decay:g}")
    return ", ".join(t + EDGE * (t.partition(" ")[0] in at_edge) for t in [*texts, *options])


def is_race(rows: pd.DataFrame) -> bool:
    """Whether the cases of a data set are those of a race."""
    return bool(rows.get("setting.most", pd.Series(dtype=float)).notna().any())


FITTED = {"gaussian": "a Gaussian", "mixture": "a mixture of Gaussians", "kde": "a kernel density"}
STANDING = {
    "level": "level with",
    "open": "not told apart from",
    "behind": "on the test rows behind",
}
SCORES = ("val_ll", "test_ll", "test_ll_raw", "cpu_seconds", "c2st", "gain_per_doubling")
RANKED = {
    "model": Column("Model"),
    "val_ll": Column("Validation", "nats", digits=".3f"),
    "test_ll": Column("Test", "nats", digits=".3f", error="half"),
    "test_ll_raw": Column("Raw", "nats", digits=".3f"),
    "cpu_seconds": Column("CPU", "s", digits=".1f"),
    "updates": Column("Updates", digits=",.0f"),
    "c2st": Column("C2ST", digits=".3f"),
    "gain_per_doubling": Column("Gain", "nats", digits="+.3f"),
    "configuration": Column("Configuration"),
}
TERMINAL = ("model", *SCORES)


@dataclass(frozen=True)
class Choice:
    """What a race on one table says.

    ``ranking`` has the flows, then the baselines, of each model the best, in the order of the
    validation likelihood. It has the columns of `RANKED`, ``half`` of the interval of a test
    likelihood over the test rows, how the best flow stands to each (``standing``), whether a model
    is a ``baseline``, and whether a flow was still ``improving``, by a one-sided test.
    """

    data: str
    rows: pd.DataFrame  # of all cases, `labelled`
    ranking: pd.DataFrame

    @classmethod
    def of(cls, data: str, rows: pd.DataFrame) -> Self:
        """Rank the finals of a data set in rows that are `labelled`."""
        scored = _scored(rows)
        scored = scored.assign(baseline=is_baseline(scored))
        order = scored.sort_values(["baseline", "val_ll"], ascending=[True, False])
        ranking = order.drop_duplicates(["flow", "setting.label"], ignore_index=True)
        tests, standing = _against_the_best(ranking)
        gains = [improvement.gain_of(ranking.iloc[[place]]) for place in ranking.index]
        notes = [notes or {} for notes in ranking.get("notes", [])]
        sizes = [note.get("components") for note in notes]
        texts = zip(sizes, ranking["configuration"], strict=True)
        scale = pd.Series([note.get("data", {}).get("log_scale") for note in notes], dtype=float)
        values: dict[str, Any] = {
            "test_ll": [test.value for test in tests],
            "half": [test.half(LEVEL) for test in tests],
            "test_ll_raw": ranking["test_ll"] - scale,
            "cpu_seconds": ranking.get("train_cpu_seconds", np.nan),
            "updates": ranking.get("train_updates", np.nan),
            "c2st": ranking.get("told_apart", np.nan),
            "gain_per_doubling": [np.nan if gain is None else gain.value for gain in gains],
            "improving": [bool(g and g.value > 0 and g.p / 2 < LEVEL) for g in gains],
            "configuration": [f"{size} components" if size else text for size, text in texts],
            "standing": standing,
            RECORDS: [(key,) for key in ranking["key"]],
        }
        return cls(data, rows, ranking.assign(**values))

    @property
    def flows(self) -> pd.DataFrame:
        return self.ranking[~self.ranking["baseline"]]

    @property
    def baselines(self) -> pd.DataFrame:
        return self.ranking[self.ranking["baseline"]]

    @property
    def answer(self) -> str:
        """The flow to take, its rivals, and whether to train longer; first what is no flow."""
        if self.flows.empty:
            trials = self.rows[self.rows["stage"] == "trial"].reindex(columns=["model", "val_ll"])
            best = trials.dropna().sort_values("val_ll")["model"].tolist()[-1:]
            hint = f"; by its trials {best[0]} is best: give it more --minutes" if best else ""
            return f"No flow was trained to its end{hint}."
        first, others = self.flows.iloc[0], self.flows.iloc[1:]
        sentences = [self._baseline(first)] if self._baseline(first) else []
        parts = [f"{'Of the flows take' if sentences else 'Take'} {first['model']}"]
        for standing, words in STANDING.items():
            if names := others.loc[others["standing"] == standing, "model"].tolist():
                parts.append(f"{words} {', '.join(names)}")
        if not parts[1:]:
            families = self.rows.loc[self.rows["stage"] == "trial", "model"].nunique()
            alone = "the only family that was tried" if families == 1 else ""
            parts += filter(None, ["ahead of the other flows" if len(others) else alone])
        remarks = paired.facts_of(self.ranking).get("remarks", [])
        if any("have no bound" in remark for remark in remarks):
            parts.append("likelihoods on a grid of values have no bound: see the warnings")
        elif first["improving"]:
            gain = number(first["gain_per_doubling"], ".2f")
            parts.append(f"still improving, by {gain} nats as its training doubles: more --minutes")
        return " ".join([*sentences, "; ".join(parts)])

    def _baseline(self, first: pd.Series) -> str:
        """A sentence on a baseline that is not behind the best flow; empty without one."""
        if self.baselines.empty:
            return ""
        best = self.baselines.iloc[0]
        name = FITTED.get(best["flow"], best["model"])
        name = f"{name[:1].upper()}{name[1:]}"
        scores = f"{_score(best)} nats on the test rows, {first['model']} {_score(first)}"
        if best["standing"] == "level":
            return f"{name} is level with the best flow: {scores}."
        if (lead := round(best["val_ll"] - first["val_ll"], 3)) <= 0:
            return ""
        by = number(lead, ".3f")
        unconfirmed = best["standing"] in ("open", "ahead")  # by rows that records may lack
        remark = ", which the test rows do not confirm" if unconfirmed else ""
        return f"{name} is ahead of every flow by {by} nats in validation{remark}; {scores}."

    @property
    def about(self) -> dict[str, int]:
        """How many columns the density has, and the rows of each part of the split."""
        if self.ranking.empty:
            return {}
        rows = paired.facts_of(self.ranking).get("rows", {})
        return {"columns": int(self.ranking["dim"].iloc[0]), **rows}

    @property
    def dropped(self) -> dict[str, str]:
        """Families that dropped out, with when and by how much."""
        skipped = self.rows[(self.rows["status"] == "skipped") & (self.rows["stage"] != "baseline")]
        skipped = skipped[skipped["reason"].str.startswith("dropped out")]
        first = skipped.drop_duplicates("model")
        return dict(zip(first["model"], first["reason"], strict=True))

    @property
    def warnings(self) -> list[str]:
        """What to know of the trainings and of the table before the ranking is used."""
        remarks = paired.facts_of(self.ranking).get("remarks", [])
        lines = [f"{text[:1].upper()}{text[1:]}." for text in remarks]
        failed = self.rows[self.rows["status"].isin(["failed", "timeout"])]
        for model, cases in failed.groupby("model", sort=False):
            lines.append(f"Without a result: {model}: {cases['reason'].iloc[0]}.")
        lists = self.rows.get("setting.left_out", pd.Series(dtype=object)).dropna()
        left_out = [name for names in lists.iloc[:1] for name in names]
        if names := [name for name in left_out if name not in {*self.rows["flow"]}]:
            lines.append(f"Not tried in so few minutes: {', '.join(names)}.")
        return lines


def parted(frame: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], list[Choice]]:
    """The `labelled` rows of each data set without a race, and the choice of each with one."""
    sets = {str(name): labelled(rows) for name, rows in frame.groupby("dataset", sort=False)}
    races = [Choice.of(name, rows) for name, rows in sets.items() if is_race(rows)]
    return {name: rows for name, rows in sets.items() if not is_race(rows)}, races


def _against_the_best(ranking: pd.DataFrame) -> tuple[list[Estimate], list[Standing | None]]:
    """The test likelihood of each row of a ranking, and how the first stands to each of the others.

    These are trained densities on rows that none has seen: errors are over the rows. Two are level
    where they differ by less than `MARGIN` and a twentieth of what the best gains over a Gaussian,
    or by less than a standard error. Without the rows errors are those that were recorded.
    """
    if not holds(ranking, "test_log_prob").all():  # packed without
        errors = ranking.reindex(columns=["test_ll", "test_ll_se"]).astype(float)
        tests = [Estimate(mean, error, math.inf) for mean, error in errors.to_numpy()]
        return tests, [None] * len(ranking)
    rows = [ranking.iloc[[place]] for place in range(len(ranking))]
    scores = [paired.mean_by_row(row) for row in rows]
    groups = [arrays(row.iloc[0], "test_groups").get("test_groups") for row in rows]
    tests = [of_rows(*pair) for pair in zip(scores, groups, strict=True)]
    margin = MARGIN["most"]
    for place in ranking.index[ranking["flow"] == "gaussian"]:
        gap = tests[0].value - tests[place].value
        margin = min(margin, max(0.0, MARGIN["of_gap"] * gap))
    leads = {str(n): of_rows(scores[0] - score, groups[0]) for n, score in enumerate(scores) if n}
    stands = standings({name: (lead, 0.0) for name, lead in leads.items()}, LEVEL)
    for name, lead in leads.items():
        if abs(lead.value) <= max(margin, lead.error):
            stands[name] = "level"
    return tests, [stands.get(str(place)) for place in range(len(rows))]


def _score(row: pd.Series) -> str:
    return f"{number(row['test_ll'], '.3f')} ± {number(row['half'], '.3f')}"


def rows_of(choice: Choice) -> str:
    """Numbers of columns and rows, a sentence to go before others; empty if not known."""
    about = choice.about
    if "test" not in about:
        return ""
    counts = " / ".join(f"{about[part]:,}" for part in ("train", "val", "test"))
    return f"{counted(about['columns'], 'column')}, {counts} rows to train, choose and test. "


def ranking(choice: Choice) -> Table:
    """Flows by validation, the best first, then the baselines."""
    dropped = "".join(f" {name} {reason}." for name, reason in choice.dropped.items())
    note = (
        f"{rows_of(choice)}In the order of the validation log-likelihood, which has chosen each "
        "configuration; baselines, which are fitted, last. Test: mean over the test rows, ± half "
        f"of its {1 - LEVEL:.0%} interval over these rows, in nats of standardised columns, and "
        "of those of the file (raw). C2ST: accuracy of a classifier that tells samples from test "
        "rows, 0.5 where it cannot. Gain: of validation as the training doubles, by its constant "
        f"part. {EDGE}: an end of what there was to choose.{dropped}"
    )
    frame = choice.ranking[[*RANKED, "half", RECORDS]]
    first = " ".join([f"{choice.answer.removesuffix('.')}.", *choice.warnings])
    return Table(f"choose-{choice.data}", f"{choice.data}: the ranking", note, frame, RANKED, first)
