"""Compiled views of flows: what a flow computes, as functions that torch.compile takes whole.

Input checks and noise stay outside: the functions here take inputs that have passed them.

torch.compile checks at each call that what it compiled for still holds, and calls one kernel after
the other from Python. For a small flow that takes longer than the arithmetic. On the CPU the
operators of a call and of its backward pass are recorded instead, and AOTInductor makes one native
function of each.
"""

import contextlib
import copy
import itertools
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops.while_loop import while_loop_op
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.graph import CodeGen
from torch.utils._pytree import tree_map_only

from flows.bijection import Pair, finite, parts, to_data, to_noise, ways
from flows.functorch import compiling, differentiating_forward, recording, transforming
from flows.registry import choices
from flows.streams import without_stream

aten: Any = torch.ops.aten
Call = Callable[..., Any]
TENSORS = "_parameters", "_buffers"  # of a module
TRAINING, WANTED = attrgetter("training"), attrgetter("requires_grad")


def log_density(transform: Any, base: Any, x: Tensor, context: Tensor | None) -> Tensor:
    """Log-density of x: (N, D) -> (N,) nats."""
    z, ladj = transform(x, context)
    return base.log_prob(z) + of_rows(ladj)


def negative_mean(transform: Any, base: Any, x: Tensor, context: Tensor | None) -> Tensor:
    """The mean negative log-likelihood of x (N, D), a scalar in nats."""
    return -log_density(transform, base, x, context).mean()


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
        if compiling() or (inverse and self.iterative):
            return function(transform, base, x, context)
        if self.solving:
            return function(_Stretches(transform, self), base, x, context)
        return self.run((transform, base), 0, function, x, context)

    def again(self, function: Call, transform: Any, base: Any, x: Any) -> Any:
        """The finite result of a native function that exists for such rows; else None.

        Their shape and dtype were checked when it was compiled, and NaN has no finite result.
        """
        exact = getattr(x, "dtype", None) in (torch.float32, torch.float64)
        if self.solving or not exact or compiling() or x.dim() != 2:
            return None
        arguments = (transform, base, x, None)
        result = self.functions.native(function, 0, [x, None], *arguments, known=True)
        return result if result is not None and finite(result) else None

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
    all others; before them may stand a native one, see `Ahead`.
    """

    def __init__(self, backend: str) -> None:
        _check_backend(backend)
        self.backend = backend
        self._known: dict[tuple[Any, ...], Call] = {}
        self._ahead: dict[tuple[Any, ...], Ahead | None] = {}
        self.modules: dict[Hashable, nn.Module] = {}  # that stand for something in what is compiled

    def __getstate__(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"_known": {}, "_ahead": {}, "modules": {}}
        return {**vars(self), **empty}  # a copy or a pickle compiles anew

    def __call__(
        self, function: Call, place: Hashable, inputs: Sequence[Tensor | None], *arguments: Any
    ) -> Any:
        """function(*arguments), compiled; ``inputs`` are the tensors of rows among them.

        Raises RuntimeError within torch.func or forward-mode differentiation, at a second
        derivative of the result, and for what torch.compile does not take whole.
        """
        if (result := self.native(function, place, inputs, *arguments)) is not None:
            return result
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        key = _key(function, place, inputs)
        if key not in self._known:
            # a copy for torch to keep versions of; sizes it remembers by the name
            name = f"{function.__name__}_{next(_numbers)}"
            code = function.__code__.replace(co_name=name)
            twin = FunctionType(code, function.__globals__, name)
            self._known[key] = torch.compile(twin, fullgraph=True, backend=self.backend)
        try:
            with _without_notice(inputs), without_stream():
                results = self._known[key](*arguments)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            raise RuntimeError(
                f"{self.backend!r} cannot compile the {function.__name__.replace('_', ' ')} of "
                f"this flow: {REMEDY} ({str(error).partition(chr(10))[0]})"
            ) from error
        return tree_map_only(Tensor, _watched, results) if torch.is_grad_enabled() else results

    def native(
        self, function: Call, place: Hashable, inputs: Any, *arguments: Any, known: bool = False
    ) -> Any:
        """The result on the CPU, by a native function for the first number of rows; else None.

        If only a ``known`` function may serve, none is compiled.
        """
        if transforming() or differentiating_forward():
            raise RuntimeError(
                f"a compiled view has no torch.func and no forward-mode derivatives: {REMEDY}"
            )
        if self.backend != "inductor" or torch.is_autocast_enabled("cpu"):
            return None
        if any(t is not None and t.device.type != "cpu" for t in inputs):
            return None
        setting = (torch.get_num_threads(), torch.get_default_dtype())
        key = (*_key(function, place, inputs), *setting)
        if key not in self._ahead and not known:
            try:
                self._ahead[key] = Ahead(function, arguments)
            except Exception:  # whatever it is: torch.compile may do it, or says why not
                self._ahead[key] = None
        native = self._ahead.get(key)
        return native and native(arguments)


def _key(function: Call, place: Hashable, inputs: Sequence[Tensor | None]) -> tuple[Any, ...]:
    modes = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    kinds = ((min(len(t), 2), t.dtype, t.requires_grad) for t in inputs if t is not None)
    return (function, place, *modes, *kinds)


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
        result.register_hook(first_derivative)
        return result.view_as(result)
    return result


class Ahead:
    """function(*arguments), compiled for tensors laid out as these and for these modules.

    Tensors of modules are looked up at each call: whatever trains or loads weights is seen. Where
    gradients are enabled the call is one node of the graph, whose backward pass is compiled when it
    comes first; a scalar has its gradients with it. Raises what recording and compiling raise, and
    ValueError for a function that a native one would not repeat.
    """

    def __init__(self, function: Callable[..., Any], arguments: Any) -> None:
        arguments = tree_map_only(  # each tensor is another object
            Tensor, lambda t: t.detach().requires_grad_(t.requires_grad), arguments
        )
        self.modules, tensors = leaves(arguments)
        self.parts, *self.links = _held(self.modules, "_modules")
        self.training = [*map(TRAINING, self.parts)]
        state, *self.places = _held(self.modules, *TENSORS)
        self.layout = [*map(_layout, tensors)]
        inputs = [*state, *tensors]
        if len({id(t) for t in inputs}) < len(inputs):
            raise ValueError("modules share a tensor: later there may be two")
        self.wanted = [torch.is_grad_enabled() and t.requires_grad for t in inputs]
        self.learned = [n for n, wanted in enumerate(self.wanted) if wanted]
        self._note(state)
        self._compile(function, arguments, inputs)

    def _compile(self, function: Callable[..., Any], arguments: Any, inputs: list[Tensor]) -> None:
        def results_of(values: Sequence[Tensor]) -> list[Tensor]:
            results: list[Tensor] = []
            replaced = _replaced(arguments, inputs, values)
            self.form = _numbered(function(*replaced), results)
            return [tensor.contiguous() for tensor in results]  # laid out as eager torch does

        def with_gradients(primals: Sequence[Tensor], tangents: Any) -> list[Tensor]:
            with torch.enable_grad():
                results = results_of(primals)
                ends = [t for t in results if t.requires_grad]
                leaves = [primals[n] for n in self.learned]
                gradients = torch.autograd.grad(ends, leaves, tangents, allow_unused=True)
            pairs = zip(self.learned, gradients, strict=True)
            self.learned = [n for n, gradient in pairs if gradient is not None]
            used = [gradient.contiguous() for gradient in gradients if gradient is not None]
            return [*(t.detach() for t in results), *used]

        values = [value.detach() for value in inputs]
        with recording(), torch.set_grad_enabled(bool(self.learned)):
            results = results_of([value.detach() for value in values])
        slopes = [t.detach() for t in results if t.requires_grad]
        self.fixed = [n for n, t in enumerate(results) if not t.requires_grad]
        self.sloped, self.count = bool(slopes), len(results)
        self.saved: list[int | None] = []
        self.backward: Any = None
        if not slopes:
            graph = _recorded(results_of, values)
        elif [t.shape for t in results] == [()]:
            graph = _recorded(partial(with_gradients, tangents=None), values)
            self.saved = [None for _ in self.learned]  # the gradients
        else:  # torch parts them by the names of these arguments, primals and tangents
            graph = _recorded(with_gradients, values, slopes)
        if slopes and graph.graph.find_nodes(op="call_function", target=aten.gather.default):
            raise ValueError("torch 2.13 computes wrong gradients where it fuses several gathers")
        if slopes and not self.saved:
            graph = self._parted(graph, [*values, *slopes])
        self.chosen = _used(graph)
        self.run = _compiled(graph, [values[n] for n in self.chosen])

    def _parted(self, graph: GraphModule, inputs: list[Tensor]) -> GraphModule:
        """The forward pass of a graph of both; what it keeps for the other follows its results."""
        from functorch.compile import min_cut_rematerialization_partition  # takes two seconds

        forward, self.backward = min_cut_rematerialization_partition(
            graph, inputs, num_fwd_outputs=self.count
        )
        (end,) = forward.graph.find_nodes(op="output")
        results = [*end.args[0]]
        places = {node: n for n, node in enumerate(forward.graph.find_nodes(op="placeholder"))}
        nodes = results[self.count :]
        self.saved = [places.get(node) for node in nodes]  # an input's place, or None
        computed = (node for node in nodes if node not in places)
        end.args = ([*results[: self.count], *computed],)
        return forward

    def __call__(self, arguments: Any) -> Any:
        """The result for these arguments; None for other modules or tensors of another layout."""
        modules, tensors = leaves(arguments)
        state = self._fitting(modules, tensors)
        if state is None:
            return None
        inputs = [*state, *tensors]
        results = _Node.apply(self, *inputs) if self.sloped else self.forward(inputs)
        return _filled(self.form, results)

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The results, and what the backward pass needs beside inputs."""
        return self.run([inputs[n] for n in self.chosen])

    def gradients(self, saved: Sequence[Tensor], slopes: Sequence[Tensor]) -> Sequence[Tensor]:
        """Gradients in the learned tensors, from those in the results."""
        if self.backward is None:
            return torch._foreach_mul([*saved], slopes[0])
        inputs = [*saved, *(slope.contiguous() for slope in slopes)]
        if isinstance(graph := self.backward, GraphModule):
            try:
                self.backward = _compiled(graph, inputs)
            except Exception:  # whatever it is: its operators do it
                self.backward = lambda inputs: graph(*inputs)
        return self.backward(inputs)

    def _note(self, state: Sequence[Tensor]) -> None:
        self.addresses = [t.data_ptr() for t in state]
        self.layout_of_state = [*map(_layout, state)]

    def _fitting(self, modules: Sequence[nn.Module], tensors: Sequence[Tensor]) -> Any:
        """The tensors of the modules, where all is as it was compiled for; else None."""
        if modules != self.modules or [*map(dict.get, *self.links)] != self.parts:
            return None
        if [*map(TRAINING, self.parts)] != self.training or [*map(_layout, tensors)] != self.layout:
            return None
        state: list[Any] = [*map(dict.get, *self.places)]
        if self.learned and [*map(WANTED, state), *map(WANTED, tensors)] != self.wanted:
            return None
        if [*map(Tensor.data_ptr, state)] != self.addresses:  # moved, perhaps to another dtype
            if [*map(_layout, state)] != self.layout_of_state:
                return None
            self._note(state)
        return state


