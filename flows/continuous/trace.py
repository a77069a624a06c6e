"""Traces of a vector field's Jacobian: exact by products, exact in closed form, estimated.

Every entry of `TRACES` maps (field, t, x, context, noise) to dx/dt (N, D) and the trace (N,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Rate = Callable[[nn.Module, Tensor, Tensor, Tensor | None, Tensor | None], tuple[Tensor, Tensor]]


def linearize(
    field: nn.Module, t: Tensor, x: Tensor, context: Tensor | None
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """f(t, x) (N, D) and its vector-Jacobian product v -> vᵀ ∂f/∂x, both (N, D).

    A graph for an outer backward pass is kept exactly when gradients are enabled. x is detached
    only where it has no graph of its own: otherwise gradients through x would be cut silently.
    """
    if torch.is_inference_mode_enabled() or torch._C._functorch.is_functorch_wrapped_tensor(x):
        value, pull, *_ = torch.func.vjp(lambda y: field(t, y, context), x)
        return value, lambda v: pull(v)[0]
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if keep and x.requires_grad else x.detach().requires_grad_()
        dx = field(t, x, context)
    _check_shape(dx, x)

    def product(v: Tensor) -> Tensor:
        if not dx.requires_grad:  # a field that does not depend on x
            return torch.zeros_like(x)
        (result,) = torch.autograd.grad(
            dx, x, v, create_graph=keep, retain_graph=True, materialize_grads=True
        )
        return result

    return (dx if keep else dx.detach()), product


def _check_shape(dx: Tensor, x: Tensor) -> None:
    if dx.shape != x.shape:
        expected = f"expected dx/dt of the shape of x, {tuple(x.shape)}"
        raise ValueError(f"{expected}, but the field returned {tuple(dx.shape)}")


def loop(
    field: nn.Module, t: Tensor, x: Tensor, context: Tensor | None, noise: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Exact trace by D vector-Jacobian products, one a column: what the complexity slide counts."""
    dx, product = linearize(field, t, x, context)
    trace = x.new_zeros(len(x))
    for column in range(x.shape[1]):
        unit = torch.zeros_like(x)
        unit[:, column] = 1
        trace = trace + product(unit)[:, column]
    return dx, trace


def closed_form(
    field: Any, t: Tensor, x: Tensor, context: Tensor | None, noise: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Exact trace by the field's own formula; TypeError for a field that has none."""
    if hasattr(field, "with_trace"):
        dx, trace = field.with_trace(t, x, context)
    elif hasattr(field, "trace"):
        dx, trace = field(t, x, context), field.trace(t, x, context)
    else:
        name = type(getattr(field, "field", field)).__name__  # without what wraps it
        raise TypeError(
            f"field {name} knows no closed form of its trace: give it a method "
            "trace(t, x, context) -> (N,), or use trace='loop'"
        )
    _check_shape(dx, x)
    return dx, trace


def exact(
    field: nn.Module, t: Tensor, x: Tensor, context: Tensor | None, noise: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Exact trace the cheapest way that the field offers."""
    offers = hasattr(field, "with_trace") or hasattr(field, "trace")
    return (closed_form if offers else loop)(field, t, x, context)


def hutchinson(
    field: nn.Module, t: Tensor, x: Tensor, context: Tensor | None, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Unbiased estimate εᵀ ∂f/∂x ε with one product; ``noise`` is ε (N, D), of entries ±1.

    Hutchinson 1989; Grathwohl et al., FFJORD, 2018, arXiv:1810.01367. Its variance over
    Rademacher ε is 2 (‖S‖² - Σ S_ii²) with S the symmetric part: never more than Gaussian ε's.
    """
    dx, product = linearize(field, t, x, context)
    return dx, (product(noise) * noise).sum(1)


TRACES: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "exact": exact,
    "loop": loop,
    "closed_form": closed_form,
    "hutchinson": hutchinson,
}
STOCHASTIC = frozenset({"hutchinson"})


def named(trace: str) -> str:
    """The name itself; ValueError with the choices where it is unknown."""
    if trace not in TRACES:
        raise ValueError(f"unknown trace {trace!r}; choose from: {', '.join(TRACES)}")
    return trace
