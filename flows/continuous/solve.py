"""Solving the ODE of a continuous flow: torchdiffeq behind one frozen description."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

from flows.bijection import concrete
from flows.counting import NFE

ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams")
Gradient = Literal["adjoint", "seminorm", "backprop"]
ErrorNorm = Literal["all", "state", "sample"]
State = tuple[Tensor, ...]


class SolveError(RuntimeError):
    """An ODE solve that cannot go on; the message says why, at what t, and the remedy."""


class Dynamics(nn.Module):
    """The right-hand side of one solve: state (x, log-determinant, context...) at time t.

    One object a solve, so that its noise is frozen, its evaluations are told apart into forward
    and backward, and its step callbacks can count and stop. ``rate(t, x, context)`` returns dx/dt
    (N, D) and the trace (N,); the context is carried as a constant part of the state, since the
    adjoint method gives no gradient to what is captured in a closure.
    """

    def __init__(self, field: nn.Module, rate: Callable[..., State], counters: list[NFE]) -> None:
        super().__init__()
        self.field = field  # registered, so that the adjoint finds its parameters
        self.rate, self.counters = rate, counters
        self.max_steps, self.steps, self.start, self.backward = 0, 0, 0.0, False
        self.first: Tensor | None = None
        self.last: Tensor | None = None

    def forward(self, t: Tensor, state: State) -> State:
        """The derivative of every part of the state."""
        for nfe in self.counters:
            nfe.backward += self.backward
            nfe.forward += not self.backward
        x, _, *context = state
        dx, trace = self.rate(t, x, *context)
        self.last = dx.detach()
        self.first = self.last if self.first is None else self.first
        return dx, trace, *(torch.zeros_like(part) for part in context)

    def callback_step(self, t: Tensor, state: State, dt: Tensor) -> None:
        """Called by torchdiffeq before each step: stop a solve that cannot end."""
        t = t.detach()  # under "backprop" the step sizes have a graph
        self.steps = 1 if float(t) == self.start else self.steps + 1  # a graph may go back twice
        if self.steps > self.max_steps:
            raise SolveError(
                f"the solve passed its limit of {self.max_steps} steps at t={float(t):.6g}: the "
                "field is stiff or the tolerance too tight; raise max_steps, rtol or atol"
            )
        if not bool(t.abs() + dt > t.abs()):
            self.check_finite(t)
            raise SolveError(
                f"the step size fell below what t={float(t):.6g} can resolve: the field is stiff "
                "or grows without bound; loosen rtol and atol, or regularise the field"
            )
        # norms may overlook it: to Python max(0, NaN) is 0
        if not all(bool(torch.isfinite(part).all()) for part in state if concrete(part)):
            self.check_finite(t)
            raise SolveError(f"the solve has values that are not finite at t={float(t):.6g}")

    callback_step_adjoint = callback_step

    def check_finite(self, t: Tensor) -> None:
        """SolveError if the field's first or latest value is not finite."""
        for dx in (self.first, self.last):  # a NaN among the first makes the next all NaN
            if dx is not None and not bool(torch.isfinite(dx).all()):
                bad = int((~torch.isfinite(dx)).reshape(len(dx), -1).any(1).sum())
                raise SolveError(
                    f"the field returned NaN or infinity for {bad} of {len(dx)} samples near "
                    f"t={float(t):.6g}: check its parameters and inputs, or lower the learning rate"
                )


class _AdaptiveDynamics(Dynamics):
    """Dynamics under an adaptive solver, which also tells what became of each step."""

    def callback_accept_step(self, t: Tensor, state: State, dt: Tensor) -> None:
        for nfe in self.counters:
            nfe.accepted += 1

    def callback_reject_step(self, t: Tensor, state: State, dt: Tensor) -> None:
        for nfe in self.counters:
            nfe.rejected += 1


def _rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


def _largest_sample(state: State) -> Tensor:
    x, ladj, *_ = state
    return torch.maximum(x.square().mean(1).sqrt(), ladj.abs()).amax()


_NORMS: dict[str, Callable[[State], Tensor]] = {
    "state": lambda state: _rms(state[0]),
    "sample": _largest_sample,
}


