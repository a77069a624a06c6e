"""The shared interface: a Flow makes a density of a Bijection."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable
from inspect import signature
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from nflows.transforms import CompositeTransform
from torch import Tensor, nn

from flows.bijection import base_of, finite, module_of
from flows.compiled import Compiler, data, data_and_log_density, log_density, negative_mean, noise
from flows.functorch import compiling, overflowed, unfit_for_gradients
from flows.registry import check_whole

if TYPE_CHECKING:
    from flows.preprocessing import Standardization
    from flows.saved import Recipe

FAR = 1e4  # size of a number of a row from which on a NaN may come from an overflow


class Flow(nn.Module):
    """The density p(x) = N(z; 0, I) |det dz/dx| of a Bijection x -> z.

    ``transform`` is any object with the Bijection's methods, mostly an ``nn.Module``. ``dim`` D is
    needed to sample and is taken from ``transform.dim`` where that exists; ``context_dim`` > 0
    makes the density conditional, 0 refuses a context, None leaves it to the transform. ``base``
    replaces N(0, I): a module with the methods of `StandardNormal`. ``objective`` names the `loss`.
    """

    objective = "likelihood"
    compiler: Compiler | None = None
    recipe: Recipe | None = None  # how it is built again, see `flows.saved`
    columns: tuple[Any, ...] | None = None  # of the table that it was fitted to

    def __init__(
        self,
        transform: Any,
        dim: int | None = None,
        context_dim: int | None = None,
        base: nn.Module | None = None,
    ) -> None:
        super().__init__()
        dim = dim if dim is not None else getattr(transform, "dim", None)
        if dim is not None:
            check_whole(dim=dim)
        self.transform: nn.Module = module_of(transform)
        self.base: Any = base_of(base)
        self.dim: int | None = dim
        self.context_dim = context_dim
        self.context_scaling: Standardization | None = None

    def __repr__(self) -> str:
        """What it is, in two lines; ``print(flow.transform)`` has the layers."""
        count = sum(p.numel() for p in self.parameters())
        layout = type(getattr(self, "transform", self)).__name__
        dtypes = ", ".join(sorted({str(p.dtype) for p in self.parameters()}))
        if recipe := self.recipe:
            sizes = [f"{k}={v}" for k, v in recipe.options.items() if isinstance(v, int | str)]
            text = f"{recipe.flow}({', '.join(sizes)})"
            layout = " behind ".join([text, *reversed(recipe.preprocessing)])
        clause = f" given {self.context_dim} columns" * bool(self.context_dim)
        return f"Flow of {self.dim} columns{clause}, {count:,} parameters of {dtypes}\n  {layout}"

    def log_prob(self, x: Tensor | Any, context: Tensor | None = None) -> Tensor:
        """Log-density in nats: (N, D) -> (N,).

        ``context`` is (N, C), or (1, C) for all rows. Of a flow that was fitted to a table, ``x``
        may be a table with these columns. Raises ValueError or TypeError for another shape or
        dtype, and on the CPU for NaN or infinity (elsewhere a look would synchronise). There a row
        so far out that numbers overflow is computed in float64, and minus infinity where these
        overflow too. Warns of dtypes with too few digits.
        """
        x = self._rows(x)
        if (again := self._again(log_density, x, context)) is not None:
            return again
        log_prob: Tensor = self._run(log_density, x, context)
        if log_prob.dtype in (torch.bfloat16, torch.float16):
            text = f"{log_prob.dtype} has three digits: a log-density may be off by a nat, "
            warnings.warn(f"{text}use flow.float()", stacklevel=2)
        return self._far(log_prob, x, context) if overflowed(log_prob, x, FAR) else log_prob

    def _far(self, log_prob: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
        """Log-densities (N,) without the NaN of far rows whose numbers overflow."""
        size = x.detach().abs().amax(1)
        far = log_prob.isnan() & (size > FAR)
        if not finite(*self.parameters(), *self.buffers()):
            return log_prob
        exact = log_prob.detach()[far].double()
        if log_prob.dtype != torch.float64:
            rows = [t for t in (x, context) if t is not None]
            with contextlib.suppress(RuntimeError), torch.no_grad():  # which says nothing new
                flow = copy.deepcopy(self).double()
                flow.compiler = None
                exact = flow.log_prob(*(t.detach().expand(len(x), -1)[far].double() for t in rows))
        beyond = exact.isnan() & (size[far] > torch.finfo(x.dtype).max ** 0.25)
        return log_prob.masked_scatter(far, exact.masked_fill(beyond, -torch.inf).to(x.dtype))

    def _rows(self, x: Any) -> Any:
        """A table of the columns that the flow was fitted to as a Tensor; else what was given."""
        if self.columns is None or not hasattr(x, "columns"):
            return x
        if absent := [name for name in self.columns if name not in x.columns]:
            raise ValueError(f"x lacks columns that the flow was fitted to: {absent}")
        rows = np.asarray(x[list(self.columns)], dtype=np.float64)
        return torch.tensor(rows).to(self.like())

    def to_noise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Noise z of data x: (N, D) -> (N, D)."""
        return self._run(noise, x, context)

    @torch.no_grad()
    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        """n samples (n, D) without gradient; an ODE is solved for them alone, not for a density."""
        return self._run(data, self._noise(n), context)

    def rsample_and_log_prob(self, n: int, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """n reparameterised samples (n, D) and their log-densities (n,), in one pass."""
        return self._run(data_and_log_density, self._noise(n), context)

    def _noise(self, n: int) -> Tensor:
        """n samples (n, D) of the base density."""
        if self.dim is None:
            raise ValueError(
                "this Flow does not know its dimension: construct it with Flow(transform, dim=D)"
            )
        check_whole(0, n=n)
        like = self.like()
        return self.base.rsample(torch.empty(n, self.dim, dtype=like.dtype, device=like.device))

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Objective of training: the mean negative log-likelihood in nats per sample, a scalar."""
        x = self._rows(x)
        exact = getattr(x, "dtype", None) in (torch.float32, torch.float64)
        if self.compiler is not None and exact and type(self).log_prob is Flow.log_prob:
            again = self._again(negative_mean, x, context)
            loss: Tensor = self._run(negative_mean, x, context) if again is None else again
            if loss.device.type != "cpu" or finite(loss):
                return loss
        return -self.log_prob(x, context).mean()

    def _again(self, function: Callable[..., Any], x: Any, context: Tensor | None) -> Any:
        """The finite result of what a view has compiled for such rows, without a check; or None."""
        if self.compiler is None or context is not None:
            return None
        return self.compiler.again(function, self.transform, self.base, x)

    def _run(self, function: Callable[..., Any], x: Tensor, context: Tensor | None) -> Any:
        """Check the inputs, then call function(transform, base, x, context)."""
        inputs = (self.transform, self.base, x, self.validate(x, context))
        return function(*inputs) if self.compiler is None else self.compiler(function, *inputs)

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Self:
        """Set data-dependent parameters (ActNorm) once, from x (N, D), before training.

        One forward pass; each module that offers ``initialize(x)`` or ``initialize(x, context)``
        sees its own first input. Raises ValueError if the pass does not reach one of them, as
        inside an ``InverseTransform``.
        """
        context = self.validate(x, context)
        modules = self.transform.named_modules()
        waiting: dict[Any, str] = {m: name for name, m in modules if hasattr(m, "initialize")}

        def first(module: Any, inputs: tuple[Any, ...]) -> None:
            if waiting.pop(module, None) is not None:
                module.initialize(*inputs[: len(signature(module.initialize).parameters)])

        handles = [module.register_forward_pre_hook(first) for module in waiting]
        try:
            if handles:
                self.transform(x, context)
        finally:
            for handle in handles:
                handle.remove()
        if waiting:
            raise ValueError(
                f"{', '.join(waiting.values())} cannot be initialised: the pass from data to noise "
                "does not run it forward"
            )
        return self

    def prepend(self, transform: Any) -> Self:
        """Put a Bijection between the data and this flow, in place (a fixed whitening, say)."""
        self.transform = CompositeTransform([module_of(transform), self.transform])
        self.recipe = self.recipe and self.recipe.behind(transform)
        return self

    def scale_context(self, scaling: Standardization) -> Self:
        """Standardise every context from now on, in place: calls take it in raw units."""
        self.context_scaling = scaling
        return self

    def using(self, *, trace: Any = None, solver: Any = None, noise: int | None = None) -> Self:
        """A view that shares all parameters and solves its ODEs by other settings.

        ``trace`` names another estimator ("exact" for the exact density of an FFJORD), ``solver``
        another Solver, ``noise`` seeds the probes anew at each solve, so that equal calls give
        equal results. The view of a flow without an ODE computes the same. A change of the view's
        dtype or device changes the original too: copy the flow first.
        Raises ValueError for an unknown trace or solver, with the choices.
        """
        shared: dict[int, Any] = {id(t): t for t in (*self.parameters(), *self.buffers())}
        view = copy.deepcopy(self, shared)
        solving: list[Any] = [module for module in view.modules() if hasattr(module, "use")]
        for module in solving:
            module.use(trace=trace, solver=solver, noise=noise)
        if not solving:  # none of which refuses an unknown name
            from flows.continuous import Solver, Trace  # above this module

            for kind, value in ((Trace, trace), (Solver, solver)):
                if value is not None:
                    kind.of(value)
        return view

    def compiled(self, *, backend: str = "inductor") -> Self:
        """A view that shares all parameters and runs through torch.compile, without a graph break.

        ``log_prob``, ``loss``, ``to_noise`` and, unless the inverse iterates, ``sample`` and
        ``rsample_and_log_prob``; checks and noise stay outside. The first call of each kind (with
        gradients or without, another dtype) compiles, for seconds to minutes, and so does the
        second batch size and, where the first has a native function, the third. ``backend`` is one
        of ``torch.compiler.list_backends()``. Of an ODE the steps are compiled, one graph for all
        of them and one for the adjoint's. On the CPU "inductor" makes native functions of calls.
        They see all weights, but no other change to a module's attributes. First derivatives are
        those of the flow; RuntimeError for second ones and torch.func, and where the backend needs
        a compiler that the machine lacks; ValueError for an ODE that torchdiffeq solves.
        """
        view = self.using()
        view.compiler = Compiler(view.transform, backend)
        return view

    def reference(self) -> Tensor | None:
        """A floating-point tensor of this flow, whose dtype and device are the flow's; or None."""
        tensors = chain(self.parameters(), self.buffers())
        return next((t for t in tensors if t.is_floating_point()), None)

    def like(self) -> Tensor:
        """The same, and without one an empty tensor of torch's defaults."""
        return torch.empty(0) if (tensor := self.reference()) is None else tensor

    def validate(self, x: Tensor, context: Tensor | None) -> Tensor | None:
        """Validate x and context; return the context with one row for each of x, or None."""
        tensor = self.reference()
        if tensor is not None and tensor.requires_grad and unfit_for_gradients(tensor):
            raise RuntimeError(
                "this flow was built under inference_mode, and gradients are enabled: build it "
                "outside, or call it under torch.no_grad()"
            )
        _check_rows("x", x, self.dim, tensor)
        if context is None:
            if self.context_dim:
                raise ValueError(
                    f"this flow is conditional: expected context of shape (N, {self.context_dim}), "
                    "got none"
                )
            return None
        like = x if tensor is None else tensor
        _check_rows("context", context, self.context_dim or None, like, (1, len(x)))
        if self.context_dim == 0:
            raise ValueError(
                f"this flow takes no context, got one of shape {tuple(context.shape)}: build it "
                "with context_dim > 0, where its family has that"
            )
        context = context.expand(len(x), -1)
        return context if self.context_scaling is None else self.context_scaling(context)[0]


def _check_rows(
    name: str, rows: Any, width: int | None, like: Tensor | None, lengths: tuple[int, ...] = ()
) -> None:
    """Raise TypeError or ValueError for another shape, dtype or number than a flow can take.

    ``lengths`` are the numbers of rows that there may be, any if empty. NaN and infinity are
    refused on the CPU and outside of a compilation: elsewhere a look at the values would wait for
    the device, or break the graph, and they go through to the result.
    """
    matrix = isinstance(rows, Tensor) and rows.dim() == 2
    if not matrix or width not in (None, rows.shape[1]) or (lengths and len(rows) not in lengths):
        shape = " or ".join(f"({length}, {width or 'any'})" for length in lengths or ("N",))
        tensor = isinstance(rows, Tensor)
        value = tuple(rows.shape) if tensor else type(rows).__name__
        kind = ValueError if tensor else TypeError
        raise kind(f"expected {name} to be a Tensor of shape {shape}, got {value}")
    dtype = torch.get_default_dtype() if like is None else like.dtype
    if not rows.dtype.is_floating_point or (like is not None and rows.dtype != dtype):
        raise TypeError(
            f"expected {name} of dtype {dtype}, as the flow's parameters, got {rows.dtype}: give "
            f"{name}.to({dtype}), or convert the flow by flow.to({rows.dtype})"
        )
    if compiling() or rows.device.type != "cpu" or finite(rows):
        return
    bad = int((~torch.isfinite(rows)).any(1).sum())
    raise ValueError(f"expected finite {name}, got {bad} of {len(rows)} rows with NaN or infinity")
