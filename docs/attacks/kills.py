"""Kill runs and their workers at random: `python docs/attacks/kills.py [KILLS] [SEED]`.

Each round measures eight short trainings by one worker or two, and is killed while it starts,
measures and draws its report, until one run is left in peace. After each kill every record that was
there is there still, with the same bytes or a newer measurement. At the end all cases are done, and
every figure is bit for bit that of a run without kills.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from benchmarks.core import store
from benchmarks.core.frame import load
from benchmarks.core.metrics import METRICS
from benchmarks.execution import suite
from benchmarks.execution.state import state

CASES = 8
SUITE = """
about = "Short trainings."
threads = 1
seeds = [0, 1]

[[studies]]
study = "density"
datasets = ["8gaussians", "moons"]
baselines = []
flows = ["realnvp", "nice"]
sizes = { hidden = 8, layers = 1 }
batch = 64
updates = 80
training = { validation_rows = 100 }
scoring = { rows = 100, grid = 10, samples = 100, compared_rows = 1, seconds = 0.02 }
"""
PLUGIN = """
from benchmarks.training import checkpoint, seconds

checkpoint.SECONDS = 0.1
seconds.ROW = 0.0
"""
CODE = (
    "import benchmarks.measure.machine as r; own = r.cores() * 2; r.cores = lambda: own\n"
    "from benchmarks.__main__ import main; main()"
)  # as many jobs on a machine of one core
Snapshot = dict[str, tuple[str, str]]


def started(file: Path, folder: Path, jobs: int) -> subprocess.Popen[bytes]:
    """A run in a process of its own."""
    plugin = ["--plugin", str(file.with_name("checkpoints.py"))]
    command = ["run", str(file), "--out", str(folder), "--jobs", str(jobs), "--retry", *plugin]
    return subprocess.Popen(
        [sys.executable, "-c", CODE, *command],
        stdout=subprocess.DEVNULL,
        stderr=open(file.with_name("stderr"), "ab"),
    )


def snapshot(folder: Path) -> Snapshot:
    """Status of each record, and when its measurement began."""
    records = store.read(folder).values() if store.is_folder(folder) else ()
    return {record.key: (record.status, record.started) for record in records}


def kill(process: subprocess.Popen[bytes], generator: random.Random) -> str:
    """Kill the run, a worker of it or all at once after a random time; which of them, or none."""
    victim = generator.choice(["run", "worker", "worker", "all"])
    deadline = time.monotonic() + 60
    workers = list[int]()
    while victim == "worker" and not workers and time.monotonic() < deadline:
        workers = _workers(process)
        time.sleep(0.05)
    time.sleep(generator.choice([generator.uniform(0, 2), generator.uniform(0, 8)]))
    if process.poll() is not None or not (victim == "run" or (workers := _workers(process))):
        return ""
    chosen = {"run": [process.pid], "worker": [generator.choice(workers or [0])]}.get(
        victim, [*workers, process.pid]
    )
    for number in chosen:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if victim != "worker":
        process.wait()
    return victim


def _workers(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes that a run has started."""
    if process.poll() is not None:
        return []
    return [child.pid for child in psutil.Process(process.pid).children(recursive=True)]


def figures(folder: Path) -> dict[str, dict[str, object]]:
    """All that does not depend on a clock, by key: metrics, and arrays without seconds."""
    frame, rows = load(folder), {}
    for _, row in frame.iterrows():
        names = [n for n in METRICS if METRICS[n].kind != "time" and n in row]
        arrays = {n: a.tobytes() for n, a in store.arrays(row).items() if "seconds" not in n}
        rows[row["key"]] = {**{n: row[f"{n}.values"] for n in names}, **arrays}
    return rows


def attack(folder: Path, file: Path, generator: random.Random, left: int) -> Counter[str]:
    """One round of kills; AssertionError for the first thing that is lost."""
    kills: Counter[str] = Counter()
    most = min(left, generator.randint(20, 30))
    while kills.total() < most:
        process = started(file, folder, jobs=generator.choice([1, 2]))
        while process.poll() is None and kills.total() < most:
            before = snapshot(folder)
            if victim := kill(process, generator):
                kills[victim] += 1
            after = snapshot(folder)
            assert before.keys() <= after.keys(), "a record is lost"
            for key, (status, start) in before.items():
                assert status != "done" or after[key][0] == "done", "a result is lost"
                assert after[key][1] >= start, "a record is older than before"
    if process.poll() is None:
        process.kill()
        process.wait()
    return kills


def check(folder: Path, file: Path, whole: dict[str, dict[str, object]]) -> None:
    """Let a run end, and compare what it leaves with a run without kills."""
    code = started(file, folder, jobs=2).wait()
    now = state(suite.read(str(file)), folder)
    assert code == 0, f"exit status {code}: {Path(file.with_name('stderr')).read_text()[-2000:]}"
    assert len(now.done) == len(now.cases) == len(store.loose(folder)) == CASES
    assert not store.corrupt(folder)
    names = {path.name for path in folder.iterdir()}
    assert names <= {"records", "report", "suite.json", ".lock", ".report.lock", "checkpoints"}
    assert not any((folder / "checkpoints").glob("*")), "checkpoints are left behind"
    assert not list(folder.rglob(".*.json*")), "drafts are left behind"
    assert figures(folder) == whole, "a figure differs"


def main(kills: int = 100, seed: int = 0) -> None:
    """Kill so often, and print how it went."""
    generator, total, rounds = random.Random(seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.environ["FLOWGAUGE_HOST"] = name  # locks of its own
        file = place / "short.toml"
        file.write_text(SUITE)
        file.with_name("checkpoints.py").write_text(PLUGIN)
        assert started(file, place / "whole", jobs=2).wait() == 0
        expected = figures(place / "whole")
        while total.total() < kills:
            folder = place / f"round-{rounds}"
            total += attack(folder, file, generator, kills - total.total())
            check(folder, file, expected)
            rounds += 1
            print(f"{total.total()} kills in {rounds} rounds: nothing lost", flush=True)
    listed = ", ".join(f"{count} of {victim}" for victim, count in total.items())
    print(f"| Kills | {total.total()} ({listed}) in {rounds} rounds | 0 |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
