"""Runs on Dask: what they refuse and start, workers, schedulers and hosts that die."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections import deque
from pathlib import Path

import dask
import psutil
import pytest
from distributed import Client, LocalCluster

from benchmarks.core import store
from benchmarks.execution import suite as suites
from benchmarks.execution.cluster import HOST, local_cluster, slurm_cluster
from benchmarks.execution.plan import state
from benchmarks.execution.process import ClusterError, Setup, Terminated
from benchmarks.execution.run import Asked, run
from flows.plugins import load_plugin
from runs import COST, PAUSED, STOPPED, UPDATES, Silent, figures, small, toml, trainings, until

RECORDS = 6 + 4  # trainings, costs: each is measured once


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def start(tmp_path):
    """A function that starts Dask's commands; they are ended afterwards."""
    started = []

    def start(command, *arguments, within=()):
        words = [sys.executable, "-m", f"distributed.cli.dask_{command}", "--no-dashboard"]
        log = (tmp_path / f"{len(started)}-{command}.log").open("w")
        with log:
            process = subprocess.Popen([*within, *words, *arguments], stdout=log, stderr=log)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()  # workers end with their nannies, what they measure with them
        process.wait()


def scheduler(start, address, within=()):
    host, port = address.removeprefix("tcp://").split(":")
    place = ("--host", host, "--port", port, "--dashboard-address", ":0")
    return start("scheduler", *place, within=within)


def worker(start, address, scratch, alone=True, within=()):
    """Start a worker of one thread; ``alone`` says that it may have its host to itself."""
    resource = ("--resources", f"{HOST}=1") if alone else ()
    arguments = (address, "--nthreads", "1", "--local-directory", str(scratch), *resource)
    return start("worker", *arguments, within=within)


class Acting(Silent):
    """A progress that acts at its first calls: ``case=[None, kill]`` kills at the second case.

    ``lost`` are what it does where the scheduler is lost.
    """

    def __init__(self, **actions):
        super().__init__()
        self.actions = {name: deque(listed) for name, listed in actions.items()}
        self.reasons, self.counts = [], []

    def _act(self, name):
        action = self.actions[name].popleft() if self.actions.get(name) else None
        if action is not None:
            action()

    def task(self, task):
        self._act("task")

    def case(self, task, case, record):
        super().case(task, case, record)
        self._act("case")

    def waiting(self, reason):
        self.reasons.append(reason)
        if reason.startswith("lost"):
            self._act("lost")

    def workers(self, count):
        self.counts.append(count)


@pytest.fixture(scope="module")
def address():
    """A worker without the resource, in this process."""
    here = {"processes": False, "protocol": "tcp", "dashboard_address": None}
    with LocalCluster(n_workers=1, threads_per_worker=1, **here) as cluster:
        yield cluster.scheduler_address


def test_an_address_without_a_scheduler_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.execution.cluster.CONNECT", 0.5)
    for address in (f"tcp://127.0.0.1:{free_port()}", "nonsense://x"):
        with pytest.raises(ClusterError, match=address):
            run(small({"flow": "realnvp"}), tmp_path, Silent(), Asked(scheduler=address))


def test_what_is_timed_needs_a_worker_with_the_resource(tmp_path, address, monkeypatch):
    monkeypatch.setattr("benchmarks.execution.cluster.PATIENCE", 0.5)
    progress = Acting()
    with pytest.raises(ClusterError, match=f"--resources {HOST}=1"):
        run(small({"flow": "realnvp"}), tmp_path, progress, Asked(scheduler=address))
    assert any(HOST in reason for reason in progress.reasons)


def test_a_worker_that_cannot_measure_ends_the_run_with_its_reason(tmp_path, address, monkeypatch):
    monkeypatch.setattr("benchmarks.execution.cluster.loaded_files", lambda: ["/nowhere/plugin"])
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
        run(suites.read(str(file)), out, Acting(task=[interrupt]), Asked(scheduler=address))
    until(lambda: not _measuring(), "its process has ended")
    assert [path.suffix for path in (out / "checkpoints").iterdir()] == [".pt"]
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


def kill(cluster, number):
    """Kill a worker that is at work."""

    def busy():
        state = cluster.scheduler.workers.get(cluster.workers[number].worker_address)
        return state is not None and bool(state.processing)

    until(busy, f"worker {number} has begun")
    os.kill(cluster.workers[number].pid, signal.SIGKILL)


@pytest.mark.system
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
    now = run(trainings(), tmp_path, progress, Asked(scheduler=cluster.scheduler_address))
    assert now.done == {case.key for case in now.cases}
    assert len(progress.measured) == RECORDS
    assert progress.counts[0] == 2
    assert max(submitted) <= 3  # no more than there are workers
    assert figures(tmp_path) == one


@pytest.mark.system
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


@pytest.mark.system
def test_a_task_whose_workers_die_is_a_failed_record(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    progress = Acting(task=[lambda: kill(cluster, 0)])
    asked = Asked(scheduler=cluster.scheduler_address)
    now = run(small({"flow": "realnvp", "dims": [2]}), tmp_path, progress, asked)
    (record,) = now.records.values()
    assert record.status == "failed"
    assert "workers died" in record.reason


@pytest.mark.system
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


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True)


@pytest.fixture
def hosts():
    """The names of two network namespaces and an address in the first; skip without any."""
    mark = uuid.uuid4().hex[:6]
    names = [f"flowgauge-{mark}-{end}" for end in "ab"]
    spaces = []
    try:
        for name in names:
            ip("netns", "add", name)
            spaces.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        ends = ("name", "eth0", "netns", names[0]), ("name", "eth0", "netns", names[1])
        ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.213.7.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        yield *names, "tcp://10.213.7.1:8786"
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        pytest.skip(f"this machine has no network namespaces to give: {reason}")
    finally:
        for name in spaces:
            ip("netns", "delete", name)


@pytest.mark.system
def test_a_host_that_is_cut_off_costs_its_block_at_most(tmp_path, hosts, start, monkeypatch):
    near, far, address = hosts
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP", "11s")  # the least that Dask takes
    file, out = tmp_path / "one.toml", tmp_path / "out"
    file.write_text(toml(COST | {"dims": [2, 3, 4, 5, 6]}))
    on_near, on_far = (["ip", "netns", "exec", name] for name in (near, far))
    command = [*on_near, sys.executable, "-m", "benchmarks", "run", str(file)]
    command += ["--scheduler", address, "--out", str(out), "--no-report"]
    scheduler(start, address, within=on_near)
    for within in (on_near, on_far):
        worker(start, address, tmp_path, within=within)
    for log in tmp_path.glob("*-worker.log"):
        until(lambda log=log: "Registered to" in log.read_text(), "a worker is there")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("[1/"):
                ip("-n", far, "link", "set", "eth0", "down")
    assert process.returncode == 0, "".join(lines)
    assert "2 workers\n" in lines
    assert "Remove worker" in (tmp_path / "0-scheduler.log").read_text()
    assert len(state(suites.read(str(file)), out).done) == 5
