"""Numerics: gradients against float64, and the equalities that continuous flows rest on."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import pairwise, product
from typing import Annotated, Any, ClassVar, Literal, get_args

import torch
from pydantic import Field, JsonValue, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import cosine_similarity

import flows
from benchmarks import datasets
from benchmarks.analysis.inference import standard_error
from benchmarks.core.case import Case, Settings, canonical, digest
from benchmarks.core.study import Common, Result, Study, register
from benchmarks.evaluation.subject import Subject, formed
from benchmarks.measure.calls import timed
from benchmarks.measure.memory import saved_bytes
from benchmarks.studies.contender import Contender, expanded
from benchmarks.studies.numerics.tables import PLACES
from benchmarks.training.loop import train
from benchmarks.training.settings import Training
from benchmarks.training.state import prepared
from flows.conformance import densities
from flows.conformance.subject import NotApplicable, Row, subject_of
from flows.continuous import Solver
from flows.continuous.cnf import CNF
from flows.continuous.point import Point
from flows.continuous.solve import FIXED, Gradient
from flows.continuous.trace import Noise, Trace
from flows.continuous.vector_fields import BottleneckField
from flows.linalg import logabsdet

TIGHT = 1e-12  # rtol and atol of what solves are compared with
CENTRES = (3, 6, 8, 10, 13)  # sixteenths of the time at which d log p/dt is taken
STENCIL = (1.0, -8.0, 0.0, 8.0, -1.0)  # twelfths, of a difference of fourth order
AT_ONCE = 2**21  # elements of repeated rows, to bound the memory
FLAT = 1e-12  # spread of estimates below which they count as equal
BACKPROP: dict[str, Any] = {"method": "dopri5", "gradient": "backprop"}


class GradientsOptions(Settings, frozen=True):
    """Options of the part "gradients"."""

    part: Literal["gradients"]
    """Part of the study."""
    flows: tuple[str, ...] = ("cnf",)
    """Names of flows that solve an ODE."""
    datasets: tuple[str, ...]
    """Data sets, by their names or files."""
    sizes: Mapping[str, PositiveInt] = {}
    """Sizes of the networks by name (`hidden`, `depth`, `layers`), for flows that use them."""
    options: Mapping[str, JsonValue] = {}
    """Options of all flows; of their solver those that no other key decides (`error_norm`)."""
    solvers: dict[str, tuple[PositiveFloat, ...]]
    """Tolerances (rtol = atol) by adaptive method, and step sizes by method of fixed steps."""
    gradients: tuple[Gradient, ...] = get_args(Gradient)
    """Ways to a gradient that are compared."""
    dtypes: tuple[Literal["float32", "float64"], ...] = ("float32", "float64")
    """Floating-point types of the solves, in place of the suite's `dtype`."""
    batch: PositiveInt = 256
    """Rows whose gradient is taken."""
    updates: tuple[NonNegativeInt, ...] = (0, 1000)
    """Updates after which gradients are taken; 0 is the untrained field."""
    training: Training = Training()
    """Settings of the trainings."""
    training_batch: PositiveInt = 256
    """Rows of a batch in training."""
    training_solver: dict[str, JsonValue] = canonical(Solver(rtol=1e-4, atol=1e-4, **BACKPROP))
    """Solver of the trainings."""
    reference: PositiveFloat = 1e-12
    """Tolerance of the gradient in float64 that errors refer to."""
    seconds: NonNegativeFloat = 1.0
    """Seconds of timing all gradients of one setting of the solver; 0 times nothing."""


