"""A suite on a real SLURM of one node: stopped in the middle, queued again, timed at the end."""

from __future__ import annotations

from pathlib import Path

import dask
import pytest
from typer.testing import CliRunner

from benchmarks.cli.app import app
from benchmarks.core import store
from benchmarks.execution import suite
from benchmarks.execution.run import run
from runs import Silent, figures
from slurm_node import jobs, logs, output, slurm
from stopping import PLUGIN, SUITE, UPDATES, until

ROOT = Path(__file__).parent.parent
ODD = 'it\'s "one" 100%'


@pytest.mark.system
def test_arrays_run_to_their_end_through_a_requeue(tmp_path, monkeypatch, worker):
    monkeypatch.setenv("PAUSED", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    node, folder, file = tmp_path / "node", tmp_path / ODD, tmp_path / "one.toml"
    file.write_text(SUITE)
    asked = [str(file), "--out", str(folder), "--plugin", str(PLUGIN)]
    with slurm(node, monkeypatch):
        result = CliRunner().invoke(app, ["submit", *asked, "--slurm", "--tasks", "2", "--now"])
        assert result.exit_code == 0, result.stderr
        begun = tmp_path / "begun"
        until(begun.exists, 150, lambda: f"no training: {jobs()} {logs(node)}")
        number = begun.read_text()
        output("scancel", "--signal=USR1", "--batch", number)
        until(lambda: not output("squeue", "-h"), 300, lambda: f"{jobs()} {logs(node)}")
        ended = {job["JobId"]: job for job in jobs()}
    assert [job["JobState"] for job in ended.values()] == ["COMPLETED"] * 3, logs(node)
    assert {number for number, job in ended.items() if job["Restarts"] == "1"} == {number}
    beside = [job for job in ended.values() if "beside" in job["JobName"]]
    (alone,) = (job for job in ended.values() if "alone" in job["JobName"])
    assert len({job["ArrayJobId"] for job in beside}) == 2  # MaxArraySize allows one task each
    assert max(job["EndTime"] for job in beside) <= alone["StartTime"]
    assert alone["OverSubscribe"] == "NO"
    assert len((tmp_path / "updates").read_text()) == UPDATES  # none twice
    records = store.read(folder)
    assert [record.status for record in records.values()] == ["done"] * 2
    assert not any(record.pending for record in records.values())
    (training,) = (record for record in records.values() if record.case.study == "density")
    assert training.metrics["train_seconds"].values[0] > 0
    run(suite.read(str(file)), tmp_path / "whole", Silent(), worker=worker)
    assert figures(folder) == figures(tmp_path / "whole")


@pytest.mark.system
def test_workers_that_slurm_starts_measure_a_suite(tmp_path, monkeypatch):
    """By `--scheduler slurm`: a job for each worker, and none of them left."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    node, folder, file = tmp_path / "node", tmp_path / "out", tmp_path / "one.toml"
    file.write_text(SUITE)
    job = {"cores": 1, "memory": "1GB", "queue": "all", "walltime": "00:10:00"}
    site = {**job, "job-directives-skip": ["--mem"], "log-directory": str(tmp_path / "logs")}
    with slurm(node, monkeypatch), dask.config.set({"jobqueue.slurm": site}):
        asked = ["run", str(file), "--out", str(folder), "--scheduler", "slurm", "--jobs", "2"]
        result = CliRunner().invoke(app, asked)
        started = jobs()
        assert result.exit_code == 0, f"{result.output} {result.stderr} {started} {logs(node)}"
        until(lambda: not output("squeue", "-h"), 60, lambda: f"{jobs()} {logs(node)}")
    assert len(started) == 2
    assert {record.status for record in store.read(folder).values()} == {"done"}
