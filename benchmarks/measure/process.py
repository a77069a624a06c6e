"""Interpreters that this one starts by exec: they call functions, may die, and end with it.

None looks for modules in its working folder, where a user may have a `signal.py`.
"""

import ctypes
import fcntl
import gc
import mmap
import os
import pickle
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Self, TypeVar

import psutil

TIMEOUT = 300.0  # seconds of one call
START = 120.0  # seconds that a process has to be set up
ENDING = 30.0  # seconds that a process whose pipe is closed has to end
SAFE = {"PYTHONSAFEPATH": "1"}  # for those that the children start, such as `multiprocessing` does
CALL = """
import sys, importlib
module, name, *descriptors = sys.argv[1:5]
sys.path[:] = sys.argv[5:]
getattr(importlib.import_module(module), name)(*descriptors)
"""
MARK = "FLOWGAUGE_FAMILY"  # the variable that names a process's family
T = TypeVar("T")


def connected(
    function: str,
    env: Mapping[str, str],
    path: Sequence[str] = (),
    output: IO[bytes] | None = None,
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a process that calls ``module:name``; it, and this end of a pipe to it.

    The function is called with the descriptors of the other end and of the `lifeline`. ``env`` are
    all its variables, ``path`` folders in front of this process's import path; it prints to
    ``output``, or where this process does.
    """
    ours, theirs = Pipe()
    with theirs:
        descriptors = theirs.fileno(), lifeline()
        command = [sys.executable, "-P", "-c", CALL, *function.split(":"), *map(str, descriptors)]
        process = subprocess.Popen(
            [*command, *path, *sys.path],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**env, **SAFE},
            pass_fds=descriptors,
        )
    return process, ours


@cache
def lifeline() -> int:
    """Return a descriptor to pass on, which is at its end once this process is, however it ends."""
    ours, _ = os.pipe()  # nobody writes, and the system closes the other end
    return ours


def ending(code: int) -> str:
    """How a process with this return code has ended: "by SIGSEGV", "with exit status 3"."""
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"


def end_with_parent(lifeline: int) -> None:
    """End this process with the one that has passed on its lifeline, whatever it does then.

    A thread waits for the end. Linux sends a signal too, which needs no lock of Python's.
    """

    def exit_at_end() -> None:
        parent = select.poll()
        parent.register(lifeline, 0)  # nothing but that the other end was closed
        parent.poll()
        os._exit(1)

    threading.Thread(target=exit_at_end, daemon=True).start()
    with suppress(OSError):  # a description of its own, which has one owner
        descriptor = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY)
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)


class ChildError(RuntimeError):
    """A call that failed; the message is one line that says why."""


class ChildEnded(ChildError):
    """A call whose process has ended, or was killed since it took too long."""


class Child:
    """An interpreter that calls functions of modules; use it as a context, or `close` it.

    The first call starts it, and the first one after its end another. ``setup`` are a function and
    its arguments, called there before all others. ``variables`` are added to the environment, in
    which libraries read threads and precision as they are imported; folders of ``path`` come before
    the import path of this process. What the child prints is kept for the message of its end; with
    ``prints`` it goes where ours goes.
    """

    def __init__(
        self,
        *setup: Any,
        variables: Mapping[str, str] = MappingProxyType({}),
        path: Sequence[str] = (),
        prints: bool = False,
    ) -> None:
        self._setup, self._variables, self._path, self._prints = setup, variables, path, prints
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self, function: Callable[..., T], *arguments: Any, timeout: float | None = TIMEOUT
    ) -> T:
        """Return what a function of a module returns there.

        Raises ValueError if the function does, ChildError if it raises another exception, and
        ChildEnded if the process ends or takes longer than ``timeout`` seconds.
        """
        result: T
        if self._process is None:
            self._start()
        try:
            self._pipe.send((function, arguments))
            if not self._pipe.poll(timeout):
                self.close()
                raise ChildEnded(f"took longer than {timeout:g} s")
            error, result = self._pipe.recv()
        except (EOFError, OSError):
            raise ChildEnded(self._end()) from None
        if error:
            raise error(result)
        return result

    def close(self) -> None:
        if self._process is not None:
            self._pipe.close()
            self._process.kill()
            self._process.wait()
            self._log.close()
        self._process = None

    def _start(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._process, self._pipe = connected(
            f"{__name__}:serve",
            {**os.environ, **self._variables},
            self._path,
            None if self._prints else self._log,
        )
        if self._setup:
            try:
                self.call(*self._setup, timeout=START)
            except Exception:
                self.close()
                raise

    def _end(self) -> str:
        """Close a process that has gone; return how it ended, after the last line it printed."""
        assert self._process is not None
        try:
            end = f"ended {ending(self._process.wait(ENDING))}"
            self._log.seek(0)
            lines = self._log.read().decode(errors="replace").strip().splitlines()
            return f"printed {lines[-1]!r} and {end}" if lines else end
        except subprocess.TimeoutExpired:
            return "does not answer"
        finally:
            self.close()


def serve(descriptor: str, lifeline: str) -> None:
    """Answer the calls of a `Child` until its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    end_with_parent(int(lifeline))
    pipe = Connection(int(descriptor))
    with suppress(EOFError):
        while True:
            message = pipe.recv_bytes()
            answer: tuple[type[Exception] | None, Any]
            try:
                function, arguments = pickle.loads(message)
                answer = None, function(*arguments)
            except Exception as error:
                first, *_ = str(error).strip().splitlines() or ["no message"]
                refused = isinstance(error, ValueError)
                name = type(error).__name__
                answer = (ValueError, first) if refused else (ChildError, f"{name}: {first}")
            pipe.send(answer)


def helper(fixed: bool = False, prints: bool = True) -> Child:
    """Return a child with this process's plug-ins; if ``fixed``, it keeps its number of threads."""
    from flows.registry import needed  # here: it imports torch, which few children need

    return Child(set_up, needed(), fixed, prints=prints)


def set_up(plugins: Collection[str], fixed: bool) -> None:
    """Load plug-ins, and no others, in a helper's process."""
    from flows.plugins import load_only
    from flows.threads import keep_threads

    if fixed:
        keep_threads()
    load_only(plugins)


def call(function: Callable[[Any], T], argument: Any, timeout: float) -> T:
    """Call a function in a new process, which has this one's plug-ins and has allocated nothing."""
    with helper(fixed=True, prints=False) as child:
        return child.call(function, argument, timeout=timeout)


def growth(work: Callable[[], object], release: Callable[[], object] | None = None) -> int:
    """Return the bytes by which the peak of this process's resident set exceeds the set before.

    With ``release``, by a second run: what the first leaves behind is released, and the heap
    trimmed. From then on each block beyond 128 KiB goes back to the system once it is freed.
    """
    peak = Path("/proc/self/clear_refs")
    if not peak.exists():
        raise RuntimeError(f"this system has no {peak}: measure on Linux")
    if release is not None:
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 2**17)  # M_MMAP_THRESHOLD of mallopt(3)
        work()
        release()
        gc.collect()
        libc.malloc_trim(0)
    before = psutil.Process().memory_info().rss
    peak.write_text("5")  # proc(5): the peak is reset
    work()
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return max(0, int(line) * 1024 - before)


