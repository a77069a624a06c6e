"""Speed: one flow by eager torch, compiled, and by other libraries, at errors that are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from time import perf_counter
from typing import Any, Self

import torch
from pydantic import (
    JsonValue,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

import flows
from benchmarks.core.case import Case, Settings, canonical, filled
from benchmarks.core.study import Common, Result, Study, register
from benchmarks.evaluation.contest import MODES, Competitor, Contest
from benchmarks.measure.beside import spinning
from benchmarks.measure.calls import with_times
from benchmarks.measure.clock import REFERENCE, interleave
from benchmarks.measure.foreign import peers
from benchmarks.measure.foreign.process import ForeignError
from flows.threads import threads_by_work

MATMUL, ROWS = "matmul", 1536  # the product that measures the machine's peak, of square matrices
MATMUL_FLOPS = 2 * ROWS**3


class Subject(Settings, frozen=True):
    """A flow at one size, as our library has it."""

    flow: str
    """Name of the flow."""
    dim: PositiveInt
    """Dimension D."""
    batch: PositiveInt
    """Rows of a batch."""
    options: Mapping[str, JsonValue] = {}
    """Options of the flow by name, where they differ from its defaults."""


class Entry(Settings, frozen=True):
    """A competitor: a mode of ours or a peer, with changes to the options of every subject."""

    by: str
    """Mode of this project or name of a library. It alone may stand in place of the table."""
    options: Mapping[str, JsonValue] = {}
    """Changes to the options of every subject."""
    label: str = ""
    """Name in tables; that of the mode or library if left out."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        return {"by": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.by not in (known := (*MODES, *peers.names())):
            raise ValueError(f"unknown competitor {self.by!r}; choose from: {', '.join(known)}")
        return self

    def takes(self, flow: str) -> bool:
        """Whether there is a counterpart of a flow."""
        return self.by in MODES or flow in peers.peer(self.by).FAMILIES


class SpeedOptions(Settings, frozen=True):
    """The speed study's part of a suite."""

    subjects: tuple[Subject, ...]
    """Flows at one size each, which all competitors run."""
    competitors: tuple[Entry, ...] = tuple(Entry(by=name) for name in (*MODES, *peers.names()))
    """Modes of this project and libraries that are compared."""
    gain: PositiveFloat = 1.0
    """Factor on the initial weight matrices; at 1 the fields are too easy to solve."""
    updates: NonNegativeInt = 0
    """Updates that move a flow off its initial weights, at which some densities are exact."""
    tolerance: PositiveFloat = 1e-10
    """Tolerance of the solution in float64 that errors refer to."""
    seconds: NonNegativeFloat = 30.0
    """Seconds of timing one subject; 0 times nothing."""
    busy: NonNegativeInt = 0
    """Processes that keep a core busy each meanwhile, as on a shared node."""


@register
class Speed(Study):
    """Times of the same calls by all who have the flow, in shuffled turns, with their errors."""

    name = "speed"
    interleaved = True
    uses = ("benchmarks.measure", "benchmarks.measure.foreign", "benchmarks.evaluation")
    Options = SpeedOptions

    def cases(self, options: SpeedOptions, common: Common) -> Iterator[Case]:
        """A case for each subject and each competitor that has such a flow."""
        settings = options.model_dump(include={"gain", "tolerance", "seconds", "busy"})
        for subject in options.subjects:
            member = flows.members[subject.flow]
            for entry in options.competitors:
                if not entry.takes(subject.flow):
                    continue
                yield common.case(
                    study=self.name,
                    flow=subject.flow,
                    dim=subject.dim,
                    options=canonical(member.complete(filled(entry.options, subject.options))),
                    batch=subject.batch,
                    updates=options.updates,
                    settings={**settings, "by": entry.by},
                    roles={"label": entry.label} if entry.label else {},
                )

    def block(self, case: Case) -> str:
        """A flow at one size, on a machine as busy."""
        size = f"D={case.dim} N={case.batch} H={case.options.get('hidden')}"
        return f"{case.flow} {size} busy={case.settings['busy']}"

    def budget(self, case: Case) -> float:
        """Seconds: a part of the timing, compilation, and the solution that errors refer to."""
        return float(case.settings["seconds"]) / 4 + 15 + case.dim / 4

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        """Take all errors and compile, then time in shuffled turns; a failure costs no other.

        Solves take as many threads as where nobody has set them: that is what a user gets.
        """
        with threads_by_work(), ExitStack() as stack:
            contest, entered = Contest(stack), {}
            results: dict[str, Result] = {}
            for case in cases:
                start = perf_counter()
                try:
                    competitor = contest.enter(case)
                    compiling = competitor.compile_seconds(case.device)
                    errors = competitor.solution().errors(competitor)
                except Exception as error:
                    yield case.key, Result.of(error)
                    continue
                compiling = compiling if case.settings["seconds"] else {}
                metrics = {**competitor.metrics, **compiling, **errors}
                seconds = perf_counter() - start
                results[case.key] = Result(metrics, notes=competitor.notes, seconds=seconds)
                entered[case.key] = competitor
            yield from _timed(cases[0], entered, results)


def _timed(
    case: Case, entered: Mapping[str, Competitor], results: Mapping[str, Result]
) -> Iterator[tuple[str, Result]]:
    """Time all works; anew without a peer that fails meanwhile."""
    left, samples = dict(entered), {}
    while left:
        works = {f"{key}/{n}": w for key, one in left.items() for n, w in one.works.items()}
        try:
            with spinning(int(case.settings["busy"])):
                samples = interleave(
                    {**works, MATMUL: _matmul(case)},
                    seconds=float(case.settings["seconds"]),
                    device=case.device,
                    warm=1,
                )
            break
        except ForeignError as error:
            broken = [k for k, one in left.items() if _runs(one, error.module)]
            for key in broken:
                del left[key]
                yield key, replace(Result.of(error), seconds=results[key].seconds)
    for key, competitor in left.items():
        names = competitor.works if samples else ()
        times = {f"{name}_seconds": samples[f"{key}/{name}"] for name in names}
        times |= {"matmul_seconds": samples[MATMUL]} if samples else {}
        yield key, with_times(results[key], times, samples.get(REFERENCE))


def _runs(competitor: Competitor, module: str) -> bool:
    """Whether a competitor is the peer of a module."""
    return bool(competitor.notes.get("peer", {}).get("module") == module)


def _matmul(case: Case) -> Callable[[], object]:
    matrix = torch.ones(ROWS, ROWS, device=case.device, dtype=getattr(torch, case.dtype))
    return lambda: matrix @ matrix
