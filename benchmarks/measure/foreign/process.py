"""A peer's process as seen from here: it is started, asked, and may fail in one line."""

from __future__ import annotations

import importlib
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Self

import numpy as np

from benchmarks.measure.child import connected, ending
from benchmarks.measure.foreign import wire
from benchmarks.measure.foreign.wire import Arrays

TIMEOUT = 300.0  # seconds of one call
ENDING = 5.0  # seconds that a process whose pipe is closed has to end


class ForeignError(RuntimeError):
    """A peer that cannot go on; the message is one line that names it and the reason."""

    def __init__(self, module: str, reason: str) -> None:
        super().__init__(f"peer {module.rpartition('.')[2]!r} {reason}")
        self.module = module


def lacking(peer: ModuleType) -> str:
    """Say in one line which package a peer lacks, and how to get it; empty if it has all."""
    for package in peer.PACKAGES:
        if find_spec(package) is None:
            remedy = f"pip install 'flowgauge[{peer.EXTRA}]'"
            return f"needs the package {package!r}, which is not installed: {remedy}"
    return ""


@dataclass(frozen=True)
class Reply:
    """Seconds of each run by the peer's own clock, facts of what was built, arrays by name."""

    seconds: list[float]
    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Foreign:
    """A process in which the peer of ``module`` runs with its own threads and precision.

    ``module`` is the dotted name of one that has ``PACKAGES``, which it cannot do without,
    ``EXTRA`` of flowgauge that installs them, and ``build(request)``, which returns a
    `server.Built`. Raises ForeignError where a package is missing or the process does not start.
    The process ends with `close`, with this process, however that ends, and at a timeout.
    """

    def __init__(
        self,
        module: str,
        *,
        threads: int,
        device: str = "cpu",
        dtype: str = "float32",
        timeout: float = TIMEOUT,
    ) -> None:
        self.module, self.timeout = module, timeout
        if fault := lacking(importlib.import_module(module)):
            raise ForeignError(module, fault)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._process, self._pipe = connected(
            "benchmarks.measure.foreign.server:main",
            module,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, **environment(threads, device, dtype)},
        )
        try:
            self.versions: dict[str, str] = self._receive("start", timeout).facts
        except ForeignError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self,
        name: str,
        options: Mapping[str, Any] = {},
        arrays: Arrays = wire.NONE,
        *,
        repeat: int = 1,
        fetch: bool = True,
        timeout: float | None = None,
    ) -> Reply:
        """Run a call of the peer ``repeat`` times, from 1, "build" before all others.

        ``fetch`` brings the arrays of its last run. Raises ForeignError if it fails, dies, or takes
        longer than ``timeout`` seconds.
        """
        header = {"call": name, "options": dict(options), "repeat": repeat, "fetch": fetch}
        try:
            wire.send(self._pipe, header, arrays)
        except OSError as error:
            raise ForeignError(self.module, self._cause()) from error
        return self._receive(name, self.timeout if timeout is None else timeout)

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _receive(self, name: str, timeout: float) -> Reply:
        deadline = time.monotonic() + timeout
        try:
            if not self._pipe.poll(max(0.0, deadline - time.monotonic())):
                self._process.kill()
                raise ForeignError(self.module, f"took longer than {timeout:g} s to {name!r}")
            header, arrays = wire.receive(self._pipe)
        except (EOFError, ConnectionError) as error:
            raise ForeignError(self.module, self._cause()) from error
        if reason := header.get("error"):
            raise ForeignError(self.module, f"cannot {name!r}: {reason}")
        return Reply(header["seconds"], header["facts"], arrays)

    def _cause(self) -> str:
        """How the process ended, and the last line that it wrote."""
        if self._log.closed:
            return "was closed"
        try:
            code = self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            return "does not answer"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"ended {ending(code)}: {lines[-1] if lines else 'no message'}"


@dataclass(frozen=True)
class Remote:
    """A call of a peer as a work that is timed by the peer's clock."""

    process: Foreign
    name: str

    def seconds(self, calls: int) -> list[float]:
        """Return the seconds of consecutive runs."""
        return self.process.call(self.name, repeat=calls, fetch=False).seconds


def environment(threads: int, device: str, dtype: str) -> dict[str, str]:
    """Return the variables that a peer's libraries read as they are imported.

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
