"""Runs: records, resuming, stopping, kills; figures are equal for any jobs and shards."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from benchmarks import report
from benchmarks.core import locks, store
from benchmarks.core.case import Case
from benchmarks.core.frame import load
from benchmarks.execution import suite
from benchmarks.execution.merging import merge
from benchmarks.execution.plan import Shard, state
from benchmarks.execution.process import Terminated, Worker
from benchmarks.execution.run import CHECKPOINTS, Asked, Recorder, cores_for, run
from benchmarks.execution.suite import Suite
from flows.plugins import load_plugin
from runs import (
    COST,
    PAUSED,
    STOPPED,
    TRAINING,
    UPDATES,
    Silent,
    figures,
    small,
    started,
    toml,
    trainings,
    until,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, worker) -> tuple[Suite, Path, Silent]:
    folder, progress = tmp_path_factory.mktemp("finished"), Silent()
    chosen = small({"flow": "realnvp"}, {"flow": "dense"})
    run(chosen, folder, progress, worker=worker)
    return chosen, folder, progress


@pytest.fixture
def copy(finished, tmp_path) -> Path:
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
    assert (frame.groupby("block")["dim"].nunique() == 1).all()  # both flows, timed in turns
    assert (frame.groupby("dim")["block"].nunique() == 1).all()


def test_a_second_run_measures_nothing_and_a_retry_only_failures(finished, copy):
    chosen, *_ = finished
    for retry in (False, True):
        progress = Silent()
        run(chosen, copy, progress, Asked(retry=retry))
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


def test_what_killed_runs_have_left_is_removed(finished, copy):
    """Temporary files, and checkpoints of what is done; not those that a run goes on from."""
    chosen, *_ = finished
    done, failed, *_ = (case.key for case in chosen.cases())
    record = store.read(copy)[failed].model_copy(update={"status": "failed", "arrays": {}})
    store.write(copy, record)
    folder = copy / CHECKPOINTS
    folder.mkdir()
    gone = [folder / f"{done}-mark.pt", folder / f"{done}-mark-other.pt"]
    thread, nobody = threading.get_ident(), 1 << 30  # no process has this number
    gone += [folder / f".k-m.pt.h-{nobody}-{thread}", copy / f".suite.json.host-{nobody}-{thread}"]
    kept = [folder / f"{failed}-mark.pt", folder / "0123-mark.pt", copy / ".notes-2024-05"]
    kept += [copy / f".suite.json.host-{os.getpid()}-{thread}"]  # of a writer that lives
    for path in (*gone, *kept):
        path.write_bytes(b"x")
    run(chosen, copy, Silent())
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize("error", [IndexError("no such"), ValueError("no such")])
def test_what_a_study_raises_before_a_case_fails_it_alone(tmp_path, worker, monkeypatch, error):
    suite, progress = trainings(seeds=(0,)), Silent()
    broken, *others = suite.cases()

    def resolved(_: Recorder, case: Case) -> Case:
        if case.key == broken.key:
            raise error
        return case

    monkeypatch.setattr(Recorder, "_resolved", resolved)
    now = run(suite, tmp_path, progress, worker=worker)
    assert now.failed == {broken.key}
    assert "no such" in now.records[broken.key].reason
    assert now.done == {case.key for case in others}


def test_a_phase_leaves_the_rest_out(tmp_path, worker):
    suite = trainings(seeds=(0,))
    asked = Asked(phase="beside")
    now = run(suite, tmp_path, Silent(), asked, worker=worker)
    assert {now.records[key].case.study for key in now.done} == {"density"}
    assert not asked.left_over(now)
    asked = Asked(phase="alone")
    assert len(asked.left_over(now)) == 4
    assert not asked.left_over(run(suite, tmp_path, Silent(), asked, worker=worker))


def command_of(file: Path, out: Path, *options: object) -> list[str]:
    """Arguments of Python for a run of a suite into a folder."""
    return ["-m", "benchmarks", *map(str, ("run", file, "--out", out, *options))]


@pytest.mark.system
def test_a_run_stops_at_a_checkpoint_and_the_next_gives_the_same(tmp_path, monkeypatch, worker):
    """Where all of its processes get the signal; that it gets it alone is SLURM's test."""
    monkeypatch.setenv("PAUSED", str(tmp_path))
    file, stopped, whole = tmp_path / "one.toml", tmp_path / "stopped", tmp_path / "whole"
    file.write_text(STOPPED)
    command = [sys.executable, *command_of(file, stopped, "--plugin", PAUSED)]
    piped = {"stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **piped) as process:
        begun = tmp_path / "begun"
        until(lambda: begun.exists() or process.poll() is not None, "no training", 120)
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "stopped" in output
    (record,) = store.read(stopped).values()
    assert (record.case.study, record.status) == ("numerics", "done")
    kept = [path.name for path in (stopped / "checkpoints").iterdir()]
    assert [Path(name).suffix for name in kept] == [".pt"]
    monkeypatch.setattr("benchmarks.execution.process.needed", lambda names: (str(PAUSED),))
    chosen = suite.read(str(file))
    progress = Silent()
    assert len(run(chosen, stopped, progress, worker=worker).done) == 2
    assert progress.begun.keys() == {path.partition("-")[0] for path in kept}
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
    assert [path.suffix for path in (out / "checkpoints").iterdir()] == [".pt"]
    assert len((tmp_path / "updates").read_text()) == UPDATES // 2


@pytest.mark.system
def test_a_run_that_waits_for_timings_of_another_stops_too(tmp_path):
    file = tmp_path / "one.toml"
    file.write_text(toml(COST))
    with locks.timing(tmp_path, print), started(*command_of(file, tmp_path / "out")) as process:
        for line in process.stdout:
            if line.startswith(f"Waiting for run {os.getpid()}"):
                break
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 75


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
    study = TRAINING | {"datasets": ["8gaussians", "moons"], "flows": ["realnvp", "nice"]}
    study |= {"sizes": {"hidden": 8, "layers": 1}, "batch": 64, "updates": 200}
    file.write_text(toml(study, seeds=list(range(SEEDS))))
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


def test_workers_have_disjoint_cores(monkeypatch):
    """One has any; more of them than there are cores for are refused with what fits."""
    cores = [frozenset({2 * n, 2 * n + 1}) for n in range(6)]
    monkeypatch.setattr("benchmarks.measure.machine.cores", lambda: cores)
    assert cores_for(1, 8) == [None]
    for jobs, threads in ((2, 1), (3, 2)):
        bound = cores_for(jobs, threads)
        assert [len(own) for own in bound] == [2 * threads] * jobs
        assert len(frozenset().union(*bound)) == 2 * threads * jobs
    with pytest.raises(ValueError, match="--jobs 1"):
        cores_for(2, 4)


def test_faulty_flows_have_one_record_each_and_cost_no_other(tmp_path: Path, worker: Worker):
    """Those that fork are measured; those that raise or die are failed, with the reason."""
    load_plugin(Path(__file__).with_name("faulty_flows.py"))
    reasons = {"faulty_raises": "diverged on purpose", "faulty_dies": signal.SIGKILL.name}
    chosen = small("faulty_forks", "faulty_forks_in_c", *reasons, "realnvp")
    records = run(chosen, tmp_path, Silent(), worker=worker).records.values()
    assert len(records) == len(chosen.cases())
    for record in records:
        reason = reasons.get(record.case.flow, "")
        assert record.status == ("failed" if reason else "done")
        assert reason in record.reason
    assert "diverged on purpose" in report.write(tmp_path).read_text()
