"""Libraries: our flows and another library's, one pair at a time, at the same accuracy or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from pydantic import BaseModel, NonNegativeFloat, PositiveFloat, PositiveInt

from benchmarks.core.case import Case
from benchmarks.core.study import Common, Contender, Result, Study, register
from benchmarks.evaluation.likelihood import exact
from benchmarks.measure.calls import Calls, measured

SIDES = ("ours", "theirs")


class Pair(BaseModel, frozen=True, extra="forbid"):
    """Two flows of one architecture; what it leaves out it takes from the study."""

    ours: Contender
    theirs: Contender
    parameters: PositiveInt | None = None

    @property
    def name(self) -> str:
        """Both flows' names, ours first."""
        return f"{self.ours.flow} | {self.theirs.flow}"


class LibrariesOptions(BaseModel, frozen=True, extra="forbid"):
    """The libraries study's part of a suite."""

    pairs: tuple[Pair, ...]
    dims: tuple[PositiveInt, ...]
    sizes: dict[str, PositiveInt] = {}
    parameters: PositiveInt = 100_000  # of every flow, within 5 %: the width follows
    batch: PositiveInt = 64
    updates: PositiveInt = 10  # that move a flow off its initial weights, where some are exact
    tolerance: PositiveFloat = 1e-10  # of the float64 solution that errors are measured against
    seconds: NonNegativeFloat = 5.0  # of timing one pair at one dimension; 0: none


@register
class Libraries(Study):
    """What the same flow costs in two libraries, with the error that each makes beside it."""

    name = "libraries"
    question = "Which library is faster, and is it as accurate?"
    uses = ("benchmarks.measure", "benchmarks.evaluation")
    Options = LibrariesOptions

    def cases(self, options: LibrariesOptions, common: Common) -> Iterator[Case]:
        """Two cases for each pair and dimension."""
        for dim in options.dims:
            for pair in options.pairs:
                parameters = pair.parameters or options.parameters
                for side, contender in zip(SIDES, (pair.ours, pair.theirs), strict=True):
                    budgeted = contender.model_copy(update={"parameters": parameters})
                    yield common.case(
                        study=self.name,
                        flow=contender.flow,
                        dim=dim,
                        options=budgeted.complete(options.sizes, dim),
                        batch=contender.batch or options.batch,
                        updates=options.updates,
                        settings={
                            "pair": pair.name,
                            "side": side,
                            "parameters": parameters,
                            "tolerance": options.tolerance,
                            "seconds": options.seconds,
                        },
                    )

    def block(self, case: Case) -> str:
        """A pair at one dimension."""
        return f"{case.settings['pair']} D={case.dim}"

    def budget(self, case: Case) -> float:
        """Seconds: half of the timing, the updates, and the solution that errors refer to."""
        return float(case.settings["seconds"]) / 2 + case.dim / 10

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        """Take both flows' errors, count their calls, then time them in shuffled rounds."""
        yield from measured(cases, _error)


def _error(case: Case, found: Calls) -> dict[str, float]:
    """Largest error of log_prob over the batch, after the updates, against a tight float64 one."""
    optimiser = torch.optim.Adam(found.flow.parameters())
    for _ in range(case.updates):
        optimiser.zero_grad()
        found.flow.loss(found.batch).backward()
        optimiser.step()
    best = exact(found.flow, float(case.settings["tolerance"]))
    with torch.no_grad():
        errors = found.flow.log_prob(found.batch) - best.log_prob(found.batch.double())
    return {"log_prob_error": errors.abs().max().item()}
