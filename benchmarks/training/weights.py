"""Flows that are kept after their training, as densities of raw data."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import flows
from benchmarks.core.case import Case
from benchmarks.datasets import Dataset

folders: dict[str, Path] = {}  # of flows of the block in progress, by case key


def keep(case: Case, flow: flows.Flow, data: Dataset, **notes: Any) -> None:
    """Write the flow of a case into its folder, if it is to be kept, with notes as JSON.

    Where the data set has scaled its columns, that scaling becomes part of the flow.
    """
    if (folder := folders.get(case.key)) is None:
        return
    own = copy.deepcopy(flow)
    like = own.reference()
    if data.scaling is not None:
        own.prepend(copy.deepcopy(data.scaling).to(like))
    columns = list(data.columns) if data.columns else None
    flows.save(own, folder, key=case.key, dataset=case.dataset, columns=columns, **notes)
