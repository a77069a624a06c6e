"""Libraries: our flows and another library's, one pair at a time, at the same accuracy or not."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn

from benchmarks.core.case import Case, Settings
from benchmarks.core.contender import Contender, usable
from benchmarks.core.study import Common, Result, Study, register
from benchmarks.evaluation.likelihood import exact, solve_loosely
from benchmarks.measure.calls import Calls, Costed, calls, measured, rows_of
from benchmarks.measure.foreign import peers
from benchmarks.measure.foreign.flow import ForeignFlow
from benchmarks.measure.foreign.process import lacking
from benchmarks.measure.preparing import prepare

SIDES = ("ours", "theirs")


class Other(Contender, frozen=True):
    """A flow of another library: a member, or the counterpart of a flow of ours by a peer."""

    by: str = ""
    """Peer that has the counterpart of `flow`, in a process of its own; a member if left out."""

    @property
    def name(self) -> str:
        """The flow's name, with the peer's before it."""
        return f"{self.by}_{self.flow}" if self.by else self.flow


class Pair(Settings, frozen=True):
    """Two flows of one architecture; what it leaves out it takes from the study."""

    ours: Contender
    """Flow of this project."""
    theirs: Other
    """Flow of the other library."""
    parameters: PositiveInt | None = None
    """Number of trainable parameters of both; that of the study if left out."""
    same_weights: bool = False
    """Whether theirs gets the initial weights of ours, which then have to have the same shapes."""

    @property
    def name(self) -> str:
        """Both flows' names, ours first."""
        return f"{self.ours.flow} | {self.theirs.name}"

    def usable(self) -> bool:
        """Whether the packages of both can be used; one line of warning for one that cannot."""
        fault = lacking(peers.peer(self.theirs.by)) if self.theirs.by else ""
        if fault:
            warnings.warn(f"flows of {self.theirs.by} are left out: it {fault}", stacklevel=1)
        return not fault and usable(self.ours) and usable(self.theirs)


class LibrariesOptions(Settings, frozen=True):
    """The libraries study's part of a suite."""

    pairs: tuple[Pair, ...]
    """Pairs of flows that are compared."""
    dims: tuple[PositiveInt, ...]
    """Dimensions D of the pairs."""
    sizes: Mapping[str, PositiveInt] = {}
    """Sizes of the networks by name (`hidden`, `depth`, `layers`), for flows that use them."""
    parameters: PositiveInt = 100_000
    """Number of trainable parameters of every flow, within 5 %; it decides the width."""
    batch: PositiveInt = 64
    """Rows of a batch."""
    updates: PositiveInt = 10
    """Updates that move a flow off its initial weights, at which some densities are exact."""
    tolerance: PositiveFloat = 1e-10
    """Tolerance of the solution in float64 that errors refer to."""
    accuracy: PositiveFloat | None = None
    """Error in nats that solvers are loosened to; without it they stay as they are."""
    seconds: NonNegativeFloat = 5.0
    """Seconds of timing one pair at one D; 0 times nothing."""


@register
class Libraries(Study):
    """What the same flow costs in two libraries, with the error that each makes beside it."""

    name = "libraries"
    question = "Which library is faster, and is it as accurate?"
    uses = ("benchmarks.measure", "benchmarks.measure.foreign", "benchmarks.evaluation")
    Options = LibrariesOptions

    def cases(self, options: LibrariesOptions, common: Common) -> Iterator[Case]:
        """Two cases for each pair and dimension."""
        names = {"tolerance", "seconds", "accuracy"}
        shared = options.model_dump(include=names, exclude_none=True)
        for dim in options.dims:
            for pair in filter(Pair.usable, options.pairs):
                parameters = pair.parameters or options.parameters
                settings: dict[str, Any] = {"pair": pair.name, "parameters": parameters, **shared}
                for side, contender in zip(SIDES, (pair.ours, pair.theirs), strict=True):
                    budgeted = contender.model_copy(update={"parameters": parameters})
                    peer = {"by": by} if (by := getattr(contender, "by", "")) else {}
                    case = common.case(
                        study=self.name,
                        flow=contender.flow,
                        dim=dim,
                        options=budgeted.complete(options.sizes, dim),
                        batch=contender.batch or options.batch,
                        updates=options.updates,
                        settings={**settings, "side": side, **peer},
                    )
                    yield case
                    if pair.same_weights:
                        settings["weights"] = {"flow": case.flow, "options": case.options}

    def block(self, case: Case) -> str:
        """A pair at one dimension."""
        return f"{case.settings['pair']} D={case.dim}"

    def budget(self, case: Case) -> float:
        """Seconds: half of the timing, the updates, and the solution that errors refer to."""
        return float(case.settings["seconds"]) / 2 + case.dim / 10

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        """Take both flows' errors, count their calls, then time them in shuffled rounds.

        A peer's flow runs in its own process: its times are by its own clock, compiling apart, and
        nothing of it is counted.
        """
        with ExitStack() as stack:

            def build(case: Case) -> Costed:
                if name := str(case.settings.get("by", "")):
                    batch, parameters = rows_of(case)[: case.batch], case.settings["parameters"]
                    return ForeignFlow.start(stack, name, case, batch.numpy(), int(parameters))
                return calls(case)

            yield from measured(cases, _error, build=build)


def _error(case: Case, built: Calls | ForeignFlow) -> dict[str, float]:
    """Largest error of log_prob over the batch, after the updates, against a tight float64 one.

    Where the case asks for an accuracy, its ODE is solved from then on by the loosest tolerances.
    """
    if isinstance(built, ForeignFlow):
        rows = rows_of(case)[: case.batch].numpy()
        if case.updates:
            built.fit(rows, case.updates)
        (density,) = built.precise("log_prob")
        error = np.abs(built.log_prob(rows) - density["log_prob"]).max()
        return {"log_prob_error": float(error)}
    flow, batch = built.flow, built.batch
    if source := case.settings.get("weights"):
        copy_weights(prepare(case.changed(**source), batch.cpu()), flow)
    optimiser = torch.optim.Adam(flow.parameters())
    for _ in range(case.updates):
        optimiser.zero_grad()
        flow.loss(batch).backward()
        optimiser.step()
    best = exact(flow, float(case.settings["tolerance"]))
    metrics = {}
    with torch.no_grad():
        expected = best.log_prob(batch.double())
        if accuracy := case.settings.get("accuracy"):
            solver = case.options.get("solver") or {}
            metrics = solve_loosely(flow, batch, expected, accuracy, solver)
        errors = flow.log_prob(batch) - expected
    return {**metrics, "log_prob_error": errors.abs().max().item()}


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy all parameters in order; ValueError where shapes differ."""
    pairs = list(zip_longest(source.parameters(), target.parameters()))
    for one, other in pairs:
        if one is None or other is None or one.shape != other.shape:
            raise ValueError("same_weights needs two flows with parameters of the same shapes")
        other.copy_(one)