@contextmanager
def uncollected() -> Iterator[None]:
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def environment(threads: int, device: str, dtype: str) -> dict[str, str]:
    """Return the variables that numerical libraries read as they are imported.

    Threads of OpenMP, MKL, OpenBLAS and XLA; JAX's platform and precision, without memory taken in
    advance; and the allocator that `clock.steady_heap` sets for this process.
    """
    number, several = str(threads), str(threads > 1).lower()
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen={several}"
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC", "PJRT_NPROC")
    return dict.fromkeys(counts, number) | {
        "XLA_FLAGS": flags.strip(),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_PLATFORMS": "cuda,cpu" if device.startswith("cuda") else "cpu",
        "JAX_ENABLE_X64": str(int(dtype == "float64")),
        "MALLOC_MMAP_THRESHOLD_": str(2**25),
        "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    }


def bound_forks(limit: int, end: signal.Signals) -> None:
    """End this process by a signal once its copies have forked so often, and each that goes on.

    A copy that forks in every call would grow faster than another process could count and kill.
    Forks of this process itself are not counted, nor those that Python knows nothing of.
    """
    parent, forks, leave = os.getpid(), mmap.mmap(-1, 8), os._exit  # which all copies share

    def count() -> None:
        if os.getpid() == parent:
            return
        number = int.from_bytes(forks[:], "big") + 1
        forks[:] = number.to_bytes(8, "big")
        if number > limit:
            with suppress(ProcessLookupError):  # it has ended before its copies
                os.kill(parent, end)
            leave(1)

    os.register_at_fork(before=count)


def family(mark: str) -> list[psutil.Process]:
    """Return all processes that were started with an environment so marked, and what they start."""
    return [process for process in psutil.process_iter() if _marked(process, mark)]


def end_family(mark: str, but: int = 0) -> None:
    """Kill all processes of a family ``but`` one; again, as long as there are new ones."""
    while members := [process for process in family(mark) if process.pid != but]:
        for process in members:
            with suppress(psutil.Error):
                process.kill()


class Growth:
    """Whether a family has grown beyond a limit, which bounds what forks without end.

    The system's processes are counted, which takes next to no time beside what is being measured;
    only where there are many more than before are those of the family.
    """

    def __init__(self, mark: str, limit: int) -> None:
        self.mark, self.limit = mark, limit
        self._others = len(psutil.pids())

    def beyond(self) -> bool:
        total = len(psutil.pids())
        self._others = min(self._others, total)
        if total - self._others <= self.limit:
            return False
        members = len(family(self.mark))
        self._others = total - members
        return members > self.limit


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        alive = process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        return alive and process.environ().get(MARK) == mark
    except psutil.Error:  # it has ended, or is another user's
        return False
