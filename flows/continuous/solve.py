"""Solving the ODE of a continuous flow: torchdiffeq behind one frozen description."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

from flows.bijection import concrete
from flows.continuous.described import Described
from flows.continuous.dynamics import (
    AdaptiveDynamics,
    Dynamics,
    FixedDynamics,
    ScipyDynamics,
    SolveError,
    State,
)
from flows.counting import NFE

ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
_ADAMS = ("explicit_adams", "implicit_adams", "fixed_adams")
FINAL = ("dopri5", "dopri8", "bosh3")  # whose last evaluation is at the solution itself
FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4", *_ADAMS)
SCIPY = ("scipy_solver",)
Gradient = Literal["adjoint", "seminorm", "backprop"]
ErrorNorm = Literal["all", "state", "sample"]


def _rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


def _largest_sample(state: State) -> Tensor:
    x, ladj, *_ = state
    return torch.maximum(x.square().mean(1).sqrt(), ladj.abs()).amax()


_NORMS: dict[str, Callable[[State], Tensor]] = {
    "all": lambda state: torch.maximum(_rms(state[0]), _rms(state[1])),
    "state": lambda state: _rms(state[0]),
    "sample": _largest_sample,
}


@dataclass(frozen=True)
class Solver(Described):
    """How an ODE is solved and differentiated; frozen, so that a case can be keyed by it.

    ``method`` is one of torchdiffeq's. Adaptive methods take ``rtol`` and ``atol`` and end with a
    step that lands on the end time, where torchdiffeq by itself would interpolate within a last
    step that goes beyond it, at an error that the tolerance does not control. Fixed-step methods
    need ``step_size`` (torchdiffeq would otherwise take a single step) and take equal steps of at
    most that. ``first_step`` is what an adaptive method tries first: torchdiffeq's own choice takes
    an evaluation more, and is cautious where one step would reach the end. "scipy_solver" is
    scipy's LSODA, for stiff fields. ``gradient``:
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
    first_step: float | None = None
    max_steps: int = 10_000
    gradient: Gradient = "adjoint"
    error_norm: ErrorNorm = "all"

    def __post_init__(self) -> None:
        choices = {"method": ADAPTIVE + FIXED + SCIPY, "gradient": get_args(Gradient)}
        for name, allowed in {**choices, "error_norm": get_args(ErrorNorm)}.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"unknown {name} {value!r}; choose from: {', '.join(allowed)}")
        for name in ("rtol", "atol", "max_steps", "first_step", "step_size"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value < math.inf):
                raise ValueError(f"{name} must be a positive, finite number, got {value!r}")
        if self.fixed and self.step_size is None:
            raise ValueError(f"method {self.method!r} needs a step_size: set how long a step is")
        if not self.fixed and self.step_size is not None:
            raise ValueError(f"method {self.method!r} chooses its steps: set rtol and atol instead")
        if self.first_step is not None and self.method not in ADAPTIVE:
            raise ValueError(f"method {self.method!r} takes no first_step, got {self.first_step!r}")
        if self.method in SCIPY and (self.gradient, self.error_norm) != ("adjoint", "all"):
            raise ValueError(
                f"method {self.method!r} has gradient='adjoint' and error_norm='all' alone, got "
                f"{self.gradient!r} and {self.error_norm!r}"
            )

    @property
    def fixed(self) -> bool:
        """Whether the step size is given rather than chosen."""
        return self.method in FIXED

    @property
    def by_adjoint(self) -> bool:
        """Whether a solve that begins now will be differentiated by an ODE of its own."""
        return torch.is_grad_enabled() and self.gradient != "backprop"

    def dynamics(
        self, field: nn.Module, rate: Callable[..., State], counters: list[NFE]
    ) -> Dynamics:
        """The Dynamics of one solve by this solver."""
        kind = FixedDynamics if self.fixed else AdaptiveDynamics
        dynamics = (ScipyDynamics if self.method in SCIPY else kind)(field, rate, counters)
        dynamics.max_steps = self.max_steps
        return dynamics

    def integrate(
        self, dynamics: Dynamics, state: State, t0: float | Tensor, t1: float | Tensor
    ) -> State:
        """The state at t1 from that at t0, (x, ladj, ...); SolveError if the solve fails.

        Either time may be a tensor and have a gradient.
        """
        x = state[0]
        times = torch.stack([torch.as_tensor(t, dtype=x.dtype, device=x.device) for t in (t0, t1)])
        start, end = times.tolist()
        if not math.isfinite(end - start) or start == end:
            raise SolveError(f"a solve needs two finite times that differ, got {start} and {end}")
        dynamics.start = start
        if not len(x):  # nothing to step through: one evaluation for the graph
            return tuple(
                part + rate for part, rate in zip(state, dynamics(times[0], state), strict=True)
            )
        by_adjoint = self.by_adjoint
        options = {**self._steps(times[1:]), "norm": _NORMS[self.error_norm]}
        adjoint = self._steps(times[:1].detach())
        if self.gradient == "seminorm":
            adjoint["norm"] = "seminorm"
        solution = (odeint_adjoint if by_adjoint else odeint)(
            dynamics,
            state,
            times,
            method=self.method,
            rtol=self.rtol,
            atol=self.atol,
            options=options,
            **({"adjoint_options": adjoint} if by_adjoint else {}),
        )
        if len(solution[0]) < 2:
            raise SolveError(f"{self.method} gave up before t={end:.6g}")
        # torchdiffeq interpolates up to the end too, by a graph that holds the last evaluation
        final = self.method in FINAL and not by_adjoint
        result = dynamics.progress.state if final else tuple(part[-1] for part in solution)
        if concrete(x) and not all(bool(torch.isfinite(part).all()) for part in result[:2]):
            dynamics.check_finite(end)
            raise SolveError(f"the solve ended at t={end:.6g} with values that are not finite")
        dynamics.begin_adjoint(end)
        return result

    def _steps(self, end: Tensor) -> dict[str, Any]:
        """torchdiffeq's options for steps of this solver that end at ``end`` (1,)."""
        if self.fixed:
            return {"grid_constructor": self._grid}
        return {"step_t": end, "first_step": self.first_step} if self.method in ADAPTIVE else {}

    def _grid(self, _: Any, state: Tensor, times: Tensor) -> Tensor:
        """Equal steps of at most ``step_size``; rounding may add one to torchdiffeq's own."""
        t0, t1 = times[0], times[-1]
        span = abs(t1.item() - t0.item())
        steps = max(1, math.ceil(span / (self.step_size or 1.0) * (1 - 1e-6)))
        inner = torch.arange(1, steps, dtype=times.dtype, device=times.device) / steps
        return torch.cat([t0[None], t0 + (t1 - t0) * inner, t1[None]])
