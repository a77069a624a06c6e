"""Subjects of the kit, one flow in one dtype, prepared; and rows, what is measured of them."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

import flows
from flows.continuous import Solver
from flows.flow import Flow
from flows.plugins import FOREIGN

BOTH = (torch.float64, torch.float32)
ONCE = (torch.float64,)

ROWS = 128  # of data, to judge a flow at
FACTOR = 100  # largest error, in units of the tolerance of the ODEs
LOOSEST = 1e-2  # bound that no tolerance can excuse, in nats or relative
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
TOLERANCE_OF_OTHERS = 1e-6  # of ODEs that are not solved by a `Solver`
TOLERANCE_OF_MANY = 1e-6  # of ODEs at thousands of points, of which a sum or a rank is judged


class Refused(ValueError):
    """A member that refuses this dimension; the message is its own."""


@dataclass
class Subject:
    """One flow under test, in one dtype.

    ``own`` is a copy of the ``original`` with its own solver; ``flow`` a view of it that solves
    ODEs tightly, with the exact trace or, where there is none, with frozen noise; ``reference`` the
    same in float64, differentiated through its steps. ``fresh`` builds another of its kind. ``x``
    is (ROWS, D), ``context`` None or (ROWS, C).
    """

    name: str
    original: Flow | None
    own: Flow
    flow: Flow
    reference: Flow
    x: Tensor
    context: Tensor | None
    seed: int
    estimated: bool
    fresh: Callable[[], Flow] | None

    @cached_property
    def at_many(self) -> Flow:
        """`flow`, for thousands of points: its ODEs are solved less tightly."""
        if not 0 < tolerance_of(self.flow) < TOLERANCE_OF_MANY:
            return self.flow
        tolerances = dict.fromkeys(("rtol", "atol"), TOLERANCE_OF_MANY)
        return tightened(self.own, self.estimated, self.x, self.context, **tolerances)

    @property
    def dim(self) -> int:
        return self.x.shape[1]

    @property
    def tolerance(self) -> float:
        """Of the ODEs of `flow`; 0 where none is solved adaptively."""
        return tolerance_of(self.flow)

    @property
    def dtype(self) -> torch.dtype:
        return self.x.dtype

    @property
    def inexact(self) -> bool:
        """Whether its inverse is learned, as a module declares."""
        return any(getattr(module, "inexact", False) for module in self.own.modules())

    def contexts(self, n: int) -> Tensor | None:
        """n context rows, over and over where n is more than there are."""
        return None if self.context is None else _cycled(self.context, n)

    def needed_contexts(self, n: int) -> Tensor:
        """n context rows; NotApplicable for a flow without."""
        if (context := self.contexts(n)) is None:
            raise NotApplicable("it is not conditional")
        return context

    def bound(self, of_float64: float, of_float32: float, flow: Flow | None = None) -> float:
        """The bound of this dtype, or what the tolerance of the ODEs leaves, if that is more."""
        plain = of_float64 if self.dtype == torch.float64 else of_float32
        return max(plain, min(FACTOR * tolerance_of(flow or self.flow), LOOSEST))


def subject_of(
    flow: Flow | str,
    dim: int | None,
    x: Tensor | None,
    context: Tensor | None,
    seed: int,
    dtype: torch.dtype,
    options: Mapping[str, Any],
    moved: bool = True,
) -> Subject:
    """The flow, prepared; Refused where a member cannot be built at this dimension."""
    fresh: Callable[[], Flow] | None = None
    if isinstance(flow, str):
        own, name, original = _built(flow, dim, options), flow, None

        def fresh() -> Flow:
            return flows.build(name, own.dim or 0, **options).to(dtype)

        jitter(own, 0.2 if moved else 0.0)
        data = 1.5 * torch.randn(ROWS, own.dim or 1, dtype=torch.float64) + 0.3
        context = _drawn(own, options.get("context_dim", 0)) if context is None else context
        x = data if x is None else x
        own.initialize(data, None if context is None else _cycled(context.double(), ROWS))
    elif isinstance(flow, Flow):
        if dim is not None or options:
            names = ", ".join([*(["dim"] if dim is not None else []), *options])
            raise ValueError(f"{names} is for a registered name: this Flow is built already")
        try:
            own = copy.deepcopy(flow).double()
        except RuntimeError as error:  # torch's, for tensors with a graph
            raise ValueError(
                "check copies the flow, but it holds a tensor with a graph (after a forward pass "
                "of a parametrised module, say): detach it, or check a flow that was not yet run"
            ) from error
        name, original = type(flow.transform).__name__, flow
        context = _drawn(own) if context is None else context
        x = _points(own, context) if x is None else x
    else:
        raise TypeError(
            f"check takes a Flow or a registered name, got {type(flow).__name__}: make a Flow of a "
            "Bijection by flows.Flow(transform, dim=D)"
        )
    x, context = _data(own, x, context)
    own = own.to(dtype)
    estimated = any(getattr(module, "estimated", False) for module in own.modules())
    x, context = x.to(dtype), None if context is None else context.to(dtype)
    tight = tightened(own, estimated, x, context)
    double = copy.deepcopy(own).double()
    double = tightened(double, estimated, x, context, gradient="backprop")
    return Subject(name, original, own, tight, double, x, context, seed, estimated, fresh)


def _built(name: str, dim: int | None, options: Mapping[str, Any]) -> Flow:
    """A registered flow in float64; Refused if it does not exist in one dimension."""
    dim = 3 if dim is None else dim
    try:
        return flows.build(name, dim, **options).double()
    except ValueError as error:
        if dim == 1 and "dim=1" in str(error):
            raise Refused(str(error)) from error
        raise


def _points(flow: Flow, context: Tensor | None) -> Tensor:
    """Samples of the flow, or standard normal points where it cannot sample."""
    if flow.dim is None:
        raise ValueError(
            "check needs the dimension: construct the flow with Flow(transform, dim=D)"
        )
    try:
        return flow.sample(ROWS, None if context is None else _cycled(context.double(), ROWS))
    except FOREIGN:  # which fails other rows
        return torch.randn(ROWS, flow.dim, dtype=torch.float64)


def _drawn(flow: Flow, declared: int = 0) -> Tensor | None:
    """Contexts of normal columns, every fourth row three times as far; None if it takes none."""
    if not (width := flow.context_dim or declared):
        return None
    context = torch.randn(ROWS, width, dtype=torch.float64)
    context[::4] *= 3
    return context


def _data(flow: Flow, x: Any, context: Any) -> tuple[Tensor, Tensor | None]:
    """Points and contexts in float64, ROWS of each; ValueError where they do not fit."""
    for what, value in (("x", x), ("context", context)):
        rows = isinstance(value, Tensor) and value.dim() == 2 and len(value) > 0
        rows = rows and not value.is_complex()
        if value is not None and not rows:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"expected {what} to be a Tensor of some rows and columns, got {got}")
    x = _cycled(x.detach().double(), ROWS)
    context = None if context is None else _cycled(context.detach().double(), ROWS)
    flow.validate(x, context)
    return x, context


def _cycled(rows: Tensor, n: int) -> Tensor:
    return rows[torch.arange(n) % max(1, len(rows))]


def tightened(
    flow: Flow, estimated: bool, x: Tensor, context: Tensor | None, **changes: Any
) -> Flow:
    """A view whose ODEs are solved tightly, exactly or with frozen noise, differentiated as set.

    ``changes`` are other values of the solver's. Where that fails (a field with kinks, say) they
    are solved by the flow's own settings.
    """
    view, dtype = _settled(flow, estimated), flow.like().dtype
    tight = TOLERANCE.get(dtype, 1e-5)
    odes: list[Any] = [m for m in view.modules() if hasattr(m, "tolerance") and hasattr(m, "use")]
    for ode in odes:
        solver: Any = dict.fromkeys(("rtol", "atol"), max(tight, TOLERANCE_OF_OTHERS))
        if isinstance(own := getattr(ode, "solver", None), Solver):
            steps = {"method": "dopri5", "step_size": None, "max_steps": 2000}
            solver = replace(own, **{**steps, "rtol": tight, "atol": tight, **changes})
        ode.use(None, solver, None)
    try:
        if odes:
            with torch.no_grad():
                view.log_prob(x.to(dtype), None if context is None else context.to(dtype))
    except RuntimeError:
        return _settled(flow, estimated)
    return view


def _settled(flow: Flow, estimated: bool) -> Flow:
    """A view that gives equal results to equal calls: exact, or else with frozen noise."""
    try:
        return flow.using(trace="exact" if estimated else None, noise=0)
    except ValueError:  # an estimate without an exact counterpart
        return flow.using(noise=0)


def tolerance_of(flow: nn.Module) -> float:
    """The largest tolerance of an ODE in a flow; 0 where none is solved adaptively."""
    return max((float(getattr(module, "tolerance", 0.0)) for module in flow.modules()), default=0.0)


@torch.no_grad()
def jitter(flow: nn.Module, spread: float) -> None:
    """Add normal noise to every trainable parameter, less an entry in wide tensors."""
    for parameter in filter(lambda tensor: tensor.requires_grad, flow.parameters()):
        width = parameter.shape[-1] if parameter.dim() else 1
        size = spread * min(1.0, 2 / max(width, 1) ** 0.5)
        parameter.add_(size * torch.randn_like(parameter))


class NotApplicable(Exception):
    """Raised by a row that does not apply to this flow; the message has the reason."""


@dataclass(frozen=True)
class Finding:
    """A figure, the largest value that passes, and a note."""

    value: float
    bound: float
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A property of every flow: its name, its measurement, and the dtypes to measure it in.

    ``graph`` says that it is measured with gradients enabled.
    """

    name: str
    measure: Callable[[Subject], Finding]
    dtypes: tuple[torch.dtype, ...] = BOTH
    graph: bool = False
