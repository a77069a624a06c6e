"""What the records of the frontier say, in five lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from benchmarks.analysis import improvement, paired
from benchmarks.analysis.criteria import LEVEL
from benchmarks.core.exhibit import scientific
from benchmarks.core.formats import number
from benchmarks.studies.frontier.tables import finals, labelled


@dataclass(frozen=True)
class Budget:
    """The models of one data set at one budget, each with its seeds, the best first."""

    data: str
    seconds: float
    models: dict[str, pd.DataFrame]

    @property
    def best(self) -> str:
        """The flow of the highest mean test likelihood."""
        return next(iter(self.models))

    def likelihood(self, model: str) -> float:
        """Mean test log-likelihood, nats."""
        return float(self.models[model]["test_ll"].mean())


def says(frame: pd.DataFrame) -> list[str]:
    """The best at each budget, what is level with it, its cost, what was improving, what lacks."""
    sets = [(str(n), labelled(group)) for n, group in frame.groupby("dataset", sort=False)]
    budgets = [list(_budgets(name, rows)) for name, rows in sets]
    last = [of_set[-1] for of_set in budgets if of_set]
    if not last:
        return []
    lines = [_best(budgets), _level(last), _cost(last), _gains(last), _lacks(sets)]
    return [line for line in lines if line]


def _budgets(name: str, rows: pd.DataFrame) -> Iterator[Budget]:
    scored = finals(rows).dropna(subset=["seconds"])
    for _, own in scored.groupby("seconds"):
        means = own.groupby("model")["test_ll"].mean().sort_values(ascending=False)
        models = {str(model): own[own["model"] == model] for model in means.index}
        yield Budget(name, float(own["seconds"].iloc[0]), models)


def _best(budgets: list[list[Budget]]) -> str:
    every = sorted({budget.seconds for of_set in budgets for budget in of_set})
    parts = []
    for seconds in every:
        firsts = [
            f"{budget.best} on {budget.data} ({number(budget.likelihood(budget.best), '.3f')})"
            for of_set in budgets
            for budget in of_set
            if budget.seconds == seconds
        ]
        parts.append(f"at {seconds:g} s of updates {', '.join(firsts)}")
    return f"Best by mean test log-likelihood, nats: {'; '.join(parts)}."


def _level(last: list[Budget]) -> str:
    parts = []
    for budget in last:
        others = {m: s for m, s in budget.models.items() if m != budget.best}
        rivals = {m: paired.compare(budget.models[budget.best], s) for m, s in others.items()}
        standing = paired.standing(rivals)
        words = {
            "level with": [model for model, how in standing.items() if how == "level"],
            "not told apart from": [model for model, how in standing.items() if how == "open"],
        }
        named = [f"{how} {', '.join(models)}" for how, models in words.items() if models]
        ahead = "ahead of all others" if rivals else "alone"
        parts.append(f"{budget.best} on {budget.data} is {' and '.join(named) or ahead}")
    return f"At the largest budget {'; '.join(parts)}."


def _cost(last: list[Budget]) -> str:
    parts = []
    for budget in last:
        flops = {m: float(s["train_flops"].median()) for m, s in budget.models.items()}
        least = min(flops, key=lambda model: flops[model])
        own = f"{budget.best} on {budget.data} takes {scientific(flops[budget.best])} FLOPs"
        other = f", {least} {scientific(flops[least])}" if least != budget.best else ""
        parts.append(own + other)
    return f"To train the best: {'; '.join(parts)}."


def _gains(last: list[Budget]) -> str:
    parts = []
    for budget in last:
        gains = {model: improvement.gain_of(seeds) for model, seeds in budget.models.items()}
        words = [
            f"{model} ({number(gain.value, '+.3f')} ± {number(gain.half(LEVEL), '.3f')})"
            for model, gain in gains.items()
            if gain is not None and improvement.improving(budget.models[model])
        ]
        if words:
            parts.append(f"on {budget.data} at {budget.seconds:g} s {', '.join(words)}")
    what = "Undertrained, with what as many updates again would gain on validation, nats"
    return f"{what}: {'; '.join(parts)}." if parts else ""


def _lacks(sets: list[tuple[str, pd.DataFrame]]) -> str:
    parts = []
    for name, rows in sets:
        own = rows[~rows["status"].isin(["done", "skipped"]) & rows["seconds"].notna()]
        counts = own.groupby("model", sort=False).size()
        parts += [f"{model} on {name} ({count} cases)" for model, count in counts.items()]
    return f"Without a result: {', '.join(parts)}." if parts else ""
