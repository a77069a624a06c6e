"""The shared interface: a Bijection maps data to noise, a Flow makes a density of it."""

from __future__ import annotations

import copy
import math
from typing import Any, Protocol, Self

import torch
from nflows.transforms import CompositeTransform
from torch import Tensor, nn


class Bijection(Protocol):
    """An invertible map of R^D; every nflows ``Transform`` is one as it stands.

    ``forward`` maps data x to noise z, ``inverse`` noise to data; both take (N, D) and return
    (N, D) and the log absolute determinant of the Jacobian of the direction that was run, (N,).
    A member that needs data before training offers ``initialize(x)`` and is the identity in that
    respect until then; one that solves an ODE offers ``use(trace, solver, noise)``.
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]: ...

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]: ...


def concrete(x: Tensor) -> bool:
    """Whether x holds values that can be looked at: not on meta, not inside a torch.func map."""
    return x.device.type != "meta" and not torch._C._functorch.is_functorch_wrapped_tensor(x)


class StandardNormal(nn.Module):
    """The base density N(0, I), in whatever dtype and on whatever device is asked for."""

    def log_prob(self, z: Tensor) -> Tensor:
        """(N, D) -> (N,) nats."""
        return -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi))

    def rsample(self, like: Tensor) -> Tensor:
        """As many rows as ``like`` (n, D) has, of its dtype and on its device."""
        return torch.randn_like(like)


class Held(nn.Module):
    """A Bijection that is no ``nn.Module``, in one: without parameters of its own."""

    def __init__(self, bijection: Bijection) -> None:
        super().__init__()
        self.bijection = bijection

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to noise: (N, D) -> (N, D), (N,)."""
        return self.bijection.forward(x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data: (N, D) -> (N, D), (N,)."""
        return self.bijection.inverse(z, context)


class Flow(nn.Module):
    """The density p(x) = N(z; 0, I) |det dz/dx| of a Bijection x -> z.

    ``transform`` is any object with the Bijection's methods, mostly an ``nn.Module``. ``dim`` D is
    needed to sample and is taken from ``transform.dim`` where that exists; ``context_dim`` > 0
    makes the density conditional, 0 refuses a context, None leaves it to the transform. ``base``
    takes the place of N(0, I): a module with the methods of `StandardNormal`.
    """

    def __init__(
        self,
        transform: Any,
        dim: int | None = None,
        context_dim: int | None = None,
        base: nn.Module | None = None,
    ) -> None:
        super().__init__()
        lacking = [name for name in ("forward", "inverse") if not hasattr(transform, name)]
        if lacking and not isinstance(transform, nn.Module):
            raise TypeError(
                "a Flow is made of a Bijection with forward(x, context) and inverse(z, context), "
                f"got {type(transform).__name__} without {' and '.join(lacking)}"
            )
        is_module = isinstance(transform, nn.Module)
        self.transform: nn.Module = transform if is_module else Held(transform)
        self.base: Any = StandardNormal() if base is None else base
        self.dim: int | None = dim if dim is not None else getattr(transform, "dim", None)
        self.context_dim = context_dim

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-density in nats: (N, D) -> (N,).

        ``context`` is (N, C), or (1, C) for all rows. Raises ValueError or TypeError for another
        shape or dtype or for values that are not finite.
        """
        z, ladj = self.transform(x, self._checked(x, context))
        log_prob: Tensor = self.base.log_prob(z) + ladj
        return log_prob

    def to_noise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Noise z of data x: (N, D) -> (N, D)."""
        z: Tensor = self.transform(x, self._checked(x, context))[0]
        return z

    @torch.no_grad()
    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        """n samples (n, D) without gradient."""
        return self.rsample_and_log_prob(n, context)[0]

    def rsample_and_log_prob(self, n: int, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """n reparameterised samples (n, D) and their log-densities (n,), in one pass."""
        if self.dim is None:
            raise ValueError(
                "this Flow does not know its dimension: construct it with Flow(transform, dim=D)"
            )
        if n < 0:
            raise ValueError(f"cannot draw {n} samples: n must not be negative")
        like = self._tensor()
        like = torch.empty(0) if like is None else like
        z = self.base.rsample(torch.empty(n, self.dim, dtype=like.dtype, device=like.device))
        inverse: Any = self.transform.inverse
        x, ladj = inverse(z, self._checked(z, context))
        return x, self.base.log_prob(z) - ladj

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """What training minimises: the mean negative log-likelihood in nats."""
        return -self.log_prob(x, context).mean()

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Self:
        """Set what depends on data (ActNorm), once, from x (N, D) before training.

        One forward pass; each member that offers ``initialize`` sees its own input.
        """
        context = self._checked(x, context)
        handles = [
            module.register_forward_pre_hook(lambda module, inputs: module.initialize(inputs[0]))
            for module in self.transform.modules()
            if hasattr(module, "initialize")
        ]
        try:
            if handles:
                self.transform(x, context)
        finally:
            for handle in handles:
                handle.remove()
        return self

    def prepend(self, transform: nn.Module) -> Self:
        """Put a Bijection between the data and this flow, in place (a fixed whitening, say)."""
        self.transform = CompositeTransform([transform, self.transform])
        return self

    def using(
        self, *, trace: str | None = None, solver: Any = None, noise: int | None = None
    ) -> Self:
        """A view that shares all parameters but solves its ODEs otherwise.

        ``trace`` names another estimator ("exact" for the exact density of an FFJORD), ``solver``
        another Solver, ``noise`` seeds the probes anew at each solve, so that equal calls give
        equal results. A flow without an ODE is exact already, and its view is its like.
        """
        shared: dict[int, Any] = {id(t): t for t in (*self.parameters(), *self.buffers())}
        view = copy.deepcopy(self, shared)
        for module in view.modules():
            use: Any = getattr(module, "use", None)
            if use is not None:
                use(trace=trace, solver=solver, noise=noise)
        return view

    def _tensor(self) -> Tensor | None:
        """A tensor that tells this flow's dtype and device, where it has one."""
        tensors = (t for t in (*self.parameters(), *self.buffers()) if t.is_floating_point())
        return next(tensors, None)

    def _checked(self, x: Tensor, context: Tensor | None) -> Tensor | None:
        """Refuse what log_prob cannot take; the context with one row for each of x."""
        wanted = f"(N, {self.dim if self.dim is not None else 'D'})"
        if not isinstance(x, Tensor):
            raise TypeError(f"expected x to be a Tensor of shape {wanted}, got {type(x).__name__}")
        own = self._tensor()
        like = x if own is None else own
        if x.dim() != 2 or (self.dim is not None and x.shape[1] != self.dim):
            raise ValueError(f"expected x of shape {wanted}, got {tuple(x.shape)}")
        if x.dtype != like.dtype:
            raise TypeError(
                f"expected x of dtype {like.dtype}, as the flow's parameters, got {x.dtype}"
            )
        if concrete(x) and not bool(torch.isfinite(x).all()):
            bad = int((~torch.isfinite(x)).any(1).sum())
            raise ValueError(f"expected finite x, got {bad} of {len(x)} rows with NaN or infinity")
        if context is None:
            if self.context_dim:
                raise ValueError(
                    f"this flow is conditional: expected context of shape (N, {self.context_dim}), "
                    "got none"
                )
            return None
        if self.context_dim == 0:
            raise ValueError(
                f"this flow takes no context, got one of shape {tuple(context.shape)}: build it "
                "with context_dim > 0, where its family has that"
            )
        if context.dim() != 2 or context.shape[0] not in (1, len(x)):
            raise ValueError(
                f"expected context of shape (1, C) or ({len(x)}, C), got {tuple(context.shape)}"
            )
        if self.context_dim is not None and context.shape[1] != self.context_dim:
            raise ValueError(
                f"expected context of width {self.context_dim}, got {context.shape[1]}"
            )
        if context.dtype != like.dtype:
            raise TypeError(f"expected context of dtype {like.dtype}, got {context.dtype}")
        if concrete(context) and not bool(torch.isfinite(context).all()):
            bad = int((~torch.isfinite(context)).any(1).sum())
            raise ValueError(
                f"expected finite context, got {bad} of {len(context)} rows that are not"
            )
        return context.expand(len(x), -1)
