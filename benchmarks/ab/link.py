"""The worker process of a revision: one line of JSON as a request, one as the answer."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.ab.subject import Subject
from benchmarks.measure.process import SAFE, ending

Versions = dict[str, dict[str, list[int]]]  # (version, pace) by family and by what it rests on
WORKER = Path(__file__).with_name("worker.py")
START_LIMIT = 60.0  # seconds to import torch and the flows of a revision
ANSWER_LIMIT = 30.0  # seconds for one visit
STEADY = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    **SAFE,
    # glibc keeps freed blocks, as with `measure.clock.steady_heap`
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
}


@dataclass(frozen=True)
class Greeting:
    """A worker that is ready: the flows that it can time, versions, and a file of no revision.

    ``faults`` has why modules of its subject cannot be imported.
    """

    families: list[str]
    declared: Versions
    stray: str
    faults: dict[str, str]


class WorkerGone(RuntimeError):
    """A worker ended, gave no answer, or has not the revision's code; the message says which."""


class WorkerProcess:
    """The worker of a subject in the checkout ``path``, pinned to ``core`` if that is given.

    ``start_limit`` is in seconds.
    """

    def __init__(
        self,
        python: str,
        path: Path,
        core: int | None,
        subject: Subject = Subject(),
        start_limit: float = START_LIMIT,
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        search = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        task = json.dumps({"core": core, **subject.task(path)})
        self._process = subprocess.Popen(
            [python, "-P", str(WORKER), task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            cwd=path,
            env={
                **os.environ,
                **STEADY,
                "PYTHONPATH": os.pathsep.join(map(os.path.abspath, search)),
            },
            start_new_session=True,  # interrupts are handled by the parent
        )
        self._start_limit = start_limit
        self._greeting: Greeting | None = None  # until it is ready

    def ready(self) -> Greeting:
        """Wait until the checkout's flows are imported; which there are, and what each declares.

        WorkerGone if that fails, or anything is imported that is not the revision's.
        """
        if self._greeting is None:
            greeting = Greeting(**self._line(self._start_limit))
            if greeting.stray:
                raise WorkerGone(
                    f"imported {greeting.stray!r}, which is not the revision's: name its package "
                    "by --package, or take it off PYTHONPATH"
                )
            self._greeting = greeting
        return self._greeting

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return the answer; WorkerGone if none comes."""
        self.ready()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerGone(self._cause()) from None
        return self._line(ANSWER_LIMIT)

    def close(self) -> None:
        """Kill the process and close its streams."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            stream.close()

    def _line(self, limit: float) -> dict[str, Any]:
        """Read one answer within ``limit`` seconds."""
        assert self._process.stdout is not None
        line, deadline, pipe = b"", time.monotonic() + limit, self._process.stdout.fileno()
        while not line.endswith(b"\n"):
            if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise WorkerGone(f"gave no answer within {limit:.0f} s")
            more = os.read(pipe, 2**16)
            if not more:
                raise WorkerGone(self._cause())
            line += more
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _cause(self) -> str:
        """How the process ended, with the last line of its standard error."""
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"ended {ending(code)}" + (f": {lines[-1]}" if lines else "")
