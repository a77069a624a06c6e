"""Flows that are broken on purpose, each with the row of the conformance kit that catches it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from nflows.transforms import BatchNorm, CompositeTransform, IdentityTransform, LULinear
from torch import Tensor, nn

from broken_bases import Wide, WrongBase, WrongGradient
from broken_contexts import Affine, AverageContext, FirstColumn, Kept, OneForAll, Tempered
from flows import Flow


class Broken(nn.Module):
    """A sound linear Bijection z = A x + b whose results ``spoil`` changes."""

    def __init__(self, spoil: Callable[..., Any], *, forward: bool = True, inverse: bool = True):
        super().__init__()
        torch.manual_seed(0)
        self.inner = LULinear(3, identity_init=False)
        self.spoil, self.spoiled = spoil, (forward, inverse)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, ladj = self.inner.forward_no_cache(x)
        return self.spoil(y, ladj) if self.spoiled[0] else (y, ladj)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        inverse = torch.linalg.inv(self.inner.weight())
        y = (z - self.inner.bias) @ inverse.T
        ladj = -self.inner.logabsdet() * y.new_ones(len(y))
        return self.spoil(y, ladj) if self.spoiled[1] else (y, ladj)


class Unused(Broken):
    """One parameter that nothing depends on."""

    def __init__(self) -> None:
        super().__init__(lambda y, ladj: (y, ladj))
        self.idle = nn.Parameter(torch.ones(2))


class Modes(Broken):
    """Scales only in evaluation mode."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, ladj = super().forward(x)
        return (y, ladj) if self.training else (1.1 * y, ladj + 3 * math.log(1.1))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, ladj = super().inverse(z if self.training else z / 1.1)
        return x, ladj if self.training else ladj - 3 * math.log(1.1)


class Beside(Broken):
    """Keeps a tensor that is not in its state."""

    def __init__(self) -> None:
        super().__init__(lambda y, ladj: (y, ladj))
        self.order = torch.randperm(3)


class Conditional(Broken):
    """Shifts by its context, by as much as ``seen`` makes of it."""

    def __init__(self, seen: Callable[[Tensor], Tensor], there: bool = True) -> None:
        super().__init__(lambda y, ladj: (y, ladj))
        self.seen, self.there = seen, there

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, ladj = super().forward(x)
        return y + (self.seen(context) if self.there else context), ladj

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().inverse(z - (context if self.there else self.seen(context)))


class InPlace(Broken):
    """Shifts its input where it stands."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if not x.requires_grad:
            x += 1
            return super().forward(x - 1)
        return super().forward(x)


class Alone(Broken):
    """Its noise alone is another than with the log-determinant."""

    def to_noise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return 1.001 * self(x, context)[0]


class Cached(Broken):
    """Keeps its log-determinant in evaluation, whatever becomes of the parameters."""

    kept: Tensor | None = None

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, ladj = super().forward(x)
        if self.training:
            return y, ladj
        self.kept = ladj[:1] if self.kept is None else self.kept
        return y, self.kept.expand(len(x))


class Shared(Broken):
    """Copies share its parameters."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared:
        return self


