"""Running suites: records, resuming, stale and corrupt records."""

from __future__ import annotations

import itertools
import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import typer
from benchmarks.execution.claims import Claims

from benchmarks.cli.run import measure
from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.frame import load
from benchmarks.core.record import Values
from benchmarks.execution import recorder
from benchmarks.execution.plan import Task, state
from benchmarks.execution.run import Asked, run
from benchmarks.execution.suite import Suite, read
from runs import Silent, small


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
        measure(chosen, tmp_path, draws=False)
    assert ("note: " in capsys.readouterr().out) == planned
    assert not (tmp_path / "report").exists()


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


def test_a_run_gives_up_on_a_folder_that_is_held(finished, monkeypatch):
    chosen, folder, _ = finished
    monkeypatch.setattr(store, "PATIENCE", 0)
    with store.held(folder), pytest.raises(store.Busy):
        run(chosen, folder, Silent())


def test_the_plan_lists_every_case(finished):
    chosen, folder, _ = finished
    plan = json.loads((folder / "suite.json").read_text())
    assert [case["key"] for case in plan["cases"]] == [case.key for case in chosen.cases()]
    assert plan["name"] == chosen.name


def test_a_clock_that_is_set_back_shortens_no_measurement(tmp_path, monkeypatch) -> None:
    hours = itertools.count()

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 1, 1, tzinfo=tz) - timedelta(hours=next(hours))

    monkeypatch.setattr(recorder, "datetime", Clock)
    case = read("smoke").cases()[0]
    with Claims(tmp_path) as claims:
        recorder.Recorder(tmp_path, 1.0, claims).fail(Task((case,)), "no reason")
    assert 0 <= store.read(tmp_path)[case.key].seconds < 60
