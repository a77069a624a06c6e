"""The processes that measure: a server forks a fresh one for each block, which may die.

A server is started by exec, imports torch and this project once, and runs no code of users. Each of
its forks measures one block: whatever a flow does to its process ends with the block. The context
"forkserver" of multiprocessing is not used: Dask's workers, which are daemons, may not start its
processes, these import the caller's main module, and what a flow has forked could not be told from
other blocks.
"""

import gc
import os
import random
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from benchmarks import datasets
from benchmarks.core.case import Case, digest
from benchmarks.core.formats import brief
from benchmarks.core.record import Status
from benchmarks.core.study import Result, registry, study_of
from benchmarks.datasets.tables import admit
from benchmarks.measure import machine, process
from benchmarks.measure.operations import dispatched
from benchmarks.measure.process import MARK, Growth, connected, end_family, end_with_parent, ending
from benchmarks.training import checkpoint, weights
from flows import members
from flows.isolation import unchanged
from flows.plugins import load_only
from flows.registry import needed
from flows.threads import keep_threads

STOP = signal.SIGUSR1  # asks to stop at the next update of a training
SWARM = signal.SIGUSR2  # ends a process whose copies go on forking
PROCESSES = max(100, 2 * (os.cpu_count() or 1))  # that a block may have at once
MANY = f"the worker had started more than {PROCESSES} processes"
STOPPED = "stopped"  # the answer to STOP
LOOK = 0.2  # seconds between two looks at the number of processes
START = 600.0  # seconds in which a process has to begin, on a loaded machine too
GRACE = 10.0  # seconds in which a process ends that has closed its pipe
PRINTED = 500  # characters of what a block prints that are shown
STOPPING = 90.0  # seconds in which blocks come to a checkpoint
# by the server; the first optimiser, score or solve would import them, within a time limit
IMPORTED = ("torch._dynamo", "scipy.stats", "sklearn.ensemble", "torchdiffeq")


_noisy: set[str] = set()  # subjects whose output was reported, for one line of each


@dataclass(frozen=True)
class Setup:
    """What a worker may use, and how it measures."""

    threads: int
    device: str
    memory_share: float
    operators: bool = False  # count those that torch dispatches, and time nothing
    cores: frozenset[int] | None = None  # None: those that this process may use
    gpu: str | None = None


@dataclass(frozen=True)
class Files:
    """Files of a case: its checkpoint, and the folder of its flow; None if that is not kept."""

    checkpoint: Path
    weights: Path | None = None


@dataclass(frozen=True)
class Measured:
    """What a case's measurement gave."""

    result: Result
    seconds: float  # that the case took
    shared: dict[str, float] | None = None  # what ran beside its block; None if not known
    status: Status = "failed"  # of a result that failed
    facts: Mapping[str, Any] = field(default_factory=dict)  # of the block, fields of the record


