"""Parts of sentences on models that were trained on data sets: for what studies say.

A data set is named where there are several; who speaks of one has named it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized

import pandas as pd

from benchmarks.analysis import improvement, paired
from benchmarks.analysis.criteria import LEVEL, margin
from benchmarks.core.exhibit import scientific
from benchmarks.core.formats import number
from benchmarks.core.naming import counted, places

MOST = 5  # parts that a sentence names
EXTREME = 10  # times the usual error over test rows, which then few rows decide


def listed(parts: Sequence[str], separator: str = "; ") -> str:
    """The first parts, and how many others there are."""
    more = [f"and {len(parts) - MOST} more"] if len(parts) > MOST else []
    return separator.join([*parts[:MOST], *more])


def lead(models: Mapping[str, pd.DataFrame]) -> str:
    """Of the first of models, which come best first: "(−1.203, +0.012 ± 0.004 over glow)".

    The numbers are its mean test log-likelihood in nats, and its lead over the next in pairs.
    """
    (_, seeds), *others = models.items()
    mean = number(seeds["test_ll"].mean(), ".3f")
    if not others:
        return f"({mean})"
    name, rivals = others[0]
    compared = paired.compare(seeds, rivals)
    half = compared.tested.half(LEVEL)
    error = f" ± {number(half, '.3f')}" if math.isfinite(half) else ""
    return f"({mean}, {number(compared.estimate.value, '+.3f')}{error} over {name})"


def stands(models: Mapping[str, pd.DataFrame]) -> str:
    """How the first of models stands to the others: "is level (within 0.05) with maf"."""
    first, *others = models
    compared = {name: paired.compare(models[first], models[name]) for name in others}
    standing = paired.standing(compared)
    level = f"level (within {margin(int(models[first]['dim'].iloc[0])):g}) with"
    words = {
        level: [name for name, how in standing.items() if how == "level"],
        "not told apart from": [name for name, how in standing.items() if how == "open"],
        "behind": [name for name, how in standing.items() if how == "behind"],
    }
    named = [f"{how} {listed(names, ', ')}" for how, names in words.items() if names]
    alone = "ahead of all other flows" if others else "alone"
    late = ", though undertrained" if improvement.improving(models[first]) else ""
    return f"is {' and '.join(named) or alone}{late}"


def plugins(sets: Mapping[str, Iterable[str]]) -> str:
    """The ranks of flows of plug-ins on data sets, of which the flows are named best first."""
    ranks = {data: places(list(flows)) for data, flows in sets.items()}
    parts = [f"on {data} {text}" for data, text in ranks.items() if text]
    return f"Flows of plug-ins: {listed(parts)}." if parts else ""


def undertrained(sets: Mapping[str, Mapping[str, pd.DataFrame]]) -> str:
    """The models of data sets that were still improving, with their gains; empty for none."""
    parts = []
    for data, models in sets.items():
        words = []
        for model, seeds in models.items():
            gain = improvement.gain_of(seeds)
            if gain is not None and improvement.improving(seeds):
                ends = (gain.value, gain.value - gain.half(2 * LEVEL))
                value, least = (number(end, "+.3f") for end in ends)
                words.append(f"{model} ({value}, at least {least})")
        if words:
            parts.append(f"{listed(words, ', ')}{_on(data, sets)}")
    what = "Shown to be undertrained, nats of validation per doubling of updates"
    return f"{what} (at least: one-sided, {1 - LEVEL:.0%}): {listed(parts)}." if parts else ""


def few_rows(sets: Mapping[str, Mapping[str, pd.DataFrame]]) -> str:
    """The models of data sets of which few test rows decide the mean of a split; empty for none.

    Its error over these rows is `EXTREME` times the median over all models of the set.
    """
    parts = []
    for data, models in sets.items():
        errors = [error for seeds in models.values() for error in seeds["test_ll_se"]]
        usual = float(pd.Series(errors, dtype=float).median())
        for model, seeds in models.items():
            for _, row in seeds[seeds["test_ll_se"] > EXTREME * usual].iterrows():
                value, error = (number(row[name], ",.0f") for name in ("test_ll", "test_ll_se"))
                about = f"({value}, s.e. {error}, on split {row['seed']})"
                parts.append(f"{model}{_on(data, sets)} {about}")
    return f"Decided by few test rows: {listed(parts, ', ')}." if parts else ""


def baselines(sets: Mapping[str, tuple[pd.DataFrame, Mapping[str, pd.DataFrame]]]) -> str:
    """The baselines that the best flow of a data set is not ahead of; empty without any.

    Of each set the seeds of the flow, and those of the baselines. Of one seed a baseline of no
    smaller mean is named.
    """
    parts = [
        f"{name}{_on(data, sets)} ({about})"
        for data, sides in sets.items()
        for name, about in _not_behind(*sides)
    ]
    what = "Baselines that the best flow is not shown to be ahead of, with their lead over it"
    return f"{what}: {listed(parts, ', ')}." if parts else ""


def _not_behind(
    seeds: pd.DataFrame, fitted: Mapping[str, pd.DataFrame]
) -> Iterator[tuple[str, str]]:
    """Each such baseline with its lead, nats, and how it stands: "+0.007 ± 0.004, level"."""
    compared = {name: paired.compare(seeds, rows) for name, rows in fitted.items()}
    standing = paired.standing(compared)
    words = {"behind": "ahead", "level": "level", "open": "not told apart"}
    for name, comparison in compared.items():
        lead = -comparison.estimate.value
        if len(seeds) > 1 and standing[name] != "ahead":
            half = (
                f" ± {number(comparison.half, '.3f')}" if comparison.half == comparison.half else ""
            )
            yield name, f"{number(lead, '+.3f')}{half}, {words[standing[name]]}"
        elif len(seeds) == 1 and lead >= 0:
            yield name, number(lead, "+.3f")


def effort(sets: Mapping[str, Mapping[str, pd.DataFrame]]) -> str:
    """The FLOPs of the training of the first model of each data set, and the least of any.

    A data set is left out where those of a model were not counted.
    """
    parts = []
    for data, models in sets.items():
        if not all("train_flops" in seeds for seeds in models.values()):
            continue
        flops = {model: float(seeds["train_flops"].median()) for model, seeds in models.items()}
        first, least = next(iter(models)), min(flops, key=lambda model: flops[model])
        other = f" (least: {least} {scientific(flops[least])})" if least != first else ""
        parts.append(f"{first}{_on(data, sets)} {scientific(flops[first])}{other}")
    return listed(parts)


def _on(data: str, sets: Sized) -> str:
    return f" on {data}" if len(sets) > 1 else ""


def lacking(name: str, series: pd.Series) -> list[str]:
    """The models of one data set that have cases without a result, by the series of these."""
    counts = series.groupby(series, sort=False).size()
    return [f"{model} on {name} ({counted(count, 'case')})" for model, count in counts.items()]