class Gradients(Study):
    """The error and the cost of the gradient of -log p, by adjoint, seminorm and backprop."""

    name = "numerics"
    uses = ("benchmarks.measure", "benchmarks.training")
    Options: ClassVar[type[GradientsOptions]] = GradientsOptions

    def cases(self, options: GradientsOptions, common: Common) -> Iterator[Case]:
        """A case for each data set, flow, seed, field, precision, solver setting and gradient.

        Fixed steps have no error norm, so that their seminorm would be their adjoint again.
        """
        names = {"part", "training", "training_batch", "training_solver", "reference", "seconds"}
        settings = options.model_dump(include=names)
        settings["training_solver"] = canonical(Solver.of(options.training_solver))
        for name in options.datasets:
            dim = datasets.dim(name)
            for flow in options.flows:
                values = {"solver": {}, **options.options}  # refused by a flow that solves no ODE
                complete = Contender(flow=flow, options=values).complete(options.sizes, dim)
                solvers = list(_solvers(Solver.of(complete["solver"]), options))
                for seed, updates, dtype, solver in product(
                    common.seeds, options.updates, options.dtypes, solvers
                ):
                    fields: dict[str, Any] = {"study": self.name, "flow": flow, "dim": dim}
                    fields |= {"dataset": name, "batch": options.batch, "updates": updates}
                    fields["options"] = {**complete, "solver": canonical(solver)}
                    yield replace(common, dtype=dtype).case(seed, settings=settings, **fields)

    def block(self, case: Case) -> str:
        """All gradients at one solver setting of one field."""
        varied: Any = {"options": {"solver": {"gradient"}}}
        return digest(case.model_dump(mode="json", exclude=varied))

    def budget(self, case: Case) -> float:
        """Seconds: the share of the timing, the counted calls, some of the training."""
        return float(case.settings["seconds"]) / 2 + 0.5 + case.updates / 2000

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        """Take each gradient's error and counts, then time all of them in shuffled rounds."""
        yield from timed(cases, _measured)


def _solvers(base: Solver, options: GradientsOptions) -> Iterator[Solver]:
    """Each method of the suite at each of its settings with each gradient."""
    for method, settings in options.solvers.items():
        fixed = method in FIXED
        for value, gradient in product(settings, options.gradients):
            if not (fixed and gradient == "seminorm"):
                steps: Any = {"step_size": value, "first_step": None}
                tolerances: Any = {"step_size": None, "rtol": value, "atol": value}
                how = steps if fixed else tolerances
                yield replace(base, method=method, gradient=gradient, **how)


def _training(case: Case) -> str:
    """The training of a case's field, as JSON."""
    return case.changed(
        dtype="float32",  # both precisions are given the same field
        batch=case.settings["training_batch"],
        options={**case.options, "solver": case.settings["training_solver"]},
        settings={name: case.settings[name] for name in ("part", "training")},
    ).model_dump_json()


def _measured(case: Case) -> tuple[dict[str, Callable[[], object]], Result]:
    """A call of loss and backward as the case has it, with its error and counts."""
    training, dtype = _training(case), getattr(torch, case.dtype)
    best_loss, best, shift = _reference(training, case.batch, float(case.settings["reference"]))
    flow, x = _view(_field(training), dtype, case.options["solver"]), _rows(case).to(dtype)
    step = partial(_step, flow, x)
    with flows.count_nfe(flow) as nfe:
        loss, gradient = _gradient(flow, x)
    if not bool(torch.isfinite(gradient).all()):
        raise FloatingPointError("the gradient has values that are not finite")
    metrics = {
        "gradient_error": _relative(gradient, best),
        "gradient_cosine": min(1.0, float(cosine_similarity(gradient, best, 0))),
        "reference_shift": shift,
        "loss_error": abs(loss - best_loss),
        "gradient_bytes": saved_bytes(step, flow.parameters()),
        "nfe_forward": nfe.forward,
        "nfe_backward": nfe.backward,
        "steps_accepted": nfe.accepted,
        "steps_rejected": nfe.rejected,
        "steps_accepted_backward": sum(solve.accepted_backward for solve in nfe.solves),
        "steps_rejected_backward": sum(solve.rejected_backward for solve in nfe.solves),
    }
    return {"gradient": step}, Result(metrics)


