"""Runs that are asked to stop: they end at a checkpoint with status 75, and the next goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from benchmarks.core import locks, store
from benchmarks.execution import suite
from benchmarks.execution.run import Terminated, run
from runs import PAUSED, STOPPED, UPDATES, Silent, figures, until


@pytest.mark.system
def test_a_run_stops_at_a_checkpoint_and_the_next_gives_the_same(tmp_path, monkeypatch, worker):
    """Where all of its processes get the signal; that it gets it alone is SLURM's test."""
    monkeypatch.setenv("PAUSED", str(tmp_path))
    file, stopped, whole = tmp_path / "one.toml", tmp_path / "stopped", tmp_path / "whole"
    file.write_text(STOPPED)
    command = [sys.executable, "-m", "benchmarks", "run", str(file), "--out", str(stopped)]
    command += ["--plugin", str(PAUSED)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        begun = tmp_path / "begun"
        until(lambda: begun.exists() or process.poll() is not None, "no training", 120)
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "stopped" in output
    (record,) = store.read(stopped).values()
    assert (record.case.study, record.status) == ("numerics", "done")
    assert [path.suffix for path in (stopped / "checkpoints").iterdir()] == [".safetensors"]
    monkeypatch.setattr("benchmarks.execution.process.needed", lambda names: (str(PAUSED),))
    chosen = suite.read(str(file))
    assert len(run(chosen, stopped, Silent(), worker=worker).done) == 2
    assert len((tmp_path / "updates").read_text()) == UPDATES  # none twice
    run(chosen, whole, Silent(), worker=worker)
    assert figures(stopped) == figures(whole)


@pytest.mark.system
def test_a_signal_between_two_events_stops_gently_too(tmp_path, monkeypatch):
    """It comes while a progress is told of the identity, and the training goes on beside."""
    monkeypatch.setenv("PAUSED", str(tmp_path))
    monkeypatch.setattr("benchmarks.execution.process.needed", lambda names: (str(PAUSED),))
    file, out = tmp_path / "one.toml", tmp_path / "out"
    file.write_text(STOPPED)

    class Ending(Silent):
        def case(self, task, case, record):
            until((tmp_path / "begun").exists, "no training", 120)
            raise Terminated

    with pytest.raises(Terminated):
        run(suite.read(str(file)), out, Ending())
    assert [path.suffix for path in (out / "checkpoints").iterdir()] == [".safetensors"]
    assert len((tmp_path / "updates").read_text()) == UPDATES // 2


@pytest.mark.system
def test_a_run_that_waits_for_timings_of_another_stops_too(tmp_path):
    file = tmp_path / "one.toml"
    text = 'threads = 1\n[[studies]]\nstudy = "cost"\nflows = ["realnvp"]\ndims = [2]\n'
    file.write_text(text + "sizes = { hidden = 4, layers = 1 }\n")
    command = [sys.executable, "-m", "benchmarks", "run", str(file), "--out", str(tmp_path / "out")]
    with (
        locks.timing(tmp_path, print),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        for line in process.stdout:
            if line.startswith(f"Waiting for run {os.getpid()}"):
                break
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 75