class WorkerLost(RuntimeError):
    """The process of a block died or was ended; ``timed_out`` says whether by the clock."""

    def __init__(self, message: str, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class Cancelled(Exception):
    """The run was stopped while a block was being measured."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end: trainings stop at a checkpoint, and go on in the next run."""


class ClusterError(RuntimeError):
    """A cluster cannot measure; the message says what to change."""


def plugins_of(cases: Iterable[Case]) -> tuple[str, ...]:
    return needed(frozenset[str]().union(*(case.words for case in cases)))


class Worker:
    """A handle on a server and on the process of the block that it measures.

    The server is started on first use, and again after it died.
    """

    def __init__(self, setup: Setup, without: Collection[str] = ()) -> None:
        self.setup = setup
        self.without = without  # variables of this process that the server lacks
        self.facts: dict[str, Any] = {}  # of the latest block
        self.cancelled = False
        self._server: subprocess.Popen[bytes] | None = None
        self._control: Connection | None = None
        self._family = ""  # the mark of the server and of all that its forks start
        self._child: int | None = None  # the process of the block
        self._subject = ""  # of the block

    def measure(
        self, cases: Sequence[Case], limit: float, files: Mapping[str, Files]
    ) -> Iterator[tuple[str, Measured]]:
        """Yield each case's key and result as it comes, all from one fresh process.

        ``files`` are those of each case by key. Raises WorkerLost if the process cannot go on, and
        Cancelled if another thread stopped it.
        """
        started, rest = datetime.now(UTC), {case.key for case in cases}
        block = digest([started.isoformat(), sorted(rest)])[:16]
        self.facts |= {"started": started.isoformat(timespec="seconds"), "block": block}
        self._subject = f"{cases[0].study} of {', '.join(sorted({case.flow for case in cases}))}"
        killed = machine.killed_for_memory()
        pipe = self._forked()
        try:
            with suppress(OSError):  # a process that has died is noticed below
                texts = [case.model_dump_json() for case in cases]
                pipe.send((self.setup, plugins_of(cases), texts, dict(files)))
            growth = Growth(self._family, PROCESSES)
            self.facts |= self._receive(pipe, growth, time.monotonic() + START, START, killed)
            deadline = time.monotonic() + limit
            while True:
                match self._receive(pipe, growth, deadline, limit, killed):
                    case str(key), Measured() as result if key in rest:
                        rest.discard(key)
                        yield key, replace(result, facts=dict(self.facts))
                    case None if not rest:
                        return
                    case str(answer) if answer == STOPPED:
                        raise Cancelled
                    case answer:
                        text = f"the worker sent {brief(str(answer))}, which is no result"
                        raise WorkerLost(f"{text} of {', '.join(rest) or 'a case'}")
        finally:
            pipe.close()
            self._end_block()

    def stop(self) -> None:
        """End the server, and all that its forks have started."""
        if self._server is not None and self._control is not None:
            self._control.close()
            self._server.kill()
            self._server.wait()
            end_family(self._family)
        self._server = self._control = self._child = None

    def cancel(self, gently: bool = False) -> None:
        """End the block from a thread that does not measure; ``gently`` at its next checkpoint."""
        self.cancelled = True
        server, child = self._server, self._child
        if child is not None:
            _kill(child, STOP if gently else signal.SIGKILL)
        elif server is not None:  # it is starting, or idle
            server.kill()

    def check(self) -> None:
        """Cancelled where another thread has said so."""
        if self.cancelled:
            raise Cancelled

    def _forked(self) -> Connection:
        """Let the server fork a process: a pipe to it."""
        self.check()
        if self._server is None or self._control is None or self._server.poll() is not None:
            self.stop()
            self._family = uuid.uuid4().hex
            variables = {**os.environ, MARK: self._family}
            self._server, self._control = connected(
                "benchmarks.execution.process:serve",
                {k: v for k, v in variables.items() if k not in self.without},
            )
        ours, theirs = Pipe()
        with theirs, suppress(OSError):
            send_handle(self._control, theirs.fileno(), self._server.pid)
        self._child = self._answer(START)
        if self._child is None or self.cancelled:
            ours.close()
            self.stop()
            self.check()
            raise WorkerLost("the server of worker processes has ended: out of memory?")
        return ours

    def _answer(self, seconds: float) -> Any:
        """The next answer of the server; None where it does not come."""
        with suppress(OSError, EOFError):
            if self._control is not None and self._control.poll(seconds):
                return self._control.recv()
        return None

    def _end_block(self, grace: float = GRACE) -> int | None:
        """End the block's process and what it has started; its exit status, as of `subprocess`."""
        if (child := self._child) is None:
            return None
        if (end := self._answer(grace)) is None:
            _kill(child, signal.SIGKILL)
            output = self._answer(GRACE)
            if output is None:
                self.stop()  # the server has died
        code, printed = end or (None, output[1] if output else "")
        if printed and self._subject not in _noisy:
            _noisy.add(self._subject)
            warnings.warn(f"{self._subject} printed (kept apart): {printed}", stacklevel=2)
        self._child = None
        end_family(self._family, but=self._server.pid if self._server else 0)
        return code

    def _receive(
        self, pipe: Connection, growth: Growth, deadline: float, limit: float, killed: int
    ) -> Any:
        """The next message; WorkerLost where none comes in time, and where it is none."""
        late = WorkerLost(f"took longer than its limit of {limit:.0f} s", timed_out=True)
        while (seconds := deadline - time.monotonic()) > 0:
            if growth.beyond():
                self._end_block(grace=0.01)
                raise WorkerLost(MANY)
            # half a message, and no more, would be waited for without end
            rescue = threading.Timer(seconds, _kill, (self._child, signal.SIGKILL))
            try:
                if pipe.poll(min(seconds, LOOK)):
                    rescue.start()
                    return pipe.recv()
            except (OSError, EOFError):
                rescue.cancel()
                in_time = time.monotonic() < deadline
                code = self._end_block()
                self.check()
                raise (WorkerLost(_cause(code, killed)) if in_time else late) from None
            except Exception as error:  # whatever unpickling raises
                self._end_block(grace=0.01)
                raise WorkerLost(f"the worker sent what is no result: {brief(error)}") from error
            finally:
                rescue.cancel()
        self._end_block(grace=0.01)
        raise late


def measured(
    worker: Worker, cases: Sequence[Case], limit: float, files: Mapping[str, Files]
) -> Iterator[tuple[str, Measured]]:
    """Yield each case's key and result within a limit of seconds; after a loss case by case."""
    rest, begun = {case.key: case for case in cases}, time.monotonic()
    try:
        for key, result in worker.measure(cases, limit, files):
            del rest[key]
            yield key, result
    except WorkerLost as loss:
        if len(cases) > 1:
            for case in rest.values():
                yield from measured(worker, [case], limit, files)
            return
        status: Status = "timeout" if loss.timed_out else "failed"
        for key in rest:
            seconds = time.monotonic() - begun
            yield key, Measured(Result(failure=str(loss)), seconds, None, status, worker.facts)


def _kill(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _cause(code: int | None, killed: int) -> str:
    """How a process has ended; ``killed`` had been for memory when it began."""
    if code is None:
        return "the worker closed its pipe"
    if code >= 0:
        return f"the worker ended {ending(code)}"
    if -code == SWARM:
        return MANY
    how = f"the worker was ended {ending(code)}"
    if -code != signal.SIGKILL:
        return how
    if machine.killed_for_memory() > killed:
        return f"{how}: the system's memory ran out"
    return f"{how}: by itself or from outside, not for want of memory"


def serve(descriptor: str, lifeline: str) -> None:
    """Fork a process for each pipe that comes; answer its number, then how it ended.

    Server and fork end with the process that holds the other end of the lifeline. What a fork
    prints is read to its end, and its beginning answered.
    """
    for number in (signal.SIGINT, signal.SIGTERM, STOP):  # the parent decides
        signal.signal(number, signal.SIG_IGN)
    pools = _import()
    with Connection(int(descriptor)) as control, suppress(ConnectionError, EOFError):
        while True:
            pipe, (reader, writer) = recv_handle(control), os.pipe()
            if (child := os.fork()) == 0:
                control.close()
                for place in (1, 2):
                    os.dup2(writer, place)
                os.close(reader)
                os.close(writer)
                _measure_and_exit(_Pipe(pipe), int(lifeline), pools)
            os.close(pipe)
            os.close(writer)
            control.send(child)
            control.send(_end_of(child, reader))


def _end_of(child: int, reader: int) -> tuple[int, str]:
    """How a process ends, and the beginning of what it prints, in one line."""
    head, ended, status = b"", 0, 0
    while not ended:
        if select.select([reader], [], [], LOOK / 10)[0]:
            part = os.read(reader, 2**16)
            head += part[: PRINTED - len(head)]
            if not part:  # nobody can print any more
                ended, status = os.waitpid(child, 0)
        if not ended:
            ended, status = os.waitpid(child, os.WNOHANG)
    os.set_blocking(reader, False)
    with suppress(BlockingIOError):  # nothing is left, and another process may go on printing
        head += os.read(reader, PRINTED - len(head))
    os.close(reader)
    text = " | ".join(filter(None, head.decode(errors="replace").splitlines()))
    return os.waitstatus_to_exitcode(status), text and brief(text, PRINTED)


def _import() -> ThreadpoolController:
    """Import what each block needs, but plug-ins; find out what never changes; pools of threads."""
    for name in IMPORTED:
        import_module(name)
    load_only(())
    for kind in (datasets.registry, registry, members):
        list(kind)
    machine.machine(), machine.versions(), machine.commit()
    gc.collect()
    gc.freeze()  # collections in a fork would copy all pages
    return ThreadpoolController()


class _Pipe(Connection):
    """The pipe of one process: a copy that a flow has forked ends where it has something to say."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.owner = os.getpid()

    def send(self, message: object) -> None:
        if os.getpid() != self.owner:
            os._exit(1)
        super().send(message)


def _measure_and_exit(pipe: _Pipe, lifeline: int, pools: ThreadpoolController) -> NoReturn:
    """Measure the block that comes by a pipe, and end this process."""
    status = 1
    try:
        _measure(pipe, lifeline, pools)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        with suppress(Exception):
            traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _measure(pipe: _Pipe, lifeline: int, pools: ThreadpoolController) -> None:
    """Say what machine this is, then send the results of one block."""

    def stop(*_: object) -> None:
        checkpoint.stopping = True

    signal.signal(STOP, stop)
    end_with_parent(lifeline)
    os.register_at_fork(after_in_child=pipe.close)  # a flow may fork, and end before its child
    process.bound_forks(PROCESSES, SWARM)
    setup, plugins, texts, files = pipe.recv()
    if setup.cores is not None:
        os.sched_setaffinity(0, setup.cores)
    if setup.gpu is not None:  # read when CUDA is first used
        os.environ["CUDA_VISIBLE_DEVICES"] = setup.gpu
    if not setup.device.startswith("cuda"):
        limit = int(setup.memory_share * machine.memory_bytes())
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    pools.limit(limits=setup.threads)  # variables of the environment come too late after the fork
    torch.set_num_threads(setup.threads)
    keep_threads()
    facts: dict[str, Any] = {"machine": machine.machine(setup.device), "commit": machine.commit()}
    facts["versions"] = machine.versions()
    load_only(plugins)
    random.seed(0)
    np.random.seed(0)
    pipe.send(facts)
    cases = [Case.model_validate_json(text) for text in texts]
    checkpoint.slots = {key: paths.checkpoint for key, paths in files.items()}
    weights.folders = {key: paths.weights for key, paths in files.items() if paths.weights}
    try:
        _send_results(pipe, cases, setup.operators)
    except checkpoint.Stopped:
        pipe.send(STOPPED)
    else:
        pipe.send(None)


def _send_results(pipe: _Pipe, cases: Sequence[Case], operators: bool) -> None:
    """Send the results of a block; an exception becomes the failure of the cases left behind."""
    rest = {case.key for case in cases}
    lost = Result(failure="the study gave no result")
    beside, start = machine.Beside(), time.perf_counter()
    try:
        for case in cases:
            admit(case.dataset or "")
        study = study_of(cases[0])
        results = iter(dispatched(study, cases) if operators else study.measure(cases))
        names = ", ".join(sorted({case.flow for case in cases}))
        while True:
            with unchanged(f"{cases[0].study} of {names}", silent=False):  # for the next case
                pair = next(results, None)
            if pair is None:
                break
            key, result = pair
            elapsed = time.perf_counter() - start
            seconds = elapsed if result.seconds is None else result.seconds
            pipe.send((key, Measured(result, seconds, beside.shared())))
            rest.discard(key)
            start = time.perf_counter()
    except Exception as error:
        lost = Result.of(error)
    for key in rest:
        pipe.send((key, Measured(lost, time.perf_counter() - start, beside.shared())))