@lru_cache(maxsize=4)
def _field(training: str) -> flows.Flow:
    """The flow of a case, given as JSON, once it is trained; kept for the cases that follow."""
    case = Case.model_validate_json(training)
    data = datasets.load(str(case.dataset), seed=case.seeds.data)
    flow, settings = prepared(case, data)
    if case.updates:
        train(flow, data, case, settings)
    return flow


@lru_cache(maxsize=4)
def _reference(training: str, rows: int, tolerance: float) -> tuple[float, Tensor, float]:
    """Loss and gradient (P,) of a case's field in float64, by backprop through dopri5.

    The third is the gradient's relative change at a tolerance ten times looser.
    """
    field, case = _field(training), Case.model_validate_json(training)
    x = _rows(case.changed(batch=rows)).double()
    (_, loose), (loss, gradient) = (
        _gradient(_view(field, torch.float64, {**BACKPROP, "rtol": t, "atol": t}), x)
        for t in (10 * tolerance, tolerance)
    )
    return loss, gradient, _relative(loose, gradient)


def _rows(case: Case) -> Tensor:
    """The batch (N, D): the first rows of the test set, rounded to float32 for every precision."""
    data = datasets.load(str(case.dataset), seed=case.seeds.data)
    return data.test[: case.batch].to(case.device, torch.float32)


def _view(field: flows.Flow, dtype: torch.dtype, solver: Any) -> flows.Flow:
    """A copy of the field's flow in ``dtype`` that solves by ``solver``, its noise fixed."""
    return copy.deepcopy(field).to(dtype).using(solver=solver, noise=0)


def _step(flow: flows.Flow, x: Tensor) -> float:
    """The mean of -log p, in nats; its backward pass leaves the gradient with the parameters.

    It is -log p for all flows, whatever one is trained by: what the solver's error bears upon.
    """
    flow.zero_grad()
    loss = -flow.log_prob(x).mean()
    loss.backward()
    return loss.item()


def _gradient(flow: flows.Flow, x: Tensor) -> tuple[float, Tensor]:
    """The loss, and its gradient by all parameters as one float64 vector (P,)."""
    loss, parameters = _step(flow, x), [p for p in flow.parameters() if p.requires_grad]
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return loss, torch.cat([part.double().flatten() for part in parts])


def _relative(gradient: Tensor, best: Tensor) -> float:
    return float((gradient - best).norm() / best.norm())


# ---- the mass of a density ----------------------------------------------------------------------


class MassOptions(GradientsOptions, frozen=True):
    """Options of the part "mass", those of "gradients": ``batch`` is the points of the grid."""

    part: Literal["mass"]  # type: ignore[assignment]  # another part than that it extends
    """Part of the study."""
    gradients: tuple[Gradient, ...] = ("backprop",)
    """Ways to a gradient, which a density does not depend on."""
    batch: PositiveInt = 4096
    """Points of the grid on which a density in one dimension is integrated."""


class Mass(Gradients):
    """How far the integral of a trained density in one dimension is from one, by tolerance."""

    Options = MassOptions

    def block(self, case: Case) -> str:
        """All solves of one field, which is trained once."""
        varied: Any = {"options": {"solver"}, "dtype": True}
        return digest(case.model_dump(mode="json", exclude=varied))

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        yield from Study.measure(self, cases)

    def result(self, case: Case) -> Result:
        """Integrate by the trapezoid rule over three times the range of the training rows."""
        if case.dim != 1:
            raise ValueError(f"the mass is that of a density in one dimension, got {case.dim}")
        rows = datasets.load(str(case.dataset), seed=case.seeds.data).train
        low, high = rows.min().item(), rows.max().item()
        reach, dtype = high - low, getattr(torch, case.dtype)
        x = torch.linspace(low - reach, high + reach, case.batch, dtype=torch.float64)
        flow = _view(_field(_training(case)), dtype, case.options["solver"])
        with torch.no_grad(), flows.count_nfe(flow) as nfe:
            density = flow.log_prob(x[:, None].to(dtype)).double().exp()
        error = abs(torch.trapezoid(density, x).item() - 1)
        return Result({"mass_error": error, "nfe_forward": nfe.forward})


