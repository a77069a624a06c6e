"""A disk that refuses an operation of a run, and readers of a folder whose records are replaced.

Results are made up: what is attacked is the run and its folder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.core import store
from benchmarks.core.study import Result
from benchmarks.execution import run
from benchmarks.execution.process import Measured, Worker
from runs import flowgauge, started

SUITE = """
about = "x"
threads = 1
operators = {operators}
[[studies]]
study = "cost"
flows = ["realnvp", "nice", "planar", "maf"]
dims = [2]
batch = 4
seconds = 0
"""
FAULTS, SEED = 40, 0
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir"}
READER = """
import sys
from pathlib import Path
import benchmarks
from benchmarks.core import store

folder, keys = Path(sys.argv[1]), set()
for _ in range(25):
    records = store.read(folder)
    assert keys <= records.keys(), "a record is gone"
    keys = set(records)
    for _, row in benchmarks.load(folder).iterrows():
        try:
            arrays = store.arrays(row)
        except store.FolderError:  # measured again since the row was read
            continue
        assert {int(array[0]) for array in arrays.values()} == {int(row["parameters"])}
"""


class Player(Worker):
    """A worker that gives each case a made-up result at once."""

    number = 1  # of the round, in every metric and array

    def measure(self, cases, limit, files) -> Iterator[tuple[str, Measured]]:
        sizes = range(1, 2 + self.number % 3)
        arrays = {f"array {n}": np.full(1000 * n, self.number) for n in sizes}
        for case in cases:
            yield case.key, Measured(Result({"parameters": self.number}, arrays), 0.0)


class Disk:
    """Counts the operations below a folder, of which one fails."""

    folder, number, error, count = "", 0, 0, 0

    def arm(self, folder: Path, number: int = 0, error: int = 0) -> None:
        self.folder, self.number, self.error, self.count = str(folder), number, error, 0

    def audit(self, event: str, arguments: tuple) -> None:
        if self.folder and event in EVENTS and str(arguments[0]).startswith(self.folder):
            self.meet()

    def meet(self) -> None:
        self.count += bool(self.folder)
        if self.folder and self.count == self.number:
            raise OSError(self.error, os.strerror(self.error), self.folder)


disk = Disk()


def invoke(file: Path, folder: Path) -> tuple[int, str]:
    """Exit status and output of a run."""
    result = flowgauge("run", file, "--out", folder, "--no-report", status=None)
    return result.exit_code, result.output


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of all records."""
    return {path.name: path.read_bytes() for path in store.loose(folder)}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # a record that cannot be read is a warning
def test_a_disk_that_refuses_an_operation_costs_no_record(tmp_path, monkeypatch) -> None:
    sync, lock = os.fsync, fcntl.flock
    monkeypatch.setattr(os, "fsync", lambda handle: (disk.meet(), sync(handle))[1])
    monkeypatch.setattr(fcntl, "flock", lambda *given: (disk.meet(), lock(*given))[1])
    monkeypatch.setattr(run, "Worker", Player)
    sys.addaudithook(disk.audit)  # silent once it is disarmed
    file, half, folder = (tmp_path / name for name in ("one.toml", "half", "attacked"))
    file.write_text(SUITE.format(operators="false"))
    assert invoke(file, half)[0] == 0
    names = content(half).keys()
    for path in store.loose(half)[::2]:
        path.unlink()
    before = content(half)
    shutil.copytree(half, folder)
    disk.arm(folder)
    invoke(file, folder)
    operations, disk.folder = disk.count, ""
    choices = [(n, error) for n in range(1, operations + 1) for error in ERRORS]
    assert operations > 30
    for number, error in random.Random(SEED).sample(choices, min(FAULTS, len(choices))):
        place = f"{errno.errorcode[error]} at operation {number}"
        shutil.rmtree(folder)
        shutil.copytree(half, folder)
        disk.arm(folder, number, error)
        status, output = invoke(file, folder)
        disk.folder = ""
        assert status in (0, 1, 2), place
        assert status == 0 or output.strip(), place
        after = content(folder)
        assert before.keys() <= after.keys(), place
        changed = [name for name in before if after[name] != before[name]]
        assert len(changed) <= 1, place  # what could not be read is measured again
        assert status or after.keys() == names, place
        assert invoke(file, folder)[0] == 0, place
        assert content(folder).keys() == names, place
        assert not (folder / "corrupt").exists(), place
        drafts = [path.name for path in folder.rglob(".*") if not path.name.startswith(".lock")]
        assert not drafts, place


@pytest.mark.slow
def test_readers_see_each_record_whole_while_a_run_replaces_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(run, "Worker", Player)
    file, folder = tmp_path / "one.toml", tmp_path / "raced"
    file.write_text(SUITE.format(operators="true"))  # each run measures all afresh
    assert invoke(file, folder)[0] == 0
    keys = content(folder).keys()
    reader, number = started("-c", READER, str(folder)), 1
    while reader.poll() is None:
        number += 1
        monkeypatch.setattr(Player, "number", number)
        assert invoke(file, folder)[0] == 0
    output, _ = reader.communicate()
    assert reader.returncode == 0, output
    assert number > 2
    assert content(folder).keys() == keys
    assert not (folder / "corrupt").exists()
