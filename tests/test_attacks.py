"""A disk that refuses an operation, kills at each one, and readers while records are replaced."""

import errno
import fcntl
import itertools
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from benchmarks.core import store
from benchmarks.core.study import Result
from benchmarks.execution import run
from benchmarks.execution.merging import merge
from benchmarks.execution.process import Measured, Worker
from records import case_of, record_of
from runs import COST, flowgauge, started, toml

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
    hooked = False

    def arm(self, folder: Path, number: int = 0, error: int = 0) -> None:
        self.folder, self.number, self.error, self.count = str(folder), number, error, 0
        if not self.hooked:  # for good: a hook cannot be removed, and is silent without a folder
            sys.addaudithook(self.audit)
            self.hooked = True

    def audit(self, event: str, arguments: tuple) -> None:
        if self.folder and event in EVENTS and str(arguments[0]).startswith(self.folder):
            self.meet()

    def meet(self) -> None:
        self.count += bool(self.folder)
        if self.folder and self.count == self.number:
            if not self.error:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(self.error, os.strerror(self.error), self.folder)


disk = Disk()


def suite(operators: bool) -> str:
    flows = ["realnvp", "nice", "planar", "maf"]
    return toml(COST | {"flows": flows, "seconds": 0}, operators=operators)


def invoke(file: Path, folder: Path) -> tuple[int, str]:
    result = flowgauge("run", file, "--out", folder, "--no-report", status=None)
    return result.exit_code, result.output


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.loose(folder)}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # a record that cannot be read is a warning
def test_a_disk_that_refuses_an_operation_costs_no_record(tmp_path, monkeypatch):
    sync, lock = os.fsync, fcntl.flock
    monkeypatch.setattr(os, "fsync", lambda handle: (disk.meet(), sync(handle))[1])
    monkeypatch.setattr(fcntl, "flock", lambda *given: (disk.meet(), lock(*given))[1])
    monkeypatch.setattr(run, "Worker", Player)
    file, half, folder = (tmp_path / name for name in ("one.toml", "half", "attacked"))
    file.write_text(suite(operators=False))
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


def killed(action: Callable[[], object], folder: Path, number: int) -> bool:
    """Whether an action is killed at an operation below a folder; without so many it ends."""
    if not (child := os.fork()):
        disk.arm(folder, number)
        with suppress(BaseException):
            action()
            os._exit(0)
        os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), f"at operation {number}"
    return code != 0


def tree(place: Path) -> dict[str, object]:
    """What a folder's folders hold: records with their arrays, and all other files by name."""
    held: dict[str, object] = {}
    seen = [path for path in place.rglob("*") if ".out.merging" not in path.parts]
    for path in (path for path in seen if path.is_dir() and store.is_folder(path)):
        for key, record in store.read(path, whole=True).items():
            arrays = {n: store.content_hash(a) for n, a in store.arrays_of(path, record).items()}
            fields = record.model_dump(exclude={"started", "seconds", "digest"})
            held[f"{path.relative_to(place)}/{key}"] = fields, arrays
    kept = (".json", ".npz", ".parquet", ".zip", ".lock", ".holder")
    files = {path for path in seen if path.is_file()}
    held |= {str(p.relative_to(place)): p.read_bytes() for p in files if p.suffix not in kept}
    held |= {str(p.relative_to(place)): p.read_bytes() for p in files if p.name == "suite.json"}
    loose = {p.with_suffix("") for p in files if p.suffix == ".npz"}
    orphans = [p.name for p in loose if not p.with_suffix(".json").exists()]
    tables = len([p for p in files if p.suffix == ".parquet"])
    return held | {"orphans": orphans, "parts": tables}


def filled(folder: Path, batches: Sequence[int], day: int) -> Path:
    """A results folder with a plan and loose records of cases with these batches, of one day."""
    for batch in batches:
        record = record_of(case_of(batch), {"x": day}, started=f"2026-01-0{day}")
        store.write(folder, record, {"a": np.full(9, day), f"b{batch}": np.arange(batch)})
    (folder / "suite.json").write_text(json.dumps({"name": folder.name, "about": "About."}))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["merge", "merge into", "pack", "pack --all", "run"])
def test_a_kill_at_any_operation_costs_nothing(name, tmp_path, monkeypatch):
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (disk.meet(), sync(handle))[1])
    monkeypatch.setattr(run, "Worker", Player)
    start, place, whole, file = (tmp_path / n for n in ("start", "place", "whole", "one.toml"))
    file.write_text(suite(operators=False))
    sources = [filled(tmp_path / "a", (1, 2), 1), filled(tmp_path / "b", (2, 3), 2)]
    start.mkdir()
    if name != "merge":
        store.pack(filled(start / "out", (1, 2), 3))
        store.pack(filled(start / "out", (2, 5), 4))
        filled(start / "out", (3,), 5)
    actions = {
        "merge": lambda: merge(sources, place / "out"),
        "pack": lambda: flowgauge("pack", place / "out"),
        "pack --all": lambda: flowgauge("pack", "--all", place / "out"),
        "run": lambda: flowgauge("run", file, "--out", place / "out", "--no-report"),
    }
    action = actions[name.removesuffix(" into")]
    shutil.copytree(start, place)
    before = tree(place)
    action()
    shutil.copytree(place, whole)
    for number in itertools.count(1):
        shutil.rmtree(place)
        shutil.copytree(start, place)
        over = not killed(action, place, number)
        kept = tree(place)
        lost = [key for key, value in before.items() if isinstance(value, tuple) if key not in kept]
        assert not lost, f"killed at operation {number}"
        assert name != "merge" or not (place / "out").exists() or over or kept == tree(whole)
        action()
        assert tree(place) == tree(whole), f"killed at operation {number}"
        if over:
            break


@pytest.mark.slow
def test_readers_see_each_record_whole_while_a_run_replaces_it(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "Worker", Player)
    file, folder = tmp_path / "one.toml", tmp_path / "raced"
    file.write_text(suite(operators=True))  # each run measures all afresh
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
