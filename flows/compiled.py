"""Compiled views of flows: what a flow computes, as functions that torch.compile takes whole.

Input checks and noise stay outside: the functions here take inputs that have passed them.
"""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from flows.bijection import Pair, parts, to_data, to_noise, ways
from flows.functorch import differentiating_forward, transforming
from flows.registry import choices
from flows.streams import without_stream

Call = Callable[..., Any]


def log_density(transform: Any, base: Any, x: Tensor, context: Tensor | None) -> Tensor:
    """Log-density of x: (N, D) -> (N,) nats."""
    z, ladj = transform(x, context)
    return base.log_prob(z) + of_rows(ladj)


def of_rows(ladj: Tensor) -> Tensor:
    """A log-determinant (N,); ValueError for one that would be added to every row."""
    if ladj.dim() > 1:
        raise ValueError(
            f"the log-determinant has shape {tuple(ladj.shape)} and must have (N,): a sum over the "
            "columns without keepdim, in each part of the transform"
        )
    return ladj


def data_and_log_density(transform: Any, base: Any, z: Tensor, context: Tensor | None) -> Pair:
    """Data of noise z and their log-densities: (N, D) -> (N, D), (N,)."""
    x, ladj = transform.inverse(z, context)
    return x, base.log_prob(z) - of_rows(ladj)


def noise(transform: Any, base: Any, x: Tensor, context: Tensor | None) -> Tensor:
    """Noise of data x: (N, D) -> (N, D)."""
    return to_noise(parts(transform), x, context)


def data(transform: Any, base: Any, z: Tensor, context: Tensor | None) -> Tensor:
    """Data of noise z: (N, D) -> (N, D)."""
    return to_data(parts(transform), z, context)


def _solves(transform: nn.Module) -> bool:
    """Whether a part solves an ODE."""
    return "ODE" in ways(transform, inverse=False)


class Compiler:
    """Runs the functions above compiled: whole, or around the parts that solve an ODE."""

    def __init__(self, transform: nn.Module, backend: str) -> None:
        self.functions = Functions(backend)
        self.solving = _solves(transform)
        self.iterative = bool(ways(transform, inverse=True) - {"ODE"})
        odes: list[Any] = [m for m in transform.modules() if hasattr(m, "step_functions")]
        for ode in odes:
            ode.step_functions = self.functions

    def __call__(self, function: Call, transform: Any, base: Any, x: Tensor, context: Any) -> Any:
        """function(transform, base, x, context); an inverse that iterates stays eager."""
        inverse = function in (data, data_and_log_density)
        if torch.compiler.is_compiling() or (inverse and self.iterative):
            return function(transform, base, x, context)
        if self.solving:
            return function(_Stretches(transform, self), base, x, context)
        return self.run((transform, base), 0, function, x, context)

    def run(
        self, modules: tuple[Any, ...], place: int, function: Call, x: Tensor, context: Any
    ) -> Any:
        """function(*modules, x, context), compiled; ``place`` tells modules of equal code apart."""
        inputs = [t if t is None else t.contiguous() for t in (x, context)]
        return self.functions(function, place, inputs, *modules, *inputs)


class _Stretches:
    """A transform cut where a part solves an ODE: such parts as they are, the rest compiled."""

    def __init__(self, transform: nn.Module, compiler: Compiler) -> None:
        self.stretches: list[Call] = []
        for place, (solves, run) in enumerate(itertools.groupby(parts(transform), _solves)):
            call = _eager if solves else compiler.run
            self.stretches.append(partial(call, (tuple(run),), place))

    def __call__(self, x: Tensor, context: Tensor | None) -> Pair:
        return _forward([partial(run, _forward) for run in self.stretches], x, context)

    def inverse(self, z: Tensor, context: Tensor | None) -> Pair:
        return _forward([partial(run, _inverse) for run in self.stretches[::-1]], z, context)

    def to_noise(self, x: Tensor, context: Tensor | None) -> Tensor:
        for run in self.stretches:
            x = run(to_noise, x, context)
        return x

    def to_data(self, z: Tensor, context: Tensor | None) -> Tensor:
        for run in reversed(self.stretches):
            z = run(to_data, z, context)
        return z


