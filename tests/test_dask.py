"""Runs on Dask in which workers and schedulers are killed: nothing is lost, figures are equal."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

import dask
import pytest
from distributed import Client

from benchmarks.execution.cluster import HOST
from benchmarks.execution.process import Setup
from benchmarks.execution.run import Asked, run
from benchmarks.execution.schedulers import local_cluster
from dask_processes import Acting, free_port, processes, scheduler, until, worker
from flows.registry import load_plugin
from runs import Silent, figures, small, trainings

pytestmark = pytest.mark.slow
RECORDS = 5 + 5 + 4  # trainings, their times, costs: each is measured once


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The figures of a run with one job."""
    folder = tmp_path_factory.mktemp("one")
    run(trainings(), folder, Silent(), Asked(jobs=1))
    return figures(folder)


@pytest.fixture(scope="module")
def cluster():
    """Two workers with Dask's own settings, but for a heartbeat that may be late by 5 s only."""
    before = dict(os.environ)
    with (
        dask.config.set({"distributed.scheduler.worker-ttl": "1s"}),
        local_cluster([Setup(1, "cpu", 0.5)] * 2) as cluster,
    ):
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

    progress = Acting(task=[None, lose], case=[add])
    asked = Asked(scheduler=cluster.scheduler_address)
    now = run(trainings(), tmp_path, progress, asked)
    assert now.done == {case.key for case in now.cases}
    assert len(progress.measured) == RECORDS
    assert progress.counts[0] == 2
    assert figures(tmp_path) == one


def test_a_measurement_may_hold_the_lock_and_has_no_variable_of_the_nanny(tmp_path, cluster):
    """Beside it the same in a worker's own process, which the scheduler gives up for it."""
    load_plugin(Path(__file__).with_name("selfish_flows.py"))
    workers = cluster.scheduler.workers.values()
    victim = until(
        lambda: next((w.address for w in workers if HOST not in w.resources), None),
        "a worker has no part in the run",
    )
    before = len(_timed_out(cluster))

    def hold(seconds=7):
        ctypes.PyDLL(None).sleep(seconds)

    with Client(cluster, set_as_default=False) as client:
        held = []
        begin = [lambda: held.append(client.submit(hold, workers=[victim], pure=False))]
        suite = small({"flow": "selfish", "dims": [2]})
        asked = Asked(scheduler=cluster.scheduler_address)
        now = run(suite, tmp_path, Acting(task=begin), asked)
        until(lambda: len(_timed_out(cluster)) > before, "the silent worker is given up")
    (record,) = now.records.values()
    assert "environment: [None, None, None]" in record.reason
    assert set(_timed_out(cluster)[before:]) == {victim}


def test_a_task_whose_workers_die_is_a_failed_record(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    suite, asked = (
        small({"flow": "realnvp", "dims": [2]}),
        Asked(scheduler=cluster.scheduler_address),
    )
    now = run(suite, tmp_path, Acting(task=[lambda: kill(cluster, 0)]), asked)
    (record,) = now.records.values()
    assert record.status == "failed"
    assert "workers died" in record.reason


def _timed_out(cluster):
    """The workers that a scheduler gave up because they did not heartbeat."""
    events = [event for _, event in cluster.scheduler.get_events("scheduler")]
    late = [event for event in events if event.get("action") == "worker-ttl-timed-out"]
    return [address for event in late for address in event["workers"]]


def test_a_run_outlives_its_scheduler(tmp_path, start, one):
    """With Dask's commands and settings: a restarted scheduler knows nothing of the run."""
    folder, address = tmp_path / "out", f"tcp://127.0.0.1:{free_port()}"

    def begin():
        worker(start, address, tmp_path)
        return scheduler(start, address)

    worker(start, address, tmp_path, alone=False)
    first = begin()
    progress = Acting(case=[None, first.kill], waiting=[])

    def again():
        if "lost the scheduler" in progress.reasons[-1]:
            begin()
        else:
            progress.actions["waiting"].append(again)

    progress.actions["waiting"].append(again)
    now = run(trainings(), folder, progress, Asked(scheduler=address))
    assert now.done == {case.key for case in now.cases}
    assert any("lost the scheduler" in reason for reason in progress.reasons)
    assert len(progress.measured) == RECORDS
    assert figures(folder) == one
