"""What the kit judges: one flow in one dtype, prepared; and the parts that its rows are made of."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import flows
from flows.flow import Flow

POINTS = 8  # rows that Jacobians and gradients are judged at
FACTOR = 100  # what an error may be of the tolerance that an ODE is solved with
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
BOTH = (torch.float64, torch.float32)
ONCE = (torch.float64,)


class NotApplicable(Exception):
    """A row that cannot be asked of this flow; the message says why."""


class Refused(ValueError):
    """A member that cannot be built at this dimension; the message is its own."""


@dataclass(frozen=True)
class Finding:
    """A figure, the bound that it passes up to, and what to know of it."""

    value: float
    bound: float
    note: str = ""


@dataclass
class Subject:
    """One flow under test, in one dtype.

    ``own`` solves its ODEs as it was given; ``flow`` is a view of it that solves them tightly and,
    where its log-determinant is an estimate, with the exact trace (or, without one, frozen noise).
    ``reference`` is the same in float64. ``fresh`` builds another of its kind.
    """

    name: str
    own: Flow
    flow: Flow
    reference: Flow
    x: Tensor
    context: Tensor | None
    seed: int
    estimated: bool
    fresh: Callable[[], Flow]

    @property
    def dim(self) -> int:
        """D."""
        return self.x.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters and data."""
        return self.x.dtype

    def rows(self, n: int) -> tuple[Tensor, Tensor | None]:
        """The first n points and their contexts."""
        context = self.context
        return self.x[:n], context if context is None or len(context) == 1 else context[:n]

    def expanded(self, n: int) -> Tensor | None:
        """n context rows, for a transform that is called itself."""
        if self.context is None:
            return None
        return self.context.expand(n, -1) if len(self.context) == 1 else self.context[:n]

    def served(self, n: int) -> Tensor | None:
        """One context row that serves n samples."""
        return None if self.context is None else self.context[:1]

    def bound(self, of_float64: float, of_float32: float, flow: Flow | None = None) -> float:
        """The bound of this dtype, or what the tolerance of the ODEs leaves, if that is more."""
        plain = of_float64 if self.dtype == torch.float64 else of_float32
        return max(plain, FACTOR * tolerance_of(flow or self.flow))


@dataclass(frozen=True)
class Row:
    """A question to every flow: its name, its measurement, and the dtypes that it is asked in."""

    name: str
    measure: Callable[[Subject], Finding]
    dtypes: tuple[torch.dtype, ...]


def row(
    rows: list[Row], name: str, dtypes: tuple[torch.dtype, ...] = BOTH
) -> Callable[[Callable[[Subject], Finding]], Callable[[Subject], Finding]]:
    """Decorator: add a measurement to the rows of a module."""

    def decorate(measure: Callable[[Subject], Finding]) -> Callable[[Subject], Finding]:
        rows.append(Row(name, measure, dtypes))
        return measure

    return decorate


def subject_of(
    flow: Flow | str,
    dim: int | None,
    x: Tensor | None,
    context: Tensor | None,
    seed: int,
    dtype: torch.dtype,
    options: Mapping[str, Any],
) -> Subject:
    """The flow, prepared; Refused where a member cannot be built at this dimension."""
    torch.manual_seed(seed)
    if isinstance(flow, str):
        member, dim = flows.members[flow], 3 if dim is None else dim
        complete = member.complete(options)
        width = complete.get("context_dim", 0)

        def fresh() -> Flow:
            return flows.build(str(flow), int(dim or 0), **options).to(dtype)

        try:
            own = flows.build(flow, dim, **options).double()
        except ValueError as error:
            if dim == 1 and f"dim={dim}" in str(error):
                raise Refused(str(error)) from error
            raise
        jitter(own, 0.2)
        if width and context is None:
            context = torch.randn(256, width, dtype=torch.float64)
        data = 1.5 * torch.randn(256, dim, dtype=torch.float64) + 0.3
        own.initialize(data, context)
        x, name = data if x is None else x, flow
    else:
        if not isinstance(flow, Flow):
            raise TypeError(f"check takes a Flow or a registered name, got {type(flow).__name__}")
        own, name = copy.deepcopy(flow).double(), type(flow.transform).__name__
        x = _points(own, context) if x is None else x

        def fresh() -> Flow:
            other = copy.deepcopy(own)
            with torch.no_grad():
                for tensor in other.state_dict().values():
                    tensor.zero_()
            return other

    own = own.to(dtype)
    estimated = any(getattr(module, "estimated", False) for module in own.modules())
    return Subject(
        name,
        own,
        tightened(own, estimated),
        tightened(copy.deepcopy(own).double(), estimated),
        x.detach().to(dtype),
        None if context is None else context.detach().to(dtype),
        seed,
        estimated,
        fresh,
    )


def _points(flow: Flow, context: Tensor | None) -> Tensor:
    """Samples of the flow, or standard normal points where it cannot sample."""
    if flow.dim is None:
        raise ValueError(
            "check needs the dimension: construct the flow with Flow(transform, dim=D)"
        )
    try:
        return flow.sample(256, None if context is None else context[:1])
    except Exception:  # a failure that rows of its own will show
        return torch.randn(256, flow.dim, dtype=torch.float64)


def tightened(flow: Flow, estimated: bool) -> Flow:
    """A view whose ODEs are solved tightly, exactly or with frozen noise, differentiated as set."""
    try:
        view = flow.using(trace="exact" if estimated else None, noise=0)
    except ValueError:  # an estimate without an exact counterpart
        view = flow.using(noise=0)
    parameter = next((p for p in flow.parameters() if p.is_floating_point()), torch.empty(0))
    tolerance = TOLERANCE.get(parameter.dtype, TOLERANCE[torch.float32])
    for module in view.modules():
        solver, use = getattr(module, "solver", None), getattr(module, "use", None)
        if solver is not None and use is not None:
            tight = {"method": "dopri5", "step_size": None, "rtol": tolerance, "atol": tolerance}
            use(None, dataclasses.replace(solver, **tight), None)
    return view


def tolerance_of(flow: nn.Module) -> float:
    """The largest tolerance of an ODE in a flow; 0 where none is solved adaptively."""
    return max((float(getattr(module, "tolerance", 0.0)) for module in flow.modules()), default=0.0)


@torch.no_grad()
def jitter(flow: nn.Module, spread: float) -> None:
    """Move every parameter off its value, wide tensors by less an entry."""
    for parameter in flow.parameters():
        width = parameter.shape[-1] if parameter.dim() else 1
        size = spread * min(1.0, 2 / max(width, 1) ** 0.5)
        parameter.add_(size * torch.randn_like(parameter))
