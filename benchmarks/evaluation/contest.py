"""Competitors of the study of speed: our flows, and peers in processes of their own.

Each has the same calls: "log_prob" of the batch, "gradient" (loss and its gradient by all
parameters, without an optimiser), "adjoint" (the same by the adjoint ODE, where there is one) and
"sample".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor

import flows
from benchmarks.core.case import Case
from benchmarks.evaluation.likelihood import exact
from benchmarks.measure.calls import Calls, calls
from benchmarks.measure.clock import Work, turn
from benchmarks.measure.peers import ForeignFlow, Remote
from flows.budget import trainable
from flows.continuous import Solver

MODES = ("eager", "compiled")  # of our own flows
CALLS = ("log_prob", "gradient", "adjoint", "sample")


@dataclass(frozen=True)
class Solution:
    """log_prob (N,) of a batch and the gradient (P,) of the loss, in float64."""

    log_prob: np.ndarray
    gradient: np.ndarray

    def errors(self, competitor: Competitor) -> dict[str, float]:
        """Return the largest error of log_prob, and errors of gradients over the solution's norm.

        With the evaluations of the field, where a peer counts them.
        """
        density = competitor.arrays("log_prob")
        metrics = {"log_prob_error": float(np.abs(density["log_prob"] - self.log_prob).max())}
        metrics |= {"log_prob_nfe": float(density["nfe"])} if "nfe" in density else {}
        for name in (n for n in ("gradient", "adjoint") if n in competitor.works):
            error = competitor.arrays(name)["gradient"] - self.gradient
            ratio = np.linalg.norm(error) / np.linalg.norm(self.gradient)
            metrics[f"{name}_error"] = float(ratio)
        return metrics


@dataclass(frozen=True)
class Competitor:
    """Works by the name of a call, the arrays that a call gives, and what is known without a clock.

    ``solution`` is what its errors refer to. ``compiles`` says that first calls compile; a sampler
    that cannot be compiled is left out, with a note.
    """

    works: dict[str, Work]
    arrays: Callable[[str], Mapping[str, np.ndarray]]
    solution: Callable[[], Solution]
    compiles: bool
    metrics: dict[str, float]
    notes: dict[str, Any]
    device: str

    @property
    def timed(self) -> dict[str, Work]:
        """Works that are timed."""
        return self.works

    def count(self) -> tuple[dict[str, float], dict[str, Any]]:
        """What is known without a clock, and notes."""
        return self.metrics, self.notes

    def first(self) -> dict[str, float]:
        """Run each call twice; return the seconds by which the first exceeds the second."""
        seconds = {}
        for name, work in list(self.works.items()) if self.compiles else ():
            try:
                (first,), (second,) = turn(work, 1, self.device), turn(work, 1, self.device)
            except (NotImplementedError, ValueError) as error:
                if name != "sample":
                    raise
                del self.works[name]
                self.notes["no_sample"] = str(error)
            else:
                seconds[f"{name}_compile_seconds"] = max(0.0, first - second)
        return seconds


@dataclass(frozen=True)
class Contest:
    """Competitors of one block; ``stack`` ends the processes that they start."""

    stack: ExitStack
    _solutions: dict[str, Solution] = field(default_factory=dict)  # by weights

    def enter(self, case: Case) -> Competitor:
        """Build the competitor of a case.

        Raises ForeignError for a peer that cannot be used, ValueError for an unknown name.
        """
        by, own = str(case.settings["by"]), calls(case)
        _move(own, case)
        if by in MODES:
            return _ours(own, case, by == "compiled", partial(self._solution, own, case))
        return self._peer(own, case, by)

    def _solution(self, own: Calls, case: Case) -> Solution:
        """Solve our flow's ODE tightly in float64, once for the same weights."""
        weights = [
            parameter.detach().cpu().numpy().tobytes() for parameter in own.flow.parameters()
        ]
        key = sha256(b"".join(weights)).hexdigest()
        if key not in self._solutions:
            best, x = exact(own.flow, float(case.settings["tolerance"])), own.batch.double()
            with torch.no_grad():
                expected = best.log_prob(x).cpu().numpy()
            best.zero_grad()
            best.loss(x).backward()
            self._solutions[key] = Solution(expected, _gradient(best))
        return self._solutions[key]

    def _peer(self, own: Calls, case: Case, name: str) -> Competitor:
        ours = {n: p.detach().cpu().numpy() for n, p in own.flow.named_parameters()}
        x, size = own.batch.cpu().numpy(), trainable(own.flow)
        flow = ForeignFlow.start(self.stack, name, case, x, size, ours)

        def solution() -> Solution:
            if flow.facts["same_weights"]:
                return self._solution(own, case)
            density, slope = flow.precise("log_prob", "gradient")
            return Solution(density["log_prob"], slope["gradient"])

        metrics, notes = flow.count()
        return Competitor(
            {call: Remote(flow.process, call) for call in CALLS if call in flow.facts["calls"]},
            lambda call: flow.process.call(call).arrays,
            solution,
            bool(flow.facts["compiles"]),
            metrics,
            notes,
            case.device,
        )


def _move(own: Calls, case: Case) -> None:
    """Multiply matrices by the case's gain, and train for its updates."""
    optimiser = torch.optim.Adam(own.flow.parameters())
    with torch.no_grad():
        for parameter in own.flow.parameters():
            if parameter.dim() > 1:
                parameter.mul_(float(case.settings["gain"]))
    for _ in range(case.updates):
        optimiser.zero_grad()
        own.flow.loss(own.batch).backward()
        optimiser.step()


def _ours(own: Calls, case: Case, compiled: bool, solution: Callable[[], Solution]) -> Competitor:
    metrics, notes = own.count()
    views: dict[str, Any] = {"gradient": own.flow}
    if solver := case.options.get("solver"):
        described = Solver.of(solver)
        solvers = {
            "gradient": replace(described, gradient="backprop"),
            "adjoint": replace(described, gradient="adjoint"),
        }
        views = {name: own.flow.using(solver=how) for name, how in solvers.items()}
    views = {name: view.compiled() for name, view in views.items()} if compiled else views
    first = views["gradient"]

    def log_prob() -> Tensor:
        with torch.no_grad():
            result: Tensor = first.log_prob(own.batch)
        return result

    def gradient(name: str) -> None:
        own.flow.zero_grad()
        views[name].loss(own.batch).backward()

    def arrays(name: str) -> dict[str, np.ndarray]:
        if name == "log_prob":
            return {name: log_prob().cpu().numpy()}
        gradient(name)
        return {"gradient": _gradient(own.flow)}

    works: dict[str, Work] = {"log_prob": log_prob, "sample": lambda: first.sample(case.batch)}
    works |= {name: partial(gradient, name) for name in views}
    return Competitor(works, arrays, solution, compiled, metrics, notes, case.device)


def _gradient(flow: flows.Flow) -> np.ndarray:
    """Return the gradients of all parameters in order, (P,)."""
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in flow.parameters()]
    return torch.cat([part.flatten() for part in parts]).cpu().numpy()
