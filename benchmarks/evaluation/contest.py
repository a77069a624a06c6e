"""Competitors of the study of speed: our flows, and peers in processes of their own.

Each has the same calls: "log_prob" of the batch, "gradient" (loss and its gradient by all
parameters, without an optimiser), "adjoint" (the same by the adjoint ODE, where there is one) and
"sample".
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

import flows
from benchmarks.core.case import Case
from benchmarks.evaluation.likelihood import exact
from benchmarks.measure import process
from benchmarks.measure.calls import COUNTED, Calls, calls
from benchmarks.measure.clock import Work, compiling
from benchmarks.measure.peers import RESIDENT, ForeignFlow, Remote
from flows.budget import trainable
from flows.continuous import Solver

MODES = ("eager", "compiled")  # of our own flows
CallName = Literal["log_prob", "gradient", "adjoint", "sample"]
CALLS: tuple[CallName, ...] = get_args(CallName)
TIMEOUT = 600.0  # seconds of measuring them, with compiling


@dataclass(frozen=True)
class Solution:
    """log_prob (N,) of a batch and the gradient (P,) of the loss, in float64."""

    log_prob: np.ndarray
    gradient: np.ndarray


@dataclass(frozen=True)
class Ours:
    """Our flow as a competitor: its works by the name of a call, and what was counted.

    ``views`` are the flow by the name of a gradient; those of a flow that is ``compiled`` compile
    in their first calls.
    """

    subject: Calls
    views: Mapping[str, Any]
    compiled: bool
    timed: dict[str, Work]
    counted: tuple[dict[str, float], dict[str, Any]]

    @classmethod
    def of(cls, subject: Calls, case: Case, count: bool = True) -> Ours:
        """Count the calls of a flow, and view it with each way to its gradient."""
        needs, compiled = case.settings.get("calls", CALLS), case.settings["by"] == "compiled"
        names = [name for name in COUNTED if name != "sample" or name in needs]
        counted: Any = subject.count(names) if count else ({}, {})
        views = {"gradient": subject.flow}
        if solver := case.options.get("solver"):
            by_backprop = replace(Solver.of(solver), gradient="backprop")
            by_adjoint = replace(by_backprop, gradient="adjoint")
            views = {"gradient": subject.flow.using(solver=by_backprop)}
            views["adjoint"] = subject.flow.using(solver=by_adjoint)
        views = {name: view.compiled() for name, view in views.items()} if compiled else views
        ours = cls(subject, views, compiled, {}, counted)
        ours.timed["log_prob"] = ours.log_prob
        ours.timed["sample"] = lambda: views["gradient"].sample(case.batch)
        ours.timed.update({name: partial(ours.gradient, name) for name in views})
        return replace(ours, timed={name: w for name, w in ours.timed.items() if name in needs})

    def log_prob(self) -> Tensor:
        """Log-densities of the batch, (N,)."""
        with torch.no_grad():
            result: Tensor = self.views["gradient"].log_prob(self.subject.batch)
        return result

    def gradient(self, name: str) -> None:
        """Gradients of the loss, in the parameters."""
        self.subject.flow.zero_grad()
        self.views[name].loss(self.subject.batch).backward()

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Log-densities or a gradient, by name."""
        if name == "log_prob":
            return {name: self.log_prob().cpu().numpy()}
        self.gradient(name)
        return {"gradient": _gradient(self.subject.flow)}

    def count(self) -> tuple[dict[str, float], dict[str, Any]]:
        """What is known without a clock, and notes."""
        return self.counted

    def first(self) -> dict[str, float]:
        """Seconds of compiling each call, without a cache and by one thread.

        A sampler that cannot be compiled is left out.
        """
        if not self.compiled:
            return {}
        seconds, device = {}, str(self.subject.batch.device)
        self.counted[1]["compiled_without_cache"] = True
        for name in [*self.timed]:
            try:
                with torch._inductor.config.patch(force_disable_caches=True, compile_threads=1):
                    seconds[f"{name}_compile_seconds"] = compiling(self.timed[name], device)
            except (NotImplementedError, ValueError) as error:
                if name != "sample":
                    raise
                del self.timed[name]
                self.counted[1]["no_sample"] = str(error)
        return seconds


