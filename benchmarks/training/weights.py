"""Flows that are kept after their training, as densities of raw data."""

import copy
from pathlib import Path
from typing import Any

import flows
from benchmarks.core.case import Case
from benchmarks.datasets import Dataset
from flows.conditional import Conditional
from flows.preprocessing import Standardization

folders: dict[str, Path] = {}  # of flows of the block in progress, by case key


def keep(case: Case, flow: flows.Flow, data: Dataset, **notes: Any) -> None:
    """Write the flow of a case into its folder, if it is to be kept, with notes as JSON.

    Where the data set has scaled its columns, that scaling becomes part of the flow, so that it
    takes raw rows, and raw contexts if it is conditional.
    """
    if (folder := folders.get(case.key)) is None:
        return
    raw = copy.deepcopy(flow.flow if isinstance(flow, Conditional) else flow)
    like = raw.reference()
    if (scaling := data.scaling) is not None:
        parts = [scaling.mean.split([data.dim, data.context_dim])]
        parts += [scaling.factor.split([data.dim, data.context_dim])]
        of_rows, of_context = (Standardization(*part).to(like) for part in zip(*parts, strict=True))
        raw.prepend(of_rows)
        if data.context_dim:
            raw.scale_context(of_context)
    columns = list(data.columns) if data.columns else None
    flows.save(raw, folder, key=case.key, dataset=case.dataset, columns=columns, **notes)