# ---- identities ---------------------------------------------------------------------------------


class IdentitiesOptions(Settings, frozen=True):
    """Options of the part "identities". Identities without a flow of their own are those of cnf."""

    part: Literal["identities"]
    """Part of the study."""
    flows: tuple[Contender, ...] = (Contender(flow="*"),)
    """Flows whose densities are held against a dense Jacobian."""
    dims: tuple[PositiveInt, ...] = (2, 5)
    """Dimensions D of the flows."""
    sizes: Mapping[str, PositiveInt] = {"hidden": 16, "depth": 2}
    """Sizes of the networks by name (`hidden`, `depth`, `layers`), for flows that use them."""
    times: tuple[str, ...] = ("concat", "concatsquash")
    """Ways in which t enters the layers of the field."""
    blocks: tuple[PositiveInt, ...] = (1, 4, 16, 64)
    """Numbers of blocks of a residual network that is held against Euler's method."""
    methods: tuple[str, ...] = ("euler", "midpoint", "rk4")
    """Methods of fixed steps whose order of convergence is measured."""
    steps: tuple[PositiveInt, ...] = (8, 16, 32, 64, 128)
    """Numbers of steps from which that order is taken."""
    differences: tuple[Annotated[int, Field(ge=32, multiple_of=16)], ...] = (32, 64)
    """Numbers of steps of the solutions whose differences give d log p/dt, multiples of 16."""
    bottlenecks: tuple[tuple[PositiveInt, PositiveInt], ...] = ((16, 4), (64, 8), (8, 32))
    """Pairs of D and K, the dimension of the bottleneck of Hutchinson's estimate."""
    gain: PositiveFloat = 3.0
    """Factor on the initial weight matrices; at 1 the Jacobian is tiny."""
    batch: PositiveInt = 16
    """Rows on which the two sides of an identity are compared."""
    draws: int = Field(default=4000, ge=100)
    """Estimates of the trace for each row."""


class Identities(Study):
    """What is left of each equality: residual networks, densities, their rate, and traces."""

    name = "numerics"
    pace = 2
    uses = ("benchmarks.measure", "benchmarks.evaluation", "flows.conformance")
    Options = IdentitiesOptions

    def cases(self, options: IdentitiesOptions, common: Common) -> Iterator[Case]:
        """The cases of each identity, in float64 whatever the suite says; of its first seed."""
        common = replace(common, dtype="float64", seeds=common.seeds[:1])
        shared = {"part": options.part, "gain": options.gain}
        for identity, contender, dim, settings in _asked(options):
            fields: dict[str, Any] = {"study": self.name, "batch": options.batch}
            fields["settings"] = {**shared, "identity": identity, **settings}
            yield contender.case(common, dim, options.sizes, common.seeds[0], **fields)

    def alone(self, case: Case) -> bool:
        """No: nothing is timed."""
        return False

    def budget(self, case: Case) -> float:
        return 3.0 if case.settings["identity"] == "density" else 0.5

    def result(self, case: Case) -> Result:
        return IDENTITIES[case.settings["identity"]](case)


def _asked(
    options: IdentitiesOptions,
) -> Iterator[tuple[str, Contender, int, dict[str, JsonValue]]]:
    """Identity, flow, dimension and settings of each case."""
    dim = max(options.dims)
    for time, blocks in product(options.times, options.blocks):
        yield "euler", Contender(flow="cnf", options={"time": time}), dim, {"blocks": blocks}
    for method in options.methods:
        yield "order", Contender(flow="cnf"), dim, {"method": method, "steps": list(options.steps)}
    for contender, dim in product(expanded(options.flows), options.dims):
        yield "density", contender, dim, {}
    for time, dim in product(options.times, options.dims):
        settings: dict[str, JsonValue] = {"steps": list(options.differences)}
        yield "rate", Contender(flow="cnf", options={"time": time}), dim, settings
    for (dim, width), field in product(options.bottlenecks, ("network", "projection")):
        if field == "projection" and width > dim:  # which has no orthonormal columns there
            continue
        for estimator, noise in product(PLACES, get_args(Noise)):
            trace: Any = canonical(Trace(estimator, noise=noise))
            values = {"bottleneck": width, "trace": trace}
            settings = {"field": field, "draws": options.draws}
            yield "estimate", Contender(flow="ffjord", options=values), dim, settings


