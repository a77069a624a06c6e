"""The engine that released FFJORD runs on: torchdiffeq's solvers, watched by callbacks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flows.bijection import Pair
from flows.continuous.dynamics import Dynamics, Parts, SolveError

if TYPE_CHECKING:
    from flows.continuous.solve import Solver

FINAL = ("dopri5", "dopri8", "bosh3")  # whose last evaluation is at the solution itself


def solve(
    solver: Solver, dynamics: Dynamics, x: Tensor, context: Parts, span: Pair, by_adjoint: bool
) -> Parts:
    """x and its integrals at the second of two times, by torchdiffeq.

    With a graph of its steps, or of a solve backward in time.
    """
    from torchdiffeq import odeint, odeint_adjoint  # here: it imports SciPy's solvers

    times = torch.stack(span)
    first, last = times.tolist()
    watched = _Watched(dynamics, solver, first)
    zeros = [x.new_zeros(len(x)) for _ in range(dynamics.integrals)]

    def options(end: Tensor) -> dict[str, Any]:
        """Options of torchdiffeq for steps that end at ``end`` (1,)."""
        if solver.fixed or watched.scipy:
            return {"grid_constructor": partial(_grid, solver)} if solver.fixed else {}
        return {"step_t": end, "first_step": solver.first(abs(last - first))}

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
    result = watched.state if final else tuple(part[-1] for part in solution)
    result = result[:count]
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
