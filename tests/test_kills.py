"""Runs in which a flow, a worker or the harness dies; figures are equal for any jobs and shards."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks import report
from benchmarks.core import store
from benchmarks.core.frame import load
from benchmarks.execution import suite
from benchmarks.execution.merging import merge
from benchmarks.execution.plan import Shard, state
from benchmarks.execution.process import Worker
from benchmarks.execution.run import Asked, cores_for, run
from flows.plugins import load_plugin
from runs import Silent, figures, small, started, trainings, trainings_of

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


KILLS = 3
SEEDS = 4
CASES = 4 * SEEDS  # of two flows on two sets
PLUGIN = """
from benchmarks.training import checkpoint

checkpoint.SECONDS = 0.1
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
    """Kill the run, or one of its processes, at a random time after a record; False if it ended."""
    assert process.stdout is not None
    line = process.stdout.readline()
    while line and not line.startswith("["):
        line = process.stdout.readline()
    threading.Event().wait(generator.uniform(0, 0.3))
    alive = process.poll() is None
    children = psutil.Process(process.pid).children(recursive=True) if alive else []
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
    run(chosen, whole, Silent(), Asked())
    assert figures(folder) == figures(whole)
    assert json.loads((folder / "suite.json").read_text())["name"] == "many"


@pytest.mark.system
def test_figures_are_equal_for_any_number_of_jobs_and_shards(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.measure.machine.cores", lambda: [frozenset({0})] * 2)
    suite = trainings()
    run(suite, tmp_path / "one", Silent(), Asked(jobs=1))
    run(suite, tmp_path / "two", Silent(), Asked(jobs=2))
    parts = [tmp_path / "a", tmp_path / "b"]
    for number, part in enumerate(parts, 1):
        shard = Shard(number, 2)
        now = run(suite, part, Silent(), Asked(shard=shard))
        assert {case.key for case in now.cases} == now.done
    assert merge(parts, tmp_path / "merged") == []
    one, *others = (figures(tmp_path / name) for name in ("one", "two", "merged"))
    assert len(one) == 10
    assert all(other == one for other in others)
    assert len(state(suite, tmp_path / "merged").done) == 10


@pytest.mark.parametrize(("jobs", "threads"), [(1, 8), (2, 1), (3, 2)])
def test_workers_have_disjoint_cores(monkeypatch, jobs, threads):
    cores = [frozenset({2 * n, 2 * n + 1}) for n in range(6)]
    monkeypatch.setattr("benchmarks.measure.machine.cores", lambda: cores)
    bound = cores_for(jobs, threads)
    if jobs == 1:
        assert bound == [None]
    else:
        assert [len(own) for own in bound] == [2 * threads] * jobs
        assert len(frozenset().union(*bound)) == 2 * threads * jobs


def test_more_jobs_than_cores_are_refused_with_what_fits(monkeypatch):
    monkeypatch.setattr("benchmarks.measure.machine.cores", lambda: [frozenset({0})] * 3)
    with pytest.raises(ValueError, match="--jobs 1"):
        cores_for(2, 2)


FORKING = """
import ctypes
import os
import torch
from nflows.transforms import IdentityTransform
import flows

done = []

class Forks(IdentityTransform):
    def __init__(self, fork):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(()))
        self.fork = fork

    def forward(self, inputs, context=None):
        if self.fork not in done:
            done.append(self.fork)  # before the fork: a child of a child would never end
            self.fork()
        return inputs + 0 * self.scale, inputs.new_zeros(len(inputs))

@flows.register("forks", uses=())
def forks(dim):
    return Forks(os.fork)

@flows.register("forks_in_c", uses=())
def forks_in_c(dim):
    return Forks(ctypes.CDLL(None).fork)
"""


def test_flows_that_fork_have_one_record_each_and_so_have_the_next(tmp_path: Path, worker: Worker):
    (tmp_path / "forking.py").write_text(FORKING)
    load_plugin(tmp_path / "forking.py")
    suite = small("forks", "forks_in_c")
    now = run(suite, tmp_path / "out", Silent(), worker=worker)
    statuses = {record.case.flow: record.status for record in now.records.values()}
    assert set(statuses.values()) == {"done"}
    assert len(now.records) == len(suite.cases())
