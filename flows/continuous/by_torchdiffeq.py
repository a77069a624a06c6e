"""The engine that released FFJORD runs on: torchdiffeq's solvers, watched by callbacks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchdiffeq import odeint, odeint_adjoint

from flows.bijection import Pair
from flows.continuous.dynamics import Dynamics, Parts, SolveError
from flows.continuous.native import Norm

if TYPE_CHECKING:
    from flows.continuous.solve import Solver

FINAL = ("dopri5", "dopri8", "bosh3")  # whose last evaluation is at the solution itself


def solve(
    solver: Solver,
    norm: Norm,
    dynamics: Dynamics,
    x: Tensor,
    context: Parts,
    span: Pair,
    by_adjoint: bool,
) -> Parts:
    """x and its integrals at the second of two times, by torchdiffeq.

    With a graph of its steps, or of a solve backward in time.
    """
    times = torch.stack(span)
    first, last = times.tolist()
    steps = Fixed if solver.fixed else Adaptive
    kind = Scipy if solver.method == "scipy_solver" else steps
    watched = kind(dynamics, first)
    zeros = [x.new_zeros(len(x)) for _ in range(dynamics.integrals)]

    def options(end: Tensor) -> dict[str, Any]:
        """Options of torchdiffeq for steps that end at ``end`` (1,)."""
        if kind is Adaptive:
            return {"step_t": end, "first_step": solver.first(abs(last - first))}
        return {"grid_constructor": partial(_grid, solver)} if kind is Fixed else {}

    further: dict[str, Any] = {"method": solver.method, "rtol": solver.rtol, "atol": solver.atol}
    if by_adjoint:
        way = 1.0 if last > first else -1.0  # torchdiffeq negates times that fall
        adjoint = options(way * times[:1].detach())
        adjoint |= {"norm": "seminorm"} if solver.gradient == "seminorm" else {}
        further |= {"adjoint_options": adjoint, "adjoint_params": tuple(dynamics.parameters)}
    steering = {"norm": lambda state: norm(state[0], state[1 : 1 + dynamics.integrals])}
    further["options"] = {**options(times[1:]), **steering}
    run = odeint_adjoint if by_adjoint else odeint
    solution = run(watched, (x, *zeros, *context), times, **further)
    if len(solution[0]) < 2:
        raise SolveError(f"{solver.method} gave up before t={last:.6g}")
    # torchdiffeq interpolates up to the end too, by a graph that holds the last evaluation
    final = solver.method in FINAL and not by_adjoint
    result = watched.state if final else tuple(part[-1] for part in solution)
    result = result[: 1 + dynamics.integrals]
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
    """A Dynamics as torchdiffeq calls it, at (t, (x, integrals..., context...)), with callbacks."""

    def __init__(self, dynamics: Dynamics, start: float) -> None:
        self.dynamics, self.progress, self.start = dynamics, dynamics.progress, start
        self.state: Parts = ()  # that of the last evaluation

    def __call__(self, t: Tensor, state: Parts) -> Parts:
        """The derivative of every part of the state; a context is constant."""
        self.state = state
        context = state[1 + self.dynamics.integrals :]
        rates = self.dynamics(t, state[0], *context)
        return *rates, *(torch.zeros_like(part) for part in context)

    def check(self, t: Tensor, state: Parts, dt: Tensor) -> None:
        """Raise SolveError before a step of a solve that cannot end."""
        now = float(t.detach())  # under "backprop" the step sizes have a graph
        if now == self.start:  # a graph may go back twice
            self.progress.steps = 0
        self.progress.check_step(now, float(dt.detach()))
        self.progress.check_state(now, state)  # norms may overlook NaN: Python's max(0, NaN) is 0


class Fixed(_Watched):
    """Under a fixed-step solver, which has no callback after an adjoint's last step."""

    def __call__(self, t: Tensor, state: Parts) -> Parts:
        rates = super().__call__(t, state)
        if self.progress.backward:
            self.progress.check_finite(float(t.detach()))
        return rates

    callback_step = callback_step_adjoint = _Watched.check


class Adaptive(_Watched):
    """Under an adaptive solver, which also reports accepted and rejected steps."""

    def callback_step(self, t: Tensor, state: Parts, dt: Tensor) -> None:
        # torchdiffeq detaches the size of all steps but the first, whose graph would reach every
        # time of the solve and add a derivative of the solver's error
        dt.detach_()
        self.check(t, state, dt)

    def callback_accept_step(self, t: Tensor, state: Parts, dt: Tensor) -> None:
        self.progress.count_step(True)

    def callback_reject_step(self, t: Tensor, state: Parts, dt: Tensor) -> None:
        self.progress.count_step(False)

    callback_step_adjoint = callback_step
    callback_accept_step_adjoint = callback_accept_step
    callback_reject_step_adjoint = callback_reject_step


class Scipy(_Watched):
    """Under scipy's solver, which has no callbacks and no limit of evaluations."""

    def __call__(self, t: Tensor, state: Parts) -> Parts:
        rates = super().__call__(t, state)
        now, progress = float(t.detach()), self.progress
        progress.check_finite(now)
        if progress.evaluations > progress.max_steps:
            raise SolveError(
                f"the solve passed its limit of {progress.max_steps} evaluations near t={now:.6g}: "
                "raise max_steps, which counts evaluations for scipy_solver, or rtol and atol"
            )
        return rates
