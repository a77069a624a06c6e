"""Tables of densities: likelihoods and samples, costs, likelihoods at equal budgets, exactness."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import improvement, paired
from benchmarks.analysis.contests import kinds
from benchmarks.analysis.criteria import LEVEL, MARGIN, margin
from benchmarks.analysis.improvement import Curve
from benchmarks.analysis.inference import Standing, of_repetitions
from benchmarks.analysis.models import Models, models_of, notes_of
from benchmarks.analysis.ranking import Ranking, in_order
from benchmarks.core.exhibit import RECORDS, Column, Table, columns, scientific
from benchmarks.core.formats import number
from benchmarks.core.frame import arrays_by_case
from benchmarks.core.naming import ahead_of_flows, of_plugins

TESTED = f"at a level of {LEVEL:g} over all of its rivals (Student's t, Holm)"
ABOVE = 3.0  # standard errors above the truth from which on a likelihood is marked
MARK = "‡"
UNTRAINED = "untrained"  # in place of a likelihood: no update was validated within the budget
# columns: half of the interval of test_ll over seeds, its standard error over rows
OVER_SEEDS, OVER_ROWS = "half_over_seeds", "se_over_rows"
BESIDE: dict[Standing, str] = {"ahead": "behind", "level": "level", "open": "not decided"}
ROBUST = columns(  # of a model whose mean few rows decide
    {"median": Column("Median", "nats", digits=".3f"), "worst": "Worst row"},
    {"trimmed": Column(f"{paired.TRIMMED:.0%} trimmed", "nats", digits=".3f")},
)
COLUMNS = columns(
    "model",
    {
        "test_ll": Column.of("test_ll", leads="leads", mark=improvement.MARKS),
        OVER_ROWS: Column("± over test rows", digits=".3f"),
        "behind": Column("Behind best", "nats", digits=".3f", error="behind_half"),
        "standing": "Beside the best",
        "behind_flow": Column("Behind best flow", "nats", digits=".3f", error="behind_flow_half"),
    },
    ROBUST,
    *("gap", "sliced_wasserstein", "told_apart", "components", "trained_by"),
    {improvement.GAIN: Column.of(improvement.GAIN, error="gain_half")},
    "seeds",
)
SCORE = columns(
    {"model": "Model", "kind": "Kind", "rank": Column("Mean rank", digits=".2f")},
    {"standing": "Beside the best"},
    {"closed": Column("Gap closed", "%", scale=100, digits=".1f", error="half")},
    {"median": Column("Median gap closed", "%", scale=100, digits=".1f")},
    {"wins": Column("Win rate", "%", scale=100, digits=".1f")},
)
TRAINING = ("train_updates", "train_flops", "train_seconds", "train_cpu_seconds", "train_nfe")
CALLS = ("row_flops", "per_1000_seconds", "per_1000_cpu_seconds", "sample_rate", "sample_cpu_rate")
COSTS = ("parameters", *TRAINING, *CALLS, "test_nfe")
AXES: dict[str, tuple[str, str, Callable[[float], str]]] = {  # array, name, number as text
    "flops": ("validation_flops", "FLOPs", lambda budget: f"{scientific(budget)} FLOP"),
    "seconds": ("validation_seconds", "seconds", "{:.2g} s".format),
    "cpu": ("validation_cpu_seconds", "CPU seconds", "{:.2g} CPU s".format),
}
EXACT = {  # metrics, and which of the seeds is shown
    "test_tolerance": "min",
    "ll_shift": "max",
    "ll_shift_row": "max",
    "solver_gap": "mean",
    "checked_ll": "mean",
    "hutchinson_ll": "mean",
}
DIFFERENCE = Column("Hutchinson less exact", "nats", digits="+.4f", error="hutchinson_ll_se")
FAULTS = {"not_settled": "has not settled", "no_hutchinson": "no estimate"}  # notes of records


def tables(frame: pd.DataFrame) -> list[Table]:
    """Likelihoods of all data sets; then of each its densities, costs, budgets and exactness."""
    sets = [models_of(str(name), group) for name, group in frame.groupby("dataset", sort=False)]
    summaries = [_summary(models) for models in sets]
    ranking = Ranking.of(pd.concat([s for models in sets for s in models.every.values()]))
    overview = _overview(sets, summaries, ranking)
    scores = [replace(score_table("density", ranking), first=overview.first)] if ranking else []
    result: list[Table | None] = [*scores, overview]
    for models, rows in zip(sets, summaries, strict=True):
        result += [_likelihoods(models, rows), _costs(models), _budgets(models), exactness(models)]
    return [table for table in result if table is not None]


def _summary(models: Models) -> pd.DataFrame:
    """A row a model of one data set, best first: means over its seeds, and how it stands."""
    rows, stands = [], _stands(models)
    for model, every in models.every.items():
        row: dict[str, Any] = {"model": model, "seeds": 0, RECORDS: tuple(every["key"])}
        if model not in models.done:
            rows.append(row | {"test_ll": str(every["status"].iloc[0]), "leads": False})
            continue
        seeds, mark = models.done[model], improvement.mark(models.done[model])
        row |= {"seeds": len(seeds), "test_ll": seeds["test_ll"].mean(), improvement.MARKS: mark}
        row[OVER_ROWS] = paired.error_over_rows(seeds)
        row[OVER_SEEDS] = paired.over_seeds(seeds, seeds["test_ll"].to_numpy()).half(LEVEL)
        row |= stands[model] | {"leads": stands[model]["leads"] and not mark}
        if "gap" in seeds and seeds["gap"].notna().any():
            row["gap"], row["gap_se"] = seeds.reindex(columns=["gap", "gap_se"]).mean()
            row["gap.mark"] = MARK if row["gap"] < -ABOVE * row["gap_se"] else ""
        if (gain := improvement.gain_of(seeds)) is not None:
            row |= {improvement.GAIN: gain.value, "gain_half": gain.half(LEVEL)}
        tests = ["sliced_wasserstein", "told_apart", "told_apart_se"]
        row |= zip(tests, seeds.reindex(columns=tests).median(), strict=True)
        row |= {name: notes_of(seeds)[0].get(name) for name in ("components", "trained_by")}
        rows.append(row)
    return pd.DataFrame(rows)


def _stands(models: Models) -> dict[str, dict[str, Any]]:
    """How each done model stands to the best, and to the best flow where that is another."""
    gap, rows = paired.gap_of(models.done.values()), dict[str, dict[str, Any]]()
    best, behind = paired.rivals(models.done, gap=gap)
    standings, leads = paired.standing(behind), paired.leader(behind)
    firsts = {"behind": (best, behind)}
    if models.flows and best not in models.flows:
        firsts["behind_flow"] = paired.rivals(models.flows, gap=gap)
    for model, seeds in models.done.items():
        standing = BESIDE[standings[model]] if model in standings else None
        rows[model] = {"leads": leads and model == best, "standing": standing}
        if model in behind:
            rows[model] |= paired.robust(models.done[best], seeds, behind[model].margin)
        for name, (first, lags) in firsts.items():
            rows[model][name] = 0.0 if model == first else None
            if model in lags:
                rows[model] |= {name: lags[model].estimate.value, f"{name}_half": lags[model].half}
    return rows


def _overview(sets: list[Models], summaries: list[pd.DataFrame], ranking: Ranking | None) -> Table:
    """The test log-likelihoods of all data sets, `in_order`."""
    every = pd.concat(summaries)
    records = every.groupby("model", sort=False)[RECORDS].sum()
    frame, layout = pd.DataFrame({"model": records.index}), columns("model")
    for models, summary in zip(sets, summaries, strict=True):
        rows = summary.set_index("model").reindex(records.index)
        names = [f"{part}.{models.data}" for part in ("test_ll", "se", "leads", "mark")]
        sources = ("test_ll", _error_of(summary), "leads", improvement.MARKS)
        for name, source in zip(names, sources, strict=True):
            if source in rows:
                frame[name] = rows[source].tolist()
        value, error, leads, mark = names
        layout[value] = Column(models.data, digits=".3f", error=error, leads=leads, mark=mark)
    frame[RECORDS] = records.tolist()
    conditional = [models.data for models in sets if models.facts.get("context_dim")]
    clause = f" ({', '.join(conditional)}: given their context)" if conditional else ""
    note = (
        f"Mean log-density of the test rows in nats{clause}. Bold: ahead of every other, {TESTED}."
    )
    note += improvement.note(every)
    rows = frame.set_index("model")
    means = rows.filter(regex=r"^test_ll\.").apply(pd.to_numeric, errors="coerce")
    frame = rows.loc[in_order(means, ranking)].reset_index()
    best = {m.data: next(iter(m.done)) for m in sets if m.flows}
    first = ahead_of_flows({d: n for d, n in best.items() if not any(n in m.flows for m in sets)})
    title = "Test log-likelihood by data set"
    return Table("density", title, note, frame, layout, first)


def _error_of(summary: pd.DataFrame) -> str:
    """The column with the error of test_ll: over seeds where there are several, else over rows."""
    several = OVER_SEEDS in summary and summary[OVER_SEEDS].notna().any()
    return OVER_SEEDS if several else OVER_ROWS


def score_table(study: str, ranking: Ranking) -> Table:
    """Mean ranks and which differ from the best, gaps closed and win rates, a row a model."""
    cases, ranks, (_, *behind) = ranking.cases, ranking.ranks, ranking.differ[0]
    values: dict[str, Any] = {
        "kind": kinds(cases).groupby(cases["series"]).first(),
        "rank": ranks,
        "wins": (len(ranks) - ranks) / (len(ranks) - 1),  # all models have all sets
        RECORDS: cases.groupby("series")["key"].agg(tuple),
    }
    frame = pd.DataFrame(values, ranks.index).rename_axis("model").reset_index()
    frame["standing"] = [None, *("behind" if differs else "not decided" for differs in behind)]
    frame["rank.leads"] = [all(behind), *(False for _ in behind)]
    if len(ranking.closed.columns):
        shares = [of_repetitions(row) for row in ranking.closed.to_numpy()]
        frame["closed"] = [share.value for share in shares]
        frame["half"] = [share.half(LEVEL) for share in shares]
        frame["median"] = ranking.closed.median(axis=1).tolist()
    sets, p = ranking.likelihoods.columns, ranking.p
    others = ", ".join(name for name in sets if name not in ranking.closed)
    without = f", without {others}: unknown or below {MARGIN['most']:g} nats" if others else ""
    note = (
        f"Ranks of mean test log-likelihoods on {', '.join(sets)}, ties averaged. Gap closed: "
        "share of that between the Gaussian and the best of these models, mean over sets ± half of "
        f"its {1 - LEVEL:.0%} interval, and median{without}. Win rate: share of the contests with "
        "each other model on each set, a tie by half. Friedman's test, by the F of Iman and "
        f"Davenport: p {f'= {p:.2g}' if p >= 0.001 else '< 0.001'}. Where it rejects at {LEVEL:g}, "
        f"models differ whose mean ranks are {ranking.critical():.2f} apart (Nemenyi; Demšar "
        "2006): behind; bold: ahead of every other."
    )
    if ranking.left_out:
        note += f" Left out, so that each model has each set: {', '.join(ranking.left_out)}."
    return Table.of(f"{study}-score", f"Score over {len(sets)} data sets", note, frame, SCORE)


def _likelihoods(models: Models, summary: pd.DataFrame) -> Table:
    layout = COLUMNS | {"test_ll": replace(COLUMNS["test_ll"], error=_error_of(summary))}
    units = f", {models.facts['units']}" if "units" in models.facts else ""
    title = f"{models.data} ({models.dim}-D{units})"
    note = _note(models, summary) + improvement.note(summary) + of_plugins(list(models.flows))
    rows = summary.dropna(axis=1, how="all")
    return Table.of(f"density-{models.data}", title, note, rows, layout)


def _note(models: Models, frame: pd.DataFrame) -> str:
    facts, every = models.facts, pd.concat(models.every.values())
    parts = [str(facts["about"])] if "about" in facts else []
    if context := facts.get("context_dim"):
        parts.append(f"Densities are those of {models.dim} columns given {context} others.")
    if isinstance(facts.get("entropy"), float):
        parts.append(f"Entropy: {number(facts['entropy'], '.4f')} nats.")
    several = any(len(seeds) > 1 for seeds in models.done.values())
    over = f"half of the {1 - LEVEL:.0%} interval over seeds" if several else "of the test rows"
    least = margin(models.dim, paired.gap_of(models.done.values()))
    parts.append(
        f"± is {over}; Behind best is paired. Bold: ahead of every other, "
        f"{TESTED}; level: less than {least:.2g} nats apart, by two one-sided tests."
    )
    parts += [paired.ROBUST] if "trimmed" in frame else []
    if above := [row["model"] for row in frame.to_dict("records") if row.get("gap.mark") == MARK]:
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
        f"W₂ (sliced, in standard deviations) and C2ST compare {first['compared_rows']:,.0f} "
        "samples with test rows, medians over seeds; training rows have "
        f"{first['sliced_wasserstein_floor']:.3f} and {first['told_apart_floor']:.3f}: the floor.",
        *(
            f"{flow}: {notes['no_comparison']}."
            for flow, notes in zip(every["flow"], notes_of(every), strict=True)
            if "no_comparison" in notes
        ),
    ]


def _note_on_fields(models: Models) -> list[str]:
    """Flows that train one and the same field in different ways."""
    ways: dict[str, list[str]] = {}
    for model, notes in ((model, notes_of(seeds)[0]) for model, seeds in models.flows.items()):
        if notes.get("field"):
            ways.setdefault(notes["field"], []).append(f"{model} ({notes['trained_by']})")
    return [
        f"Same field, {field}, trained in different ways: {', '.join(members)}."
        for field, members in ways.items()
        if len(members) > 1
    ]


def _costs(models: Models) -> Table | None:
    """Means over the seeds of each model, best first; None if nothing is done."""
    if not models.done:
        return None
    done = pd.concat(models.done.values())
    means = done.reindex(columns=[*COSTS]).astype(float).groupby(done["series"], sort=False).mean()
    frame = means.dropna(axis=1, how="all").rename_axis("model").reset_index()
    frame[RECORDS] = [tuple(seeds["key"]) for seeds in models.done.values()]
    note = (
        "Means over seeds; times are of one process on the record's machine. Training FLOPs are "
        "those of one counted update times the updates or, with an ODE, times the ratio of "
        "evaluations; NFE of an update counts forward and backward evaluations."
    )
    title = f"{models.data}: cost of the densities"
    return Table(f"density-cost-{models.data}", title, note, frame, columns("model", *COSTS))


def _budgets(models: Models) -> Table | None:
    """Best validation likelihood so far at the least budget that all flows have spent.

    None if fewer than two flows have curves.
    """
    flows = models.flows
    if len(flows) < 2:
        return None
    cases = pd.concat(flows.values()).copy()  # in one block
    curves = arrays_by_case(cases)
    axes = {name: axis for name, axis in AXES.items() if all(axis[0] in c for c in curves)}
    if not axes:
        return None
    marks = {model: improvement.mark(seeds) for model, seeds in flows.items()}
    frame, layout = pd.DataFrame({"model": list(flows)}), columns("model")
    frame[RECORDS] = [tuple(seeds["key"]) for seeds in flows.values()]
    frame[improvement.MARKS] = list(marks.values())
    for name, (axis, quantity, text) in axes.items():
        # a total of 0 is that of a training whose updates were not counted
        budget = min(float(c[axis][-1]) for c in curves if c[axis][-1] > 0)
        best = [best_within(curve, axis, budget) for curve in curves]
        at = cases.join(pd.DataFrame(best, cases.index))
        means = at.groupby("series", sort=False)[["best_ll", "until"]].mean()
        reached = {model: at[at["series"] == model] for model in flows}
        reached = {model: seeds for model, seeds in reached.items() if (seeds["until"] > 0).all()}
        leader, others = paired.rivals(reached, "best_ll")
        ahead = paired.leader(others)
        value, error, leads, until = (f"{p}_at_{name}" for p in ("ll", "se", "leads", "updates"))
        frame[value] = [means["best_ll"][m] if m in reached else UNTRAINED for m in flows]
        frame[error] = [_half(reached[m]) if m in reached else math.nan for m in flows]
        frame[leads] = [ahead and model == leader and not marks[model] for model in flows]
        frame[until] = means["until"].tolist()
        parts: dict[str, Any] = {"error": error, "leads": leads, "mark": improvement.MARKS}
        layout[value] = Column(f"Validation LL at {text(budget)}", "nats", digits=".3f", **parts)
        layout[until] = Column(f"Updates until then ({quantity})")
    first = pd.to_numeric(frame[f"ll_at_{next(iter(axes))}"], errors="coerce")
    frame = frame.loc[first.sort_values(ascending=False).index].reset_index(drop=True)
    note = (
        "Validation log-likelihood of the best weights at the last validation within the smallest "
        "total budget that all of these flows have spent. "
        f"{UNTRAINED}: the first validation after an update came later. The first budget has the "
        "rows in order. "
    )
    note += (
        f"± is half of the {1 - LEVEL:.0%} interval over seeds; bold: ahead of all, {TESTED}."
        if max(map(len, flows.values())) > 1
        else "One seed: ± is over the validation rows, and no row is bold."
    )
    note += improvement.note(frame)
    title = f"{models.data}: at matched budgets"
    return Table(f"density-budget-{models.data}", title, note, frame, layout)


def best_within(curve: Curve, axis: str, budget: float) -> dict[str, float]:
    """Best validation likelihood within a budget, its error over rows, updates until the end."""
    within = np.flatnonzero(curve[axis] <= budget * (1 + 1e-9))
    last = within[-1] if len(within) else 0
    values = curve["validation_ll"][: last + 1]
    best = int(np.argmax(values))
    error = float(curve["validation_se"][best]) if "validation_se" in curve else math.nan
    return {
        "best_ll": float(values[best]),
        "best_se": error,
        "until": int(curve["validated"][last]),
    }


def _half(seeds: pd.DataFrame) -> float:
    if len(seeds) == 1:
        return float(seeds["best_se"].iloc[0])
    return paired.over_seeds(seeds, seeds["best_ll"].to_numpy()).half(LEVEL)


def exactness(models: Models, study: str = "density") -> Table | None:
    """How exact the likelihoods of flows with an ODE are; None if there is none.

    Tightest tolerance and largest shifts of the seeds; means of the rest.
    """
    done = pd.concat([pd.DataFrame(columns=["series"]), *models.done.values()])
    done = done.reindex(columns=["series", "key", *EXACT, "hutchinson_ll_se"])
    done = done[done["ll_shift"].notna().groupby(done["series"]).transform("any").astype(bool)]
    if done.empty:
        return None
    done["difference"] = done["hutchinson_ll"] - done["checked_ll"]
    ways: dict[str, Any] = {**EXACT, "difference": "mean"}
    ways["hutchinson_ll_se"] = lambda errors: math.sqrt((errors**2).mean() / max(1, errors.count()))
    groups = done.groupby("series", sort=False)
    frame = groups.agg(ways).dropna(axis=1, how="all").rename_axis("model").reset_index()
    frame[RECORDS] = groups["key"].agg(tuple).tolist()
    note = (
        "Test log-likelihood by the exact trace in float64, by dopri5 at the tolerance where it "
        "has settled; shifts are those at a tenfold tighter one. Own solver: the mean by the "
        "solver of the training less the exact one. Hutchinson: one Rademacher probe a solve, ± "
        "its standard error over draws."
    )
    faults = [
        f"{model}: {words} ({notes[name]})."
        for model, seeds in models.done.items()
        for notes in notes_of(seeds)
        for name, words in FAULTS.items()
        if name in notes
    ]
    name, title = f"{study}-exact-{models.data}", f"{models.data}: accuracy of the likelihoods"
    layout = columns("model", *EXACT, {"difference": DIFFERENCE}, "hutchinson_ll_se")
    return Table(name, title, " ".join([note, *dict.fromkeys(faults)]), frame, layout)
