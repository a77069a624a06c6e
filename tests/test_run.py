"""Running suites: records, resuming, faults of cases and of the harness itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer

from benchmarks import report
from benchmarks.cli.run import measure
from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.frame import load
from benchmarks.core.record import Values
from benchmarks.execution import suite
from benchmarks.execution.run import run, state
from benchmarks.execution.suite import Suite
from benchmarks.execution.worker import Worker
from flows.registry import load_plugin

FAULTY = Path(__file__).with_name("faulty_flows.py")


class Silent:
    """A progress that keeps what was measured."""

    def __init__(self):
        self.measured = []

    def begin(self, cases, kept, budget):
        self.kept = kept

    def block(self, cases):
        pass

    def case(self, case, record):
        self.measured.append(record)


def small(*contenders, **values) -> Suite:
    """A suite of one tiny cost study."""
    study = {"study": "cost", "flows": contenders, "dims": [2, 3], "batch": 4, "seconds": 0.01}
    study["sizes"] = {"hidden": 4, "layers": 1}
    return Suite(name="small", about="for a test", threads=1, studies=[study], **values)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """One process for all runs in which nothing dies."""
    worker = Worker(threads=1, device="cpu", memory_share=0.8)
    yield worker
    worker.stop()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, worker) -> tuple[Suite, Path, Silent]:
    """A finished run of a small suite."""
    folder, progress = tmp_path_factory.mktemp("finished"), Silent()
    chosen = small({"flow": "realnvp"}, {"flow": "dense"})
    run(chosen, folder, progress, worker=worker)
    return chosen, folder, progress


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    """A copy of the finished folder."""
    return shutil.copytree(finished[1], tmp_path / "copy")


def test_every_case_has_a_record_with_its_measurements(finished):
    chosen, folder, progress = finished
    assert len(progress.measured) == len(chosen.cases()) == 4
    frame = load(folder)
    assert set(frame["status"]) == {"done"}
    assert (frame["log_prob_flops"] > 0).all()
    assert (frame["log_prob_seconds.values"].map(len) >= 3).all()
    assert frame["machine"].map(lambda m: m["threads"]).eq(1).all()
    assert frame["option.hidden"].eq(4).all()
    assert (frame["seconds"] > 0).all()


def test_cases_of_one_block_say_so(finished):
    """Here the two flows of each dimension, which are timed in turns."""
    frame = load(finished[1])
    assert (frame.groupby("block")["dim"].nunique() == 1).all()
    assert (frame.groupby("dim")["block"].nunique() == 1).all()


def test_a_second_run_measures_nothing_and_a_retry_only_failures(finished, copy):
    chosen, *_ = finished
    for retry in (False, True):
        progress = Silent()
        run(chosen, copy, progress, retry=retry)
        assert (progress.measured, progress.kept) == ([], 4)


@pytest.mark.parametrize("renewed", ["version", "pace"])
def test_an_earlier_version_makes_a_record_stale(renewed, finished, copy):
    """Of whatever it depends on; an earlier pace its times alone, and the reason says which."""
    chosen, *_ = finished
    for key, record in store.read(copy).items():
        before = record.declared["benchmarks.measure"]
        earlier = before._replace(**{renewed: getattr(before, renewed) - 1})
        declared = record.declared | {"benchmarks.measure": earlier}
        store.write(copy, record.model_copy(update={"declared": declared, "arrays": {}}))
        now = state(chosen, copy)
        assert key in now.stale
        assert bool(now.standings[key].counts) == (renewed == "version")
        assert f"{renewed} of benchmarks.measure" in now.reason(key)
    assert now.stale == {case.key for case in chosen.cases()}


def test_a_case_of_another_setting_is_missing(finished):
    _, folder, _ = finished
    other = small({"flow": "realnvp", "batch": 5}, {"flow": "dense"})
    now = state(other, folder)
    assert (len(now.missing), len(now.done)) == (2, 2)


@pytest.mark.parametrize("planned", [True, False])
def test_a_run_reports_the_noise_of_its_own_plan_alone(planned, finished, tmp_path, capsys):
    """Not that of records that an earlier run of another suite has left in the folder."""
    chosen, folder, _ = finished
    for record in store.read(folder).values():
        for batch in (record.case.batch, 5):
            scattered = planned == (batch != 5)
            seconds = [1.0, 2.0, 3.0, 9.0] if scattered else [1.0, 1.0]
            case = Case(**record.case.model_dump() | {"batch": batch})
            changed = {"case": case, "key": case.key, "identity": case.identity, "arrays": {}}
            times = {"reference_seconds": Values.of("reference_seconds", seconds)}
            changed["metrics"] = record.metrics | times
            store.write(tmp_path, record.model_copy(update=changed))
    with pytest.raises(typer.Exit):
        measure(chosen, tmp_path, ())
    assert ("note: " in capsys.readouterr().out) == planned


def test_a_corrupt_record_is_named_set_aside_and_measured_again(finished, copy, worker):
    chosen, *_ = finished
    victim = sorted((copy / "records").glob("*.json"))[0]
    victim.write_text(victim.read_text()[:100])
    with pytest.warns(UserWarning, match=victim.name):
        now = state(chosen, copy)
    assert now.missing == {victim.stem}
    assert victim.exists()
    progress = Silent()
    with pytest.warns(UserWarning, match=victim.name):
        run(chosen, copy, progress, worker=worker)
    assert (copy / "corrupt" / victim.name).exists()
    assert [record.key for record in progress.measured] == [victim.stem]


def test_a_record_under_another_name_is_not_read(finished, tmp_path):
    _, folder, _ = finished
    source = sorted((folder / "records").glob("*.json"))[0]
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "0123456789abcdef.json").write_bytes(source.read_bytes())
    with pytest.warns(UserWarning, match="0123456789abcdef"):
        assert store.read(tmp_path) == {}


def test_a_folder_is_held_by_one_run(finished):
    chosen, folder, _ = finished
    with store.held(folder), pytest.raises(store.Busy):
        run(chosen, folder, Silent())


def test_the_plan_lists_every_case(finished):
    chosen, folder, _ = finished
    plan = json.loads((folder / "suite.json").read_text())
    assert [case["key"] for case in plan["cases"]] == [case.key for case in chosen.cases()]
    assert plan["name"] == chosen.name


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_flow_that_never_returns_is_ended_at_the_time_limit(tmp_path):
    load_plugin(FAULTY)
    chosen = small({"flow": "faulty_hangs", "dims": [2]}, time_limit=1)
    now = run(chosen, tmp_path, Silent())
    (record,) = now.records.values()
    assert record.status == "timeout"
    assert "limit of 1 s" in record.reason


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_to_what_it_would_have_been(tmp_path, worker):
    """With a command's process that is killed in the middle of a case."""
    plugin = tmp_path / "waiting.py"  # loaded by the worker, which is a process of its own
    plugin.write_text(WAITING)
    text = 'about = "x"\nthreads = 1\n[[studies]]\nstudy = "density"\nbaselines = []\n'
    text += 'datasets = ["8gaussians"]\nbatch = 32\nupdates = 50\n'
    text += 'flows = [{ flow = "realnvp", options = { hidden = 8, layers = 2 } }]\n'
    text += "training = { validation_rows = 100 }\n"
    text += "scoring = { rows = 200, checked_rows = 100, grid = 20, samples = 200 }\n"
    file = tmp_path / "one.toml"
    file.write_text(text)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
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
    for folder in (killed, whole):
        run(chosen, folder, Silent(), worker=worker)
    assert not slot.exists()
    frames = [load(folder) for folder in (killed, whole)]
    assert frames[0]["test_ll"].tolist() == frames[1]["test_ll"].tolist()
    resumed, through = (store.arrays(frame.iloc[0]) for frame in frames)
    for name in resumed.keys() - {"validation_seconds"}:
        assert np.array_equal(resumed[name], through[name], equal_nan=True), name
