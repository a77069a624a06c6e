"""Libraries: one architecture by all libraries that have it, at the same accuracy or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn

from benchmarks.core.case import Case
from benchmarks.core.study import Common, Result, Study, register
from benchmarks.evaluation.likelihood import exact, solve_loosely
from benchmarks.measure.calls import Calls, Costed, calls, measured, rows_of
from benchmarks.measure.foreign.flow import ForeignFlow
from benchmarks.measure.preparing import prepare
from benchmarks.studies.architectures import Groups

RATE = 1e-3  # of the updates that move a flow off its initial weights


class LibrariesOptions(Groups, frozen=True):
    """The libraries study's part of a suite."""

    dims: tuple[PositiveInt, ...]
    """Dimensions D of the flows."""
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
    seconds: NonNegativeFloat = 15.0
    """Seconds of timing one group at one D; 0 times nothing."""


@register
class Libraries(Study):
    """What the same flow costs in each library, with the error that each makes beside it."""

    name = "libraries"
    version = 2  # groups in place of pairs
    interleaved = True
    uses = ("benchmarks.measure", "benchmarks.measure.foreign", "benchmarks.evaluation")
    Options = LibrariesOptions

    def cases(self, options: LibrariesOptions, common: Common) -> Iterator[Case]:
        """A case for each member of each group at each dimension."""
        names = {"tolerance", "seconds", "accuracy"}
        shared = options.model_dump(include=names, exclude_none=True)
        for dim in options.dims:
            for group in options.groups:
                weights: dict[str, Any] = {}
                for entry, fields in group.cases(options.sizes, options.parameters, dim):
                    case = common.case(
                        study=self.name,
                        batch=entry.batch or options.batch,
                        updates=group.updates or options.updates,
                        **{**fields, "settings": {**fields["settings"], **shared, **weights}},
                    )
                    yield case
                    if group.same_weights and not weights:
                        weights = {"weights": {"flow": case.flow, "options": case.options}}

    def block(self, case: Case) -> str:
        """A group at one dimension."""
        return f"{case.settings['group']} D={case.dim}"

    def budget(self, case: Case) -> float:
        """Seconds: a part of the timing, the updates, and the solution that errors refer to."""
        return float(case.settings["seconds"]) / 4 + 2 + case.dim / 10

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        """Take the errors of all flows, count their calls, then time them in shuffled rounds.

        A peer's flow runs in its own process: its times are by its own clock, compiling apart, and
        nothing of it is counted.
        """
        with ExitStack() as stack:

            def build(case: Case) -> Costed:
                if name := case.settings.get("by"):
                    batch, parameters = rows_of(case)[: case.batch], case.settings["parameters"]
                    return ForeignFlow.start(stack, str(name), case, batch.numpy(), int(parameters))
                return calls(case)

            yield from measured(cases, _error, build=build)


def _error(case: Case, built: Calls | ForeignFlow) -> dict[str, float]:
    """Largest error of log_prob over the batch, after the updates, against a tight float64 one.

    Where the case asks for an accuracy, its ODE is solved from then on by the loosest tolerances.
    """
    if isinstance(built, ForeignFlow):
        rows = rows_of(case)[: case.batch].numpy()
        picks = np.tile(np.arange(case.batch), (case.updates, 1))
        built.fit(rows, picks, np.full(case.updates, RATE))
        (density,) = built.precise("log_prob")
        error = np.abs(built.log_prob(rows) - density["log_prob"]).max()
        return {"log_prob_error": float(error)}
    flow, batch = built.flow, built.batch
    if source := case.settings.get("weights"):
        copy_weights(prepare(case.changed(**source), batch.cpu()), flow)
    optimiser = torch.optim.Adam(flow.parameters(), lr=RATE)
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
