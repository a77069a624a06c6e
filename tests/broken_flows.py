"""Flows that are broken on purpose, each with the row of the kit that finds it."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from nflows.transforms import BatchNorm, CompositeTransform, IdentityTransform, LULinear
from torch import Tensor, nn
from torch.distributions import Independent, Laplace

from acting_flows import Acting
from flows import Flow, preprocessing
from flows.adapters.distributions import DistributionBase
from flows.bijection import StandardNormal


class WrongBase(StandardNormal):
    """Draws what is not its density; or, ``heavy``, a density of mass two."""

    def __init__(self, scale: float, heavy: bool = False) -> None:
        super().__init__()
        self.scale, self.heavy = scale, heavy

    def log_prob(self, z: Tensor) -> Tensor:
        return super().log_prob(z) + (torch.log(torch.tensor(2.0)) if self.heavy else 0)

    def rsample(self, like: Tensor) -> Tensor:
        return self.scale * super().rsample(like)


class Wide(DistributionBase):
    """A Laplace density that is drawn from twice as widely."""

    def __init__(self) -> None:
        super().__init__(Independent(Laplace(torch.zeros(3), torch.ones(3)), 1))

    def rsample(self, like: Tensor) -> Tensor:
        return 2 * super().rsample(like)


class WrongGradient(torch.autograd.Function):
    """The identity, whose gradient is one per cent too large."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 1.01 * gradient


class Affine(nn.Module):
    """z = (x - shift) exp(-scale), both linear in the context; sound unless ``change`` spoils it.

    ``change`` is applied to contexts (N, C) in both directions, or in the inverse alone.
    """

    def __init__(self, dim: int, context_dim: int, change=lambda c: c, forward=True) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.zeros(2 * dim))
        self.net = nn.Linear(context_dim, 2 * dim, bias=False) if context_dim else None
        self.change, self.changed = change, (forward, True)

    def of(self, context: Tensor | None, rows: int, inverse: bool) -> tuple[Tensor, Tensor]:
        """Shift and logarithm of the scale, (N, D) each."""
        seen = self.own.expand(rows, -1)
        if self.net is not None and context is not None:
            context = self.change(context) if self.changed[inverse] else context
            seen = seen + self.seen(context)
        shift, scale = seen.chunk(2, 1)
        return shift, 0.1 * scale

    def seen(self, context: Tensor) -> Tensor:
        """What both directions make of a context: (N, C) -> (N, 2 D)."""
        return self.net(context)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        shift, scale = self.of(context, len(x), False)
        return (x - shift) * (-scale).exp(), -scale.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        shift, scale = self.of(context, len(z), True)
        return z * scale.exp() + shift, scale.sum(1)


class Unscaled(Affine):
    """Its log-determinants lack the part of the scale that comes from the context."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().forward(x, context)[0], super().forward(x)[1]

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().inverse(z, context)[0], super().inverse(z)[1]


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


def _changed(change: Callable[[Tensor], Tensor], forward: bool = True) -> Callable[..., Affine]:
    return partial(Affine, change=change, forward=forward)


_inverse = partial(_changed, forward=False)
ERRORS: dict[str, tuple[Callable[..., Affine], set[str]]] = {
    "ignored in the inverse": (
        _inverse(lambda c: 0 * c),
        {"round trip from data", "log_prob of samples"},
    ),
    "ignored": (_changed(lambda c: 0 * c), {"columns of the context"}),
    "one column": (
        _changed(lambda c: torch.cat([c[:, :1], 0 * c[:, 1:]], 1)),
        {"columns of the context"},
    ),
    "one row": (_changed(lambda c: c[:1].expand_as(c)), {"batch independence"}),
    "one row in the inverse": (_inverse(lambda c: c[:1].expand_as(c)), {"log_prob of samples"}),
    "centred": (_changed(lambda c: c - c.mean(0)), {"batch independence"}),
    "no scale": (Unscaled, {"log-determinant", "inverse log-determinant", "total mass"}),
    "detached": (
        _changed(lambda c: c.detach()),
        {"gradient for the context", "gradient of samples"},
    ),
    "far contexts cut off": (_inverse(lambda c: c.clamp(-3, 3)), {"round trip from noise"}),
    "kept": (Kept, {"contexts in turn"}),
    "kept by tensor": (KeptTensor, {"contexts in turn"}),
    "one for all": (  # a context of one row, which has the stride 0, is taken for another
        _changed(lambda c: c if c.stride(0) else c + 1),
        {"one context for all rows"},
    ),
    "single precision": (_changed(lambda c: c.float().to(c.dtype)), {"gradient for the context"}),
}


def _wide() -> CompositeTransform:
    """Uniform data in [0, 1], whose logits a sound Bijection takes to a tenth of their size."""
    scale = preprocessing.Standardization(torch.zeros(3), torch.full((3,), 10.0))
    return CompositeTransform([preprocessing.fit("logit", torch.rand(100, 3)), scale])


class Tempered(Flow):
    """Samples are wider or narrower by their context, which cancels over contexts."""

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        samples = super().sample(n, context)
        return samples if context is None else samples * (1 + 0.3 * context.mean(1, True).tanh())


class AverageContext(Flow):
    """The loss is that given the average of the contexts."""

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return super().loss(x, None if context is None else context.mean(0, True))


class Broken(nn.Module):
    """A sound linear Bijection z = A x + b whose results ``spoil`` changes."""

    def __init__(self, spoil=lambda *pair: pair, *, dim=3, forward=True, inverse=True) -> None:
        super().__init__()
        self.inner = LULinear(dim, identity_init=False)
        self.spoil, self.spoiled = spoil, (forward, inverse)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, ladj = self.inner.forward_no_cache(x)
        return self.spoil(y, ladj) if self.spoiled[0] else (y, ladj)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y = (z - self.inner.bias) @ torch.linalg.inv(self.inner.weight()).T
        ladj = -self.inner.logabsdet() * y.new_ones(len(y))
        return self.spoil(y, ladj) if self.spoiled[1] else (y, ladj)


class Modes(Broken):
    """Scales only in evaluation mode."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, ladj = super().forward(x)
        return (y, ladj) if self.training else (1.1 * y, ladj + 3 * math.log(1.1))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, ladj = super().inverse(z if self.training else z / 1.1)
        return x, ladj if self.training else ladj - 3 * math.log(1.1)


