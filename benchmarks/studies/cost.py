"""Cost against dimension: seconds, FLOPs and NFE of log_prob, training step and sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import pandas as pd
from pydantic import BaseModel, NonNegativeFloat, PositiveInt

from benchmarks.calls import measured
from benchmarks.case import Case
from benchmarks.exhibit import Figure, Table
from benchmarks.studies import Common, Contender, Result, expanded, register
from benchmarks.views import cost


class CostContender(Contender, frozen=True):
    """A flow in the comparison, at dimensions of its own where it says so."""

    dims: tuple[PositiveInt, ...] | None = None


class CostOptions(BaseModel, frozen=True, extra="forbid"):
    """The cost study's part of a suite."""

    flows: tuple[CostContender, ...]
    dims: tuple[PositiveInt, ...]
    sizes: dict[str, PositiveInt] = {}
    batch: PositiveInt = 64
    seconds: NonNegativeFloat = 5.0  # of timing, for all contenders of one D; 0: counts alone


@register
class Cost:
    """How seconds, FLOPs and NFE of one call grow with the dimension, at fixed width."""

    name: ClassVar[str] = "cost"
    question: ClassVar[str] = "What does a call cost, and how does the cost grow with D?"
    timed: ClassVar[bool] = True
    Options: ClassVar = CostOptions

    def cases(self, options: CostOptions, common: Common) -> Iterator[Case]:
        """A case for each contender and dimension, smallest dimension first."""
        contenders = expanded(options.flows)
        everywhere = {*options.dims, *(d for c in contenders for d in c.dims or ())}
        for dim in sorted(everywhere):
            for contender in contenders:
                if dim not in (contender.dims or options.dims):
                    continue
                budget = {"parameters": contender.parameters} if contender.parameters else {}
                yield common.case(
                    study=self.name,
                    flow=contender.flow,
                    dim=dim,
                    options=contender.complete(options.sizes, dim),
                    batch=contender.batch or options.batch,
                    settings={"seconds": options.seconds, **budget},
                )

    def block(self, case: Case) -> str:
        """All contenders at one dimension."""
        return f"D={case.dim}"

    def budget(self, case: Case) -> float:
        """Seconds: the share of the timing, and the counted calls."""
        return float(case.settings["seconds"]) / 5 + case.dim / 200

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        """Count each contender's calls, then time all of them in shuffled rounds."""
        yield from measured(cases)

    def tables(self, frame: pd.DataFrame) -> list[Table]:
        """The growth of each series at its largest size, and all figures by dimension."""
        return cost.tables(frame)

    def figures(self, frame: pd.DataFrame) -> list[Figure]:
        """Seconds and FLOPs a sample against D, a column for each call."""
        return cost.figures(frame)
