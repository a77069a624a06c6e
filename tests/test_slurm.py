"""The SLURM of the documentation, on a real cluster of one node."""

from __future__ import annotations

import sys

import dask
import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.cli.app import app
from benchmarks.core import store
from benchmarks.execution import suite
from benchmarks.execution.merging import merge
from benchmarks.execution.run import run
from documents import ROOT, blocks
from runs import PAUSED, STOPPED, UPDATES, Silent, figures, until
from slurm_node import jobs, logs, output, slurm

PAGE = {block.language: block.text for block in blocks(ROOT / "docs" / "cores.md")}


def test_the_manifest_of_the_page_runs_a_shard_a_pod():
    spec = yaml.safe_load(PAGE["yaml"])["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert f"JOB_COMPLETION_INDEX + 1))/{spec['completions']} " in container["args"][0]
    (mount,), (volume,) = container["volumeMounts"], spec["template"]["spec"]["volumes"]
    assert mount["name"] == volume["name"]


@pytest.mark.system
def test_the_script_of_the_page_runs_to_its_end_through_a_requeue(tmp_path, monkeypatch, worker):
    monkeypatch.setenv("PAUSED", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    file, script = tmp_path / "one.toml", tmp_path / "run.sh"
    file.write_text(STOPPED)
    text = PAGE["bash"].replace("=1-4", "=1-2").replace("/4", "/2").replace("=2\n", "=1\n")
    command = f"{sys.executable} -m benchmarks run {file} --plugin {PAUSED}"
    script.write_text(text.replace("flowgauge run paper", command))
    monkeypatch.chdir(tmp_path)
    with slurm(tmp_path / "node", monkeypatch):
        assert "Submitted" in output("sbatch", str(script))
        begun = tmp_path / "begun"
        until(begun.exists, lambda: f"no training: {jobs()} {logs(tmp_path / 'node')}", 150)
        number = begun.read_text()
        output("scancel", "--signal=USR1", "--batch", number)
        until(lambda: not output("squeue", "-h"), lambda: f"{jobs()} {logs(tmp_path)}", 400)
        ended = {job["JobId"]: job for job in jobs()}
    assert [job["JobState"] for job in ended.values()] == ["COMPLETED"] * 2
    assert {number for number, job in ended.items() if job["Restarts"] == "1"} == {number}
    assert len((tmp_path / "updates").read_text()) == UPDATES  # none twice
    assert merge(sorted((tmp_path / "parts").iterdir()), tmp_path / "out") == []
    run(suite.read(str(file)), tmp_path / "whole", Silent(), worker=worker)
    assert figures(tmp_path / "out") == figures(tmp_path / "whole")


@pytest.mark.system
def test_workers_that_slurm_starts_measure_a_suite(tmp_path, monkeypatch):
    """By `--scheduler slurm`: a job for each worker, and none of them left."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    node, folder, file = tmp_path / "node", tmp_path / "out", tmp_path / "one.toml"
    file.write_text(STOPPED)
    job = {"cores": 1, "memory": "1GB", "queue": "all", "walltime": "00:10:00"}
    site = {**job, "job-directives-skip": ["--mem"], "log-directory": str(tmp_path / "logs")}
    with slurm(node, monkeypatch), dask.config.set({"jobqueue.slurm": site}):
        asked = ["run", str(file), "--out", str(folder), "--scheduler", "slurm", "--jobs", "2"]
        result = CliRunner().invoke(app, asked)
        started = jobs()
        assert result.exit_code == 0, f"{result.output} {result.stderr} {started} {logs(node)}"
        until(lambda: not output("squeue", "-h"), lambda: f"{jobs()} {logs(node)}", 60)
    assert len(started) == 2
    assert {record.status for record in store.read(folder).values()} == {"done"}
