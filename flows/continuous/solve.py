"""Solving the ODE of a continuous flow: two engines behind one frozen description."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from flows.continuous import by_torchdiffeq, native
from flows.continuous.dynamics import Dynamics, Parts, SolveError
from flows.continuous.native import TABLEAUS, Norm
from flows.registry import Described, check_choice, check_positive

ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
_ADAMS = ("explicit_adams", "implicit_adams", "fixed_adams")
FIXED = (*TABLEAUS, *_ADAMS)
SCIPY = ("scipy_solver",)
NATIVE = (*ADAPTIVE, *TABLEAUS)
DIRECT = 0.2  # the first step of "direct", as a share of the time
Gradient = Literal["adjoint", "seminorm", "backprop"]
ErrorNorm = Literal["all", "state", "sample"]
EngineName = Literal["native", "torchdiffeq"]
FirstStep = Literal["direct", "torchdiffeq"]


def _rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


def _largest_sample(x: Tensor, integrals: Sequence[Tensor]) -> Tensor:
    rows = x.square().mean(1).sqrt()
    return (torch.maximum(rows, integrals[0].abs()) if integrals else rows).amax()


# of x (N, D) and its integrals (N,), the log-determinant first if any
_NORMS: dict[str, Norm] = {
    "all": lambda x, integrals: (
        torch.maximum(_rms(x), _rms(integrals[0])) if integrals else _rms(x)
    ),
    "state": lambda x, integrals: _rms(x),
    "sample": _largest_sample,
}


@dataclass(frozen=True)
class Solver(Described):
    """How an ODE is solved and differentiated; frozen, so that a case can be keyed by it.

    ``method`` is one of torchdiffeq's. Adaptive methods take ``rtol`` and ``atol`` and end with a
    step that lands on the end time, where torchdiffeq by itself would interpolate within a last
    step that goes beyond it, at an error that the tolerance does not control. Fixed-step methods
    need ``step_size`` (torchdiffeq would otherwise take a single step) and take equal steps of at
    most that. "scipy_solver" is scipy's LSODA, for stiff fields.

    ``engine``: "native" takes the same steps as "torchdiffeq" in less time, and is the default
    where it has the method (all but Adams's and scipy's). ``first_step`` is what an adaptive
    method tries first: "direct", the default, a fifth of the time; "torchdiffeq", the choice of
    its heuristic, which takes an evaluation more and is cautious; or a number.

    ``gradient``: "adjoint" (constant memory; Chen et al., Neural Ordinary Differential Equations,
    2018, arXiv:1806.07366), "seminorm" (adjoint that leaves the parameters out of its error norm;
    Kidger et al., "Hey, that's not an ODE", 2021, arXiv:2009.09457) or "backprop" through the
    steps. ``error_norm`` steers the step size: "all" counts the log-determinant too and is the
    default, since log p is the product; "state" looks at x alone, "sample" at the worst row.
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    step_size: float | None = None
    first_step: float | FirstStep | None = None
    max_steps: int = 10_000
    gradient: Gradient = "adjoint"
    error_norm: ErrorNorm = "all"
    engine: EngineName | None = None

    def __post_init__(self) -> None:
        check_choice("method", self.method, ADAPTIVE + FIXED + SCIPY)
        check_choice("gradient", self.gradient, get_args(Gradient))
        check_choice("error_norm", self.error_norm, get_args(ErrorNorm))
        if self.engine is not None:
            check_choice("engine", self.engine, get_args(EngineName))
        check_positive(rtol=self.rtol, atol=self.atol, max_steps=self.max_steps)
        if self.step_size is not None:
            check_positive(step_size=self.step_size)
        if self.first_step not in (None, *(names := get_args(FirstStep))):
            check_positive(**{f"first_step is one of {', '.join(names)} or": self.first_step})
        if self.fixed and self.step_size is None:
            raise ValueError(f"method {self.method!r} needs a step_size: set how long a step is")
        if not self.fixed and self.step_size is not None:
            raise ValueError(f"method {self.method!r} chooses its steps: set rtol and atol instead")
        if self.first_step is not None and self.method not in ADAPTIVE:
            raise ValueError(f"method {self.method!r} takes no first_step, got {self.first_step!r}")
        if self.engine == "native" and self.method not in NATIVE:
            raise ValueError(f"the native engine has no {self.method!r}: use engine='torchdiffeq'")
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

    @property
    def norm(self) -> Norm:
        """What steers the steps."""
        return _NORMS[self.error_norm]

    @property
    def native(self) -> bool:
        """Whether the native engine solves."""
        return self.method in NATIVE and self.engine != "torchdiffeq"

    def integrate(
        self,
        dynamics: Dynamics,
        x: Tensor,
        t0: float | Tensor,
        t1: float | Tensor,
        context: Tensor | None = None,
    ) -> Parts:
        """x (N, D) at t1 from x at t0, and its integrals (N,); SolveError if the solve fails.

        Either time may be a tensor and have a gradient.
        """
        times = torch.stack([torch.as_tensor(t, dtype=x.dtype, device=x.device) for t in (t0, t1)])
        first, last = times.tolist()
        if not math.isfinite(last - first) or first == last:
            raise SolveError(f"a solve needs two finite times that differ, got {first} and {last}")
        start, end = times.unbind()
        beside = () if context is None else (context,)
        if not len(x):  # nothing to step through: one evaluation for the graph
            dx, *rates = dynamics(start, x, *beside)
            return x + dx, *rates
        solve = native.solve if self.native else by_torchdiffeq.solve
        return solve(self, dynamics, x, beside, (start, end), self.by_adjoint)

    def first(self, span: float) -> float | None:
        """Length of the first step of a solve over ``span``; None where the heuristic decides."""
        if self.first_step == "torchdiffeq":
            return None
        return DIRECT * span if self.first_step in (None, "direct") else float(self.first_step)

    def steps(self, span: float) -> int:
        """Number of equal steps of at most ``step_size`` over ``span``; rounding adds none."""
        return max(1, math.ceil(span / (self.step_size or 1.0) * (1 - 1e-6)))