# ---- identities, in float64; where a side is a Jacobian, autograd forms it without a trace -------


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
    seed, dtype = case.seeds.init, torch.float64
    torch.manual_seed(seed)
    subject = subject_of(case.flow, case.dim, None, None, seed, dtype, case.options)
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


def _jacobians(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The Jacobian of every row (N, M, D) in one vectorised pass, which not every flow supports."""
    x = x.clone().requires_grad_()
    y = function(x)
    columns = torch.eye(y.shape[1]).to(y).unsqueeze(1).expand(-1, len(y), -1)
    return torch.autograd.grad(y, x, columns, is_grads_batched=True)[0].transpose(0, 1)


def _rate(subject: Subject, steps: int) -> tuple[float, float]:
    """Return the largest |d log p/dt + tr| with ``steps`` steps on [0, 1], and the RMS trace."""
    from torchdiffeq import odeint  # which imports SciPy's solvers

    grid = torch.linspace(0, 1, steps + 1).to(subject.x)
    centres = [steps * sixteenth // 16 for sixteenth in CENTRES]
    nodes = [centre + k for centre in centres for k in range(-2, 3)]

    def paths(x: Tensor) -> Tensor:
        z: Tensor = odeint(subject.field, x, grid, method="rk4")[nodes]
        return z.transpose(0, 1).flatten(1)

    matrices = _jacobians(paths, subject.x).unflatten(1, (len(nodes), -1))
    volumes = logabsdet(matrices).unflatten(1, (len(centres), -1))
    rates = -(volumes @ volumes.new_tensor(STENCIL)) * steps / 12
    points = paths(subject.x).detach().unflatten(1, (len(centres), len(STENCIL), -1))
    traces = [
        torch.einsum("nii->n", _jacobians(partial(subject.field, grid[centre]), points[:, i, 2]))
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


def _field_of(case: Case) -> Subject:
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
    subject, trace = _field_of(case), Trace.of(case.options["trace"])
    inner, draws = inner_jacobian(subject), int(case.settings["draws"])
    errors = torch.cat(list(subject.errors(trace, draws, case.seeds.noise, AT_ONCE)))
    deviations = errors.mean(0) / (errors.std(0) / len(errors) ** 0.5).clamp(min=FLAT)
    squares = errors.square().mean(1)
    rmse = squares.mean().sqrt().item()
    theory = subject.variance(trace, inner if trace.estimator == "bottleneck" else subject.jacobian)
    metrics = {
        "cyclic_error": subject.error(torch.einsum("nii->n", inner)).abs().max().item(),
        "trace_bias": deviations.abs().max().item(),
        "trace_rmse": rmse,
        "trace_rmse_se": standard_error(squares.tolist()) / (2 * rmse or 1),
        "trace_rmse_theory": theory.mean().clamp(min=0).sqrt().item(),
    }
    return Result(metrics)


def _rms(x: Tensor) -> float:
    return x.detach().square().mean().sqrt().item()


IDENTITIES = {identity.__name__: identity for identity in (euler, order, density, rate, estimate)}


@register
class Numerics(Study):
    """Gradients by adjoint and backprop, the mass of a density, equalities of continuous flows."""

    name = "numerics"
    parts: ClassVar[Mapping[str, Study]] = {
        "gradients": Gradients(),
        "mass": Mass(),
        "identities": Identities(),
    }
