"""What the records of densities say: the best, what is level with it, its effort, what lacks."""

from __future__ import annotations

import pandas as pd

from benchmarks.analysis.models import Models, models_of
from benchmarks.studies.sentences import (
    baselines,
    effort,
    lacking,
    lead,
    listed,
    plugins,
    stands,
    undertrained,
)


def says(frame: pd.DataFrame) -> list[str]:
    """At most seven sentences; none where no flow was trained."""
    sets = [models_of(str(name), group) for name, group in frame.groupby("dataset", sort=False)]
    known = [models for models in sets if models.flows]
    if not known:
        return []
    late = undertrained({models.data: models.flows for models in known})
    fitted = baselines({m.data: _sides(m) for m in known})
    own = plugins({models.data: models.flows for models in known})
    lines = [_best(known), own, _level(known), late, fitted, _effort(known), _lacks(sets)]
    return [line for line in lines if line]


def _sides(models: Models) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """The seeds of the best flow, and those of each baseline."""
    fitted = {name: rows for name, rows in models.done.items() if name not in models.flows}
    return next(iter(models.flows.values())), fitted


def _best(sets: list[Models]) -> str:
    parts = [f"{next(iter(m.flows))} on {m.data} {lead(m.flows)}" for m in sets]
    return f"Highest mean test log-likelihood of a flow, nats: {listed(parts, ', ')}."


def _level(sets: list[Models]) -> str:
    judged = [models for models in sets if _repeated(models)]
    parts = [f"{next(iter(m.flows))} on {m.data} {stands(m.flows)}" for m in judged]
    single = [models.data for models in sets if models not in judged]
    if single:
        parts.append(f"one seed judges no lead on {listed(single, ', ')}")
    text = listed(parts)
    return f"{text[:1].upper()}{text[1:]}."


def _repeated(models: Models) -> bool:
    """Whether the leading flow has several seeds, by which it can be compared."""
    return len(next(iter(models.flows.values()))) > 1


def _effort(sets: list[Models]) -> str:
    own = effort({models.data: models.flows for models in sets})
    return f"FLOPs of training the best: {own}." if own else ""


def _lacks(sets: list[Models]) -> str:
    parts = []
    for models in sets:
        every = pd.concat(models.every.values())
        failed = every[~every["status"].isin(["done", "skipped"])]
        parts += lacking(models.data, failed["series"])
    return f"Without a result: {listed(parts, ', ')}." if parts else ""
