"""Residuals of the equalities that continuous flows rest on, measured in float64.

Every function takes a case of the study `numerics` and returns its metrics. Jacobians are formed
densely, by autograd; no trace or log-determinant of a flow takes part in the other side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchdiffeq import odeint

from benchmarks.analysis.inference import standard_error
from benchmarks.core.case import Case
from benchmarks.core.study import Result
from benchmarks.evaluation.subject import Subject, formed
from flows.conformance import densities
from flows.conformance.densities import jacobians
from flows.conformance.subject import NotApplicable, Row, subject_of
from flows.continuous.cnf import CNF
from flows.continuous.point import Point
from flows.continuous.solve import Solver
from flows.continuous.trace import Trace
from flows.continuous.vector_fields import BottleneckField
from flows.linalg import logabsdet

TIGHT = 1e-12  # rtol and atol of what solves are compared with
CENTRES = (3, 6, 8, 10, 13)  # sixteenths of the time at which d log p/dt is taken
STENCIL = (1.0, -8.0, 0.0, 8.0, -1.0)  # twelfths, of a difference of fourth order
AT_ONCE = 2**21  # elements of repeated rows, to bound the memory
FLAT = 1e-12  # spread of estimates below which they count as equal


def euler(case: Case) -> Result:
    """Compare a residual network with Euler's method of step one through the same weights.

    The network is z + f_k(z), layer by layer, with the weights of the field at t = k. The trace is
    by the loop, which keeps the order of the field's products: the closed form reorders some, which
    changes rounding.
    """
    subject, layers = Subject.of(case), int(case.settings["blocks"])
    solver = Solver("euler", step_size=1.0)
    with torch.no_grad():
        cnf = CNF(subject.field, trace="loop", solver=solver, t1=float(layers))
        solved, _ = cnf(subject.x)
        stacked = residual(subject, layers)
    different = (solved != stacked).sum().item()
    return Result({"different_elements": different, "solver_error": _rms(solved - stacked)})


def residual(subject: Subject, layers: int) -> Tensor:
    """Return the output (N, D) of a residual network with the field's weights at t = 0, 1, ..."""
    z = subject.x
    for layer in range(layers):
        *hidden, last = subject.field.at(subject.t.new_tensor(float(layer)))
        inner = z
        for weight, bias in hidden:
            inner = subject.field.activation.value(F.linear(inner, weight, bias))
        z = z + F.linear(inner, *last)
    return z


def order(case: Case) -> Result:
    """Measure a method's error at each number of steps, and the order between neighbours."""
    subject, steps = Subject.of(case), [int(n) for n in case.settings["steps"]]

    def end(solver: Solver) -> Tensor:
        z: Tensor = CNF(subject.field, solver=solver)(subject.x)[0]
        return z

    with torch.no_grad():
        best = end(Solver("dopri8", rtol=TIGHT, atol=TIGHT))
        errors = [_rms(end(Solver(case.settings["method"], step_size=1 / n)) - best) for n in steps]
    return Result({"solver_error": errors, "convergence_order": _orders(steps, errors)})


def _orders(steps: Sequence[int], errors: Sequence[float]) -> list[float]:
    """Return the order with which errors fall from each number of steps to the next."""
    points = list(zip(steps, errors, strict=True))
    return [math.log(e / f) / math.log(m / n) for (n, e), (m, f) in pairwise(points)]


def density(case: Case) -> Result:
    """Compare log_prob with log N(z) + log |det ∂z/∂x| and, in two dimensions, integrate p.

    By the rows of the conformance kit, whose bounds are those of rounding and of the solver.
    """
    torch.manual_seed(case.seeds.init)
    subject = subject_of(
        case.flow, case.dim, None, None, case.seeds.init, torch.float64, case.options
    )
    torch.manual_seed(case.seeds.noise)
    rows = [Row("ladj", densities.log_determinant)]
    rows += [Row("mass", densities.total_mass)] if case.dim == 2 else []
    metrics: dict[str, float | list[float]] = {}
    notes: dict[str, str] = {}
    for row in rows:
        try:
            finding = row.measure(subject)
        except NotApplicable as reason:
            notes[row.name] = str(reason)
        else:
            metrics |= {f"{row.name}_error": finding.value, f"{row.name}_bound": finding.bound}
    return Result(metrics, notes=notes)


