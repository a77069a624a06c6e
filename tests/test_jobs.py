"""Runs with several workers, shards, and times that come later: the same figures in every way."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import report
from benchmarks.core import store
from benchmarks.core.frame import load
from benchmarks.execution.claims import Claims
from benchmarks.execution.merging import merge
from benchmarks.execution.pools import cores_for
from benchmarks.execution.recorder import CHECKPOINTS, SUPERSEDED
from benchmarks.execution.run import Asked, run
from benchmarks.execution.state import state
from benchmarks.execution.tasks import Shard
from runs import Silent, figures, small, trainings


def test_times_come_after_all_else_and_are_those_of_the_whole_case(tmp_path, worker):
    suite, progress = trainings(), Silent()
    after = run(suite, tmp_path, progress, worker=worker)
    assert len(after.done) == len(after.cases)
    pending = [record.pending for record in progress.measured if record.case.study == "density"]
    assert pending == [True] * 6 + [False] * 6
    frame = load(tmp_path).query("study == 'density'")
    assert (frame["train_seconds"] > 0).all()
    assert (frame["sample_rate"] > 0).all()
    assert not list((tmp_path / CHECKPOINTS).glob("*"))


def test_a_run_that_ended_between_the_phases_only_times(tmp_path, worker):
    suite = trainings()
    first = run(suite, tmp_path, Silent(), Asked(phase="beside"), worker=worker)
    assert len(first.pending) == 6
    assert not Asked(phase="beside").left_over(first)
    assert report.write(tmp_path).is_file()
    before = figures(tmp_path)
    progress = Silent()
    after = run(suite, tmp_path, progress, worker=worker)
    assert len(after.done) == len(after.cases)
    density = [record for record in progress.measured if record.case.study == "density"]
    assert len(density) == 6
    assert all(record.origin is not None for record in density)
    assert all(figures(tmp_path)[key].items() >= values.items() for key, values in before.items())


def test_times_whose_weights_are_gone_are_those_of_a_new_training(tmp_path, worker):
    suite = trainings(seeds=(0,))
    run(suite, tmp_path, Silent(), Asked(phase="beside"), worker=worker)
    for path in (tmp_path / CHECKPOINTS).glob("*.kept"):
        path.unlink()
    assert Asked(phase="alone").left_over(
        run(suite, tmp_path, Silent(), Asked(phase="alone"), worker=worker)
    )
    assert len(run(suite, tmp_path, Silent(), worker=worker).pending) == 0


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


def test_a_result_of_a_lost_claim_is_set_aside(tmp_path, worker, monkeypatch):
    suite = small({"flow": "realnvp", "dims": [2]})
    monkeypatch.setattr(Claims, "holds", lambda self, name: False)
    run(suite, tmp_path, Silent(), worker=worker)
    assert not store.read(tmp_path)
    (place,) = (tmp_path / SUPERSEDED).iterdir()
    assert len(store.read(place)) == 1


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


@pytest.mark.parametrize("newer", [0, 1])
def test_of_two_records_of_a_key_the_newer_is_taken(tmp_path, worker, newer):
    suite = small({"flow": "realnvp", "dims": [2]})
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        (record,) = run(suite, folder, Silent(), worker=worker).records.values()
        record.started = f"2026-01-0{1 + (folder == folders[newer])}T00:00:00+00:00"
        store.write(folder, record, {})
    (conflict,) = merge(folders, tmp_path / "c")
    assert conflict.label == record.case.label
    (taken,) = store.read(tmp_path / "c").values()
    assert taken.started.startswith("2026-01-02")
    (other,) = (tmp_path / "c" / SUPERSEDED).iterdir()
    assert all(r.started.startswith("2026-01-01") for r in store.read(other).values())
    assert np.all([len(store.read(folder)) == 1 for folder in folders])


def test_times_that_failed_are_named_and_measured_again_on_request(tmp_path, worker):
    suite = small({"flow": "realnvp", "dims": [2]})
    (record,) = run(suite, tmp_path, Silent(), worker=worker).records.values()
    record.notes["no_times"] = "the worker was ended"
    store.write(tmp_path, record, {})
    now = state(suite, tmp_path)
    assert "the worker was ended" in now.named()["done"][0]["reason"]
    assert Asked().wanted(suite, now) == set()
    assert Asked(retry=True).wanted(suite, now) == {record.key}
