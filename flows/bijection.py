"""Bijections from data to noise, and base densities of the noise."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from nflows.transforms import CompositeTransform, InverseTransform
from torch import Tensor, nn

from flows.functorch import transformed

Pair = tuple[Tensor, Tensor]  # mostly an image (N, D) and its log-determinant (N,)


class Bijection(Protocol):
    """An invertible map of R^D; every nflows ``Transform`` is one as it stands.

    To write one:

    - Make it an ``nn.Module``: what is learned a parameter, what is fixed a buffer, so that both
      are saved, moved and trained with the flow. A map that holds no tensors may be any object.
    - Define ``forward(x, context=None)``, data to noise, and ``inverse(z, context=None)``, noise
      to data. Each maps (N, D) to a pair: the image (N, D), and (N,) the log absolute determinant
      in nats of the Jacobian of the direction that is run. A context is (N, C), a row a sample.
    - Map each row independently of the others, leave the inputs unchanged, keep dtype and device,
      and let gradients pass in both directions, through an iterative inverse too.
    - Offer ``initialize(x)`` where data (N, D) sets parameters before training,
      ``to_noise(x, context)`` and ``to_data(z, context)`` where an image costs less without its
      log-determinant, ``use(trace, solver, noise)`` where an ODE is solved (see `Flow.using`),
      and ``iterative = True`` where the inverse iterates, or "D passes" where it takes one a
      column (see `Flow.compiled` and `flows.capabilities`), and ``inexact = True`` where the
      inverse is a net of its own that only learns to be one. Then let
      ``flows.check(flows.Flow(bijection, dim=D))`` measure all of this, and register a factory by
      `flows.register` to have it built, compared and reported by name.
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair: ...

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair: ...


def concrete(x: Tensor) -> bool:
    """Whether the values of x can be read: not on meta, not inside a torch.func transform."""
    return x.device.type != "meta" and not transformed(x)


ROUNDS = 60  # of a root: bisection alone reaches double precision in that many


@torch.no_grad()
def bracketed(
    function: Callable[[Tensor], Pair], target: Tensor, low: Tensor, high: Tensor, a: Tensor
) -> Tensor:
    """The a (N,) between ``low`` and ``high`` where a rising function has a value, without a graph.

    ``function`` returns value and slope. Newton's iteration from ``a``, kept within the bracket by
    bisection, to three quarters of the digits: one Newton step with a graph ends it, and carries
    the derivative, two carry the second.
    """
    tolerance = torch.finfo(a.dtype).eps ** 0.75
    for _ in range(ROUNDS):
        value, slope = function(a)
        excess = value - target
        low, high = torch.where(excess < 0, a, low), torch.where(excess > 0, a, high)
        newton = a - excess / slope
        inside = (newton >= low) & (newton <= high)
        previous, a = a, torch.where(inside, newton, (low + high) / 2)
        if concrete(a) and bool(((a - previous).abs() <= tolerance * (1 + a.abs())).all()):
            break
    return a


def finite(*tensors: Tensor) -> bool:
    """Whether all values that can be read are finite; on the CPU without an operator that waits."""
    return all(_finite(x.detach()) for x in tensors if concrete(x))


def _finite(x: Tensor) -> bool:
    if x.device.type != "cpu":
        return bool(torch.isfinite(x).all())
    total = x.sum(dtype=torch.float64).numpy()  # one kernel, and decisive unless it overflows
    return math.isfinite(total) or bool(torch.isfinite(x).all().numpy())


class Wrapped(nn.Module):
    """Wrap a plain Bijection without parameters as an ``nn.Module``."""

    def __init__(self, bijection: Bijection) -> None:
        super().__init__()
        self.bijection = bijection
        for name in ("forward", "inverse", "to_noise", "to_data", "iterative", "inexact"):
            if hasattr(bijection, name):
                setattr(self, name, getattr(bijection, name))