def rate(case: Case) -> Result:
    """Compare d log p/dt along trajectories, by differences, with -tr ∂f/∂z.

    log p at t is that at the start less log |det| of the Jacobian of the solution, which is formed
    through the solver from x alone, without a trace. Differences and solver are of fourth order,
    and so is the error in the number of steps.
    """
    subject, steps = Subject.of(case), [int(n) for n in case.settings["steps"]]
    errors, scales = zip(*(_rate(subject, n) for n in steps), strict=True)
    relative = [error / scales[-1] for error in errors]
    return Result({"rate_error": relative, "convergence_order": _orders(steps, relative)})


def _rate(subject: Subject, steps: int) -> tuple[float, float]:
    """Return the largest |d log p/dt + tr| with ``steps`` steps on [0, 1], and the RMS trace."""
    grid = torch.linspace(0, 1, steps + 1).to(subject.x)
    centres = [steps * sixteenth // 16 for sixteenth in CENTRES]
    nodes = [centre + k for centre in centres for k in range(-2, 3)]

    def paths(x: Tensor) -> Tensor:
        z: Tensor = odeint(subject.field, x, grid, method="rk4")[nodes]
        return z.transpose(0, 1).flatten(1)

    matrices = jacobians(paths, subject.x).unflatten(1, (len(nodes), -1))
    volumes = logabsdet(matrices).unflatten(1, (len(centres), -1))
    rates = -(volumes @ volumes.new_tensor(STENCIL)) * steps / 12
    points = paths(subject.x).detach().unflatten(1, (len(centres), len(STENCIL), -1))
    traces = [
        torch.einsum("nii->n", jacobians(partial(subject.field, grid[centre]), points[:, i, 2]))
        for i, centre in enumerate(centres)
    ]
    trace = torch.stack(traces, 1)
    return (rates + trace).abs().max().item(), _rms(trace)


class Linear(nn.Module):
    """x Mᵀ at every t, for a matrix M (out, in)."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(N, in) -> (N, out)."""
        return x @ self.matrix.T


def _field(case: Case) -> Subject:
    """Return the network of the case's flow or, for "projection", x U Uᵀ, U (D, K) orthonormal."""
    subject = Subject.of(case)
    if case.settings["field"] == "network":
        return subject
    width = int(case.options["bottleneck"])
    generator = torch.Generator().manual_seed(case.seeds.init)
    normal = torch.randn(case.dim, width, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(normal)[0].to(subject.x)
    field = BottleneckField(Linear(basis.T.contiguous()), Linear(basis), case.dim, width)
    return Subject(field, subject.t, subject.x, formed(Point(field, subject.t, subject.x, None)))


def inner_jacobian(subject: Subject) -> Tensor:
    """Form ∂h/∂x ∂g/∂h (N, K, K) of a field g(h(x)) from its two factors."""
    field, t, x = subject.field, subject.t, subject.x
    h = Point(field.encoder, t, x, None, width=field.bottleneck)
    g = Point(field.decoder, t, h.dx.detach(), None, width=x.shape[1])
    return formed(h) @ formed(g)


@torch.no_grad()
def estimate(case: Case) -> Result:
    """Measure bias and spread of Hutchinson's estimate in R^D or, for "bottleneck", in R^K.

    ``trace_bias`` is the largest deviation of a row's mean, in its standard errors; errors are
    relative to the root mean square of ‖∂f/∂z‖ over rows.
    """
    subject, trace = _field(case), Trace.of(case.options["trace"])
    inner = inner_jacobian(subject)
    matrices = inner if trace.estimator == "bottleneck" else subject.jacobian
    draws = int(case.settings["draws"])
    errors = torch.cat(list(subject.errors(trace, draws, case.seeds.noise, AT_ONCE)))
    means, spreads = errors.mean(0), errors.std(0)
    deviations = means / (spreads / len(errors) ** 0.5).clamp(min=FLAT)
    squares = errors.square().mean(1)
    rmse = squares.mean().sqrt().item()
    theory = subject.variance(trace, matrices)
    return Result(
        {
            "cyclic_error": subject.error(torch.einsum("nii->n", inner)).abs().max().item(),
            "trace_bias": deviations.abs().max().item(),
            "trace_rmse": rmse,
            "trace_rmse_se": standard_error(squares.tolist()) / (2 * rmse or 1),
            "trace_rmse_theory": theory.mean().clamp(min=0).sqrt().item(),
        }
    )


def _rms(x: Tensor) -> float:
    return x.detach().square().mean().sqrt().item()


IDENTITIES: dict[str, Callable[[Case], Result]] = {
    "euler": euler,
    "order": order,
    "density": density,
    "rate": rate,
    "estimate": estimate,
}