class Contest(ExitStack):
    """Competitors of one block; at its end their processes end."""

    def __init__(self) -> None:
        super().__init__()
        self._by_weights: dict[str, Solution] = {}
        self._solutions: dict[str, Solution] = {}  # that of each case

    def enter(self, case: Case) -> Ours | ForeignFlow:
        """Build the competitor of a case, and solve for what its errors refer to.

        Raises ForeignError for a peer that cannot be used, ValueError for an unknown name.
        """
        by, subject = str(case.settings["by"]), calls(case)
        _move(subject, case)
        if by in MODES:
            competitor = Ours.of(subject, case)
            self._solutions[case.key] = self._solution(subject, case)
            return competitor
        ours = {n: p.detach().cpu().numpy() for n, p in subject.flow.named_parameters()}
        x, size = subject.batch.cpu().numpy(), trainable(subject.flow)
        peer = self.enter_context(ForeignFlow.of(by, case, x, size, ours))
        needs = case.settings.get("calls", CALLS)
        peer.timed = {n: Remote(peer, n) for n in needs if n in peer.facts["calls"]}
        if peer.facts["same_weights"]:
            self._solutions[case.key] = self._solution(subject, case)
        else:
            density, slope = peer.precise("log_prob", "gradient")
            self._solutions[case.key] = Solution(density["log_prob"], slope["gradient"])
        return peer

    def errors(self, case: Case, competitor: Ours | ForeignFlow) -> dict[str, float]:
        """Return the largest error of log_prob, and errors of gradients over the solution's norm.

        With the evaluations of the field, where a peer counts them.
        """
        solution, density = self._solutions[case.key], competitor.arrays("log_prob")
        metrics = {"log_prob_error": float(np.abs(density["log_prob"] - solution.log_prob).max())}
        metrics |= {"log_prob_nfe": float(density["nfe"])} if "nfe" in density else {}
        for name in (n for n in ("gradient", "adjoint") if n in competitor.timed):
            error = competitor.arrays(name)["gradient"] - solution.gradient
            ratio = np.linalg.norm(error) / np.linalg.norm(solution.gradient)
            metrics[f"{name}_error"] = float(ratio)
        if case.settings.get("memory"):
            if isinstance(competitor, ForeignFlow):
                return metrics | competitor.memory()
            metrics |= process.call(resident, case.model_dump(mode="json"), TIMEOUT)
        return metrics

    def _solution(self, subject: Calls, case: Case) -> Solution:
        """Solve our flow's ODE tightly in float64, once for the same weights."""
        weights = [p.detach().cpu().numpy().tobytes() for p in subject.flow.parameters()]
        key = sha256(b"".join(weights)).hexdigest()
        if key not in self._by_weights:
            best, x = exact(subject.flow, float(case.settings["tolerance"])), subject.batch.double()
            with torch.no_grad():
                expected = best.log_prob(x).cpu().numpy()
            best.zero_grad()
            best.loss(x).backward()
            self._by_weights[key] = Solution(expected, _gradient(best))
        return self._by_weights[key]


def resident(plain: Mapping[str, Any]) -> dict[str, float]:
    """Bytes by which calls of ours make this process grow, by metric; the case is plain JSON."""
    case = Case.model_validate(plain)
    torch.set_num_threads(case.threads)
    subject = calls(case)
    works: Any = Ours.of(subject, case, count=False).timed  # counting leaves holes in the heap
    release = subject.flow.zero_grad
    return {
        f"{name}_resident_bytes": process.growth(works[name], release)
        for name in RESIDENT
        if name in works
    }


def _move(subject: Calls, case: Case) -> None:
    """Multiply matrices by the case's gain, and train for its updates."""
    optimiser = torch.optim.Adam(subject.flow.parameters())
    with torch.no_grad():
        for parameter in subject.flow.parameters():
            if parameter.dim() > 1:
                parameter.mul_(float(case.settings["gain"]))
    for _ in range(case.updates):
        optimiser.zero_grad()
        subject.flow.loss(subject.batch).backward()
        optimiser.step()


def _gradient(flow: flows.Flow) -> np.ndarray:
    """Return the gradients of all parameters in order, (P,)."""
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in flow.parameters()]
    return torch.cat([part.flatten() for part in parts]).cpu().numpy()
