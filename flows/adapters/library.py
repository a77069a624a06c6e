"""What the adapters share: families of a library, their bases, transforms and random streams."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import flows
from flows.flow import Flow
from flows.registry import SIZES, Sizes
from flows.streams import Stream, lending

Make = Callable[..., Flow]


def family(
    name: str,
    package: str,
    uses: tuple[str, ...] = SIZES,
    *,
    least: int = 1,
    about: str = "",
    options: Mapping[str, int] = MappingProxyType({}),
    **defaults: int,
) -> Callable[[Make], Make]:
    """Register a library's family by ``make(dim, sizes, **options)``, which builds its Flow.

    The member takes the sizes of ``uses``, whose values are those of `Sizes` but for ``defaults``,
    ``options`` with their defaults, and those that ``make`` takes by keyword. ``about`` is its
    docstring if ``make`` has none. Building it raises ValueError for fewer columns than ``least``.
    """

    def decorate(make: Make) -> Make:
        def factory(dim: int, *, sizes: Sizes = Sizes(**defaults), **values: Any) -> Flow:
            if dim < least:
                raise ValueError(f"{name} needs {least} columns or more, got dim={dim}")
            return make(dim, sizes, **values)

        first, sizes, _ = inspect.signature(factory).parameters.values()
        taken = [p for p in inspect.signature(make).parameters.values() if p.kind is sizes.kind]
        taken += [sizes.replace(name=k, default=v, annotation=int) for k, v in options.items()]
        factory.__signature__ = inspect.Signature([first, sizes, *taken])  # type: ignore[attr-defined]
        factory.__doc__ = make.__doc__ or about
        flows.register(name, uses=uses, requires=package)(factory)
        return make

    return decorate


class LibraryBase(nn.Module):
    """The base of a library's flow that is not N(0, I); its tensors are those of that flow.

    Its ``sample`` takes a number of samples, or a shape where ``by_shape`` is set.
    """

    def __init__(self, base: Any, by_shape: bool) -> None:
        super().__init__()
        self._base = (base,)  # in a tuple: the transform registers and saves it
        self.by_shape = by_shape

    def log_prob(self, z: Tensor) -> Tensor:
        """(N, D) -> (N,) nats."""
        return self._base[0].log_prob(z)

    def rsample(self, like: Tensor) -> Tensor:
        """Samples of the shape of ``like`` (n, D)."""
        count: Any = (len(like),) if self.by_shape else len(like)
        return self._base[0].sample(count).reshape(like.shape)


def base_of(base: Any, normal: type, *, by_shape: bool = False) -> LibraryBase | None:
    """The base of a library's flow; None for an instance of ``normal`` that is a fixed N(0, I)."""
    gaussian = isinstance(base, normal)
    if gaussian and not any(bool(t.any()) or t.requires_grad for t in (base.loc, base.log_scale)):
        return None
    return LibraryBase(base, by_shape)


def log_prob_within(distribution: Any, z: Tensor, inner: Tensor) -> Tensor:
    """log p of z: (N, D) -> (N,) nats; minus infinity outside of the support, which has ``inner``.

    Points outside are replaced by the one inside, so that no gradient is NaN.
    """
    if len(z) == 0:  # which supports cannot reshape
        return z.new_zeros(0)
    inside: Tensor = distribution.support.check(z)
    evaluated = torch.where(inside[:, None], z, inner)
    return torch.where(inside, distribution.log_prob(evaluated), -torch.inf)


@contextlib.contextmanager
def numpy_seeded() -> Iterator[None]:
    """Seed numpy's global stream from torch's for the block; it is as it was at the end."""
    with lending:
        state = np.random.get_state()
        np.random.seed(int(torch.randint(2**32, ())))
        try:
            yield
        finally:
            np.random.set_state(state)


class LibraryTransform(nn.Module):
    """A Bijection made of a library's network, run by ``_run(x, context, inverse)`` of a subclass.

    A random estimate of the log-determinant (``estimated``) has a stream of its own. Otherwise a
    density would move the streams of torch and numpy, and calls with the same seed would differ.
    The network has one where it holds a module of the types ``random``; the first pass sets those
    of ``norm``, its ActNorm.
    """

    def __init__(self, network: nn.Module, random: tuple[type, ...], norm: type) -> None:
        super().__init__()
        modules = list(network.modules())
        self.random: Any = [module for module in modules if isinstance(module, random)]
        self.norms: Any = [module for module in modules if isinstance(module, norm)]
        self.estimated = bool(self.random)
        self.noise: int | None = None
        self.generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))

    def initialize(self, x: Tensor) -> None:
        """Set ActNorm from x (N, D), as the first pass of either direction would."""
        if self.norms:
            self.forward(x)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._run(x, context, inverse=False)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._run(z, context, inverse=True)

    def _run(self, x: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def use(self, trace: Any = None, solver: Any = None, noise: int | None = None) -> None:
        """Draw noise from a seed from now on.

        Raises ValueError for a trace of a random estimate, which has no other.
        """
        if trace is not None and self.estimated:
            raise ValueError(
                f"this log-determinant is a random estimate: it has no trace {trace!r}"
            )
        self.noise = self.noise if noise is None else noise

    @contextlib.contextmanager
    def seeded(self) -> Iterator[None]:
        """Streams from this module's seed, and as they were at the end."""
        if not self.estimated:
            yield
            return
        seed = torch.randint(2**62, (), generator=self.generator)
        with Stream(int(seed) if self.noise is None else self.noise), numpy_seeded():
            yield
