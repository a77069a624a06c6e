"""The right-hand side of one ODE solve: it counts evaluations and stops solves that fail."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from flows.bijection import concrete, finite
from flows.counting import NFE, new_solve

Parts = tuple[Tensor, ...]


class SolveError(RuntimeError):
    """A failed ODE solve; the message has the cause, the time and the remedy."""


@dataclass(slots=True)
class Progress:
    """Steps and evaluations of one solve, and of its adjoint after it, for all that count them."""

    counters: list[NFE]
    max_steps: int
    number: int = field(default_factory=new_solve)
    backward: bool = False
    steps: int = 0
    evaluations: int = 0
    first: Parts = ()  # the field's value at the first evaluation, and the trace where there is one
    last: Parts = ()  # and of the last

    def begin_adjoint(self) -> None:
        """Count what follows as the adjoint's solve."""
        self.backward, self.steps, self.evaluations = True, 0, 0
        self.first = self.last = ()

    def evaluated(self, values: Parts, times: int = 1) -> None:
        """Count an evaluation, or some of which these are the values of the last."""
        for nfe in self.counters:
            solve = nfe.of(self.number)
            solve.backward += times * self.backward
            solve.forward += times * (not self.backward)
        self.evaluations += times
        self.last = tuple(value.detach() for value in values[:2])
        self.first = self.first or self.last

    def count_step(self, accepted: bool) -> None:
        """Count a step of an adaptive solver."""
        for nfe in self.counters:
            solve = nfe.of(self.number)
            name = ("accepted" if accepted else "rejected") + "_backward" * self.backward
            setattr(solve, name, getattr(solve, name) + 1)

    def check_step(self, t: float, dt: float) -> None:
        """Raise SolveError before a step of a solve that cannot end."""
        self.steps += 1
        if self.steps > self.max_steps:
            raise SolveError(
                f"the solve passed its limit of {self.max_steps} steps at t={t:.6g}: the "
                "field is stiff or the tolerance too tight; raise max_steps, rtol or atol"
            )
        if not abs(t) + dt > abs(t):
            self.check_finite(t)
            raise SolveError(
                f"the step size fell below what t={t:.6g} can resolve: the field is stiff "
                "or grows without bound; loosen rtol and atol, or regularise the field"
            )

    def check_state(self, t: float, parts: Sequence[Tensor]) -> None:
        """SolveError for a state that is not finite, with the cause where it is known."""
        if not finite(*parts):
            self.check_finite(t)
            raise SolveError(f"the solve has values that are not finite at t={t:.6g}")

    def check_finite(self, t: float) -> None:
        """SolveError if the field or its trace is not finite, at first or just now."""
        names = ("field returned", "trace is")
        values = [*zip(names, self.first, strict=False), *zip(names, self.last, strict=False)]
        for what, value in values:  # the first before the last: NaN makes all that follows NaN
            if concrete(value) and not bool(torch.isfinite(value).all()):
                bad = int((~torch.isfinite(value)).reshape(len(value), -1).any(1).sum())
                raise SolveError(
                    f"the {what} NaN or infinity for {bad} of {len(value)} samples near "
                    f"t={t:.6g}: check its parameters and inputs, or lower the learning rate"
                )


@dataclass
class Dynamics:
    """dx/dt (N, D) and the rates (N,) of ``integrals`` at (t, x), the log-determinant's first.

    One object a solve, so that its noise is frozen. ``rate(t, x, context)`` computes both.
    ``parameters`` are the field's: an adjoint has gradients for those that require one, and their
    number says what an evaluation costs.
    """

    rate: Callable[..., Parts]
    integrals: int
    parameters: Sequence[Tensor]
    progress: Progress
    compiled: Any = None  # what has steps to take in place of a Stepper's

    def __post_init__(self) -> None:
        self.weights = sum(p.numel() for p in self.parameters)
        self.parameters = [p for p in self.parameters if p.requires_grad]

    def __call__(self, t: Tensor, x: Tensor, *context: Tensor) -> Parts:
        """dx/dt (N, D), and a rate (N,) for each integral."""
        values = self.rate(t, x, *context)
        self.progress.evaluated(values)
        return values
