"""What the records of the frontier say, in five lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from benchmarks.studies.frontier.rows import at_budget, finals, labelled
from benchmarks.studies.sentences import (
    baselines,
    effort,
    few_rows,
    first,
    lacking,
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
    """The best at each budget, what is level with it, its cost, what was improving, what lacks."""
    sets = [(str(n), labelled(group)) for n, group in frame.groupby("dataset", sort=False)]
    budgets = [list(_budgets(name, rows)) for name, rows in sets]
    last = [of_set[-1] for of_set in budgets if of_set]
    if not last:
        return []
    fitted = baselines((b.data, b.models[b.best], b.baselines) for b in last)
    rare = few_rows({b.data: b.models for b in last})
    level = " ".join(filter(None, [_level(last), fitted, rare]))
    own = plugins({b.data: b.models for b in last})
    lines = [_best(budgets), own, level, _cost(last), _gains(last), _lacks(sets)]
    return [line for line in lines if line]


def _budgets(name: str, rows: pd.DataFrame) -> Iterator[Budget]:
    scored = finals(rows)
    for seconds in sorted(scored["seconds"].dropna().unique()):
        rows = at_budget(scored, seconds)
        fitted = rows["seconds"].isna()
        yield Budget(name, seconds, _by_model(rows[~fitted]), _by_model(rows[fitted]))


def _by_model(scored: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The seeds of each model, the highest mean test likelihood first."""
    means = scored.groupby("model")["test_ll"].mean().sort_values(ascending=False)
    return {str(model): scored[scored["model"] == model] for model in means.index}


def _best(budgets: list[list[Budget]]) -> str:
    every = sorted({budget.seconds for of_set in budgets for budget in of_set})
    parts = []
    for seconds in every:
        firsts = [
            first(budget.models, budget.data)
            for of_set in budgets
            for budget in of_set
            if budget.seconds == seconds
        ]
        parts.append(f"at {seconds:g} s of updates {', '.join(firsts)}")
    return f"Best by mean test log-likelihood, nats: {'; '.join(parts)}."


def _level(last: list[Budget]) -> str:
    parts = [f"{budget.best} on {budget.data} {stands(budget.models)}" for budget in last]
    return f"At the largest budget {'; '.join(parts)}."


def _cost(last: list[Budget]) -> str:
    parts = [effort(budget.models, budget.data) for budget in last]
    return f"To train the best: {'; '.join(parts)}."


def _gains(last: list[Budget]) -> str:
    names = [f"{budget.data} at {budget.seconds:g} s" for budget in last]
    pairs = zip(names, last, strict=True)
    return undertrained({name: budget.models for name, budget in pairs})


def _lacks(sets: list[tuple[str, pd.DataFrame]]) -> str:
    parts = []
    for name, rows in sets:
        own = rows[~rows["status"].isin(["done", "skipped"]) & rows["seconds"].notna()]
        parts += lacking(name, own["model"])
    return f"Without a result: {', '.join(parts)}." if parts else ""
