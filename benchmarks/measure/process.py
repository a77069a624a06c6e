"""Interpreters that this one starts by exec: they are asked, may die, and end with it.

None looks for modules in its working folder: a user's `signal.py` there is no part of Python.

A request and its answer are messages of JSON and raw arrays, nothing pickled: a frame with a JSON
object, then one frame for each array that its ``arrays`` lists as [name, dtype, shape], the array's
bytes in C order. Frames are those of `multiprocessing.connection`.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import psutil

Arrays = Mapping[str, np.ndarray]
Message = tuple[Mapping[str, Any], Arrays]  # JSON and arrays
NONE: Arrays = MappingProxyType({})
TIMEOUT = 300.0  # seconds of one answer
ENDING = 30.0  # seconds that a process whose pipe is closed has to end
SAFE = {"PYTHONSAFEPATH": "1"}  # for those that the children start, such as `multiprocessing` does
MARK = "FLOWGAUGE_FAMILY"  # the variable that names a process's family


def command(function: str, *arguments: str, path: Sequence[str] = ()) -> list[str]:
    """Return the command that calls ``module:name`` with texts, with this process's path.

    Folders of ``path`` come first.
    """
    module, _, name = function.partition(":")
    last = 1 + len(arguments)
    code = (
        f"import sys; sys.path[:] = sys.argv[{last}:]; "
        f"from {module} import {name}; {name}(*sys.argv[1:{last}])"
    )
    return [sys.executable, "-P", "-c", code, *arguments, *path, *sys.path]


def connected(
    function: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    path: Sequence[str] = (),
    **how: Any,
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a process that calls ``module:name``; it, and this end of a pipe to it.

    The function is called with the descriptors of the other end and of the `lifeline`, and with
    these texts. ``env`` are all its variables, by default those of this process, ``path`` folders
    in front of this one's import path, and ``how`` other arguments of Popen.
    """
    ours, theirs = Pipe()
    with theirs:
        descriptors = theirs.fileno(), lifeline()
        process = subprocess.Popen(
            command(function, *map(str, descriptors), *arguments, path=path),
            stdin=subprocess.DEVNULL,
            env={**(os.environ if env is None else env), **SAFE},
            pass_fds=descriptors,
            **how,
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
    threading.Thread(target=_exit_at_end, args=(lifeline,), daemon=True).start()
    with suppress(OSError):  # a description of its own, which has one owner
        own = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY)
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(own, fcntl.F_SETFL, fcntl.fcntl(own, fcntl.F_GETFL) | os.O_ASYNC)


def send(pipe: Connection, header: Mapping[str, Any], arrays: Arrays = NONE) -> None:
    """Send a message; OSError where nobody reads."""
    listed = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
    pipe.send_bytes(json.dumps({**header, "arrays": listed}).encode())
    for array in arrays.values():
        pipe.send_bytes(array.tobytes())


def receive(pipe: Connection) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the next message's JSON and arrays; EOFError if the other end is closed."""
    header = json.loads(pipe.recv_bytes())
    arrays = {
        name: np.frombuffer(pipe.recv_bytes(), dtype).reshape(shape)
        for name, dtype, shape in header.pop("arrays")
    }
    return header, arrays


class ChildError(RuntimeError):
    """A child that gave no answer; the message is one line that says why."""


