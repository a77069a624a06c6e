"""What the records of densities say: the best, what is level with it, its effort, what lacks."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from benchmarks.analysis import paired
from benchmarks.analysis.models import Models, models_of
from benchmarks.core.formats import number
from benchmarks.studies.sentences import effort, lacking, likelihood, listed, stands, undertrained


def says(frame: pd.DataFrame) -> list[str]:
    """At most six sentences; none where no flow was trained."""
    sets = [models_of(str(name), group) for name, group in frame.groupby("dataset", sort=False)]
    known = [models for models in sets if models.flows]
    if not known:
        return []
    late = undertrained({models.data: models.flows for models in known})
    lines = [_best(known), _level(known), late, _baselines(known), _effort(known), _lacks(sets)]
    return [line for line in lines if line]


def _best(sets: list[Models]) -> str:
    parts = []
    for models in sets:
        best, seeds = next(iter(models.flows.items()))
        parts.append(f"{best} on {models.data} ({likelihood(seeds)})")
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


def _baselines(sets: list[Models]) -> str:
    parts = [part for models in sets for part in _not_behind(models)]
    return f"Baselines not shown to be below the best flow: {listed(parts, ', ')}." if parts else ""


def _not_behind(models: Models) -> Iterator[str]:
    """Baselines that the best flow is not ahead of; of one seed those of no smaller mean."""
    seeds = next(iter(models.flows.values()))
    baselines = {name: rows for name, rows in models.done.items() if name not in models.flows}
    compared = {name: paired.compare(seeds, rows) for name, rows in baselines.items()}
    standing = paired.standing(compared)
    for name, comparison in compared.items():
        lead = comparison.estimate.value
        if standing[name] != "ahead" if _repeated(models) else lead <= 0:
            yield f"{name} on {models.data} ({number(-lead, '+.3f')} nats)"


def _effort(sets: list[Models]) -> str:
    counted = [m for m in sets if all("train_flops" in rows for rows in m.flows.values())]
    parts = [effort(models.flows, models.data) for models in counted]
    return f"To train the best: {listed(parts)}." if parts else ""


def _lacks(sets: list[Models]) -> str:
    parts = []
    for models in sets:
        every = pd.concat(models.every.values())
        failed = every[~every["status"].isin(["done", "skipped"])]
        parts += lacking(models.data, failed["series"])
    return f"Without a result: {listed(parts, ', ')}." if parts else ""
