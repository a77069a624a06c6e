"""Traces of a vector field's Jacobian: exact by products, exact in closed form, estimated.

Every entry of `TRACES` maps a `Point` and the noise of its solve, K probes (N, W), to dx/dt (N, D)
and the trace (N,).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from flows.continuous.point import Point
from flows.registry import Described, check_choice, check_whole

Noise = Literal["rademacher", "gaussian"]
Mode = Literal["backward", "forward"]
Probes = tuple[Tensor, ...]
Rate = Callable[[Point, "Trace", Any], tuple[Tensor, Tensor]]


def loop(point: Point, trace: Trace, noise: Probes | None = None) -> tuple[Tensor, Tensor]:
    """Exact trace by D vector-Jacobian products, one a column, one after the other."""
    point.linearize()
    total = point.x.new_zeros(len(point.x))
    for column in range(point.x.shape[1]):
        unit = torch.zeros_like(point.x)
        unit[:, column] = 1
        total = total + point.vjp(unit)[:, column]
    return point.dx, total


def basis(point: Point, trace: Trace, noise: Probes | None = None) -> tuple[Tensor, Tensor]:
    """Exact trace by the same D products in one vectorised pass, backward or forward."""
    n, dim = point.x.shape
    units = torch.eye(dim, dtype=point.x.dtype, device=point.x.device)[:, None].expand(-1, n, -1)
    products = point.jvp(units) if trace.mode == "forward" else point.vjp(units)
    return point.dx, products.diagonal(dim1=0, dim2=2).sum(1)


def jacobian(point: Point, trace: Trace, noise: Probes | None = None) -> tuple[Tensor, Tensor]:
    """Exact trace of the Jacobian (N, D, D), formed row by row by torch.func."""
    transform = torch.func.jacrev if trace.mode == "backward" else torch.func.jacfwd

    def of_row(x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        def f(x: Tensor) -> tuple[Tensor, Tensor]:
            c = None if context is None else context[None]
            dx: Tensor = Point(point.field, point.t, x[None], c).dx[0]
            return dx, dx

        matrix, dx = transform(f, has_aux=True)(x)
        return dx, matrix.diagonal().sum()

    dims = (0, None if point.context is None else 0)
    dx, total = torch.func.vmap(of_row, in_dims=dims)(point.x, point.context)
    return point.keep(dx), total


def closed_form(point: Point, trace: Trace, noise: Probes | None = None) -> tuple[Tensor, Tensor]:
    """Exact trace by the field's own formula; TypeError for a field that has none."""
    field: Any = point.field
    if hasattr(field, "with_trace"):
        dx, total = point.evaluate(field.with_trace)
        return point.keep(dx), total
    if hasattr(field, "trace"):
        return point.dx, point.evaluate(field.trace)
    raise TypeError(
        f"field {type(field).__name__} knows no closed form of its trace: give it a method "
        "trace(t, x, context) -> (N,), or use trace='loop'"
    )


def hollow(point: Point, trace: Trace, noise: Probes | None = None) -> tuple[Tensor, Tensor]:
    """Exact trace in one pass, of a field f_i = τ(x_i, c_i) whose c_i does not depend on x_i.

    Such a field offers ``conditioner(t, x, context)`` -> c and ``transformer(t, x, c)`` -> dx/dt.
    With c held fixed its Jacobian is diagonal, and one product with ones has the trace; a field
    that knows the diagonal offers ``with_slopes(t, x, c)`` -> (dx/dt, ∂τ/∂x_i), both (N, D). Chen
    and Duvenaud, Neural Networks with Cheap Differential Operators, 2019, arXiv:1912.03579.
    """
    field: Any = point.field
    if not hasattr(field, "transformer"):
        raise TypeError(
            f"field {type(field).__name__} is not hollow: it needs the methods "
            "conditioner(t, x, context) and transformer(t, x, c); use trace='exact'"
        )
    c = point.evaluate(field.conditioner)
    if hasattr(field, "with_slopes"):
        dx, slopes = field.with_slopes(point.t, point.x, c)
        return point.keep(dx), slopes.sum(1)
    jvp: Any = torch.func.jvp  # its annotation has a third result
    x, ones = point.x.contiguous(), torch.ones_like(point.x)
    dx, slopes = jvp(lambda x: field.transformer(point.t, x, c), (x,), (ones,))
    return point.keep(dx), slopes.sum(1)


def exact(point: Point, trace: Trace, noise: Probes | None = None) -> tuple[Tensor, Tensor]:
    """Exact trace the cheapest way that the field offers: closed form, hollow, or the loop."""
    if hasattr(point.field, "with_trace") or hasattr(point.field, "trace"):
        return closed_form(point, trace)
    return hollow(point, trace) if hasattr(point.field, "transformer") else loop(point, trace)


def hutchinson(point: Point, trace: Trace, noise: Probes) -> tuple[Tensor, Tensor]:
    """Unbiased estimate εᵀ ∂f/∂x ε, the mean over the K probes ε (N, D) of ``noise``.

    Hutchinson 1989; Grathwohl et al., FFJORD, 2018, arXiv:1810.01367. With S the symmetric part of
    the Jacobian its variance is 2 ‖S‖² / K over Gaussian ε, 2 (‖S‖² - Σ S_ii²) / K over Rademacher.
    """
    if trace.mode == "forward":
        one = len(noise) == 1
        products = [point.jvp(noise[0])] if one else list(point.jvp(torch.stack(noise)))
    else:
        point.linearize()
        products = [point.vjp(probe) for probe in noise]
    return point.dx, _estimate(products, noise)


