"""Running suites: records, resuming, stale and corrupt records."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.core import store
from benchmarks.core.frame import load
from benchmarks.execution.plan import state
from benchmarks.execution.run import CHECKPOINTS, Asked, run
from benchmarks.execution.suite import Suite
from runs import Silent, small, trainings


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


def test_a_case_of_another_setting_is_missing(finished):
    _, folder, _ = finished
    other = small({"flow": "realnvp", "batch": 5}, {"flow": "dense"})
    now = state(other, folder)
    assert (len(now.missing), len(now.done)) == (2, 2)


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


def test_what_killed_runs_have_left_is_removed(finished, copy):
    """Temporary files, and checkpoints of what is done; not those that a run goes on from."""
    chosen, *_ = finished
    done, failed, *_ = (case.key for case in chosen.cases())
    record = store.read(copy)[failed].model_copy(update={"status": "failed", "arrays": {}})
    store.write(copy, record)
    folder = copy / CHECKPOINTS
    folder.mkdir()
    gone = [folder / f"{done}-mark.pt", folder / f"{done}-mark-other.pt"]
    gone += [folder / ".k-m.pt.h-5-6", copy / ".suite.json.host-1-2"]
    kept = [folder / f"{failed}-mark.pt", folder / "0123-mark.pt"]
    for path in (*gone, *kept):
        path.write_bytes(b"x")
    run(chosen, copy, Silent())
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)


def test_an_old_record_without_times_is_done_and_measured_again_on_request(finished, copy):
    chosen, *_ = finished
    record = next(iter(store.read(copy).values()))
    record.pending = True
    store.write(copy, record, {})
    now = state(chosen, copy)
    assert "no times" in now.reason(record.key)
    assert Asked().wanted(chosen, now) == set()
    assert Asked(retry=True).wanted(chosen, now) == {record.key}


def test_a_phase_leaves_the_rest_out(tmp_path, worker):
    suite = trainings(seeds=(0,))
    asked = Asked(phase="beside")
    now = run(suite, tmp_path, Silent(), asked, worker=worker)
    assert {now.records[key].case.study for key in now.done} == {"density"}
    assert not asked.left_over(now)
    asked = Asked(phase="alone")
    assert len(asked.left_over(now)) == 4
    assert not asked.left_over(run(suite, tmp_path, Silent(), asked, worker=worker))
