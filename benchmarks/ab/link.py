"""A revision's worker process, seen from here: one line of JSON out, one line back."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
STARTING = 60.0  # seconds to import torch and the flows of a revision
ANSWERING = 30.0  # seconds for one visit
STEADY = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    # glibc's heap keeps what tensors leave behind (`measure.clock.steady_heap`)
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
}


class Lost(RuntimeError):
    """The worker ended, hung, or has not the revision's code; the message says which and why."""


class Link:
    """A handle on the worker of the checkout ``path``, pinned to ``core`` where that is given."""

    def __init__(self, python: str, path: Path, core: int | None) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        search = os.pathsep.join(filter(None, [str(path), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [python, "-P", str(WORKER), *([] if core is None else [str(core)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            cwd=path,
            env={**os.environ, **STEADY, "PYTHONPATH": search},
            start_new_session=True,  # an interrupt is for the parent to act upon
        )
        self._path, self._ready = path, False

    def ready(self) -> None:
        """Wait until it has torch and the checkout's flows; Lost where it never has."""
        if not self._ready:
            found = Path(self._line(STARTING)["flows"])
            if not found.is_relative_to(self._path):
                raise Lost(f"found no package flows but {str(found.parent)!r}")
        self._ready = True

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The worker's answer; Lost where none comes."""
        self.ready()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Lost(self._cause()) from None
        return self._line(ANSWERING)

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            stream.close()

    def _line(self, limit: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        said, deadline, pipe = b"", time.monotonic() + limit, self._process.stdout.fileno()
        while not said.endswith(b"\n"):
            if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise Lost(f"gave no answer within {limit:.0f} s")
            more = os.read(pipe, 2**16)
            if not more:
                raise Lost(self._cause())
            said += more
        answer: dict[str, Any] = json.loads(said)
        return answer

    def _cause(self) -> str:
        """How the process ended, with the last line that it wrote on standard error."""
        code = self._process.wait()
        how = f"exit status {code}" if code >= 0 else signal.Signals(-code).name
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"ended with {how}" + (f": {said[-1]}" if said else "")
