"""Flows at equal budgets, read off their learning curves: equal training FLOPs, equal seconds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from benchmarks.analysis import paired
from benchmarks.analysis.models import Models
from benchmarks.analysis.stats import standard_error
from benchmarks.core.exhibit import RECORDS, Table, scientific
from benchmarks.core.store import arrays
from benchmarks.studies.density.costs import matched

AXES: dict[str, tuple[str, Callable[[float], str]]] = {
    "FLOPs": ("validation_flops", lambda budget: f"{scientific(budget)} FLOP"),
    "seconds": ("validation_seconds", lambda budget: f"{budget:.2g} s"),
}

UNTRAINED = "untrained"  # by then

Curve = dict[str, np.ndarray]


def table(models: Models) -> Table | None:
    """Best validation likelihood so far at the least budget that all flows have gone through.

    None where fewer than two flows have curves.
    """
    curves = {
        model: {int(row["seed"]): arrays(row) for _, row in seeds.iterrows()}
        for model, seeds in models.flows.items()
    }
    axes = {
        name: (axis, words)
        for name, (axis, words) in AXES.items()
        if all(axis in curve for seeds in curves.values() for curve in seeds.values())
    }
    if len(curves) < 2 or not axes:
        return None
    rows = [{"Model": model, RECORDS: tuple(models.flows[model]["key"])} for model in curves]
    shown, errors, leads = pd.DataFrame(rows), {}, {}
    for name, (axis, words) in axes.items():
        totals = [float(c[axis][-1]) for seeds in curves.values() for c in seeds.values()]
        budget = min(total for total in totals if total > 0)  # 0: an update that was not counted
        header = f"Validation LL at {words(budget)}"
        every = {
            model: {seed: best_at(curve, axis, budget) for seed, curve in seeds.items()}
            for model, seeds in curves.items()
        }
        found = {m: s for m, s in every.items() if all(v[2] > 0 for v in s.values())}
        means = {m: float(np.mean([v[0] for v in s.values()])) for m, s in found.items()}
        shown[header] = [means.get(model, UNTRAINED) for model in every]
        errors[header], leads[header] = f"± at equal {name}", f"leads at equal {name}"
        shown[errors[header]] = [_error(found[m]) if m in found else math.nan for m in every]
        first = _leader(means, found)
        shown[leads[header]] = [model == first for model in every]
        shown[f"Updates until then ({name})"] = [
            float(np.mean([v[2] for v in seeds.values()])) for seeds in every.values()
        ]
    several = max(len(seeds) for seeds in curves.values()) > 1
    note = (
        "Log-likelihood in nats of the validation rows by the best weights so far, at the last "
        "validation within the least total that all of these flows have spent, read off the "
        f"learning curves; {UNTRAINED}: the first validation after an update was later. FLOPs are "
        f"those of products and factorisations. {matched(models)} "
    )
    note += (
        "± is the standard error over seeds; bold: ahead of every other by more than "
        f"{paired.ERRORS:g} errors of the difference over seeds."
        if several
        else "One seed: ± is the standard error over the validation rows, and no difference is "
        "known to be more than chance, so none is bold."
    )
    note += " A learning rate that decays over a longer training has not yet come down there."
    return Table(
        f"density-budget-{models.data}",
        f"{models.data}: at matched budgets",
        note,
        _best_first(shown, next(iter(errors))),
        dict.fromkeys(errors, ".3f"),
        errors,
        leads=leads,
    )


def _best_first(shown: pd.DataFrame, header: str) -> pd.DataFrame:
    """The rows by a column, those without a number at the end."""
    order = pd.to_numeric(shown[header], errors="coerce").sort_values(ascending=False).index
    return shown.loc[order].reset_index(drop=True)


def best_at(curve: Curve, axis: str, budget: float) -> tuple[float, float, int]:
    """The best validation likelihood within a budget, its error over rows, updates until then."""
    within = np.flatnonzero(curve[axis] <= budget * (1 + 1e-9))
    last = within[-1] if len(within) else 0
    values = curve["validation_ll"][: last + 1]
    best = int(np.argmax(values))
    errors = curve.get("validation_se", np.full(len(values), math.nan))
    return float(values[best]), float(errors[best]), int(curve["validated"][last])


def _error(seeds: dict[int, tuple[float, float, int]]) -> float:
    values = [value for value, _, _ in seeds.values()]
    return standard_error(values) if len(values) > 1 else next(iter(seeds.values()))[1]


def _leader(
    means: dict[str, float], found: dict[str, dict[int, tuple[float, float, int]]]
) -> str | None:
    """The best by a lead over seeds; None below three: rows are not kept to be paired."""
    if len(found) < 2 or min(len(seeds) for seeds in found.values()) < 3:
        return None
    values = {m: {seed: v[0] for seed, v in seeds.items()} for m, seeds in found.items()}
    best = max(means, key=lambda model: means[model])
    pairs = ((m, paired.over_seeds(values[best], values[m])) for m in values)
    return paired.winner(means, pairs)
