"""Runs with several workers and shards: the same figures in every way."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.core import store
from benchmarks.execution.merging import SUPERSEDED, merge
from benchmarks.execution.plan import Shard, state
from benchmarks.execution.run import Asked, cores_for, run
from runs import Silent, figures, small, trainings


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
