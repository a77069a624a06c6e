"""Models of one data set, best first: the rows of the tables of densities."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmarks.analysis.inference import standard_error
from benchmarks.core.naming import is_baseline, series


@dataclass(frozen=True)
class Models:
    """Cases of one data set by model, best first: those that are done, and every case."""

    data: str
    dim: int
    facts: dict[str, Any]  # about the data, from the notes of the records
    done: dict[str, pd.DataFrame]
    every: dict[str, pd.DataFrame]

    @property
    def flows(self) -> dict[str, pd.DataFrame]:
        """The models that are trained, without baselines."""
        return {k: v for k, v in self.done.items() if not is_baseline(v).any()}


def models_of(name: str, group: pd.DataFrame) -> Models:
    """Models of the cases of one data set, whatever their status."""
    group = group.assign(series=series(group))
    every = {str(model): seeds for model, seeds in group.groupby("series", sort=False)}
    done = {model: seeds[seeds["status"] == "done"] for model, seeds in every.items()}
    done = {model: seeds for model, seeds in done.items() if len(seeds)}
    order = sorted(done, key=lambda model: -done[model]["test_ll"].mean())
    facts: dict[str, Any] = next((n["data"] for n in notes_of(group) if "data" in n), {})
    every = {model: every[model] for model in [*order, *every]}
    return Models(name, int(group["dim"].iloc[0]), facts, {m: done[m] for m in order}, every)


def mean_of(seeds: pd.DataFrame, metric: str) -> tuple[float, float]:
    """Mean of a metric over seeds, and its standard error (over the samples, if one seed).

    NaN where no seed has the metric.
    """
    values = seeds.get(metric, pd.Series(dtype=float)).dropna()
    if len(values) > 1:
        return float(values.mean()), standard_error(values)
    return float(values.mean()), float(seeds.get(f"{metric}_se", pd.Series(dtype=float)).mean())


def notes_of(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The notes of these records, a dictionary for each."""
    return [notes if isinstance(notes, dict) else {} for notes in rows.get("notes", ())]
