"""Runs in which a flow, a worker or the harness itself dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import report
from benchmarks.core import store
from benchmarks.core.frame import load
from benchmarks.execution import suite
from benchmarks.execution.plan import state
from benchmarks.execution.run import run
from flows.plugins import load_plugin
from runs import Silent, small

FAULTY = Path(__file__).with_name("faulty_flows.py")


@pytest.mark.system
def test_faulty_flows_become_failed_records_and_the_rest_is_measured(tmp_path):
    load_plugin(FAULTY)
    chosen = small(
        {"flow": "faulty_dies", "dims": [2]},  # in one block with a sound one
        {"flow": "realnvp", "dims": [2]},
        {"flow": "faulty_raises", "dims": [3]},
        {"flow": "faulty_eats", "dims": [4]},
        memory_share=0.15,
    )
    now = run(chosen, tmp_path, Silent())
    frame = load(tmp_path).set_index("flow")
    assert len(now.failed) == 3
    assert frame.loc["realnvp", "status"] == "done"
    assert "diverged on purpose" in frame.loc["faulty_raises", "reason"]
    assert signal.SIGKILL.name in frame.loc["faulty_dies", "reason"]
    assert "memory" in frame.loc["faulty_eats", "reason"]
    assert "diverged on purpose" in report.write(tmp_path).read_text()


@pytest.mark.system
def test_a_flow_that_never_returns_is_ended_at_the_time_limit(tmp_path):
    load_plugin(FAULTY)
    chosen = small({"flow": "faulty_hangs", "dims": [2]}, time_limit=1)
    now = run(chosen, tmp_path, Silent())
    (record,) = now.records.values()
    assert record.status == "timeout"
    assert "limit of 1 s" in record.reason


@pytest.mark.system
def test_kill_at_any_moment_loses_at_most_the_running_block(tmp_path, worker):
    text = 'about = "x"\nthreads = 1\n[[studies]]\nstudy = "cost"\nbatch = 4\nseconds = 0.01\n'
    text += "dims = [2, 3, 4, 5]\nsizes = { hidden = 4, layers = 1 }\n"
    text += 'flows = [{ flow = "realnvp" }]\n'
    file, out = tmp_path / "many.toml", tmp_path / "out"
    file.write_text(text)
    command = [sys.executable, "-m", "benchmarks", "run", str(file), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("[2/4]"):
                os.kill(process.pid, signal.SIGKILL)
                break
    (out / "records" / ".0123.json.99").write_text("{")  # what a kill in the middle leaves
    chosen = suite.read(str(file))
    before = state(chosen, out)
    assert 2 <= len(before.done) <= 4
    progress = Silent()
    after = run(chosen, out, progress, worker=worker)
    assert len(after.done) == 4
    assert {record.key for record in progress.measured} == before.missing


WAITING = """
import threading

from benchmarks.training import checkpoint

checkpoint.SECONDS = 0.0
write = checkpoint.write


def write_and_wait(*arguments):
    write(*arguments)
    print("checkpoint", flush=True)
    threading.Event().wait()


checkpoint.write = write_and_wait
"""


@pytest.mark.system
def test_a_training_that_is_killed_goes_on_to_what_it_would_have_been(tmp_path, worker):
    """With a command's process that is killed in the middle of a case."""
    plugin = tmp_path / "waiting.py"  # loaded by the worker, which is a process of its own
    plugin.write_text(WAITING)
    text = 'about = "x"\nthreads = 1\n[[studies]]\nstudy = "density"\nbaselines = []\n'
    text += 'datasets = ["8gaussians"]\nbatch = 32\nupdates = 50\n'
    text += 'flows = [{ flow = "realnvp", options = { hidden = 8, layers = 2 } }]\n'
    text += "training = { validation_rows = 100 }\n"
    text += "scoring = { rows = 200, grid = 20, samples = 200, compared_rows = 1 }\n"
    file = tmp_path / "one.toml"
    file.write_text(text)
    killed, unbroken = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "benchmarks", "run", str(file), "--out", str(killed)]
    command += ["--plugin", str(plugin)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("checkpoint"):
                os.kill(process.pid, signal.SIGKILL)
                break
    assert not list((killed / "records").glob("*.json"))
    (slot,) = (killed / "checkpoints").iterdir()
    chosen = suite.read(str(file))
    for folder in (killed, unbroken):
        run(chosen, folder, Silent(), worker=worker)
    assert not slot.exists()
    frames = [load(folder) for folder in (killed, unbroken)]
    assert frames[0]["test_ll"].tolist() == frames[1]["test_ll"].tolist()
    resumed, through = (store.arrays(frame.iloc[0]) for frame in frames)
    for name in resumed.keys() - {"validation_cpu_seconds"}:
        assert np.array_equal(resumed[name], through[name], equal_nan=True), name