BROKEN: dict[str, tuple[Callable[[], Flow], str]] = {
    "log-determinant off by a constant": (
        lambda: Flow(Broken(lambda y, ladj: (y, ladj + 0.01), inverse=False), 3),
        "log-determinant",
    ),
    "log-determinant off by a sign": (
        lambda: Flow(Broken(lambda y, ladj: (y, -ladj)), 3),
        "log-determinant",
    ),
    "log-determinant of the inverse": (
        lambda: Flow(Broken(lambda y, ladj: (y, ladj + 0.01), forward=False), 3),
        "inverse log-determinant",
    ),
    "log_prob of samples": (
        lambda: Flow(Broken(lambda y, ladj: (y, ladj + 0.01), forward=False), 3),
        "log_prob of samples",
    ),
    "log-determinant in another shape": (
        lambda: Flow(Broken(lambda y, ladj: (y, ladj.sum())), 3),
        "interface",
    ),
    "zero gradient": (
        lambda: Flow(Broken(lambda y, ladj: (y.detach(), ladj.detach())), 3),
        "parameters without gradient",
    ),
    "gradient of the log-determinant cut": (
        lambda: Flow(Broken(lambda y, ladj: (y, ladj.detach())), 3),
        "gradient for parameters",
    ),
    "gradient of samples cut": (
        lambda: Flow(Broken(lambda y, ladj: (y.detach() + 0 * y, ladj), forward=False), 3),
        "gradient of samples",
    ),
    "one parameter unused": (lambda: Flow(Unused(), 3), "parameters without gradient"),
    "inverse off by 1e-3": (
        lambda: Flow(Broken(lambda y, ladj: (y + 1e-3, ladj), forward=False), 3),
        "round trip from data",
    ),
    "a density that depends on the batch": (
        lambda: Flow(CompositeTransform([LULinear(3, identity_init=False), BatchNorm(3)]), 3),
        "batch independence",
    ),
    "samples that depend on the batch": (
        lambda: Flow(Broken(lambda y, ladj: (y + 1e-5 * y.mean(0), ladj), forward=False), 3),
        "batch independence of samples",
    ),
    "a float32 log-determinant": (
        lambda: Flow(Broken(lambda y, ladj: (y, ladj.float())), 3),
        "dtype and device",
    ),
    "samples of another density": (
        lambda: Flow(IdentityTransform(), 3, base=WrongBase(1.3)),
        "samples and density",
    ),
    "mass two": (
        lambda: Flow(IdentityTransform(), 2, base=WrongBase(1.0, heavy=True)),
        "total mass",
    ),
    "copies that are not apart": (lambda: Flow(Shared(lambda y, ladj: (y, ladj)), 3), "deepcopy"),
    "no empty batch": (
        lambda: Flow(Broken(lambda y, ladj: (y, ladj + 0 * y.max())), 3),
        "small batches",
    ),
    "other noise without a density": (lambda: Flow(Alone(lambda *pair: pair), 3), "images alone"),
    "no tuple": (lambda: Flow(Broken(lambda y, ladj: y), 3), "interface"),
    "a log-determinant off in the tails alone": (
        lambda: Flow(Broken(lambda y, ladj: (y, ladj + (y.abs().amax(1) > 9).to(ladj))), 3),
        "log-determinant",
    ),
    "noise to data off where data to noise is not": (
        lambda: Flow(Broken(lambda y, ladj: (y * 1.001, ladj), forward=False), 3),
        "round trip from noise",
    ),
    "an inverse that is right near zero alone": (
        lambda: Flow(Broken(lambda y, ladj: (y.clamp(-9, 9), ladj), forward=False), 3),
        "round trip in the tails",
    ),
    "a gradient that is one per cent too large": (
        lambda: Flow(Broken(lambda y, ladj: (WrongGradient.apply(y), ladj)), 3),
        "gradient for x",
    ),
    "a context that is cut off": (
        lambda: Flow(Conditional(lambda context: context.detach()), 3, 3),
        "gradient for the context",
    ),
    "a column of the context that nothing depends on": (
        lambda: Flow(FirstColumn(3, 3), 3, 3),
        "columns of the context",
    ),
    "another density where one context is given for all": (
        lambda: Flow(OneForAll(3, 3), 3, 3),
        "one context for all rows",
    ),
    "a context that is kept": (lambda: Flow(Kept(3, 3), 3, 3).eval(), "contexts in turn"),
    "samples of the first row's context": (
        lambda: Flow(Conditional(lambda context: context[:1], there=False), 3, 3),
        "log_prob of samples",
    ),
    "NaN made a number": (
        lambda: Flow(Broken(lambda y, ladj: (y.nan_to_num(), ladj)), 3),
        "NaN and infinity",
    ),
    "NaN spread to the other rows": (
        lambda: Flow(Broken(lambda y, ladj: (y + 0 * y.sum(), ladj)), 3),
        "NaN and infinity",
    ),
    "another density in evaluation": (
        lambda: Flow(Modes(lambda y, ladj: (y, ladj)), 3),
        "train and eval",
    ),
    "a tensor beside the state": (lambda: Flow(Beside(), 3), "state through safetensors"),
    "a stale cache": (
        lambda: Flow(Cached(lambda *pair: pair), 3).train(),
        "cache in evaluation",
    ),
    "an input changed in place": (
        lambda: Flow(InPlace(lambda y, ladj: (y, ladj)), 3),
        "inputs changed in place",
    ),
    "samples that are wrong by their context": (
        lambda: Tempered(Affine(3, 3), 3, 3),
        "samples and density",
    ),
    "a loss given another context": (lambda: AverageContext(Affine(3, 3), 3, 3), "loss"),
    "draws that are not those of the base density": (
        lambda: Flow(IdentityTransform(), 3, base=Wide()),
        "samples and density",
    ),
}
