"""Cost against sizes: seconds, FLOPs, bytes and NFE of log_prob, training step and sampling."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveInt

from benchmarks.core.case import Case, Settings
from benchmarks.core.study import Common, Result, Study, register
from benchmarks.measure import process
from benchmarks.measure.calls import Calls, measured, resident_bytes
from benchmarks.measure.clock import Heap
from benchmarks.measure.operations import count_shapes
from benchmarks.studies.contender import Contender, expanded

FRESH_TIMEOUT = 3600.0  # seconds; the suite's time limit is meant to come first


class CostContender(Contender, frozen=True):
    """A flow in the comparison, at dimensions of its own where it says so."""

    dims: tuple[PositiveInt, ...] | None = None
    """Dimensions D of this flow; those of the study if left out."""


Sizes = PositiveInt | tuple[PositiveInt, ...]  # several: each of them with each of the others


class CostOptions(Settings, frozen=True):
    """The cost study's part of a suite.

    At ``counted_dims`` log_prob is counted from its shapes and nothing is computed: for dimensions
    where a call takes too long, or too much memory.
    """

    flows: tuple[CostContender, ...]
    """Flows that are compared."""
    dims: tuple[PositiveInt, ...]
    """Dimensions D at which calls are counted and timed."""
    counted_dims: tuple[PositiveInt, ...] = ()
    """Dimensions D at which log_prob is counted from its shapes; nothing is computed there."""
    sizes: Mapping[str, Sizes] = {}
    """Sizes of the networks by name (`hidden`, `depth`, `layers`), for flows that use them. A list
    is an axis of the grid.
    """
    batch: Sizes = 64
    """Rows of a batch. A list is an axis of the grid."""
    one_at_a_time: bool = False
    """Whether batch and each of the sizes vary alone, with the others at their first values, in
    place of the grid of all.
    """
    seconds: NonNegativeFloat = 5.0
    """Seconds of timing for all flows at one D and one point of the grid; 0 gives counts alone."""
    resident: bool = False
    """Whether to measure the resident memory of fresh processes too, at some seconds a case."""
    heap: Heap = "steady"
    """Allocator during timing: "steady" keeps freed memory in the process; "default" times in a
    fresh process that returns it to the system.
    """


@register
class Cost(Study):
    """How seconds, FLOPs, bytes and NFE of one call grow with D, N, H, depth and layers."""

    name = "cost"
    Options = CostOptions

    def cases(self, options: CostOptions, common: Common) -> Iterator[Case]:
        """A case for each contender, dimension and point of the grid, smallest dimension first."""
        contenders = expanded(options.flows)
        counting = replace(common, device="meta")
        everywhere = {*options.dims, *(d for c in contenders for d in c.dims or ())}
        how: dict[str, Any] = {"seconds": options.seconds}
        how |= {"resident": True} if options.resident else {}
        how |= {"heap": options.heap} if options.heap != "steady" else {}
        grid = list(_grid(options))
        for place, dims in ((common, everywhere), (counting, {*options.counted_dims})):
            for dim, contender in product(sorted(dims), contenders):
                if place is common and dim not in (contender.dims or options.dims):
                    continue
                for number, (batch, sizes) in enumerate(grid):
                    point = {"point": number} if len(grid) > 1 else {}
                    fields: dict[str, Any] = {"study": self.name, "batch": batch, "settings": how}
                    yield contender.case(place, dim, sizes, roles=point, **fields)

    def block(self, case: Case) -> str:
        """All contenders at one dimension and point of the grid."""
        how = [case.settings.get(name) for name in ("seconds", "resident")]
        how += [heap] if (heap := case.settings.get("heap")) else []
        return f"D={case.dim} on {case.device}, {how}, {case.roles.get('point')}"

    def budget(self, case: Case) -> float:
        """Seconds: the share of the timing, the counted calls, and the fresh processes."""
        if case.device == "meta":
            return case.dim / 5000
        timing = float(case.settings["seconds"]) / 10
        return timing + case.dim / 200 + (10 if "resident" in case.settings else 0)

    def result(self, case: Case) -> Result:
        return Result(count_shapes(case))

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        """Count each contender's calls, then time all of them in shuffled rounds."""
        if cases[0].device == "meta":
            yield from super().measure(cases)
        elif cases[0].settings.get("heap") == "default":
            yield from process.call(measure_afresh, cases, FRESH_TIMEOUT)
        else:
            yield from measured(cases, _resident)


def _grid(options: CostOptions) -> Iterator[tuple[int, dict[str, int]]]:
    """The combinations of batches and sizes: all of them, or those that vary one at a time."""
    values = (options.batch, *options.sizes.values())
    several = [value if isinstance(value, tuple) else (value,) for value in values]
    for point in product(*several):
        varied = sum(value != first for value, (first, *_) in zip(point, several, strict=True))
        if varied <= 1 or not options.one_at_a_time:
            yield point[0], dict(zip(options.sizes, point[1:], strict=True))


def measure_afresh(cases: Sequence[Case]) -> list[tuple[str, Result]]:
    """Keys and results of cases, with the allocator of this process as it is."""
    torch.set_num_threads(cases[0].threads)
    return list(measured(cases, _resident, heap="default"))


def _resident(case: Case, calls: Calls) -> dict[str, float]:
    """By how much log_prob and a training step make a fresh process grow, where it is asked."""
    if "resident" not in case.settings:
        return {}
    return {f"{call}_resident_bytes": resident_bytes(case, call) for call in ("log_prob", "step")}
