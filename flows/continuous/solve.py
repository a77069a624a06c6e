"""Solving the ODE of a continuous flow: two engines behind one frozen description."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from flows.bijection import Pair
from flows.continuous import native
from flows.continuous.dynamics import Dynamics, Parts, SolveError
from flows.continuous.native import TABLEAUS, Norm
from flows.registry import Described, check_choice, check_positive, check_whole

ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
FIXED = (*TABLEAUS, "explicit_adams", "implicit_adams", "fixed_adams")
SCIPY = ("scipy_solver",)
FINAL = ("dopri5", "dopri8", "bosh3")  # whose last evaluation is at the solution itself
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


# of x (N, D) and its integrals q (N,), the log-determinant first if any
_NORMS: dict[str, Norm] = {
    "all": lambda x, q: torch.maximum(_rms(x), _rms(q[0])) if q else _rms(x),
    "state": lambda x, q: _rms(x),
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
        check_positive(rtol=self.rtol, atol=self.atol)
        check_whole(max_steps=self.max_steps)
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
        solve = native.solve if self.native else _by_torchdiffeq
        return solve(self, dynamics, x, beside, (start, end), self.by_adjoint)

    def first(self, span: float) -> float | None:
        """Length of the first step of a solve over ``span``; None where the heuristic decides."""
        if self.first_step == "torchdiffeq":
            return None
        return DIRECT * span if self.first_step in (None, "direct") else float(self.first_step)

    def steps(self, span: float) -> int:
        """Number of equal steps of at most ``step_size`` over ``span``; rounding adds none."""
        return max(1, math.ceil(span / (self.step_size or 1.0) * (1 - 1e-6)))


def _by_torchdiffeq(
    solver: Solver, dynamics: Dynamics, x: Tensor, context: Parts, span: Pair, by_adjoint: bool
) -> Parts:
    """As `flows.continuous.native.solve`, by the solvers that released FFJORD runs on."""
    from torchdiffeq import odeint, odeint_adjoint  # here: it imports SciPy's solvers

    times = torch.stack(span)
    first, last = times.tolist()
    watched = _Watched(dynamics, solver, first)
    zeros = [x.new_zeros(len(x)) for _ in range(dynamics.integrals)]

    def options(end: Tensor) -> dict[str, Any]:
        """Options of torchdiffeq for steps that end at ``end`` (1,)."""
        if solver.fixed:
            return {"grid_constructor": partial(_grid, solver)}
        first_step = solver.first(abs(last - first))
        return {} if watched.scipy else {"step_t": end, "first_step": first_step}

    further: dict[str, Any] = {"method": solver.method, "rtol": solver.rtol, "atol": solver.atol}
    if by_adjoint:
        way = 1.0 if last > first else -1.0  # torchdiffeq negates times that fall
        adjoint = options(way * times[:1].detach())
        adjoint |= {"norm": "seminorm"} if solver.gradient == "seminorm" else {}
        further |= {"adjoint_options": adjoint, "adjoint_params": tuple(dynamics.parameters)}
    count = 1 + dynamics.integrals
    steering = {"norm": lambda state: solver.norm(state[0], state[1:count])}
    further["options"] = options(times[1:]) | steering
    run = odeint_adjoint if by_adjoint else odeint
    solution = run(watched, (x, *zeros, *context), times, **further)
    if len(solution[0]) < 2:
        raise SolveError(f"{solver.method} gave up before t={last:.6g}")
    # torchdiffeq interpolates up to the end too, by a graph that holds the last evaluation
    final = solver.method in FINAL and not by_adjoint
    result = (watched.state if final else tuple(part[-1] for part in solution))[:count]
    dynamics.progress.check_state(last, result)
    dynamics.progress.begin_adjoint()
    watched.start = last
    return result


def _grid(solver: Solver, _: Any, state: Tensor, times: Tensor) -> Tensor:
    """Equal steps of at most ``step_size``; rounding may add one to torchdiffeq's own."""
    t0, t1 = times[0], times[-1]
    steps = solver.steps(abs(t1.item() - t0.item()))
    inner = torch.arange(1, steps, dtype=times.dtype, device=times.device) / steps
    return torch.cat([t0[None], t0 + (t1 - t0) * inner, t1[None]])


class _Watched:
    """A Dynamics as torchdiffeq calls it, at (t, (x, integrals..., context...)), with callbacks.

    A fixed-step solver has no callback after an adjoint's last step, scipy's none at all, and no
    limit of evaluations.
    """

    def __init__(self, dynamics: Dynamics, solver: Solver, start: float) -> None:
        self.dynamics, self.progress, self.start = dynamics, dynamics.progress, start
        self.fixed, self.scipy = solver.fixed, solver.method == "scipy_solver"
        self.state: Parts = ()  # that of the last evaluation

    def __call__(self, t: Tensor, state: Parts) -> Parts:
        """The derivative of every part of the state; a context is constant."""
        self.state, progress = state, self.progress
        context = state[1 + self.dynamics.integrals :]
        rates = self.dynamics(t, state[0], *context)
        if self.scipy or (self.fixed and progress.backward):
            progress.check_finite(float(t.detach()))
        if self.scipy and progress.evaluations > progress.max_steps:
            raise SolveError(
                f"the solve passed its limit of {progress.max_steps} evaluations near "
                f"t={float(t.detach()):.6g}: raise max_steps, which counts evaluations for "
                "scipy_solver, or rtol and atol"
            )
        return *rates, *(torch.zeros_like(part) for part in context)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """The callbacks that the solver has, which torchdiffeq looks up by their names."""
        event = name.removeprefix("callback_").removesuffix("_adjoint")
        if event == "step" and not self.scipy:
            return self._check
        if event in ("accept_step", "reject_step") and not (self.scipy or self.fixed):
            return lambda *_: self.progress.count_step(event == "accept_step")
        raise AttributeError(name)

    def _check(self, t: Tensor, state: Parts, dt: Tensor) -> None:
        """Raise SolveError before a step of a solve that cannot end."""
        if not self.fixed:  # torchdiffeq detaches the size of all steps but the first, whose graph
            dt.detach_()  # would reach every time and add a derivative of the solver's error
        now = float(t.detach())  # under "backprop" the step sizes have a graph
        if now == self.start:  # a graph may go back twice
            self.progress.steps = 0
        self.progress.check_step(now, float(dt.detach()))
        self.progress.check_state(now, state)  # norms may overlook NaN: Python's max(0, NaN) is 0
