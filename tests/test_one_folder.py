"""Three runs on one folder at once, one of them stopped for longer than its claim lives."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest
from benchmarks.execution.claims import CLAIMS, VARIABLE
from benchmarks.execution.recorder import SUPERSEDED

from benchmarks.core import store
from benchmarks.execution import suite
from benchmarks.execution.plan import state
from benchmarks.execution.run import Asked, run
from runs import Silent, figures, started, trainings_of

DEATH = "3"  # seconds


@pytest.fixture
def processes():
    """Processes of a test, which end with it."""
    listed: list[subprocess.Popen[str]] = []
    yield listed
    for process in listed:
        process.kill()
        process.communicate()


def start(file: Path, folder: Path) -> subprocess.Popen[str]:
    """A run whose claims die soon."""
    return started("-m", "benchmarks", "run", str(file), "--out", str(folder), **{VARIABLE: DEATH})


def until(condition, seconds: float = 120) -> None:
    """Wait for a condition; fail if it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


@pytest.mark.system
def test_runs_share_the_work_and_one_that_was_stopped_loses_its_claim(tmp_path, processes):
    file, folder = tmp_path / "shared.toml", tmp_path / "shared"
    file.write_text(trainings_of(6, 300))
    first = start(file, folder)
    claims = folder / CLAIMS
    until(lambda: any(not path.name.startswith(("run-", ".")) for path in claims.glob("*")))
    until(lambda: list((folder / store.RECORDS).glob("*.json")))
    tree = [psutil.Process(first.pid), *psutil.Process(first.pid).children(recursive=True)]
    for process in tree:
        process.send_signal(signal.SIGSTOP)
    others = [start(file, folder) for _ in range(2)]
    processes += [first, *others]
    outputs = [process.communicate(timeout=300)[0] for process in others]
    chosen = suite.read(str(file))
    assert len(state(chosen, folder).done) == 12, outputs
    for process in tree:
        process.send_signal(signal.SIGCONT)
    output, _ = first.communicate(timeout=300)
    assert first.returncode == 0, output
    assert len(state(chosen, folder).done) == 12
    assert not store.corrupt(folder)
    records = [
        record for part in (folder / SUPERSEDED).glob("*") for record in store.read(part).values()
    ]
    assert len(records) <= 1  # what the first was at when it was stopped, unless between two
    run(chosen, tmp_path / "alone", Silent(), Asked(phase="beside"))  # all but times
    assert figures(folder) == figures(tmp_path / "alone")