@dataclass(frozen=True)
class Solver:
    """How an ODE is solved and differentiated; frozen, so that a case can be keyed by it.

    ``method`` is one of torchdiffeq's. Adaptive methods take ``rtol`` and ``atol``; fixed-step
    methods need ``step_size`` (torchdiffeq would otherwise take a single step) and take equal
    steps of at most that. ``gradient``:
    "adjoint" (constant memory; Chen et al., Neural Ordinary Differential Equations, 2018,
    arXiv:1806.07366), "seminorm" (adjoint that leaves the parameters out of its error norm;
    Kidger et al., "Hey, that's not an ODE", 2021, arXiv:2009.09457) or "backprop" through the
    steps. ``error_norm`` steers the step size: "all" counts the log-determinant too and is the
    default, since log p is the product; "state" looks at x alone, "sample" at the worst row.
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    step_size: float | None = None
    max_steps: int = 10_000
    gradient: Gradient = "adjoint"
    error_norm: ErrorNorm = "all"

    def __post_init__(self) -> None:
        choices = {"method": ADAPTIVE + FIXED, "gradient": get_args(Gradient)}
        for name, allowed in {**choices, "error_norm": get_args(ErrorNorm)}.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"unknown {name} {value!r}; choose from: {', '.join(allowed)}")
        if self.fixed and not (self.step_size or 0) > 0:
            raise ValueError(f"method {self.method!r} needs step_size > 0, got {self.step_size!r}")
        if not self.fixed and self.step_size is not None:
            raise ValueError(f"method {self.method!r} chooses its steps: set rtol and atol instead")
        for name in ("rtol", "atol", "max_steps"):
            if not (value := getattr(self, name)) > 0:
                raise ValueError(f"{name} must be positive, got {value!r}")

    @property
    def fixed(self) -> bool:
        """Whether the step size is given rather than chosen."""
        return self.method in FIXED

    @classmethod
    def of(cls, value: Self | str | Mapping[str, Any]) -> Self:
        """A Solver from itself, a method's name, or a mapping of fields (as read from TOML)."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, str | Mapping):
            raise TypeError(f"a solver is a Solver, a method's name or a mapping, got {value!r}")
        fields: dict[str, Any] = {"method": value} if isinstance(value, str) else dict(value)
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := [name for name in fields if name not in known]:
            raise ValueError(f"a Solver has no {unknown[0]!r}; it has: {', '.join(known)}")
        return cls(**fields)

    def dynamics(
        self, field: nn.Module, rate: Callable[..., State], counters: list[NFE]
    ) -> Dynamics:
        """The Dynamics of one solve by this solver."""
        made = (Dynamics if self.fixed else _AdaptiveDynamics)(field, rate, counters)
        made.max_steps = self.max_steps
        return made

    def integrate(self, dynamics: Dynamics, state: State, t0: float, t1: float) -> State:
        """The state at t1 from that at t0; SolveError where the solve cannot go on."""
        x = state[0]
        if not len(x):
            return state
        times = torch.tensor([t0, t1], dtype=x.dtype, device=x.device)
        options: dict[str, Any] = {"grid_constructor": self._grid} if self.fixed else {}
        adjoint: dict[str, Any] = {}
        if self.gradient == "seminorm":
            adjoint["adjoint_options"] = {**options, "norm": "seminorm"}
        if not self.fixed and self.error_norm in _NORMS:
            options["norm"] = _NORMS[self.error_norm]
        by_adjoint = torch.is_grad_enabled() and self.gradient != "backprop"
        dynamics.start = float(times[0])
        solution = (odeint_adjoint if by_adjoint else odeint)(
            dynamics,
            state,
            times,
            method=self.method,
            rtol=self.rtol,
            atol=self.atol,
            options=options,
            **(adjoint if by_adjoint else {}),
        )
        if concrete(x) and not all(bool(torch.isfinite(part[-1]).all()) for part in solution[:2]):
            dynamics.check_finite(times[1])
            raise SolveError(f"the solve ended at t={t1:.6g} with values that are not finite")
        dynamics.backward, dynamics.start, dynamics.first = True, float(times[1]), None
        return tuple(part[-1] for part in solution)

    def _grid(self, _: Any, state: Tensor, times: Tensor) -> Tensor:
        """Equal steps of at most ``step_size``; torchdiffeq's own adds one when rounding is bad."""
        t0, t1 = float(times[0]), float(times[-1])
        steps = max(1, math.ceil(abs(t1 - t0) / (self.step_size or 1.0) * (1 - 1e-6)))
        return torch.linspace(t0, t1, steps + 1, dtype=times.dtype, device=times.device)
