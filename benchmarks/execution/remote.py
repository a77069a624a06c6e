"""What a Dask worker does for a run: it measures a task, with records in the folder that all share.

The measurement is a process of its own. It may hold the interpreter's lock for as long as it likes,
has no variable that the nanny exports for NumPy's sake, and ends with the Dask worker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from distributed import get_worker

from benchmarks.core.record import Record
from benchmarks.core.store import FolderError
from benchmarks.execution import host
from benchmarks.execution.claims import CLAIMS, Claims
from benchmarks.execution.pools import attend
from benchmarks.execution.process import Setup
from benchmarks.execution.recorder import Recorder
from benchmarks.execution.tasks import Task
from benchmarks.execution.worker import Cancelled, Worker
from benchmarks.measure.machine import memory_bytes
from flows.plugins import load_plugin

NANNY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_")
POLL = 2.0  # seconds between two looks at whether the run is still going
PATIENCE = 60.0  # seconds in which a network file system has to show that a run has begun


@dataclass(frozen=True)
class Order:
    """A task of a run, and what a host needs to measure it; ``alone`` has the host to itself."""

    task: Task
    folder: Path
    run: str  # the claim that the run holds as long as it is going
    limit: float
    setup: Setup
    plugins: tuple[str, ...]
    before: Mapping[str, Record]
    alone: bool
    keep_weights: bool = False


def measured(order: Order) -> None:
    """Measure a task unless another run holds it; what there is to say stands in the folder.

    Nothing is returned, so that nothing is computed again where a worker is lost. FolderError where
    the folder is not that of the run.
    """
    running = order.folder / CLAIMS / order.run
    deadline = time.monotonic() + PATIENCE
    while not running.is_dir():
        if time.monotonic() < deadline:
            threading.Event().wait(POLL)
            continue
        raise FolderError(
            f"the worker {get_worker().address} does not see the run in {str(order.folder)!r}: "
            "choose a folder (--out) on a file system that all hosts share, by the same path"
        )
    for plugin in order.plugins:
        load_plugin(plugin)
    worker, busy = _worker(order, running)
    hold = host.alone if order.alone else host.beside
    with busy, hold(), Claims(order.folder) as claims, suppress(Cancelled):
        recorder = Recorder(order.folder, order.limit, claims, order.before, order.keep_weights)
        attend(worker, order.task, recorder, lambda event: None)


# of each of a Dask worker's threads: its measuring process, and for whom
_local = threading.local()


def _worker(order: Order, running: Path) -> tuple[Worker, threading.Lock]:
    """The measuring process of this thread, and what is held while it measures.

    Each run has a new one, whose code may be newer, until it is over.
    """
    purpose = (order.run, setup := _setup(order))
    if getattr(_local, "purpose", None) != purpose:
        if hasattr(_local, "measuring"):
            _local.measuring[0].stop()
        _local.purpose, _local.measuring = purpose, (Worker(setup, NANNY), threading.Lock())
        threading.Thread(target=_end_with, args=(running, *_local.measuring), daemon=True).start()
    measuring: tuple[Worker, threading.Lock] = _local.measuring
    return measuring


def _end_with(running: Path, worker: Worker, busy: threading.Lock) -> None:
    """Stop a measuring process, at its next checkpoint, once the run that asked is over."""
    while running.exists():
        threading.Event().wait(POLL)
    worker.cancel(gently=True)
    with busy:
        worker.stop()


def _setup(order: Order) -> Setup:
    """The setup with this thread's part of the memory that the Dask worker may use."""
    if order.alone:
        return order.setup
    total, worker = memory_bytes(), get_worker()
    limit = min(total, worker.memory_manager.memory_limit or total)
    share = order.setup.memory_share * limit / total / worker.state.nthreads
    return replace(order.setup, memory_share=share)
