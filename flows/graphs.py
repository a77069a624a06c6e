"""Functions by torch.compile, each in as few versions as its inputs have kinds."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from flows.functorch import differentiating_forward, transforming

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
        self._known: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_known": {}}  # a copy or a pickle compiles anew

    def __call__(
        self,
        function: Callable[..., Any],
        place: Hashable,
        inputs: Sequence[Tensor | None],
        *arguments: Any,
    ) -> Any:
        """function(*arguments), compiled; ``inputs`` are the tensors of rows among them.

        Raises RuntimeError within torch.func or forward-mode differentiation, at a second
        derivative of the result, and for what torch.compile does not take whole.
        """
        if transforming() or differentiating_forward():
            raise RuntimeError(
                f"a compiled view has no torch.func and no forward-mode derivatives: {REMEDY}"
            )
        modes = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        kinds = ((min(len(t), 2), t.dtype, t.requires_grad) for t in inputs if t is not None)
        key = (function, place, *modes, *kinds)
        if key not in self._known:
            own = _with_own_code(function)
            self._known[key] = torch.compile(own, fullgraph=True, backend=self.backend)
        try:
            with _without_notice(inputs):
                results = self._known[key](*arguments)
        except _failures() as error:
            raise RuntimeError(
                f"{self.backend!r} cannot compile the {function.__name__.replace('_', ' ')} of "
                f"this flow: {REMEDY} ({str(error).partition(chr(10))[0]})"
            ) from error
        return tree_map_only(Tensor, _watched, results) if torch.is_grad_enabled() else results


def _with_own_code(function: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of a function for torch to keep versions of; sizes it remembers by the name."""
    name = f"{function.__name__}_{next(_numbers)}"
    return FunctionType(function.__code__.replace(co_name=name), function.__globals__, name)


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


def _failures() -> tuple[type[Exception], ...]:
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    return TorchDynamoException, FailOnRecompileLimitHit


def _check_backend(backend: str) -> None:
    """ValueError for an unknown backend, RuntimeError for inductor without a C++ compiler."""
    if backend not in (names := torch.compiler.list_backends(())):
        raise ValueError(f"unknown backend {backend!r}; choose from: {', '.join(names)}")
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
