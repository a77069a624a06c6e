"""The continuous normalizing flow, options that its families share, and the one of exact trace."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from nflows.transforms import CompositeTransform
from torch import Tensor, nn

import flows
from flows.compiled import Functions
from flows.continuous import regularizers as penalty
from flows.continuous.compiled_steps import Compiled, Evaluation, for_solve
from flows.continuous.dynamics import Dynamics, Parts, Progress
from flows.continuous.point import arity
from flows.continuous.shallow import ActivationName
from flows.continuous.solve import Solver
from flows.continuous.trace import Trace
from flows.continuous.vector_fields import MLPField, TimeName
from flows.counting import NFE
from flows.functorch import check_solvable, unfit_for_gradients
from flows.registry import SIZES, Group


class CNF(nn.Module):
    """A Bijection: dx/dt = field(t, x) from t0 (data) to t1 (noise), ladj its trace's integral.

    ``field`` is any module with forward(t, x) or forward(t, x, context) -> dx/dt, (N, D) -> (N, D);
    one that knows its trace offers with_trace(t, x, context) -> (dx/dt, (N,)) or trace(t, x,
    context) -> (N,). ``trace`` is a `Trace`, or the name of one in `flows.continuous.trace.TRACES`.
    Noise is drawn once a solve from this module's own generator, which torch's global seed at
    construction decides. Either time may be a tensor with a gradient; with ``train_end_time`` the
    end is t0 ± s² of a parameter s, as in FFJORD's released code. ``regularizers`` are weights by
    name (`flows.continuous.regularizers`): integrals that are solved for in a `Regularized` flow's
    loss alone, and never steer the steps. Raises SolveError where the ODE cannot be solved.
    Chen et al., Neural Ordinary Differential Equations, 2018, arXiv:1806.07366.
    """

    def __init__(
        self,
        field: nn.Module,
        *,
        trace: Trace | str | Mapping[str, Any] = "exact",
        solver: Solver | str | Mapping[str, Any] = Solver(),
        t0: float | Tensor = 0.0,
        t1: float | Tensor = 1.0,
        train_end_time: bool = False,
        regularizers: Mapping[str, float] = {},
    ) -> None:
        super().__init__()
        if not isinstance(field, nn.Module) or arity(field.forward) < 2:
            raise TypeError(
                "the field of a CNF is an nn.Module with forward(t, x) or forward(t, x, context), "
                f"got {type(field).__name__}"
            )
        start, end = (t.item() if isinstance(t, Tensor) else float(t) for t in (t0, t1))
        if start == end:
            raise ValueError(f"a CNF needs two different times, got t0 = t1 = {start}")
        if not isinstance(train_end_time, bool):
            raise ValueError(f"train_end_time is true or false, got {train_end_time!r}")
        self.field = field
        self.t0 = t0 if isinstance(t0, Tensor) else start
        self._end = t1 if isinstance(t1, Tensor) else end
        if train_end_time:
            self._sign = 1.0 if end > start else -1.0
            self.sqrt_end_time = nn.Parameter(torch.tensor(abs(end - start) ** 0.5))
        self.trace, self.solver = Trace.of(trace), Solver.of(solver)
        self.regularizers = penalty.checked_weights(regularizers)
        self.noise: int | None = None
        self.counters: list[NFE] = []
        self.penalties: list[list[Tensor]] = []
        self.step_functions: Functions | None = None  # of a compiled view
        self.generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))

    @property
    def dim(self) -> int | None:
        """D where the field knows it."""
        return getattr(self.field, "dim", None)

    @property
    def t1(self) -> float | Tensor:
        """The time of the noise; of a parameter where the end time is trained."""
        if hasattr(self, "sqrt_end_time"):
            return self.t0 + self._sign * self.sqrt_end_time.square()
        return self._end

    @property
    def estimated(self) -> bool:
        """Whether the log-determinant is a random estimate."""
        return self.trace.stochastic

    @property
    def tolerance(self) -> float:
        """Of the adaptive solver; 0 at fixed steps, which are a smooth function of their input."""
        return 0.0 if self.solver.fixed else max(self.solver.rtol, self.solver.atol)

    def use(self, trace: Any, solver: Any, noise: int | None) -> None:
        """Change how the ODE is solved; None keeps the present setting."""
        self.trace = self.trace if trace is None else Trace.of(trace)
        self.solver = self.solver if solver is None else Solver.of(solver)
        self.noise = self.noise if noise is None else noise

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._solve(x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._solve(z, context, -1)

    def to_noise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self._solve(x, context, traced=False)[0]

    def to_data(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self._solve(z, context, -1, traced=False)[0]

    def _solve(self, x: Tensor, context: Tensor | None, way: int = 1, traced: bool = True) -> Any:
        """x at t1 from x at t0, back if ``way`` is -1, and the trace's integral if ``traced``."""
        t0, t1 = (self.t0, self.t1)[::way]
        if context is not None and arity(self.field.forward) < 3:
            raise ValueError(f"field {type(self.field).__name__} takes no context, but got one")
        check_solvable(x, not self.solver.fixed, self.solver.by_adjoint)
        x = x.clone() if unfit_for_gradients(x) else x
        field: Any = self.field
        functions = self.step_functions
        prepared = field if functions else for_solve(field)
        by_adjoint = self.solver.by_adjoint
        generator = self.generator
        if self.noise is not None:  # one of this call's, since other threads may solve too
            generator = torch.Generator().manual_seed(self.noise)
        trace = self.trace if traced else None
        probes = trace.draw(self.field, x, generator) if trace else None
        penalised = bool(trace and self.penalties and self.regularizers)
        beside = probes
        if penalised and (probes is None or probes[0].shape != x.shape):
            beside = Trace("hutchinson").draw(self.field, x, generator)

        evaluation = Evaluation(trace, tuple(self.regularizers.items()) if penalised else ())

        def rate(t: Tensor, y: Tensor, context: Tensor | None = None) -> Parts:
            fresh = by_adjoint and torch.is_grad_enabled()  # what is prepared has one graph
            return evaluation(field if fresh else prepared, t, y, context, probes, beside)

        progress = Progress(self.counters, self.solver.max_steps)
        dynamics = Dynamics(rate, traced + penalised, list(self.field.parameters()), progress)
        if functions:
            if not self.solver.native:
                raise ValueError(
                    f"steps of {self.solver.method!r} by torchdiffeq cannot be compiled: choose a "
                    "method of the native engine, or use the flow itself, not compiled()"
                )
            compiled = Compiled(functions, evaluation, field, (context, probes, beside), progress)
            dynamics.rate, dynamics.compiled = compiled.rate, compiled
        end, *integrals = self.solver.integrate(dynamics, x, t0, t1, context)
        for penalties in self.penalties if penalised else ():
            penalties.append(integrals[1])
        return end, *integrals[:1]


