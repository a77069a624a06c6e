"""Runs on Dask in which workers and schedulers are killed: nothing is lost, figures are equal."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from pathlib import Path

import dask
import pytest
from distributed import Client

from benchmarks.execution.cluster import HOST, local_cluster
from benchmarks.execution.process import Setup
from benchmarks.execution.run import Asked, run
from dask_processes import Acting, free_port, processes, scheduler, worker
from flows.plugins import load_plugin
from runs import Silent, figures, small, trainings, until

pytestmark = pytest.mark.system
RECORDS = 6 + 4  # trainings, costs: each is measured once


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The figures of a run with one job."""
    folder = tmp_path_factory.mktemp("one")
    run(trainings(), folder, Silent(), Asked(jobs=1))
    return figures(folder)


@pytest.fixture(scope="module")
def cluster():
    """Two workers with Dask's own settings."""
    before = dict(os.environ)
    with (
        dask.config.set({"distributed.scheduler.worker-ttl": "1s"}),
        local_cluster([Setup(1, "cpu", 0.5)] * 2) as cluster,
    ):
        cluster.scheduler.worker_ttl = 300  # what is looked at each second
        yield cluster
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def start(tmp_path):
    with processes(tmp_path) as start:
        yield start


def kill(cluster, number):
    """Kill a worker that is at work."""

    def busy():
        state = cluster.scheduler.workers.get(cluster.workers[number].worker_address)
        return state is not None and bool(state.processing)

    until(busy, f"worker {number} has begun")
    os.kill(cluster.workers[number].pid, signal.SIGKILL)


def test_a_run_with_a_worker_killed_and_one_added_has_the_figures_of_one_job(
    tmp_path, cluster, one
):

    def lose():
        cluster.workers[1].close_gracefully()  # so that the nanny starts no other
        kill(cluster, 1)

    def add():
        cluster.new_spec = cluster.worker_spec[1]
        cluster.scale(3)

    submitted = []  # numbers of tasks that the scheduler has and that are not over

    def count():
        states = [task.state for task in cluster.scheduler.tasks.values()]
        submitted.append(len(states) - states.count("memory"))

    progress = Acting(task=[None, lose], case=[add, *[count] * RECORDS])
    asked = Asked(scheduler=cluster.scheduler_address)
    now = run(trainings(), tmp_path, progress, asked)
    assert now.done == {case.key for case in now.cases}
    assert len(progress.measured) == RECORDS
    assert progress.counts[0] == 2
    assert max(submitted) <= 3  # no more than there are workers
    assert figures(tmp_path) == one


def test_a_measurement_may_hold_the_lock_and_has_no_variable_of_the_nanny(
    tmp_path, cluster, monkeypatch
):
    """Beside it the same in a worker's own process, which the scheduler gives up for it."""
    plugin = Path(__file__).with_name("selfish_flows.py")
    load_plugin(plugin)
    monkeypatch.setattr(cluster.scheduler, "worker_ttl", 1)  # of which Dask makes 5
    asked = Asked(scheduler=cluster.scheduler_address)
    free = [w for w in cluster.scheduler.workers.values() if HOST not in w.resources]
    victim = free[-1].address  # before it may be one that is leaving

    def hold():
        load_plugin(plugin).hold()

    def release():
        until(lambda: _silent(cluster), "the silent worker is given up")
        fcntl.flock(file, fcntl.LOCK_UN)

    with Client(cluster, set_as_default=False) as client, plugin.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        held = client.submit(hold, workers=[victim])
        begin = [threading.Thread(target=release).start]
        now = run(small({"flow": "selfish", "dims": [2]}), tmp_path, Acting(task=begin), asked)
        held.cancel()
    (record,) = now.records.values()
    assert "environment: [None, None, None]" in record.reason
    assert set(_silent(cluster)) == {victim}


def _silent(cluster):
    """The workers that a scheduler gave up because they did not heartbeat."""
    events = [event for _, event in cluster.scheduler.get_events("scheduler")]
    late = [event for event in events if event.get("action") == "worker-ttl-timed-out"]
    return [address for event in late for address in event["workers"]]


def test_a_task_whose_workers_die_is_a_failed_record(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    suite, progress = (
        small({"flow": "realnvp", "dims": [2]}),
        Acting(task=[lambda: kill(cluster, 0)]),
    )
    now = run(suite, tmp_path, progress, Asked(scheduler=cluster.scheduler_address))
    (record,) = now.records.values()
    assert record.status == "failed"
    assert "workers died" in record.reason


def test_a_run_outlives_its_scheduler(tmp_path, start, one):
    """With Dask's commands and settings: a restarted scheduler knows nothing of the run."""
    folder, address = tmp_path / "out", f"tcp://127.0.0.1:{free_port()}"
    asked = Asked(scheduler=address, phase="beside")

    def begin():
        worker(start, address, tmp_path, alone=False)
        return scheduler(start, address)

    first = begin()
    progress = Acting(case=[None, first.kill], lost=[begin])
    now = run(trainings(), folder, progress, asked)
    assert not asked.left_over(now)
    assert any(reason.startswith("lost the scheduler") for reason in progress.reasons)
    assert progress.counts[-1] == 1
    assert len(progress.measured) == 6
    assert all(one[key] == values for key, values in figures(folder).items())
