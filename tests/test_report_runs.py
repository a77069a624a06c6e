"""Several results folders in one report: one frame, whose series name their run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks import report
from benchmarks.cli.app import app
from benchmarks.core import store
from benchmarks.core.frame import load
from benchmarks.core.record import Record
from benchmarks.core.study import registry
from benchmarks.report.content import collect
from committed import ROOT
from report_probes import LL, MACHINE, PROBE, REFERENCE, SECONDS, TALLY, record_of

pytestmark = pytest.mark.usefixtures("probes")


def _record(flow: str, seconds: float = 1.0, **changes: Any) -> Record:
    metrics = {SECONDS: [seconds] * 3, REFERENCE: [1.0] * 3, LL: -seconds}
    return record_of(TALLY, case={"flow": flow}, metrics=metrics, **changes)


def _folder(path: Path, *records: Record) -> Path:
    for record in records:
        store.write(path, record)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs that share two cases; each has one of its own, the first a failed one."""
    failed = record_of(TALLY, case={"flow": "glow"}, status="failed", reason="it broke")
    before = (_record("maf", 4.0), _record("realnvp", 2.0), failed)
    after = (_record("maf", 3.0), _record("realnvp", 1.0), _record("nice"))
    return _folder(tmp_path / "a" / "run", *before), _folder(tmp_path / "b" / "run", *after)


def _rows(table: Any) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.grid.rows]


def test_each_series_names_its_run_and_no_value_mixes_two(folders: tuple[Path, Path]) -> None:
    content = collect(folders)
    assert content.runs == ("a/run", "b/run")
    (section,) = content.sections
    (figure,) = section.figures
    (table,) = section.tables
    likelihoods = {name: value for name, value, _ in _rows(table)}
    assert likelihoods == {
        "glow (a/run)": "–",
        "maf (a/run)": "−4",
        "maf (b/run)": "−3",
        "nice (b/run)": "−1",
        "realnvp (a/run)": "−2",
        "realnvp (b/run)": "−1",
    }
    keys = {f"{run}/{path.stem}" for run, folder in zip(content.runs, folders, strict=True)
            for path in store.loose(folder)}  # fmt: skip
    assert {key for row in table.rows_from for key in row} == keys == set(figure.records)
    assert set(content.references.numbers) == keys
    assert content.undone is not None
    assert [row[:2] for row in _rows(content.undone)] == [["a/run", TALLY]]


def test_one_run_is_not_named(folders: tuple[Path, Path]) -> None:
    (section,) = collect(folders[:1]).sections
    assert [row[0] for row in _rows(section.tables[0])] == ["glow", "maf", "realnvp"]


def test_runs_of_different_machines_share_no_table(tmp_path: Path) -> None:
    """Two of one machine stand in one, the third in another; so with versions of torch."""
    for change in ({"machine": {**MACHINE, "cpu": "other"}}, {"versions": {"torch": "2.14.1"}}):
        root = tmp_path / next(iter(change))
        paths = [
            _folder(root / "a", _record("maf")),
            _folder(root / "b", _record("maf")),
            _folder(root / "c", _record("maf", **change)),
        ]
        (section,) = collect(paths).sections
        names = [[row[0] for row in _rows(table)] for table in section.tables]
        assert names == [["maf (a)", "maf (b)"], ["maf (c)"]]
        assert len({table.title for table in section.tables}) == 2
        assert len({table.name for table in section.tables}) == 2


def test_times_of_another_machine_in_a_run_are_left_out_and_noted(tmp_path: Path) -> None:
    elsewhere = _record("nice", 9.0, machine={**MACHINE, "cpu": "other"})
    (section,) = collect(
        [_folder(tmp_path / "a", _record("maf"), _record("nsf_ar"), elsewhere)]
    ).sections
    assert {row[0]: row[1:] for row in _rows(section.tables[0])}["nice"] == ["−9", "–"]
    assert any("other" in note for note in section.notes)


COMMITTED = ("reference", "truth")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMITTED)
def test_no_row_of_a_study_mixes_two_runs(name: str) -> None:
    """Of committed records, each taken twice: as many rows for each run as for one alone."""
    alone = load(ROOT / name)
    runs = [alone.assign(run=run, key=f"{run}/" + alone["key"]) for run in ("a", "b")]
    both = pd.concat(runs, ignore_index=True)
    both["run"] = pd.Categorical(both["run"], ["a", "b"])
    for study in alone["study"].unique():
        chosen = [study, *registry[study].reads]
        one, two = (
            registry[study].tables(frame[frame["study"].isin(chosen)].reset_index(drop=True).copy())
            for frame in (alone, both)
        )
        rows = {table.name: len(table.frame) for table in one}
        for table in two:
            sides = [{key[0] for key in keys} for keys in table.rows_from]
            assert all(len(side) == 1 for side in sides), table.name
            assert len(sides) == 2 * rows[table.name], table.name


def test_the_command_writes_beside_the_results_and_never_into_them(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["report", *map(str, folders)])
    assert done.exit_code == 0, done.output
    root = tmp_path / "results" / "a-run-vs-b-run" / "report"
    assert (root / "index.html").is_file()
    assert not any((folder / "report").exists() for folder in folders)
    first = (root / "index.html").read_bytes()
    assert report.write(*folders) == Path("results/a-run-vs-b-run/report/index.html")
    assert (root / "index.html").read_bytes() == first


def test_a_folder_given_twice_is_wrong_usage(folders: tuple[Path, Path]) -> None:
    done = CliRunner().invoke(app, ["report", str(folders[0]), str(folders[0] / ".." / "run")])
    assert done.exit_code == 2


def test_a_suite_has_no_notes_on_the_studies_of_another(tmp_path: Path) -> None:
    """Side by side, each is asked for what its own plan holds alone."""
    first = _folder(tmp_path / "first", _record("maf"))
    second = _folder(tmp_path / "second", record_of(PROBE))
    own, other = collect((first, second)).sections
    assert (own.study, other.study) == (TALLY, PROBE)
    assert not any(note.startswith("second:") for note in own.notes)
    assert not any(note.startswith("first:") for note in other.notes)
