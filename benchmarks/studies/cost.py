"""Cost against dimension: seconds, FLOPs and NFE of log_prob and of a training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import pandas as pd
import torch
from pydantic import BaseModel, PositiveFloat, PositiveInt

import flows
from benchmarks.case import Case
from benchmarks.exhibit import Figure, Table
from benchmarks.measure.clock import REFERENCE, interleave
from benchmarks.measure.operations import Operations
from benchmarks.studies import Common, Contender, Result, expanded, register
from benchmarks.train import Training, prepare
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
    seconds: PositiveFloat = 5.0  # of timing, for all contenders of one dimension together


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
                yield common.case(
                    study=self.name,
                    flow=contender.flow,
                    dim=dim,
                    options=contender.complete(options.sizes, dim),
                    batch=contender.batch or options.batch,
                    settings={"seconds": options.seconds},
                )

    def block(self, case: Case) -> str:
        """All contenders at one dimension."""
        return f"D={case.dim}"

    def budget(self, case: Case) -> float:
        """Seconds: the share of the timing, and the counted calls."""
        return float(case.settings["seconds"]) / 5 + case.dim / 200

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        """Count each contender's calls, then time all of them in shuffled rounds."""
        counted: dict[str, dict[str, Any]] = {}
        notes: dict[str, dict[str, Any]] = {}
        works: dict[str, Callable[[], object]] = {}
        for case in cases:
            try:
                calls, parameters = _calls(case)
                counted[case.key], notes[case.key] = {"parameters": parameters}, {}
                for name, (call, flow) in calls.items():
                    metrics, uncounted = _count(name, call, flow)
                    counted[case.key] |= metrics
                    notes[case.key][f"{name}_uncounted"] = uncounted
                works |= {f"{case.key}/{name}": call for name, (call, _) in calls.items()}
            except Exception as error:  # one contender's fault must not cost the others
                counted.pop(case.key, None)
                yield case.key, Result.of(error)
        if not counted:
            return
        seconds = float(cases[0].settings["seconds"])
        samples = interleave(works, seconds=seconds, device=cases[0].device)
        for key, metrics in counted.items():
            timed = {f"{name}_seconds": samples[f"{key}/{name}"] for name in ("log_prob", "step")}
            reference = {"reference_seconds": samples[REFERENCE]}
            yield key, Result(metrics | timed | reference, notes=notes[key])

    def tables(self, frame: pd.DataFrame) -> list[Table]:
        """The growth of each series at its largest size, and all figures by dimension."""
        return cost.tables(frame)

    def figures(self, frame: pd.DataFrame) -> list[Figure]:
        """Seconds and FLOPs a sample against D, for both calls."""
        return cost.figures(frame)


def _calls(case: Case) -> tuple[dict[str, tuple[Callable[[], object], flows.Flow]], int]:
    """The two calls of a case, with the flow to count on, and its number of parameters."""
    generator = torch.Generator().manual_seed(case.seeds.data)
    rows = max(case.batch, 16)
    x = torch.randn(rows, case.dim, generator=generator, dtype=getattr(torch, case.dtype))
    flow = prepare(case, x, Training())
    batch = x[: case.batch].to(case.device)
    optimiser = torch.optim.Adam(flow.parameters())

    def log_prob() -> None:
        with torch.no_grad():
            flow.log_prob(batch)

    def step() -> None:
        optimiser.zero_grad()
        flow.loss(batch).backward()
        optimiser.step()

    calls: dict[str, tuple[Callable[[], object], flows.Flow]] = {
        "log_prob": (log_prob, flow),
        "step": (step, flow),
    }
    return calls, sum(p.numel() for p in flow.parameters() if p.requires_grad)


def _count(
    name: str, call: Callable[[], object], flow: flows.Flow
) -> tuple[dict[str, float], dict[str, int]]:
    """Exact counts of one call, after one that is not counted (an optimiser makes its state)."""
    call()
    with flows.count_nfe(flow) as nfe, Operations() as operations:
        call()
    metrics: dict[str, float] = {
        f"{name}_flops": operations.flops,
        f"{name}_pointwise": operations.elements,
        f"{name}_nfe": nfe.forward + nfe.backward,
    }
    return metrics, dict(operations.uncounted)