class _Node(torch.autograd.Function):
    """A call of a native function as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, native: Ahead, *inputs: Tensor) -> tuple[Tensor, ...]:
        results = native.forward(inputs)
        extras = iter(results[native.count :])
        ctx.save_for_backward(*(next(extras) if n is None else inputs[n] for n in native.saved))
        ctx.native = native
        ctx.mark_non_differentiable(*(results[n] for n in native.fixed))
        return tuple(results[: native.count])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        native: Ahead = ctx.native
        first_derivative(slopes[0])
        cotangents = [slope for n, slope in enumerate(slopes) if n not in native.fixed]
        gradients = native.gradients(ctx.saved_tensors, cotangents)
        gradient_of = dict(zip(native.learned, gradients, strict=True))  # by place of the input
        return None, *map(gradient_of.get, range(len(native.wanted)))


def first_derivative(gradient: Tensor) -> None:
    """Refuse a backward pass that will be differentiated, or mapped by torch.func."""
    if torch.is_grad_enabled() or transforming():
        raise RuntimeError(f"a compiled view has first derivatives alone: {REMEDY}")


def leaves(arguments: Sequence[Any]) -> tuple[list[nn.Module], list[Tensor]]:
    """The modules and the tensors among arguments and in tuples among them, in their order."""
    modules: list[nn.Module] = []
    tensors: list[Tensor] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            tensors.append(argument)
        elif isinstance(argument, nn.Module):
            modules.append(argument)
        elif isinstance(argument, tuple):
            more, others = leaves(argument)
            modules += more
            tensors += others
    return modules, tensors


def _replaced(arguments: Any, tensors: Sequence[Tensor], values: Sequence[Tensor]) -> Any:
    """A copy of arguments with values in place of some tensors, those of modules too."""
    pairs = [*zip(tensors, values, strict=True)]
    stand_ins = {id(one): value.requires_grad_(one.requires_grad) for one, value in pairs}
    return copy.deepcopy(arguments, stand_ins)


def repeated(function: Call, going: Call, carried: Any, arguments: Sequence[Any]) -> Any:
    """What function(carried, *arguments) makes of carried, again while going(carried).

    A recording has it as one operator. ``carried`` and the results are tuples of tensors, in one
    form. Tensors of the arguments, and of modules among them, stay as they are.
    """
    modules, tensors = leaves(arguments)
    inputs = [*_held(modules, *TENSORS)[0], *tensors]
    start: list[Tensor] = []
    form = _numbered(carried, start)
    start = [tensor.clone(memory_format=torch.contiguous_format) for tensor in start]

    def once(*values: Tensor) -> tuple[Tensor, ...]:
        results: list[Tensor] = []
        replaced = _replaced(arguments, inputs, values[len(start) :])
        _numbered(function(_filled(form, values), *replaced), results)
        return tuple(tensor.contiguous() for tensor in results)

    def again(*values: Tensor) -> Tensor:
        return going(_filled(form, values))

    operator: Any = while_loop_op  # whose annotation has one tensor
    return _filled(form, operator(again, once, tuple(start), tuple(inputs)))


def _numbered(result: Any, tensors: list[Tensor]) -> Any:
    """A result of tuples with the place of each tensor among all in its stead."""

    def number(tensor: Tensor) -> int:
        tensors.append(tensor)
        return len(tensors) - 1

    return tree_map_only(Tensor, number, result)


def _filled(form: Any, tensors: Sequence[Tensor]) -> Any:
    """A result of that form, of these tensors."""
    if isinstance(form, int):
        return tensors[form]
    return form and tuple.__new__(type(form), [_filled(part, tensors) for part in form])


def _held(modules: Sequence[nn.Module], *kinds: str) -> Any:
    """Values, dictionaries and keys of what modules, and those within, hold of some ``kinds``."""
    parts = (part for module in modules for part in module.modules())
    holders = [vars(part)[kind] for part in parts for kind in kinds]
    entries = ((item, holder, key) for holder in holders for key, item in holder.items())
    held = [entry for entry in entries if entry[0] is not None]
    return [[*column] for column in zip(*held, strict=True)] or [[], [], []]


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _linear(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """b + x W, laid out by columns, and so is what follows.

    Where there are more rows than columns the product is faster that way round, and elementwise
    operators run along the rows in vector instructions, however few the columns are.
    """
    return bias + aten.mm(weight.t(), x.t()).t()


def _recorded(function: Callable[..., Any], *values: Any) -> GraphModule:
    """The operators of a function of sequences of tensors, as a function of all these tensors.

    What a loop's body has twice, as products of weights, is computed once; not so outside, where
    a loop's start has copies that have to stay apart. Raises ValueError for operators that draw at
    random, and for tensors that are not given.
    """
    from torch._functorch.compile_utils import fx_graph_cse

    with recording(), torch.no_grad():
        record = make_fx(function, {aten.addmm.default: _linear}, tracing_mode="fake")
        graph = record(*values)
    parts = [part for part in graph.modules() if isinstance(part, GraphModule)]
    for body in parts[1:]:  # of loops
        body.graph = fx_graph_cse(body.graph)
    graph.graph.set_codegen(CodeGen())  # without sequences
    for node in itertools.chain.from_iterable(part.graph.nodes for part in parts):
        part = node.graph.owning_module
        constant = node.op == "get_attr" and not isinstance(getattr(part, node.target), GraphModule)
        if constant and any(u.target is not aten.lift_fresh_copy.default for u in node.users):
            raise ValueError(f"{node.target} is no tensor of a module: it would be a constant")
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise ValueError(f"{node.target} draws at random")
    return graph


def _used(graph: GraphModule) -> list[int]:
    """Numbers of the inputs that a graph uses; it loses the others."""
    inputs = graph.graph.find_nodes(op="placeholder")
    used = [n for n, node in enumerate(inputs) if node.users]
    for node in inputs:
        if not node.users:
            graph.graph.erase_node(node)
    graph.recompile()
    return used


def _compiled(graph: GraphModule, inputs: list[Tensor]) -> Callable[[list[Tensor]], list[Tensor]]:
    """The graph as a native function, whose results for these inputs are those of the graph.

    Raises ValueError where they are not.
    """
    loops = graph.graph.find_nodes(op="call_function", target=while_loop_op)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its insides
        notices = logging.getLogger("torch._inductor.ir")
        before, limit = notices.disabled, sys.getrecursionlimit()
        notices.disabled = True
        try:
            program = torch.export.export(graph, tuple(inputs))
            path = str(Path(folder) / "function.pt2")
            torch._inductor.aoti_compile_and_package(program, package_path=path)
            run: Any = torch._inductor.aoti_load_package(path).loader.run
        finally:
            notices.disabled = before
            sys.setrecursionlimit(limit)  # which inductor raises
        for value, reference in zip(run(inputs), graph(*inputs), strict=True):
            if not reference.dim() or not reference.numel():  # a step's error is a sum of roundings
                continue
            close = torch.finfo(reference.dtype).eps ** 0.5
            sizes = [reference]
            if loops:  # whose end may be the difference of what it began with
                sizes += [t for t in inputs if t.shape == reference.shape]
            size = max(float(t.abs().amax().nan_to_num(0, 0, 0)) for t in sizes)
            if not torch.allclose(value, reference, rtol=close, atol=close * size, equal_nan=True):
                raise ValueError("the native function gives other results than its operators")
    return run


def _check_backend(backend: str) -> None:
    """ValueError for an unknown backend, RuntimeError for inductor without a C++ compiler."""
    if backend not in torch.compiler.list_backends(()):
        names = torch.compiler.list_backends()  # without those of debugging
        hint = choices(backend, names, "torch.compiler.list_backends()")
        raise ValueError(f"unknown backend {backend!r}; {hint}")
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
