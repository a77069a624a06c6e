"""Random streams that belong to one thread, for code that draws from torch's global ones."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Variable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, _get_current_function_mode, _pop_mode_temporarily

DRAWING = {  # functions that take a generator
    *("rand", "randn", "randint", "randperm", "randint_like", "normal", "bernoulli", "multinomial"),
    *("poisson", "binomial", "uniform_", "normal_", "random_", "bernoulli_", "exponential_"),
    *("geometric_", "cauchy_", "log_normal_", "_standard_gamma", "_sample_dirichlet"),
}
LIKE = {"randn_like": Tensor.normal_, "rand_like": Tensor.uniform_}  # of an empty tensor
OTHERS = ("dropout", "attention", "lstm", "gru", "rnn_", "rrelu", "gumbel", "lowrank")  # in names

lending = threading.RLock()  # held while a global stream has another state


@lru_cache(2**12)
def _draws(name: str) -> bool:
    """Whether the function of a name may draw; a backward pass runs others that may."""
    return name in {*DRAWING, *LIKE, "backward"} or any(part in name for part in OTHERS)


class Stream(TorchFunctionMode):
    """Let torch draw from generators of its own in this thread, within a ``with`` block.

    They start at ``seed``, one a device, so that results equal those after
    ``torch.manual_seed(seed)`` bit for bit, whatever other threads draw meanwhile, and the global
    generators stay as they are. Functions that take no generator find the global one in this
    stream's state while they run, one at a time: a thread without a stream must not draw then.
    """

    _lent = False

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self._generators: dict[str, torch.Generator] = {}

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        free = kwargs.get("generator") is None
        if not _draws(name) and "generator" not in kwargs:
            return function(*args, **kwargs)
        if free and (name in DRAWING or "generator" in kwargs) and name not in LIKE:
            kwargs = {**kwargs, "generator": self._of(args, kwargs)}
        elif free and name in LIKE:
            empty = torch.empty_like(*args, **{k: v for k, v in kwargs.items() if k != "generator"})
            return LIKE[name](empty, generator=self._of((empty,), {}))
        elif function is F.dropout and (not kwargs["training"] or not 0 < kwargs["p"] < 1):
            pass  # which draws nothing
        elif function is F.dropout and args[0].device.type == "cpu" and not kwargs["inplace"]:
            keep, mask = 1 - kwargs["p"], torch.empty_like(args[0])
            return args[0] * mask.bernoulli_(keep, generator=self._of(args, {})).div_(keep)
        elif any(part in name for part in OTHERS):
            return self._lend(partial(function, *args, **kwargs), self._of(args, kwargs))
        elif function is Tensor.backward and all(v is None or v is False for v in kwargs.values()):
            start = (torch.ones_like(args[0]),)
            with self:  # nodes of the graph may draw; torch would leave the mode before its pass
                run = partial(Variable._execution_engine.run_backward, allow_unreachable=True)
                return run(args, start, False, False, (), accumulate_grad=True)
        return function(*args, **kwargs)

    def _of(self, args: Any, kwargs: Any) -> torch.Generator | None:
        """The generator of the device that a call draws on; None on meta."""
        like = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        device = like[0].device if like else torch.empty(0, device=kwargs.get("device")).device
        if device.type != "meta" and str(device) not in self._generators:
            self._generators[str(device)] = torch.Generator(device).manual_seed(self.seed)
        return self._generators.get(str(device))

    def _lend(self, call: Callable[[], Any], generator: torch.Generator | None) -> Any:
        """Call while the global generator has this stream's state."""
        with lending:
            if self._lent or generator is None:  # by a stream within this one
                return call()
            cuda, index = generator.device.type == "cuda", generator.device.index
            general = torch.cuda.default_generators[index] if cuda else torch.default_generator
            before, Stream._lent = general.get_state(), True
            general.set_state(generator.get_state())
            try:
                return call()
            finally:
                generator.set_state(general.get_state())
                general.set_state(before)
                Stream._lent = False


def without_stream() -> AbstractContextManager[Any]:
    """Leave a stream for the block: for compiled code, which draws nothing."""
    inside = isinstance(_get_current_function_mode(), Stream)
    return _pop_mode_temporarily() if inside else nullcontext()
