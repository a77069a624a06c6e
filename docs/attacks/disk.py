"""Let disk operations of a run fail: `python docs/attacks/disk.py [FAULTS] [SEED]`.

The operations of a run on its results folder are counted: files opened, read and written to the
disk, renamed and removed, folders made, locks. In each attack one of them fails, or the process
ends there, in a folder in which half of the cases have their records. A healthy run follows.
Nothing that was measured may be lost, no draft may stay, and no fault may end in a traceback.
The worker is played by one that knows its results: what is attacked is the run.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.execution.state import state
from benchmarks.execution.worker import Worker
from typer.testing import CliRunner

from benchmarks.cli.app import app
from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.execution import run, suite
from benchmarks.execution.process import Files, Measured, Setup

SUITE = """
about = "Counts."
threads = 1
[[studies]]
study = "density"
datasets = ["8gaussians"]
baselines = []
flows = ["realnvp", "nice", "planar", "maf"]
sizes = { hidden = 4, layers = 1 }
batch = 16
updates = 2
training = { validation_rows = 20 }
scoring = { rows = 50, grid = 5, samples = 50, compared_rows = 1, seconds = 0.01 }
"""
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.utime", "os.scandir"}
KINDS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES, "the end": 0}
ENDED = 99  # exit status of a process that ended at an operation


class Faults:
    """Counts disk operations below a folder, of which one fails."""

    def __init__(self) -> None:
        self.folder, self.number, self.error = "", 0, 0
        self.seen: list[str] = []
        self._fsync, self._flock = os.fsync, fcntl.flock
        sys.addaudithook(self._audited)
        os.fsync = self._synchronised
        fcntl.flock = self._locked

    def arm(self, folder: Path, number: int, error: int) -> None:
        """From now on let an operation fail by its number, from 1; none for 0."""
        self.folder, self.number, self.error, self.seen = str(folder), number, error, []

    def disarm(self) -> None:
        """Let all operations succeed."""
        self.folder = ""

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder and event in EVENTS and str(arguments[0]).startswith(self.folder):
            self._meet(event)

    def _synchronised(self, handle: int) -> None:
        self._meet("fsync")
        self._fsync(handle)

    def _locked(self, handle: int, mode: int) -> None:
        if not mode & fcntl.LOCK_UN:
            self._meet("flock")
        self._flock(handle, mode)

    def _meet(self, what: str) -> None:
        if not self.folder:
            return
        self.seen.append(what)
        if len(self.seen) == self.number:
            if not self.error:
                os._exit(ENDED)
            raise OSError(self.error, os.strerror(self.error), self.folder)


class Player(Worker):
    """A worker that gives each case its known result at once."""

    known: Mapping[str, Measured] = {}
    about: Mapping[str, Any] = {}

    def measure(
        self,
        cases: Sequence[Case],
        time_limit: float,
        files: Mapping[str, Files],
        times: bool = False,
    ) -> Iterator[tuple[str, Measured]]:
        self.machine = dict(self.about)
        yield from ((case.key, self.known[case.key]) for case in cases)


def measured(file: Path, folder: Path) -> dict[str, Measured]:
    """What a real worker measures of a suite's cases."""
    worker = Worker(Setup(threads=1, device="cpu", memory_share=0.5))
    results = {}
    for case in suite.read(str(file)).cases():
        files = {case.key: Files(folder / case.key, folder / "kept")}
        for key, result in worker.measure([case], 100, files):
            results[key] = replace(result, pending=False)
    Player.about = worker.machine
    worker.stop()
    return results


def invoked(file: Path, folder: Path) -> tuple[int, str]:
    """Exit status and output of `flowgauge run`; the name of an exception that was not handled."""
    result = CliRunner().invoke(app, ["run", str(file), "--out", str(folder)])
    odd = result.exception is not None and not isinstance(result.exception, SystemExit)
    return result.exit_code, f"traceback: {result.exception!r}" if odd else result.output


def forked(file: Path, folder: Path, faults: Faults, number: int, error: int) -> tuple[int, str]:
    """The same in a process of its own, in which an operation fails; 99 where it ended."""
    reader, writer = os.pipe()
    if child := os.fork():
        os.close(writer)
        with open(reader, encoding="utf-8", errors="replace") as file_:
            text = file_.read()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text
    faults.arm(folder, number, error)
    code, text = invoked(file, folder)
    faults.disarm()
    os.write(writer, text[-2000:].encode())
    os._exit(code)


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of all records."""
    return {path.name: path.read_bytes() for path in store.loose(folder)}


def attack(file: Path, half: Path, whole: int, faults: Faults, number: int, kind: str) -> str:
    """Let one operation fail, then run in peace; what went wrong, or nothing."""
    folder = half.with_name("attacked")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(half, folder)
    before = content(half)
    code, text = forked(file, folder, faults, number, KINDS[kind])
    if text.startswith("traceback"):
        return text
    if code not in (ENDED, 0, 1, 2):
        return f"exit status {code}"
    if any(content(folder).get(name) != known for name, known in before.items()):
        return "a record is lost"
    if code == 0 and len(state(suite.read(str(file)), folder).done) < whole:
        return "exit status 0, and not all done"
    code, text = invoked(file, folder)
    if code != 0:
        return f"the next run fails: {text[-300:]}"
    if len(content(folder)) < whole or store.corrupt(folder) or (folder / "corrupt").exists():
        return "the next run does not make it whole"
    drafts = [p for p in folder.rglob(".*") if p.name not in (".lock", ".report.lock")]
    return f"drafts stay: {drafts}" if drafts else ""


def main(attacks: int = 160, seed: int = 0) -> None:
    """Attack so often, and print what went wrong."""
    faults, wrong = Faults(), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.environ["FLOWGAUGE_HOST"] = name  # locks of its own
        file, half = place / "counts.toml", place / "half"
        file.write_text(SUITE)
        Player.known = measured(file, place)
        run.Worker = Player  # type: ignore[misc]  # what a run starts
        code, text = invoked(file, half)
        assert code == 0, text
        records = store.loose(half)
        for path in records[::2]:
            path.unlink()
            path.with_suffix(".npz").unlink(missing_ok=True)
        faults.arm(half.with_name("counted"), 0, 0)
        shutil.copytree(half, half.with_name("counted"))
        faults.arm(half.with_name("counted"), 0, 0)
        invoked(file, half.with_name("counted"))
        operations = list(faults.seen)
        faults.disarm()
        print(f"{len(operations)} operations: {Counter(operations)}", flush=True)
        generator = random.Random(seed)
        choices = [(n + 1, kind) for n in range(len(operations)) for kind in KINDS]
        for number, kind in generator.sample(choices, min(attacks, len(choices))):
            reason = attack(file, half, len(records), faults, number, kind)
            if reason:
                wrong[reason] += 1
                print(f"{kind} at {number} ({operations[number - 1]}): {reason}", flush=True)
    print(f"| Faults at {len(operations)} disk operations | {attacks} | {wrong.total()} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
