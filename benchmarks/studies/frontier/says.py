"""What the records of the frontier say: of each data set, and of what lacks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from benchmarks.analysis import paired
from benchmarks.analysis.contests import best_validated, kinds
from benchmarks.core.formats import number
from benchmarks.core.naming import counted, quoted
from benchmarks.studies.frontier.rows import by_budget, finals, labelled
from benchmarks.studies.sentences import (
    baselines,
    effort,
    few_rows,
    lacking,
    lead,
    plugins,
    stands,
    undertrained,
)


@dataclass(frozen=True)
class Budget:
    """The models of one data set at one budget, each with its seeds, the best first; baselines."""

    data: str
    seconds: float
    models: dict[str, pd.DataFrame]
    baselines: dict[str, pd.DataFrame]

    @property
    def best(self) -> str:
        """The flow of the highest mean test likelihood."""
        return next(iter(self.models))


def says(frame: pd.DataFrame) -> list[str]:
    """The best at each budget, what is level with it, its cost, what was improving, what lacks.

    A line each of one data set, and a line a data set of several.
    """
    sets = [(str(n), labelled(group)) for n, group in frame.groupby("dataset", sort=False)]
    known = [lines for name, rows in sets if (lines := _of(list(_budgets(name, rows))))]
    lines = known[0] if len(known) == 1 else [" ".join(of_set) for of_set in known]
    return [line for line in [*lines, _lacks(sets) if known else ""] if line]


def _of(budgets: list[Budget]) -> list[str]:
    """What is said of a data set; nothing without budgets."""
    if not budgets:
        return []
    last = budgets[-1]
    own = {last.data: last.models}
    fitted = baselines({last.data: (last.models[last.best], last.baselines)})
    after = f"After {last.seconds:g} s {last.best} {stands(last.models)}."
    level = " ".join(filter(None, [after, _other_kind(last), fitted, few_rows(own)]))
    cost = f"FLOPs of training: {spent}." if (spent := effort(own)) else ""
    lines = [_best(budgets), plugins(own), level, cost, undertrained(own)]
    return [line for line in lines if line]


def _budgets(name: str, rows: pd.DataFrame) -> Iterator[Budget]:
    for seconds, scored in by_budget(finals(rows)).items():
        fitted = scored["seconds"].isna()
        yield Budget(name, seconds, _by_model(scored[~fitted]), _by_model(scored[fitted]))


def _by_model(scored: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The seeds of each model, the highest mean test likelihood first."""
    means = scored.groupby("model")["test_ll"].mean().sort_values(ascending=False)
    return {quoted(model): scored[scored["model"] == model] for model in means.index}


def _best(budgets: list[Budget]) -> str:
    counts = [len(b.models[b.best]) for b in budgets]
    firsts = []
    for budget, count in zip(budgets, counts, strict=True):
        fewer = f", {counted(count, 'split')}" if count < max(counts) else ""
        after = f"after {budget.seconds:g} s of updates{fewer}"
        firsts.append(f"{budget.best} {after} {lead(budget.models)}")
    about = "the best by mean test log-likelihood, nats, is"
    return f"On {budgets[0].data} {about} {', '.join(firsts)}."


def _other_kind(budget: Budget) -> str:
    """How far the best flow of the other kind is behind, by validation; "" where there is none."""
    best = budget.models[budget.best]
    rows = pd.concat(budget.models.values()).rename(columns={"model": "series"})
    kind = kinds(rows)
    other = "discrete" if kind[best.index[0]] == "continuous" else "continuous"
    rival = best_validated(rows[kind == other])
    if rival is None:
        return ""
    lag = paired.compare(best, rival)
    half = f" ± {number(lag.half, '.3f')}" if lag.half == lag.half else ""
    name, value = quoted(rival["series"].iloc[0]), number(-lag.estimate.value, "+.3f")
    return f"The best {other} flow by validation, {name}: {value}{half}."


def _lacks(sets: list[tuple[str, pd.DataFrame]]) -> str:
    parts = []
    for name, rows in sets:
        own = rows[~rows["status"].isin(["done", "skipped"]) & rows["seconds"].notna()]
        parts += lacking(name, own["model"].map(quoted))
    return f"Without a result: {', '.join(parts)}." if parts else ""
