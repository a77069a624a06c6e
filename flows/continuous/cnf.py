"""The continuous normalizing flow, and the member with an exact trace."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from nflows.transforms import CompositeTransform
from torch import Tensor, nn

import flows
from flows.continuous import trace as traces
from flows.continuous.solve import Solver
from flows.continuous.vector_fields import MLPField
from flows.counting import NFE


class CNF(nn.Module):
    """A Bijection: dx/dt = field(t, x) from t0 (data) to t1 (noise), ladj its trace's integral.

    ``field`` is any module with forward(t, x) or forward(t, x, context) -> dx/dt, (N, D) -> (N, D);
    one that knows its trace offers with_trace(t, x, context) -> (dx/dt, (N,)) or trace(t, x,
    context) -> (N,). ``trace`` is a name in `flows.continuous.trace.TRACES`. Noise is drawn once
    a solve from this module's own generator, which torch's global seed at construction decides.
    Raises SolveError where the ODE cannot be solved. Chen et al., Neural Ordinary Differential
    Equations, 2018, arXiv:1806.07366.
    """

    def __init__(
        self,
        field: nn.Module,
        *,
        trace: str = "exact",
        solver: Solver | str | Mapping[str, Any] = Solver(),  # noqa: B008  (frozen)
        t0: float = 0.0,
        t1: float = 1.0,
    ) -> None:
        super().__init__()
        if t0 == t1:
            raise ValueError(f"a CNF needs two different times, got t0 = t1 = {t0}")
        self.field = field
        self.t0, self.t1 = float(t0), float(t1)
        self.trace, self.solver = traces.named(trace), Solver.of(solver)
        self.noise: int | None = None
        self.counters: list[NFE] = []
        self.generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        self._conditional = len(inspect.signature(field.forward).parameters) > 2

    @property
    def dim(self) -> int | None:
        """D where the field knows it."""
        return getattr(self.field, "dim", None)

    @property
    def estimated(self) -> bool:
        """Whether the log-determinant is a random estimate."""
        return self.trace in traces.STOCHASTIC

    @property
    def tolerance(self) -> float:
        """Of the adaptive solver; 0 at fixed steps, which are a smooth function of their input."""
        return 0.0 if self.solver.fixed else max(self.solver.rtol, self.solver.atol)

    def use(self, trace: str | None, solver: Any, noise: int | None) -> None:
        """Solve otherwise from now on; None keeps what is."""
        self.trace = self.trace if trace is None else traces.named(trace)
        self.solver = self.solver if solver is None else Solver.of(solver)
        self.noise = self.noise if noise is None else noise

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to noise: (N, D) -> (N, D), (N,)."""
        return self._solve(x, context, self.t0, self.t1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data: (N, D) -> (N, D), (N,)."""
        return self._solve(z, context, self.t1, self.t0)

    def _solve(
        self, x: Tensor, context: Tensor | None, t0: float, t1: float
    ) -> tuple[Tensor, Tensor]:
        if context is not None and not self._conditional:
            raise ValueError(f"field {type(self.field).__name__} takes no context, but got one")
        rate, noise = traces.TRACES[self.trace], self._probes(x)
        field = self.field if self._conditional else _WithoutContext(self.field)

        def of_state(t: Tensor, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return rate(field, t, y, context, noise)

        dynamics = self.solver.dynamics(self.field, of_state, self.counters)
        parts = (x, x.new_zeros(len(x))) if context is None else (x, x.new_zeros(len(x)), context)
        end, ladj, *_ = self.solver.integrate(dynamics, parts, t0, t1)
        return end, ladj

    def _probes(self, x: Tensor) -> Tensor | None:
        """Rademacher probes (N, D) of one solve, where the trace needs them."""
        if not self.estimated:
            return None
        if self.noise is not None:
            self.generator.manual_seed(self.noise)
        signs = torch.randint(0, 2, x.shape, generator=self.generator) * 2 - 1
        return signs.to(x)


class _WithoutContext(nn.Module):
    """A field f(t, x) under the signature of one that takes a context; its trace may have it."""

    def __init__(self, field: nn.Module) -> None:
        super().__init__()
        self.field = field
        for offer in ("with_trace", "trace"):
            if own := getattr(field, offer, None):
                takes = len(inspect.signature(own).parameters)
                setattr(self, offer, lambda *args, own=own, takes=takes: own(*args[:takes]))

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Any:
        return self.field(t, x)


def pieces(dim: int, layers: int, trace: str, solver: Any, **field: Any) -> CompositeTransform:
    """[0, 1] cut into ``layers`` pieces, each a CNF with an MLPField of its own."""
    times = [k / layers for k in range(layers + 1)]
    return CompositeTransform(
        [
            CNF(MLPField(dim, **field), trace=trace, solver=solver, t0=t0, t1=t1)
            for t0, t1 in pairwise(times)
        ]
    )


@flows.register("cnf", uses=("hidden", "depth", "layers", "context_dim"))
def cnf(
    dim: int,
    *,
    hidden: int = 64,
    depth: int = 2,
    layers: int = 1,
    context_dim: int = 0,
    activation: str = "tanh",
    time: str = "concat",
    trace: str = "closed_form",
    solver: Solver | str | Mapping[str, Any] = Solver(),  # noqa: B008  (frozen)
) -> CompositeTransform:
    """CNF: an ODE with an MLP field and the exact trace, in closed form or ``trace="loop"``.

    An evaluation costs O(N (D H + ℓ H²)) for the field; its trace one more product of that size
    in closed form, D vector-Jacobian products by the loop. log_prob takes NFE evaluations, a
    sample the same. Chen et al., Neural Ordinary Differential Equations, 2018, arXiv:1806.07366.

    Growth in D at fixed width: log_prob 1, sampling 1.
    """
    return pieces(
        dim,
        layers,
        trace,
        solver,
        hidden=hidden,
        depth=depth,
        context_dim=context_dim,
        activation=activation,
        time=time,
    )