class Beside(Broken):
    """A random order of the columns, which is not in its state."""

    def __init__(self) -> None:
        super().__init__()
        self.order = torch.randperm(3)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, ladj = super().forward(x)
        return y[:, self.order], ladj

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().inverse(z[:, self.order.argsort()])


class Scale(nn.Module):
    """z = x exp(s), whose log-determinants have these shares of what column 2 adds to them."""

    def __init__(self, dim: int, forward: float, inverse: float) -> None:
        super().__init__()
        self.scales = nn.Parameter(0.3 - torch.arange(dim) % 3 * 0.4)
        self.shares = forward, inverse

    def ladj(self, x: Tensor, share: float) -> Tensor:
        return (self.scales.sum() + (share - 1) * self.scales[2]).expand(len(x))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x * self.scales.exp(), self.ladj(x, self.shares[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z / self.scales.exp(), -self.ladj(z, self.shares[1])


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

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        return self


def _spoiled(spoil: Callable[..., Any], forward: bool = True) -> Flow:
    return Flow(Broken(spoil, forward=forward), 3)


def _based(base: Any, dim: int = 3) -> Flow:
    return Flow(IdentityTransform(), dim, base=base)


BOTH_WAYS: dict[str, tuple[str, Callable[..., Any]]] = {  # by what: the row, the change of results
    "log-determinant off by a constant": ("log-determinant", lambda y, ladj: (y, ladj + 0.01)),
    "log-determinant in another shape": ("interface", lambda y, ladj: (y, ladj.sum())),
    "no tuple": ("interface", lambda y, ladj: y),
    "log-determinant off in the tails alone": (
        "log-determinant",
        lambda y, ladj: (y, ladj + (y.abs().amax(1) > 9).to(ladj)),
    ),
    "a float32 log-determinant": ("dtype and device", lambda y, ladj: (y, ladj.float())),
    "a detached log-determinant": ("gradient for parameters", lambda y, ladj: (y, ladj.detach())),
    "a gradient too large": ("gradient for x", lambda y, ladj: (WrongGradient.apply(y), ladj)),
    "no empty batch": ("small batches", lambda y, ladj: (y, ladj + 0 * y.max())),
    "NaN made a number": ("NaN and infinity", lambda y, ladj: (y.nan_to_num(), ladj)),
    "NaN spread to the other rows": ("NaN and infinity", lambda y, ladj: (y + 0 * y.sum(), ladj)),
}
INVERSE: dict[str, tuple[str, Callable[..., Any]]] = {  # the same, of the inverse alone
    "log-determinant of the inverse": ("inverse log-determinant", lambda y, ladj: (y, ladj + 0.01)),
    "log_prob of samples": ("log_prob of samples", lambda y, ladj: (y, ladj + 0.01)),
    "detached samples": ("gradient of samples", lambda y, ladj: (y.detach() + 0 * y, ladj)),
    "inverse off by 1e-3": ("round trip from data", lambda y, ladj: (y + 1e-3, ladj)),
    "inverse off by a share": ("round trip from noise", lambda y, ladj: (y * 1.001, ladj)),
    "right near zero alone": ("round trip in the tails", lambda y, ladj: (y.clamp(-9, 9), ladj)),
    "samples that depend on the batch": (
        "batch independence of samples",
        lambda y, ladj: (y + 1e-5 * y.mean(0), ladj),
    ),
}
BROKEN: dict[str, tuple[Callable[[], Flow], str]] = {
    **{name: (partial(_spoiled, spoil), row) for name, (row, spoil) in BOTH_WAYS.items()},
    **{name: (partial(_spoiled, spoil, False), row) for name, (row, spoil) in INVERSE.items()},
    "one parameter unused": (lambda: Flow(Acting(), 3), "parameters without gradient"),
    "noise that is too wide behind a logit": (lambda: Flow(_wide(), 3), "mass outside the support"),
    "a density that depends on the batch": (
        lambda: Flow(CompositeTransform([LULinear(3, identity_init=False), BatchNorm(3)]), 3),
        "batch independence",
    ),
    "samples of another density": (lambda: _based(WrongBase(1.3)), "samples and density"),
    "draws that are not those of the base density": (lambda: _based(Wide()), "samples and density"),
    "samples that are wrong by their context": (
        lambda: Tempered(Affine(3, 3), 3, 3),
        "samples and density",
    ),
    "mass two": (lambda: _based(WrongBase(1.0, heavy=True), 2), "total mass"),
    "a loss given another context": (lambda: AverageContext(Affine(3, 3), 3, 3), "loss"),
    "copies that are not apart": (lambda: Flow(Shared(), 3), "deepcopy"),
    "other noise without a density": (lambda: Flow(Alone(), 3), "images alone"),
    "another density in evaluation": (lambda: Flow(Modes(), 3), "train and eval"),
    "a tensor beside the state": (lambda: Flow(Beside(), 3), "state through safetensors"),
    "a stale cache": (lambda: Flow(Cached(), 3).train(), "cache in evaluation"),
    "an input changed in place": (lambda: Flow(InPlace(), 3), "inputs changed in place"),
}