def bottleneck(point: Point, trace: Trace, noise: Probes) -> tuple[Tensor, Tensor]:
    """Unbiased estimate εᵀ ∂h/∂x ∂g/∂h ε in R^H of a field g(h(x)), for probes (N, H).

    The field is a `BottleneckField`. Grathwohl et al., FFJORD, 2018, section 3.1.1: the variance is
    that of Hutchinson's estimate of the H × H matrix, mostly less than that of the D × D one.
    """
    field: Any = point.field
    inner = Point(field.encoder, point.t, point.x, point.context, width=field.bottleneck)
    if trace.mode == "backward":
        inner.linearize()
    outer = Point(field.decoder, point.t, inner.dx, point.context, width=point.width)
    if trace.mode == "forward":
        products = [inner.jvp(outer.jvp(probe)) for probe in noise]
    else:
        outer.linearize()
        products = [outer.vjp(inner.vjp(probe)) for probe in noise]
    return point.keep(outer.dx), _estimate(products, noise)


def _estimate(products: Sequence[Tensor], noise: Probes) -> Tensor:
    estimates = [(p * probe).sum(1) for p, probe in zip(products, noise, strict=True)]
    return estimates[0] if len(estimates) == 1 else torch.stack(estimates).mean(0)


@dataclass(frozen=True)
class Estimator:
    """An entry of `TRACES`: the function, the width of its noise, and the options that it takes.

    It is for fields that have one of ``methods``, or for all if it names none.
    """

    rate: Rate
    noise_of: Callable[[Any, Tensor], int] | None = None  # width W of its noise; None: exact
    modes: bool = False  # whether it exists in both modes of differentiation
    methods: tuple[str, ...] = ()

    def takes(self, field: Any) -> bool:
        """Whether it is for a field."""
        return not self.methods or any(hasattr(field, method) for method in self.methods)


def _width(field: Any, x: Tensor) -> int:
    if not hasattr(field, "bottleneck"):
        raise TypeError(
            f"field {type(field).__name__} has no bottleneck: make it a BottleneckField, or use "
            "trace='hutchinson'"
        )
    return field.bottleneck


TRACES: dict[str, Estimator] = {
    "exact": Estimator(exact),
    "loop": Estimator(loop),
    "basis": Estimator(basis, modes=True),
    "jacobian": Estimator(jacobian, modes=True),
    "closed_form": Estimator(closed_form, methods=("with_trace", "trace")),
    "hollow": Estimator(hollow, methods=("transformer",)),
    "hutchinson": Estimator(hutchinson, lambda field, x: x.shape[1], modes=True),
    "bottleneck": Estimator(bottleneck, _width, modes=True, methods=("bottleneck",)),
}


@dataclass(frozen=True)
class Trace(Described):
    """How the trace of the Jacobian is computed; frozen, so that a case can be keyed by it.

    ``estimator`` is a name in `TRACES`. Stochastic ones take the number of ``probes`` and their
    distribution, ``noise``; those made of products with the Jacobian take the ``mode`` of
    differentiation. Raises ValueError for a name that is unknown or an option without effect.
    """

    estimator: str = "exact"
    probes: int = 1
    noise: Noise = "rademacher"
    mode: Mode = "backward"

    def __post_init__(self) -> None:
        check_choice("trace", self.estimator, TRACES)
        check_choice("noise", self.noise, get_args(Noise))
        check_choice("mode", self.mode, get_args(Mode))
        check_whole(probes=self.probes)
        entry = TRACES[self.estimator]
        if not self.stochastic and (self.probes, self.noise) != (1, "rademacher"):
            raise ValueError(
                f"trace {self.estimator!r} draws no noise: it takes no probes or noise"
            )
        if not entry.modes and self.mode != "backward":
            raise ValueError(f"trace {self.estimator!r} has no modes: it takes no mode")

    def plain(self) -> Any:
        """The canonical JSON value: its name, or a mapping of all fields if others are set."""
        return self.estimator if self == Trace(self.estimator) else super().plain()

    @property
    def stochastic(self) -> bool:
        """Whether it is a random estimate."""
        return TRACES[self.estimator].noise_of is not None

    def draw(self, field: nn.Module, x: Tensor, generator: torch.Generator) -> Probes | None:
        """The K probes (N, W) of one solve at x (N, D); None where the trace is exact."""
        noise_of = TRACES[self.estimator].noise_of
        if noise_of is None:
            return None
        shape = (self.probes, len(x), noise_of(field, x))
        if self.noise == "gaussian":
            return torch.randn(shape, generator=generator).to(x).unbind()
        return (torch.randint(0, 2, shape, generator=generator) * 2 - 1).to(x).unbind()

    def rate(self, point: Point, noise: Probes | None) -> tuple[Tensor, Tensor]:
        """dx/dt (N, D) and the trace (N,); ValueError where the field returns another shape."""
        dx, total = TRACES[self.estimator].rate(point, self, noise)
        return point.check(dx), total
