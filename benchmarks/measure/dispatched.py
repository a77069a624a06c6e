"""Operators that torch dispatches while a case is measured, and summaries of its arrays.

Both identify a behaviour without a clock: the gate compares them with a baseline.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, Self

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.core.case import Case
from benchmarks.core.study import Result, Study

CACHED = type(cache(len))
OPERATORS, ARRAYS = "operators", "array_figures"  # their names among the notes of a record


class Dispatched(TorchDispatchMode):
    """Counts the operators that are dispatched within its ``with`` block, by name."""

    entered = 0

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        Dispatched.entered += 1
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        Dispatched.entered -= 1

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def counting() -> bool:
    """Return whether operators are counted, so that nothing is timed."""
    return Dispatched.entered > 0


def dispatched(study: Study, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
    """Measure each case alone; yield key and result, with operators and arrays in the notes."""
    for case in cases:
        forget()
        with _drawn_in(getattr(torch, case.dtype)), Dispatched() as mode:
            results = list(study.measure([case]))
        for key, result in results:
            notes = {OPERATORS: dict(sorted(mode.counts.items())), ARRAYS: summary(result.arrays)}
            yield key, replace(result, notes={**result.notes, **notes})


@contextmanager
def _drawn_in(dtype: torch.dtype) -> Iterator[None]:
    """Draw initial weights and noise in ``dtype``; in float32 other processors round otherwise."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def forget() -> None:
    """Empty the caches of our functions, so that what they compute is computed in each case."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("flows", "benchmarks"):
            for value in list(vars(module).values()):
                if isinstance(value, CACHED):
                    value.cache_clear()


def summary(arrays: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """Return the size of each array without seconds, and mean and RMS of its finite values."""
    figures = {}
    for name, array in sorted((n, a) for n, a in arrays.items() if not n.endswith("seconds")):
        values = np.asarray(array, dtype=float).ravel()
        finite = values[np.isfinite(values)]
        figures[name] = [float(values.size), 0.0, 0.0]
        if len(finite):
            figures[name][1:] = [float(finite.mean()), float(np.sqrt(np.mean(finite**2)))]
    return figures
