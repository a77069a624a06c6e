"""What a run on Dask says where it cannot measure, what it starts, and how it ends."""

from __future__ import annotations

import subprocess
import sys

import dask
import psutil
import pytest
from distributed import LocalCluster

from benchmarks.core import store
from benchmarks.execution import cluster, suite
from benchmarks.execution.cluster import HOST, slurm_cluster
from benchmarks.execution.run import Asked, ClusterError, Terminated, run
from dask_processes import Acting, free_port
from runs import PAUSED, STOPPED, UPDATES, Silent, small, trainings, until


@pytest.fixture(scope="module")
def address():
    """A worker without the resource, in this process."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        dashboard_address=None,
    ) as cluster:
        yield cluster.scheduler_address


def test_a_plan_imports_no_dask_and_none_of_what_only_measures():
    """Every command would wait for it."""
    code = (
        "import sys, benchmarks.execution.run; from benchmarks.core.study import registry;"
        "assert set(registry);"
        "assert not {'dask', 'scipy.stats', 'sklearn'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_address_without_a_scheduler_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT", 0.5)
    nowhere = f"tcp://127.0.0.1:{free_port()}"
    for address in (nowhere, "nonsense://x"):
        with pytest.raises(ClusterError, match=address):
            run(small({"flow": "realnvp"}), tmp_path, Silent(), Asked(scheduler=address))


def test_what_is_timed_needs_a_worker_with_the_resource(tmp_path, address, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    progress = Acting()
    with pytest.raises(ClusterError, match=f"--resources {HOST}=1"):
        run(small({"flow": "realnvp"}), tmp_path, progress, Asked(scheduler=address))
    assert any(HOST in reason for reason in progress.reasons)


def test_a_worker_that_cannot_measure_ends_the_run_with_its_reason(tmp_path, address, monkeypatch):
    monkeypatch.setattr(cluster, "loaded_files", lambda: ["/nowhere/plugin"])
    with pytest.raises(ClusterError, match="/nowhere/plugin"):
        run(trainings(seeds=(0,)), tmp_path, Silent(), Asked(scheduler=address))
    assert not store.read(tmp_path)


@pytest.mark.system
def test_a_run_that_ends_frees_its_workers_at_their_checkpoints(tmp_path, address, monkeypatch):
    monkeypatch.setenv("PAUSED", str(tmp_path))
    monkeypatch.setattr("benchmarks.execution.process.needed", lambda names: (str(PAUSED),))
    file, out = tmp_path / "one.toml", tmp_path / "out"
    file.write_text(STOPPED)

    def interrupt():
        until((tmp_path / "begun").exists, "the training has begun")
        raise Terminated

    with pytest.raises(Terminated):
        run(suite.read(str(file)), out, Acting(task=[interrupt]), Asked(scheduler=address))
    until(lambda: not _measuring(), "its process has ended")
    assert [path.suffix for path in (out / "checkpoints").iterdir()] == [".safetensors"]
    assert len((tmp_path / "updates").read_text()) == UPDATES // 2


def _measuring():
    """The processes that measure for a worker of this one."""
    children = [child.as_dict(["cmdline"]) for child in psutil.Process().children()]
    return [child for child in children if "execution.process" in str(child)]


def test_slurm_needs_to_know_what_a_job_is():
    pytest.importorskip("dask_jobqueue")
    with pytest.raises(ClusterError, match="cores and memory"):
        slurm_cluster(jobs=1)


def test_workers_of_slurm_are_jobs_with_a_resource_each(monkeypatch):
    pytest.importorskip("dask_jobqueue")
    settings = {"cores": 4, "memory": "2GB", "worker-extra-args": ["--lifetime", "55m"]}
    with dask.config.set({f"jobqueue.slurm.{name}": value for name, value in settings.items()}):
        monkeypatch.setattr("dask_jobqueue.SLURMCluster.scale", lambda self, jobs: None)
        with slurm_cluster(jobs=3) as started:
            script = started.job_script()
    assert f"--resources {HOST}=1" in script
    assert "--nthreads 1" in script
    assert "--lifetime 55m" in script
    assert "#SBATCH --mem=2G" in script
