"""How many threads a solve takes: as many as its work is worth, whatever the caller has set.

A parallel region waits for its slowest thread. On a machine that does something else as well a
thread may not be scheduled for milliseconds, and a solve has hundreds of regions: small ones gain
microseconds by a second thread, and lose seconds.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.autograd import Variable

from flows.functorch import transforming

WORK = 20_000_000  # multiplications of one evaluation from which a solve takes the caller's threads


class _State(threading.local):
    fixed = False  # whether the number is left alone
    interrupted: int | None = None  # what to restore after a backward pass that failed


_state = _State()


def keep_threads() -> None:
    """Leave the number of threads as it is, for good: in a process that someone else has set."""
    _State.fixed = True


@contextlib.contextmanager
def threads_by_work() -> Iterator[None]:
    """Let the work decide again within the block, in a process that keeps its threads."""
    before, _State.fixed = _State.fixed, False
    try:
        yield
    finally:
        _State.fixed = before


@contextlib.contextmanager
def one_thread(few: bool) -> Iterator[None]:
    """One thread within the block, where ``few``; then as before."""
    before = torch.get_num_threads()
    if few:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if few:
            torch.set_num_threads(before)


def threads_for(work: int) -> AbstractContextManager[None]:
    """One thread within the block where the ``work`` of an evaluation is small; then as before."""
    _restore()
    return one_thread(_few(work))


def threads_back(work: int, results: Sequence[Tensor]) -> None:
    """The same for a backward pass, from where it comes to ``results`` until it ends.

    Of a pass that fails torch says nothing: its threads are restored when the next solve begins.
    """
    if transforming() or not _few(work):
        return

    def begin(gradient: Tensor) -> None:
        before = torch.get_num_threads()
        if before > 1:
            _state.interrupted = before
            torch.set_num_threads(1)
            Variable._execution_engine.queue_callback(_restore)

    for result in results:
        if result.requires_grad:
            result.register_hook(begin)


def _few(work: int) -> bool:
    return not _state.fixed and torch.get_num_threads() > 1 and work < WORK


def _restore() -> None:
    if _state.interrupted is not None:
        torch.set_num_threads(_state.interrupted)
        _state.interrupted = None
