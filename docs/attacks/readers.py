"""Read a folder while runs replace its records: `python docs/attacks/readers.py [ROUNDS]`.

Two processes read all records fifty times a second where they can, and now and then their arrays,
while a run measures half of the cases again and a writer, with a claim as a run has, replaces the
others with arrays of other sizes. No read may miss a record that an earlier one had, arrays have to
be those of their record or be refused, and nothing may be moved. Then every record gets one more
field, as a later release would write it, and a run has to leave all as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from benchmarks.execution.claims import Claims, alive
from benchmarks.execution.state import state
from kills import CASES, PLUGIN, SUITE, started

import benchmarks
from benchmarks.core import store
from benchmarks.execution import suite

READ = """
import sys, time
from pathlib import Path
import benchmarks
from benchmarks.core import store
folder, seen, reads, refused = Path(sys.argv[1]), set(), 0, 0
while not (folder / "over").exists():
    start = time.monotonic()
    now = store.read(folder)
    assert seen <= now.keys(), "a record is gone"
    seen = set(now)
    if reads % 10 == 0:
        for _, row in benchmarks.load(folder).iterrows():
            try:
                arrays = store.arrays(row)
            except store.FolderError:
                refused += 1  # measured again meanwhile
                continue
            extra = {int(a[0]) for name, a in arrays.items() if name.startswith("extra")}
            assert len(extra) <= 1, "arrays of two measurements"
    reads += 1
    time.sleep(max(0.0, 0.02 - (time.monotonic() - start)))
print(reads, refused)
"""


def rewrite(folder: Path, keys: list[str], over: threading.Event) -> int:
    """Replace records again and again until it is over, each time with more or fewer arrays."""
    number = 0
    with Claims(folder) as claims:
        claims.take(claims.run)
        while not over.wait(0.01):
            number += 1
            for key in keys:
                record, sizes = store.read_one(folder, key), range(1, 1 + number % 4)
                arrays = {f"extra {n}": np.full(1000 * n, number) for n in sizes}
                record.arrays = {}
                store.write(folder, record, arrays)
    return number * len(keys)


def attack(folder: Path, file: Path) -> np.ndarray:
    """One round; how often all was read, arrays were refused, and records replaced."""
    keys = sorted(path.stem for path in store.loose(folder))
    for key in keys[::2]:
        (folder / "records" / f"{key}.json").unlink()
    command = [sys.executable, "-c", READ, str(folder)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    over, written = threading.Event(), list[int]()
    writer = threading.Thread(target=lambda: written.append(rewrite(folder, keys[1::2], over)))
    writer.start()
    while not alive(folder):
        time.sleep(0.01)
    run = started(file, folder, jobs=1)
    code = run.wait()
    over.set()
    writer.join()
    (folder / "over").touch()
    outputs = [reader.communicate()[0] for reader in readers]
    (folder / "over").unlink()
    assert code == 0, f"exit status {code}"
    assert not any(reader.returncode for reader in readers), "a reader fails"
    assert sorted(path.stem for path in store.loose(folder)) == keys, "records are moved"
    assert not store.corrupt(folder)
    assert not (folder / "corrupt").exists()
    return np.array([*np.sum([list(map(int, text.split())) for text in outputs], 0), *written])


def extended(folder: Path, file: Path) -> None:
    """Give each record one more field; a run leaves it."""
    for path in store.loose(folder):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"later": [1, {"a": None}]}))
    before = {path: path.read_bytes() for path in store.loose(folder)}
    assert started(file, folder, jobs=1).wait() == 0
    assert before == {path: path.read_bytes() for path in store.loose(folder)}
    assert len(state(suite.read(str(file)), folder).done) == len(benchmarks.load(folder)) == CASES


def main(rounds: int = 3) -> None:
    """Race so often, and print how it went."""
    total = np.zeros(3, int)
    with tempfile.TemporaryDirectory() as name:
        os.environ["FLOWGAUGE_HOST"] = name  # locks of its own
        file, folder = Path(name, "short.toml"), Path(name, "raced")
        file.write_text(SUITE)
        file.with_name("checkpoints.py").write_text(PLUGIN)
        assert started(file, folder, jobs=2).wait() == 0
        for _ in range(rounds):
            start = time.monotonic()
            total += attack(folder, file)
            print(*total, f"{time.monotonic() - start:.0f} s", flush=True)
        extended(folder, file)
    reads, refused, writes = total
    print(f"| Reads beside {writes} replaced records, {refused} arrays refused | {reads} | 0 |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