class Child:
    """An interpreter that answers requests; use it as a context, or `close` it.

    ``function`` is ``module:name``, called there with ``arguments`` when the first request comes;
    it returns the function that maps a request to an answer. ``variables`` are added to the
    environment, in which libraries read threads and precision as they are imported; folders of
    ``path`` come before the import path of this process. What the child prints is kept for the
    message of its end; with ``prints`` it goes where ours goes.
    """

    def __init__(
        self,
        function: str,
        *arguments: str,
        variables: Mapping[str, str] | None = None,
        path: Sequence[str] = (),
        prints: bool = False,
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        place = {} if prints else {"stdout": self._log, "stderr": self._log}
        env = {**os.environ, **(variables or {})}
        self._process, self._pipe = connected(
            f"{__name__}:serve", function, *arguments, env=env, path=path, **place
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(
        self, header: Mapping[str, Any], arrays: Arrays = NONE, timeout: float | None = TIMEOUT
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the answer; ChildError if the child dies, or takes longer than so many seconds.

        Where the request raised an exception the answer has it as ``error``, "KeyError: 'x'".
        """
        try:
            send(self._pipe, header, arrays)
            if not self._pipe.poll(timeout):
                self._process.kill()
                raise ChildError(f"took longer than {timeout:g} s")
            return receive(self._pipe)
        except (EOFError, OSError) as error:
            raise ChildError(self._cause()) from error

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _cause(self) -> str:
        """How the process ended, after the last line that it printed."""
        if self._log.closed:
            return "was closed"
        try:
            end = f"ended {ending(self._process.wait(ENDING))}"
        except subprocess.TimeoutExpired:
            return "does not answer"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"printed {lines[-1]!r} and {end}" if lines else end


def serve(descriptor: str, lifeline: str, function: str, *arguments: str) -> None:
    """Answer the requests of a `Child` until its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    end_with_parent(int(lifeline))
    pipe = Connection(int(descriptor))
    module, _, name = function.partition(":")
    answer: Callable[[dict[str, Any], Arrays], Message] | None = None
    with suppress(EOFError):
        while True:
            request = receive(pipe)
            try:
                answer = answer or getattr(import_module(module), name)(*arguments)
                reply = answer(*request)
            except Exception as error:
                first, *_ = str(error).strip().splitlines() or ["no message"]
                refusal = isinstance(error, ValueError)
                reply = {"error": f"{type(error).__name__}: {first}", "refusal": refusal}, NONE
            send(pipe, *reply)


class Helper:
    """A process with this one's plug-ins that calls functions of modules, of JSON to JSON.

    Where it dies the next call has another one. With ``fixed`` it keeps its number of threads.
    """

    def __init__(self, fixed: bool = False, prints: bool = True) -> None:
        self.fixed, self.prints = fixed, prints
        self._child: Child | None = None

    def call(
        self, function: Callable[..., Any], *arguments: Any, timeout: float | None = None
    ) -> Any:
        """Call a function there; RuntimeError if it fails, or the process with it.

        A ValueError of the function is raised here.
        """
        if self._child is None:
            from flows.registry import needed  # here: it imports torch, which few children need

            how = json.dumps({"fixed": self.fixed, "plugins": needed()})
            self._child = Child(f"{__name__}:calling", how, prints=self.prints)
        names = {"module": function.__module__, "function": function.__name__}
        try:
            answer, _ = self._child.ask({**names, "arguments": arguments}, timeout=timeout)
        except ChildError as error:
            self.close()
            raise ChildError(f"the process {error}") from error
        if reason := answer.get("error"):
            raise ValueError(reason.partition(": ")[2]) if answer["refusal"] else ChildError(reason)
        return answer["result"]

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.close()
        self._child = None


def calling(how: str) -> Callable[[dict[str, Any], Arrays], Message]:
    """Load plug-ins, in a helper's process; return what answers its calls."""
    from flows.plugins import load_only
    from flows.threads import keep_threads

    settings = json.loads(how)
    if settings["fixed"]:
        keep_threads()
    load_only(settings["plugins"])

    def answer(request: dict[str, Any], arrays: Arrays) -> Message:
        function = getattr(import_module(request["module"]), request["function"])
        return {"result": function(*request["arguments"])}, NONE

    return answer


def call(function: Callable[[Any], Any], argument: Any, timeout: float) -> Any:
    """Call a function as a `Helper` does, in a new process, in which nothing was allocated."""
    helper = Helper(fixed=True, prints=False)
    try:
        return helper.call(function, argument, timeout=timeout)
    finally:
        helper.close()


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
    own, forks, leave = os.getpid(), mmap.mmap(-1, 8), os._exit  # which all copies share

    def count() -> None:
        if os.getpid() == own:
            return
        number = int.from_bytes(forks[:], "big") + 1
        forks[:] = number.to_bytes(8, "big")
        if number > limit:
            with suppress(ProcessLookupError):  # it has ended before its copies
                os.kill(own, end)
            leave(1)

    os.register_at_fork(before=count)


def family(mark: str) -> list[psutil.Process]:
    """Return all processes that were started with an environment so marked, and what they start."""
    return [process for process in psutil.process_iter() if _marked(process, mark)]


def end_family(mark: str) -> None:
    """Kill all processes of a family; again, as long as there are new ones."""
    while members := family(mark):
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
        """Whether there are more processes of the family than the limit."""
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


def _exit_at_end(lifeline: int) -> None:
    parent = select.poll()
    parent.register(lifeline, 0)  # nothing but that the other end was closed
    parent.poll()
    os._exit(1)