def _eager(modules: tuple[Any, ...], _: int, function: Call, x: Tensor, context: Any) -> Any:
    return function(*modules, x, context)


def _inverse(run: tuple[Any, ...], z: Tensor, context: Tensor | None) -> Pair:
    return _forward([part.inverse for part in reversed(run)], z, context)


def _forward(calls: Sequence[Any], x: Tensor, context: Tensor | None) -> Pair:
    """The image of x under one call after the other, and the sum of their log-determinants."""
    total = x.new_zeros(len(x))
    for call in calls:
        x, ladj = call(x, context)
        total = total + ladj
    return x, total


REMEDY = "use the flow itself, of which compiled() made the view"
_numbers = itertools.count()


class Functions:
    """Functions compiled by one backend, each in as few versions as its inputs have kinds.

    torch counts the versions of a code object, whatever it is called with, and stops at eight. So
    a function has a code object for each ``place`` and each kind of input: gradients or none,
    dtype, no row, one row or more. More rows have one version for their first number and one for
    all others.
    """

    def __init__(self, backend: str) -> None:
        _check_backend(backend)
        self.backend = backend
        self._known: dict[tuple[Any, ...], Call] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_known": {}}  # a copy or a pickle compiles anew

    def __call__(
        self, function: Call, place: Hashable, inputs: Sequence[Tensor | None], *arguments: Any
    ) -> Any:
        """function(*arguments), compiled; ``inputs`` are the tensors of rows among them.

        Raises RuntimeError within torch.func or forward-mode differentiation, at a second
        derivative of the result, and for what torch.compile does not take whole.
        """
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        if transforming() or differentiating_forward():
            raise RuntimeError(
                f"a compiled view has no torch.func and no forward-mode derivatives: {REMEDY}"
            )
        modes = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        kinds = ((min(len(t), 2), t.dtype, t.requires_grad) for t in inputs if t is not None)
        key = (function, place, *modes, *kinds)
        if key not in self._known:
            # a copy for torch to keep versions of; sizes it remembers by the name
            name = f"{function.__name__}_{next(_numbers)}"
            code = function.__code__.replace(co_name=name)
            own = FunctionType(code, function.__globals__, name)
            self._known[key] = torch.compile(own, fullgraph=True, backend=self.backend)
        try:
            with _without_notice(inputs), without_stream():
                results = self._known[key](*arguments)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            raise RuntimeError(
                f"{self.backend!r} cannot compile the {function.__name__.replace('_', ' ')} of "
                f"this flow: {REMEDY} ({str(error).partition(chr(10))[0]})"
            ) from error
        return tree_map_only(Tensor, _watched, results) if torch.is_grad_enabled() else results


@contextlib.contextmanager
def _without_notice(inputs: Sequence[Tensor | None]) -> Iterator[None]:
    """Suppress torch's notice of a missing ``grad``, which compiling for an inner node gives."""
    if all(t is None or t.is_leaf for t in inputs):
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor")
        yield


def _watched(result: Tensor) -> Tensor:
    """A view of a result, from which no second derivative goes back to it."""
    if result.requires_grad:
        result.register_hook(_first_derivative)
        return result.view_as(result)
    return result


def _first_derivative(gradient: Tensor) -> None:
    """Refuse a backward pass that will be differentiated, or mapped by torch.func."""
    if torch.is_grad_enabled() or transforming():
        raise RuntimeError(f"a compiled view has first derivatives alone: {REMEDY}")


def _check_backend(backend: str) -> None:
    """ValueError for an unknown backend, RuntimeError for inductor without a C++ compiler."""
    if backend not in torch.compiler.list_backends(()):
        names = torch.compiler.list_backends()  # without those of debugging
        known = choices(backend, names, "torch.compiler.list_backends()")
        raise ValueError(f"unknown backend {backend!r}; {known}")
    if backend != "inductor":
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise RuntimeError(
            "torch.compile needs a C++ compiler and finds none: install g++ (Debian: apt install "
            "g++; macOS: xcode-select --install), or name one in the environment variable CXX"
        ) from error
