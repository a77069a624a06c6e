"""Running suites: records, resuming, faults of cases and of the harness itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
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
from benchmarks.execution.run import Busy, _alone, run, state
from benchmarks.execution.suite import Suite

FAULTY = Path(__file__).with_name("faulty_flows.py")


class Silent:
    """A progress that remembers what was measured."""

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
def finished(tmp_path_factory) -> tuple[Suite, Path, Silent]:
    """A finished run of a small suite."""
    folder, progress = tmp_path_factory.mktemp("finished"), Silent()
    chosen = small({"flow": "realnvp"}, {"flow": "dense"})
    run(chosen, folder, progress)
    return chosen, folder, progress


def test_every_case_has_a_record_with_its_measurements(finished):
    chosen, folder, progress = finished
    assert len(progress.measured) == len(chosen.cases()) == 4
    frame = load(folder)
    assert set(frame["status"]) == {"done"}
    assert (frame["log_prob_flops"] > 0).all()
    assert (frame["log_prob_seconds.values"].map(len) >= 3).all()
    assert frame["machine"].map(lambda m: m["threads"]).eq(1).all()
    assert frame["option.hidden"].eq(4).all()


def test_a_second_run_measures_nothing_and_a_retry_only_failures(finished):
    chosen, folder, _ = finished
    for retry in (False, True):
        progress = Silent()
        run(chosen, folder, progress, retry=retry)
        assert (progress.measured, progress.kept) == ([], 4)


def test_changed_code_makes_a_record_stale(finished, monkeypatch):
    chosen, folder, _ = finished
    monkeypatch.setattr("benchmarks.execution.run.fingerprint", lambda case: "another")
    assert len(state(chosen, folder).stale) == 4


def test_a_case_of_another_setting_is_missing(finished):
    _, folder, _ = finished
    other = small({"flow": "realnvp", "batch": 5}, {"flow": "dense"})
    now = state(other, folder)
    assert (len(now.missing), len(now.valid)) == (2, 2)


@pytest.mark.parametrize("planned", [True, False])
def test_a_run_tells_the_noise_of_its_own_plan_alone(planned, finished, tmp_path, capsys):
    """Not that of records that an earlier run of another suite has left in the folder."""
    chosen, folder, _ = finished
    for record in store.read(folder).values():
        for batch in (record.case.batch, 5):
            case = Case(**record.case.model_dump() | {"batch": batch})
            noisy = planned == (batch != 5)
            times = Values.of("reference_seconds", [1.0, 2.0, 3.0, 9.0] if noisy else [1.0, 1.0])
            changed = {"case": case, "key": case.key, "arrays": None}
            changed["metrics"] = record.metrics | {"reference_seconds": times}
            store.write(tmp_path, record.model_copy(update=changed))
    with pytest.raises(typer.Exit):
        measure(chosen, tmp_path, ())
    assert ("too noisy" in capsys.readouterr().out) == planned


def test_a_corrupt_record_is_named_set_aside_and_measured_again(finished, tmp_path):
    chosen, folder, _ = finished
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", folder, copy], check=True)
    victim = sorted((copy / "records").glob("*.json"))[0]
    victim.write_text(victim.read_text()[:100])
    with pytest.warns(UserWarning, match=victim.name):
        now = state(chosen, copy)
    assert now.missing == {victim.stem}
    assert (copy / "corrupt" / victim.name).exists()
    progress = Silent()
    run(chosen, copy, progress)
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
    with _alone(folder), pytest.raises(Busy, match="another run holds"):
        run(chosen, folder, Silent())


def test_faulty_flows_become_failed_records_and_the_rest_is_measured(tmp_path):
    from flows.registry import load_plugin

    load_plugin(FAULTY)
    names = ["faulty_raises", "faulty_dies", "faulty_hangs", "faulty_eats"]
    chosen = small(
        {"flow": "faulty_dies"},  # in one block with the sound ones
        {"flow": "realnvp"},
        *({"flow": name, "dims": [dim]} for dim, name in enumerate(names, 5) if dim != 6),
        time_limit=6,
        memory_share=0.15,
    )
    now = run(chosen, tmp_path, Silent(), plugins=[str(FAULTY)])
    frame = load(tmp_path).set_index(["flow", "dim"])
    reasons = frame["reason"].groupby("flow").first()
    assert len(now.failed) == 5
    assert frame.loc["realnvp", "status"].eq("done").all()
    assert "diverged on purpose" in reasons["faulty_raises"]
    assert "SIGKILL" in reasons["faulty_dies"]
    assert "memory" in reasons["faulty_eats"]
    assert frame.loc[("faulty_hangs", 7), "status"] == "timeout"
    assert "limit of 6 s" in reasons["faulty_hangs"]
    page = report.write(tmp_path).read_text()
    assert "diverged on purpose" in page


def test_kill_at_any_moment_loses_at_most_the_running_block(tmp_path):
    text = 'about = "x"\nthreads = 1\n[[studies]]\nstudy = "cost"\nbatch = 4\nseconds = 0.01\n'
    text += "dims = [2, 3, 4, 5, 6, 7, 8, 9]\nsizes = { hidden = 4, layers = 1 }\n"
    text += 'flows = [{ flow = "realnvp" }]\n'
    file, out = tmp_path / "many.toml", tmp_path / "out"
    file.write_text(text)
    command = [sys.executable, "-m", "benchmarks", "run", str(file), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("[2/8]"):
                os.kill(process.pid, signal.SIGKILL)
                break
    (out / "records" / ".0123.json.99").write_text("{")  # what a kill in the middle leaves
    chosen = suite.read(str(file))
    before = state(chosen, out)
    assert 2 <= len(before.valid) <= 8
    progress = Silent()
    after = run(chosen, out, progress)
    assert len(after.valid) == 8
    assert {r.key for r in progress.measured} == before.missing


def test_a_training_that_is_killed_goes_on_to_what_it_would_have_been(tmp_path):
    """With a command's process that is killed in the middle of a case."""
    always = tmp_path / "always.py"  # a plug-in, since the worker is a process of its own
    always.write_text("from benchmarks.training import checkpoint\n\ncheckpoint.SECONDS = 0.0\n")
    text = 'about = "x"\nthreads = 1\n[[studies]]\nstudy = "density"\nbaselines = []\n'
    text += 'datasets = ["8gaussians"]\nbatch = 32\nupdates = 300\n'
    text += 'flows = [{ flow = "realnvp", options = { hidden = 8, layers = 2 } }]\n'
    text += "training = { validation_rows = 100 }\n"
    text += "scoring = { rows = 200, checked_rows = 100, grid = 20, samples = 200 }\n"
    file = tmp_path / "one.toml"
    file.write_text(text)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    slots = killed / "checkpoints"
    command = [sys.executable, "-m", "benchmarks", "run", str(file), "--out", str(killed)]
    command += ["--plugin", str(always)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(slots.glob("*.safetensors")):
            with contextlib.suppress(subprocess.TimeoutExpired):  # and leave it the processor
                process.wait(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert not list((killed / "records").glob("*.json"))
    chosen = suite.read(str(file))
    run(chosen, killed, Silent(), plugins=[str(always)])
    run(chosen, whole, Silent())
    assert not list(slots.iterdir())
    frames = [load(out) for out in (killed, whole)]
    assert frames[0]["test_ll"].tolist() == frames[1]["test_ll"].tolist()
    resumed, through = (store.arrays(frame.iloc[0]) for frame in frames)
    for name in resumed.keys() - {"validation_seconds"}:
        assert np.array_equal(resumed[name], through[name], equal_nan=True), name


def test_plan_is_written_before_the_first_measurement(finished):
    chosen, folder, _ = finished
    plan = json.loads((folder / "suite.json").read_text())
    assert [case["key"] for case in plan["cases"]] == [case.key for case in chosen.cases()]
    assert plan["name"] == "small"
