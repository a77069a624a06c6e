"""Families with errors in their context alone, each with the rows of the kit that catch it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from flows import Flow

Direction = Callable[["Affine", Tensor, Tensor], tuple[Tensor, Tensor]]


class Affine(nn.Module):
    """z = (x - shift) exp(-scale), both linear in the context; sound as it stands."""

    def __init__(self, dim: int, context_dim: int) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.zeros(2 * dim))
        self.net = nn.Linear(context_dim, 2 * dim, bias=False) if context_dim else None

    def of(self, context: Tensor | None, rows: int) -> tuple[Tensor, Tensor]:
        """Shift and logarithm of the scale, (N, D) each."""
        seen = self.own.expand(rows, -1)
        if self.net is not None and context is not None:
            seen = seen + self.seen(context)
        shift, scale = seen.chunk(2, 1)
        return shift, 0.1 * scale

    def seen(self, context: Tensor) -> Tensor:
        """What both directions make of a context: (N, C) -> (N, 2 D)."""
        return self.net(context)  # type: ignore[misc]

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        shift, scale = self.of(context, len(x))
        return (x - shift) * (-scale).exp(), -scale.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        shift, scale = self.of(context, len(z))
        return z * scale.exp() + shift, scale.sum(1)


class IgnoredInInverse(Affine):
    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().inverse(z, None if context is None else 0 * context)


class Ignored(Affine):
    def seen(self, context: Tensor) -> Tensor:
        return super().seen(0 * context)


class FirstColumn(Affine):
    def seen(self, context: Tensor) -> Tensor:
        return super().seen(torch.cat([context[:, :1], 0 * context[:, 1:]], 1))


class FirstRow(Affine):
    def seen(self, context: Tensor) -> Tensor:
        return super().seen(context[:1].expand_as(context))


class Centred(Affine):
    def seen(self, context: Tensor) -> Tensor:
        return super().seen(context - context.mean(0))


class Unscaled(Affine):
    """Its log-determinants lack the part of the scale that comes from the context."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().forward(x, context)[0], super().forward(x)[1]

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().inverse(z, context)[0], super().inverse(z)[1]


class Detached(Affine):
    def seen(self, context: Tensor) -> Tensor:
        return super().seen(context.detach())


class CutOff(Affine):
    """Far contexts are clamped in one direction."""

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().inverse(z, None if context is None else context.clamp(-3, 3))


class Kept(Affine):
    """The first context of a number of rows is kept."""

    def __init__(self, dim: int, context_dim: int) -> None:
        super().__init__(dim, context_dim)
        self.kept: dict[int, Tensor] = {}

    def seen(self, context: Tensor) -> Tensor:
        if self.training or torch.is_grad_enabled():
            return super().seen(context)
        return self.kept.setdefault(len(context), super().seen(context))


class KeptTensor(Affine):
    """What a tensor of contexts has given is kept, though its values may have changed."""

    last: tuple[Any, Tensor] | None = None

    def seen(self, context: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return super().seen(context)
        place = (context.data_ptr(), context.shape, context.stride())
        if self.last is None or self.last[0] != place:
            self.last = (place, super().seen(context.clone()))
        return self.last[1]


class OneForAll(Affine):
    """A context of one row, which has the stride 0, is taken for another."""

    def seen(self, context: Tensor) -> Tensor:
        return super().seen(context if context.stride(0) else context + 1)


class Single(Affine):
    """The context passes through single precision."""

    def seen(self, context: Tensor) -> Tensor:
        return super().seen(context.float().to(context.dtype))


class Tempered(Flow):
    """Samples are wider or narrower by their context, which cancels over contexts."""

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        samples = super().sample(n, context)
        return samples if context is None else samples * (1 + 0.3 * context.mean(1, True).tanh())


class AverageContext(Flow):
    """The loss is that given the average of the contexts."""

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return super().loss(x, None if context is None else context.mean(0, True))


ERRORS: dict[type[Affine], set[str]] = {
    IgnoredInInverse: {"round trip from data", "log_prob of samples"},
    Ignored: {"columns of the context"},
    FirstColumn: {"columns of the context"},
    FirstRow: {"batch independence"},
    Centred: {"batch independence"},
    Unscaled: {"log-determinant", "inverse log-determinant", "total mass"},
    Detached: {"gradient for the context", "gradient of samples"},
    CutOff: {"round trip from noise"},
    Kept: {"contexts in turn"},
    KeptTensor: {"contexts in turn"},
    OneForAll: {"one context for all rows"},
    Single: {"gradient for the context"},
}