def module_of(bijection: Any) -> nn.Module:
    """The Bijection as a module; TypeError without its methods, or with hidden parameters."""
    lacking = [name for name in ("forward", "inverse") if not hasattr(bijection, name)]
    if lacking or isinstance(bijection, type):
        raise TypeError(
            "a Flow is made of a Bijection with forward(x, context) and inverse(z, context), "
            f"got {_kind(bijection)}" + (f" without {' and '.join(lacking)}" if lacking else "")
        )
    if isinstance(bijection, nn.Module):
        return bijection
    learned = [
        name
        for name, value in getattr(bijection, "__dict__", {}).items()
        if isinstance(value, nn.Module) or (isinstance(value, Tensor) and value.requires_grad)
    ]
    if learned:
        raise TypeError(
            f"{_kind(bijection)} holds {', '.join(learned)}, which would not be found: make it an "
            "nn.Module"
        )
    return Wrapped(bijection)


class StandardNormal(nn.Module):
    """The base density N(0, I), in the dtype and on the device of its input."""

    def log_prob(self, z: Tensor) -> Tensor:
        """(N, D) -> (N,) nats."""
        normaliser = -0.5 * z.shape[1] * math.log(2 * math.pi)
        return torch.rsub(z.square().sum(1), normaliser, alpha=0.5)

    def rsample(self, like: Tensor) -> Tensor:
        """Samples with the shape (n, D), dtype and device of ``like``."""
        return torch.randn_like(like)


def base_of(base: nn.Module | None) -> Any:
    """The given base density, or N(0, I); TypeError for a module without its methods."""
    if base is None:
        return StandardNormal()
    lacking = [name for name in ("log_prob", "rsample") if not hasattr(base, name)]
    if lacking or not isinstance(base, nn.Module):
        raise TypeError(
            f"a base is an nn.Module with log_prob(z) and rsample(like), got {_kind(base)}: for a "
            "torch distribution see flows.adapters.distributions"
        )
    return base


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def masked_out(module: Any) -> set[str]:
    """Names of weights that their mask leaves no entry of, as at D = 1: no gradient comes."""
    masked = ((name, m) for name, m in module.named_modules() if hasattr(m, "mask"))
    return {f"{name}.weight" for name, m in masked if not m.mask.any()}


def parts(transform: nn.Module) -> list[nn.Module]:
    """The Bijections that a transform is composed of, in their order from data to noise."""
    if not isinstance(transform, CompositeTransform):
        return [transform]
    return [part for inner in transform._transforms for part in parts(inner)]


def ways(transform: nn.Module, *, inverse: bool) -> set[str]:
    """How a direction of a transform is computed, if not in one pass, as its parts declare.

    "ODE" where a part solves one, "iterations", or what a part's ``iterative`` says.
    """
    words: set[str] = set()
    for part in parts(transform):
        iterative = inverse and getattr(part, "iterative", False)
        if any(hasattr(module, "use") for module in part.modules()):
            words.add("ODE")
        elif isinstance(part, InverseTransform):
            words |= ways(part._transform, inverse=not inverse)
        elif iterative:
            words |= {"iterations"} if iterative is True else {*iterative.split(", ")}
    return words


def fixed_image(transform: nn.Module, x: Tensor, context: Tensor | None) -> tuple[Tensor, Any]:
    """The image of x before the last part of a transform, and that part.

    Raises ValueError where a part before it can be trained: a loss without log-determinants would
    shrink the data by it.
    """
    *before, last = parts(transform)
    for part in before:
        if any(p.requires_grad for p in part.parameters()):
            raise ValueError(
                f"{type(part).__name__} stands before a flow whose loss is no likelihood, and can "
                "be trained: fix it by requires_grad_(False)"
            )
        x = part(x, context)[0]
    return x, last


def to_noise(run: Sequence[nn.Module], x: Tensor, context: Tensor | None) -> Tensor:
    """Noise of data x by Bijections in turn, without log-determinants if that is less: (N, D)."""
    for part in run:
        x = _image(part, "to_noise", "__call__", x, context)
    return x


def to_data(run: Sequence[nn.Module], z: Tensor, context: Tensor | None) -> Tensor:
    """Data of noise z, likewise: (N, D)."""
    for part in reversed(run):
        z = _image(part, "to_data", "inverse", z, context)
    return z


def _image(part: Any, alone: str, whole: str, x: Tensor, context: Tensor | None) -> Tensor:
    if offered := getattr(part, alone, None):
        image: Tensor = offered(x, context)
    else:
        image, _ = getattr(part, whole)(x, context)  # which fails for no pair
    return image
