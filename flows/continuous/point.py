"""A vector field at one time and batch: its value, and products with its Jacobian."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from flows.functorch import transformed


class Point:
    """``field`` at (t, x, context): dx/dt, and products with ∂f/∂x for traces and regularisers.

    A graph for an outer backward pass is kept exactly when gradients are enabled. x is detached
    only where it has no graph of its own: otherwise gradients through x would be cut silently.
    A product with the same vector is computed once.
    """

    def __init__(
        self, field: nn.Module, t: Tensor, x: Tensor, context: Tensor | None, width: int = 0
    ) -> None:
        self.field, self.t, self.x, self.context = field, t, x, context
        self.width = width or x.shape[1]  # of the value: D unless another
        self._value: Tensor | None = None
        self._pull: Callable[[Tensor], Tensor] | None = None  # back through the Jacobian
        self._push: Callable[[Tensor], Tensor] | None = None  # and forward, where the field can
        self._products: list[tuple[Tensor, Tensor]] = []

    def __call__(self, x: Tensor) -> Tensor:
        """The field at another x."""
        return self.check(self.field(*(self.t, x, self.context)[: arity(self.field.forward)]))

    def evaluate(self, method: Callable[..., Any]) -> Any:
        """Call a method of the field at this point, with the context only if it takes one."""
        return method(*(self.t, self.x, self.context)[: arity(method)])

    def keep(self, dx: Tensor) -> Tensor:
        """Store the field's value where another computation has it, and return it."""
        self._value = dx
        return dx

    def check(self, dx: Tensor) -> Tensor:
        """Return dx; ValueError for another shape than that of x."""
        expected = (*self.x.shape[:-1], self.width)
        if tuple(dx.shape) != expected:
            raise ValueError(
                f"expected {type(self.field).__name__} to return {expected}, since dx/dt has the "
                f"shape of x, but the field returned {tuple(dx.shape)}"
            )
        return dx

    @property
    def dx(self) -> Tensor:
        """f(t, x), (N, D); of no graph where gradients are disabled."""
        if self._value is None:
            self._value = self(self.x)
        value = self._value
        return value if torch.is_grad_enabled() or not value.requires_grad else value.detach()

    def linearize(self) -> Callable[[Tensor], Tensor]:
        """Evaluate the field once for its value and for how vectors are pulled back.

        Vectors are (N, D), or a stack of them (K, N, D).
        """
        if self._pull is None:
            self._value, self._pull = self._linear()
        return self._pull

    def _linear(self) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        if transformed(self.x) or torch.is_inference_mode_enabled():
            value, back, *_ = torch.func.vjp(self, self.x)
            return value, lambda v: (back if v.dim() == 2 else torch.func.vmap(back))(v)[0]
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            x = self.x if keep and self.x.requires_grad else self.x.detach().requires_grad_()
            value = self(x)

        def pull(v: Tensor) -> Tensor:
            if not value.requires_grad:  # a field that does not depend on x
                return v.new_zeros(*v.shape[:-1], x.shape[1])
            options: Any = {"retain_graph": True, "create_graph": keep, "materialize_grads": True}
            options["is_grads_batched"] = v.dim() == 3
            return torch.autograd.grad(value, x, v, **options)[0]

        return value, pull

    def vjp(self, v: Tensor) -> Tensor:
        """vᵀ ∂f/∂x (N, D) of v (N, D); of a stack (K, N, D) all at once, by a vectorised pass."""
        for vector, product in self._products:
            if vector is v:
                return product
        result = self.linearize()(v)
        self._products.append((v, result))
        return result

    def jvp(self, v: Tensor) -> Tensor:
        """∂f/∂x v (N, D) of v (N, D), in forward mode; of a stack (K, N, D) all at once.

        By the field's own ``linearized(t, x, context)`` -> dx/dt and the map of v, if it has one:
        torch would multiply by the tangents of the weights too, which are zero.
        """
        field: Any = self.field
        if hasattr(field, "linearized"):
            if self._push is None:
                self._value, self._push = self.evaluate(field.linearized)
            return self._push(v)
        jvp: Any = torch.func.jvp  # whose annotation counts a third result
        vmap: Any = torch.func.vmap  # whose annotation knows no output that is not mapped

        def push(v: Tensor) -> Any:
            return jvp(self, (self.x.contiguous(),), (v,))  # it refuses expanded rows

        dx, product = push(v) if v.dim() == 2 else vmap(push, out_dims=(None, 0))(v)
        self.keep(dx)
        return product


def arity(function: Callable[..., Any]) -> int:
    """How many of (t, x, context) a field's method takes: 3 where it has, or needs, a third."""
    bound = inspect.ismethod(function)
    plain: Any = function.__func__ if inspect.ismethod(function) else function
    if not hasattr(plain, "__code__") or hasattr(plain, "__wrapped__"):
        return _arity(plain) - bound
    names = plain.__code__.co_varnames[: plain.__code__.co_argcount]
    needed = len(names) - len(plain.__defaults__ or ())
    count = sum(1 for k, name in enumerate(names) if k < needed or name == "context")
    return count - bound


@cache
def _arity(function: Callable[..., Any]) -> int:
    """`arity` of other callables: slow, and nothing that torch.compile can follow."""
    parameters = inspect.signature(function).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    bare = inspect.Parameter.empty
    return sum(
        p.kind in positional and (p.default is bare or p.name == "context") for p in parameters
    )