@dataclass(frozen=True)
class Net(Group):
    """The net of a field: arguments of `MLPField` beside the dimension."""

    hidden: int = 64
    depth: int = 2
    context_dim: int = 0
    activation: ActivationName = "tanh"
    time: TimeName = "concat"


@dataclass(frozen=True)
class ODE(Group):
    """The ODE of a flow: ``layers`` pieces of time with a field each, and arguments of `CNF`."""

    layers: int = 1
    trace: Trace = Trace()
    solver: Solver = Solver()
    train_end_time: bool = False


def pieces(field: Callable[[], nn.Module], ode: ODE, **options: Any) -> CompositeTransform:
    """[0, 1] in equal pieces, each a CNF with a new field; ``options`` are those of `CNF`."""
    options.update(trace=ode.trace, solver=ode.solver, train_end_time=ode.train_end_time)
    times = pairwise(k / ode.layers for k in range(ode.layers + 1))
    return CompositeTransform([CNF(field(), t0=t0, t1=t1, **options) for t0, t1 in times])


@flows.register("cnf", uses=SIZES)
def cnf(
    dim: int, *, net: Net = Net(), ode: ODE = ODE(trace=Trace("closed_form"))
) -> CompositeTransform:
    """CNF: an ODE with an MLP field and the exact trace, in closed form or ``trace="loop"``.

    An evaluation costs O(N (D H + ℓ H²)) for the field; its trace one more product of that size
    in closed form, D vector-Jacobian products by the loop. log_prob takes NFE evaluations, a
    sample as many of the field alone. Chen et al., Neural Ordinary Differential Equations, 2018,
    arXiv:1806.07366.
    Growth in D at fixed width: log_prob 1, sampling 1.
    """
    return pieces(partial(MLPField, dim, **vars(net)), ode)
