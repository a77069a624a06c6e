"""What densities cost to train, to evaluate and to sample, and likelihoods at equal budgets."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from benchmarks.analysis import improvement, paired
from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.improvement import Curve
from benchmarks.analysis.models import Models
from benchmarks.core.exhibit import RECORDS, Column, Table, scientific
from benchmarks.core.frame import arrays_by_case

MATCHED = 1.05  # ratio of the most to the least up to which flows count as matched
MODEL = Column("Model")
COLUMNS = {
    "model": MODEL,
    "parameters": Column.of("parameters", digits=",.0f"),
    "train_updates": Column.of("train_updates", digits=",.0f"),
    "train_flops": Column.of("train_flops", digits=".3g"),
    "train_seconds": Column.of("train_seconds", digits=".1f"),
    "train_nfe": Column.of("train_nfe", digits=".1f"),
    "row_flops": Column.of("row_flops", row=True, digits=".3g"),
    "per_1000_seconds": Column.of("per_1000_seconds", digits=".3g"),
    "sample_rate": Column.of("sample_rate", digits=".3g"),
    "test_nfe": Column.of("test_nfe", digits=".0f"),
}
MATCHES: dict[str, tuple[str, Callable[[float], str]]] = {  # metric: name, number as text
    "parameters": ("parameters", "{:,.0f}".format),
    "train_flops": ("training FLOPs", scientific),
    "train_seconds": ("seconds of training", "{:.3g}".format),
}
AXES: dict[str, tuple[str, Callable[[float], str]]] = {  # of budgets: array, number as text
    "flops": ("validation_flops", lambda budget: f"{scientific(budget)} FLOP"),
    "seconds": ("validation_seconds", lambda budget: f"{budget:.2g} s"),
}
NAMES = {"flops": "FLOPs", "seconds": "seconds"}
UNTRAINED = "untrained"  # in place of a likelihood: no update was validated within the budget

Best = tuple[float, float, int]  # validation likelihood, its error over rows, updates until then


def table(models: Models) -> Table | None:
    """Means over the seeds of each model, best first; None if nothing is done."""
    if not models.done:
        return None
    rows = [
        {
            "model": model,
            **seeds.reindex(columns=[*COLUMNS][1:]).mean(),
            RECORDS: tuple(seeds["key"]),
        }
        for model, seeds in models.done.items()
    ]
    frame = pd.DataFrame(rows).dropna(axis="columns", how="all")
    note = (
        f"{matches(models)} Means over seeds. FLOPs count matrix products and factorisations. "
        "Training FLOPs are those of one counted update times the number of updates or, if an "
        "ODE is solved, times the ratio of evaluations. NFE per update counts forward and "
        "backward evaluations; NFE of the exact log_prob counts the forward evaluations of a "
        "chunk of rows. Times are of one process on the record's machine; densities are "
        "evaluated by the exact trace and the solver of the training."
    )
    title = f"{models.data}: cost of the densities"
    return Table(f"density-cost-{models.data}", title, note, frame, columns=COLUMNS)


def matches(models: Models) -> str:
    """A sentence on what the flows of a table are matched in, and in what they differ."""
    flows = models.flows
    if len(flows) < 2:
        return ""
    same: list[str] = []
    different: list[str] = []
    for metric, (name, text) in MATCHES.items():
        if not all(metric in seeds and seeds[metric].notna().any() for seeds in flows.values()):
            continue
        values = [float(seeds[metric].mean()) for seeds in flows.values()]
        least, most = min(values), max(values)
        target = _parameters_asked(flows) if metric == "parameters" else None
        by = ", by their width" if target else ""
        span = f"{name} ({text(least)} to {text(most)}"
        alike = least > 0 and most / least <= MATCHED
        if target:
            alike = target / MATCHED <= least and most <= target * MATCHED
        (same if alike else different).append(f"{span}{by})" if alike else f"{span})")
    what = f"in {' and '.join(same)}, within {MATCHED - 1:.0%}" if same else "in nothing"
    rest = f"; they differ in {', '.join(different)}." if different else "."
    return f"The flows are matched {what}{rest}"


def _parameters_asked(flows: dict[str, pd.DataFrame]) -> float | None:
    """The budget of parameters that all flows have in common; None if there is none."""
    budgets = pd.concat(flows.values()).get("setting.parameters", pd.Series(dtype=float))
    one = budgets.nunique(dropna=False) == 1 and budgets.notna().all()
    return float(budgets.iloc[0]) if one else None


def at_budgets(models: Models) -> Table | None:
    """Best validation likelihood so far at the least budget that all flows have spent.

    None if fewer than two flows have curves.
    """
    curves = {
        model: dict(zip(seeds["seed"].astype(int), arrays_by_case(seeds), strict=True))
        for model, seeds in models.flows.items()
    }
    every = [curve for seeds in curves.values() for curve in seeds.values()]
    axes = {name: axis for name, axis in AXES.items() if all(axis[0] in curve for curve in every)}
    if len(curves) < 2 or not axes:
        return None
    rows = [{"model": model, RECORDS: tuple(models.flows[model]["key"])} for model in curves]
    frame, columns = pd.DataFrame(rows), {"model": MODEL}
    marks = {model: improvement.mark(models.flows[model]) for model in curves}
    for name, (axis, text) in axes.items():
        # a total of 0 is that of a training whose updates were not counted
        budget = min(float(c[axis][-1]) for c in every if c[axis][-1] > 0)
        value, error, leads, updates = (
            f"{part}_at_{name}" for part in ("ll", "se", "leads", "updates")
        )
        best = {
            model: {seed: best_within(curve, axis, budget) for seed, curve in seeds.items()}
            for model, seeds in curves.items()
        }
        reached = {
            m: s for m, s in best.items() if all(updates > 0 for _, _, updates in s.values())
        }
        means = {m: float(np.mean([v[0] for v in s.values()])) for m, s in reached.items()}
        leader = _leader({m: models.flows[m] for m in reached}, reached)
        frame[value] = [means.get(model, UNTRAINED) for model in best]
        frame[error] = [
            _error(models.flows[m], reached[m]) if m in reached else math.nan for m in best
        ]
        frame[leads] = [model == leader and not marks[model] for model in best]
        frame[improvement.MARKS] = list(marks.values())
        frame[updates] = [float(np.mean([v[2] for v in s.values()])) for s in best.values()]
        label = f"Validation LL at {text(budget)}"
        columns[value] = Column(
            label, "nats", digits=".3f", error=error, leads=leads, mark=improvement.MARKS
        )
        columns[updates] = Column(f"Updates until then ({NAMES[name]})")
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
        f"seeds, at a level of {LEVEL:g} over all of its rivals (Student's t, Holm)."
        if max(len(seeds) for seeds in curves.values()) > 1
        else "One seed: ± is the standard error over the validation rows. No row is bold: one "
        "seed cannot show a significant difference."
    )
    note += " A learning rate that decays over a longer training is still high at this budget."
    note += improvement.note(frame)
    title = f"{models.data}: at matched budgets"
    return Table(f"density-budget-{models.data}", title, note, frame, columns=columns)


def best_within(curve: Curve, axis: str, budget: float) -> Best:
    """Best validation likelihood within a budget, its error over rows, updates until then."""
    within = np.flatnonzero(curve[axis] <= budget * (1 + 1e-9))
    last = within[-1] if len(within) else 0
    values = curve["validation_ll"][: last + 1]
    best = int(np.argmax(values))
    errors = curve.get("validation_se", np.full(len(values), math.nan))
    return float(values[best]), float(errors[best]), int(curve["validated"][last])


def _error(cases: pd.DataFrame, seeds: dict[int, Best]) -> float:
    """Half of the interval over seeds; the standard error over rows of a single seed."""
    if len(seeds) == 1:
        return next(iter(seeds.values()))[1]
    values = np.array([seeds[seed][0] for seed in cases["seed"]])
    return paired.over_seeds(cases, values).half(LEVEL)


def _leader(flows: dict[str, pd.DataFrame], seeds: dict[str, dict[int, Best]]) -> str | None:
    """The best model if it is ahead of all others over seeds."""
    sides = {
        model: cases.assign(best_ll=[seeds[model][seed][0] for seed in cases["seed"]])
        for model, cases in flows.items()
    }
    if not sides:
        return None
    best = max(sides, key=lambda model: float(sides[model]["best_ll"].mean()))
    others = {m: paired.compare(sides[best], s, "best_ll") for m, s in sides.items() if m != best}
    return best if paired.leader(others) else None
