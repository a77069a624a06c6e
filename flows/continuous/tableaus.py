"""Tableaus of explicit Runge-Kutta methods."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from torchdiffeq._impl.odeint import SOLVERS


@dataclass(frozen=True)
class Method:
    """A tableau: stage i is at t + c_i h and y + h Σ_j a_ij k_j; the step ends at y + h Σ b_i k_i.

    ``nodes`` and ``stages`` are c and a of all stages but the first. ``error`` has the weights of
    the embedded estimate of the error, none at fixed steps. ``order`` is that of the step control.
    """

    order: int
    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    solution: tuple[float, ...]
    error: tuple[float, ...] = ()

    @property
    def closing(self) -> bool:
        """Whether the last stage is at the solution."""
        return bool(self.stages) and self.solution == (*self.stages[-1], 0.0)


@cache
def embedded(name: str) -> Method:
    """The pair of methods that torchdiffeq has by this name."""
    solver = SOLVERS[name]
    tableau = solver.tableau
    return Method(
        solver.order,
        tuple(tableau.alpha.tolist()),
        tuple(tuple(row.tolist()) for row in tableau.beta),
        tuple(tableau.c_sol.tolist()),
        tuple(tableau.c_error.tolist()),
    )


FIXED: dict[str, Method] = {
    "euler": Method(1, (), (), (1.0,)),
    "midpoint": Method(2, (1 / 2,), ((1 / 2,),), (0.0, 1.0)),
    "heun2": Method(2, (1.0,), ((1.0,),), (1 / 2, 1 / 2)),
    "heun3": Method(3, (1 / 3, 2 / 3), ((1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4)),
    "rk4": Method(  # Kutta's 3/8 rule
        4,
        (1 / 3, 2 / 3, 1.0),
        ((1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
        (1 / 8, 3 / 8, 3 / 8, 1 / 8),
    ),
}
