"""Forty short cases by two jobs, with workers and the run itself killed at random points."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
from pathlib import Path

import psutil
import pytest

from benchmarks.core import store
from benchmarks.execution import suite
from benchmarks.execution.run import Asked, run
from benchmarks.execution.state import state
from runs import Silent, figures, started, trainings_of

KILLS = 3
SEEDS = 4
CASES = 4 * SEEDS  # of two flows on two sets
PLUGIN = """
from benchmarks.training import checkpoint, seconds

checkpoint.SECONDS = 0.1
seconds.ROW = 0.0  # an update at a time
"""


def start(file: Path, folder: Path) -> subprocess.Popen[str]:
    """The command in a process of its own, on two cores, or twice the only one."""
    code = (
        "import benchmarks.measure.machine as r; own = r.cores() * 2; r.cores = lambda: own\n"
        "from benchmarks.__main__ import main; main()"
    )
    plugin = str(file.with_name("checkpoints.py"))
    chosen = ["run", str(file), "--out", str(folder), "--jobs", "2", "--retry"]
    return started("-c", code, *chosen, "--plugin", plugin)


def kill(process: subprocess.Popen[str], generator: random.Random, worker: bool) -> bool:
    """Kill the run, or one of its workers, at a random time after a record; False if it ended."""
    assert process.stdout is not None
    line = process.stdout.readline()
    while line and not line.startswith("["):
        line = process.stdout.readline()
    threading.Event().wait(generator.uniform(0, 0.3))
    children = psutil.Process(process.pid).children() if process.poll() is None else []
    if not line or (worker and not children):
        return False
    os.kill(generator.choice(children).pid if worker else process.pid, signal.SIGKILL)
    return True


@pytest.mark.system
def test_no_record_is_lost_doubled_or_half(tmp_path):
    file, folder, whole = (tmp_path / name for name in ("many.toml", "killed", "whole"))
    file.write_text(trainings_of(SEEDS, 200, '["8gaussians", "moons"]'))
    file.with_name("checkpoints.py").write_text(PLUGIN)
    generator, kills = random.Random(0), 0
    while kills < KILLS:
        process = start(file, folder)
        for _ in range(4):
            kills += kill(process, generator, worker=True)
        kills += kill(process, generator, worker=False)
        process.kill()
        process.communicate()
        if process.returncode == 0:
            break
    process = start(file, folder)
    output, _ = process.communicate()
    chosen = suite.read(str(file))
    now = state(chosen, folder)
    assert len(now.done) == len(now.cases) == CASES, output
    assert not store.corrupt(folder)
    assert len(list((folder / store.RECORDS).glob("*.json"))) == CASES
    assert not (folder / "claims").exists()
    run(chosen, whole, Silent(), Asked(phase="beside"))  # all but times
    assert figures(folder) == figures(whole)
    assert json.loads((folder / "suite.json").read_text())["name"] == "many"
