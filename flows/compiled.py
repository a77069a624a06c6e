"""Compiled views of flows: what a flow computes, as functions that torch.compile takes whole.

Input checks and noise stay outside: the functions here take inputs that have passed them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from nflows.transforms import InverseTransform
from torch import Tensor, nn

from flows.bijection import parts, to_data, to_noise
from flows.graphs import Functions

Stretch = tuple[int, bool, tuple[nn.Module, ...]]  # its place, whether it solves an ODE, its parts


def log_density(transform: Any, base: Any, x: Tensor, context: Tensor | None) -> Tensor:
    """Log-density of x: (N, D) -> (N,) nats."""
    z, ladj = transform(x, context)
    result: Tensor = base.log_prob(z) + ladj
    return result


def data_and_log_density(
    transform: Any, base: Any, z: Tensor, context: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Data of noise z and their log-densities: (N, D) -> (N, D), (N,)."""
    x, ladj = transform.inverse(z, context)
    return x, base.log_prob(z) - ladj


def noise(transform: Any, base: Any, x: Tensor, context: Tensor | None) -> Tensor:
    """Noise of data x: (N, D) -> (N, D)."""
    return to_noise(parts(transform), x, context)


def data(transform: Any, base: Any, z: Tensor, context: Tensor | None) -> Tensor:
    """Data of noise z: (N, D) -> (N, D)."""
    return to_data(parts(transform), z, context)


class Compiler:
    """Runs the functions above compiled: whole, or around the parts that solve an ODE."""

    def __init__(self, transform: nn.Module, backend: str) -> None:
        self.functions = Functions(backend)
        self.solving = any(map(_solves, parts(transform)))
        self.iterative = _iterates(transform, inverse=True)
        odes: list[Any] = [m for m in transform.modules() if hasattr(m, "compile_steps")]
        for ode in odes:
            ode.compile_steps(self.functions)

    def __call__(
        self, function: Callable[..., Any], transform: Any, base: Any, x: Tensor, context: Any
    ) -> Any:
        """function(transform, base, x, context); an inverse that iterates stays eager."""
        inverse = function in (data, data_and_log_density)
        if torch.compiler.is_compiling() or (inverse and self.iterative):
            return function(transform, base, x, context)
        if self.solving:
            return function(_Stretches(transform, self), base, x, context)
        return self.run(function, (transform, base), x, context)

    def run(
        self,
        function: Callable[..., Any],
        modules: tuple[Any, ...],
        x: Tensor,
        context: Tensor | None,
        place: int = 0,
    ) -> Any:
        """function(*modules, x, context), compiled; ``place`` tells modules of equal code apart."""
        inputs = [t if t is None else t.contiguous() for t in (x, context)]
        return self.functions(function, place, inputs, *modules, *inputs)


class _Stretches:
    """A transform cut where a part solves an ODE: such parts as they are, the rest compiled."""

    def __init__(self, transform: nn.Module, compiler: Compiler) -> None:
        self.compiler = compiler
        runs = itertools.groupby(parts(transform), _solves)
        self.stretches: list[Stretch] = [(k, own, tuple(run)) for k, (own, run) in enumerate(runs)]

    def __call__(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return self._cascade(_forward, self.stretches, x, context)

    def to_noise(self, x: Tensor, context: Tensor | None) -> Tensor:
        for stretch in self.stretches:
            x = self._through(to_noise, stretch, x, context)
        return x

    def inverse(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return self._cascade(_inverse, self.stretches[::-1], z, context)

    def to_data(self, z: Tensor, context: Tensor | None) -> Tensor:
        for stretch in reversed(self.stretches):
            z = self._through(to_data, stretch, z, context)
        return z

    def _cascade(
        self,
        direction: Callable[..., tuple[Tensor, Tensor]],
        stretches: Sequence[Stretch],
        x: Tensor,
        context: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(len(x))
        for stretch in stretches:
            x, ladj = self._through(direction, stretch, x, context)
            total = total + ladj
        return x, total

    def _through(
        self, direction: Callable[..., Any], stretch: Stretch, x: Tensor, context: Tensor | None
    ) -> Any:
        place, solves, run = stretch
        if solves:
            return direction(run, x, context)
        return self.compiler.run(direction, (run,), x, context, place)


def _forward(run: tuple[Any, ...], x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    total = x.new_zeros(len(x))
    for part in run:
        x, ladj = part(x, context)
        total = total + ladj
    return x, total


def _inverse(run: tuple[Any, ...], z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    total = z.new_zeros(len(z))
    for part in reversed(run):
        z, ladj = part.inverse(z, context)
        total = total + ladj
    return z, total


def _solves(part: nn.Module) -> bool:
    """Whether a part solves an ODE."""
    return any(hasattr(module, "use") for module in part.modules())


def _iterates(transform: nn.Module, *, inverse: bool) -> bool:
    """Whether a direction of a transform is found by iteration, as its parts declare."""
    return any(
        _iterates(part._transform, inverse=not inverse)
        if isinstance(part, InverseTransform)
        else inverse and getattr(part, "iterative", False)
        for part in parts(transform)
    )
