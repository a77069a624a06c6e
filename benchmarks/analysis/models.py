"""The models of a data set, as the tables of the study density take them: best first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmarks.core.series import fitted, series


@dataclass(frozen=True)
class Models:
    """The cases of one data set: by model, best first, those that are done and all of them."""

    data: str
    dim: int
    facts: dict[str, Any]  # of the data, as the records have them
    done: dict[str, pd.DataFrame]
    every: dict[str, pd.DataFrame]

    @property
    def flows(self) -> dict[str, pd.DataFrame]:
        """Those that are trained."""
        return {k: v for k, v in self.done.items() if not fitted(v).any()}


def models_of(name: str, group: pd.DataFrame) -> Models:
    """Of the cases of one data set, whatever became of them."""
    group = group.assign(series=series(group))
    every = {str(model): seeds for model, seeds in group.groupby("series", sort=False)}
    done = {model: seeds[seeds["status"] == "done"] for model, seeds in every.items()}
    found = {model: seeds for model, seeds in done.items() if len(seeds)}
    order = sorted(found, key=lambda model: -found[model]["test_ll"].mean())
    facts: dict[str, Any] = next((n["data"] for n in notes_of(group) if "data" in n), {})
    every = {model: every[model] for model in [*order, *(m for m in every if m not in found)]}
    return Models(name, int(group["dim"].iloc[0]), facts, {m: found[m] for m in order}, every)


def notes_of(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The notes of these records, of each one a dictionary."""
    return [notes if isinstance(notes, dict) else {} for notes in rows.get("notes", ())]
