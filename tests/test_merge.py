"""`flowgauge merge`: every record once, the right one of two, and all that others need."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.cli.app import app
from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.record import Declared
from benchmarks.execution.merging import SUPERSEDED, merge
from benchmarks.execution.run import CHECKPOINTS
from benchmarks.execution.versions import dependencies
from records import record_of

cli = CliRunner()
CASES = [Case(study="cost", flow="realnvp", dim=dim, batch=4) for dim in (2, 3)]
OLD, NEW = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"


def record(case=CASES[0], started=OLD, stale=False, **fields):
    """A record under the present versions, or under others."""
    declared = dict(dependencies(case).declared)
    if stale:
        declared = {name: Declared(version=d.version + 1) for name, d in declared.items()}
    return record_of(case, {"parameters": 8}, declared=declared, started=started, **fields)


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        ({"started": OLD}, {"started": NEW}, 1),
        ({"started": NEW}, {"started": OLD}, 0),
        ({"started": NEW, "stale": True}, {"started": OLD}, 1),
        ({"started": NEW, "stale": True}, {"started": OLD, "stale": True}, 0),
        ({"started": NEW, "pending": True}, {"started": OLD}, 1),
        ({"started": NEW}, {"started": NEW, "block": "other"}, 0),
    ],
)
def test_the_current_and_newer_one_wins_and_the_other_is_kept(tmp_path, first, second, winner):
    sources, target = [tmp_path / "a", tmp_path / "b"], tmp_path / "c"
    records = [record(**first), record(**second)]
    for source, one in zip(sources, records, strict=True):
        store.write(source, one, {"curve": np.arange(3.0)})
    (conflict,) = merge(sources, target)
    assert conflict.taken in (sources[winner], target)
    assert conflict.label == CASES[0].label
    places = [target, *(target / SUPERSEDED).iterdir()]
    read = [store.read(place)[CASES[0].key] for place in places]
    assert [one.started for one in read] == [
        records[winner].started,
        records[1 - winner].started,
    ]
    for place, one in zip(places, read, strict=True):
        assert store.arrays_of(place, one)["curve"].tolist() == [0, 1, 2]
    assert len(merge(sources, target)) == 1  # again: the same
    assert store.read(target)[CASES[0].key] == read[0]


def test_equal_records_and_those_of_one_folder_are_no_conflict(tmp_path):
    sources = [tmp_path / "a", tmp_path / "b"]
    for source in sources:
        store.write(source, record(), {})
    store.write(sources[1], record(CASES[1]), {})
    assert merge(sources, tmp_path / "c") == []
    assert store.read(tmp_path / "c").keys() == {case.key for case in CASES}


def test_checkpoints_of_what_is_not_done_go_along(tmp_path):
    sources = [tmp_path / "a", tmp_path / "b"]
    store.write(sources[0], record(), {})
    store.write(sources[1], record(CASES[1], status="failed", reason="no"), {})
    names = [f"{case.key}-0123.pt" for case in CASES]
    (sources[1] / CHECKPOINTS).mkdir()
    for name in names:
        (sources[1] / CHECKPOINTS / name).write_text(name)
    merge(sources, tmp_path / "c")
    assert [path.name for path in (tmp_path / "c" / CHECKPOINTS).iterdir()] == names[1:]


def test_the_command_names_conflicts(tmp_path):
    sources = [tmp_path / "a", tmp_path / "b"]
    for source, started in zip(sources, (OLD, NEW), strict=True):
        store.write(source, record(started=started), {})
    out = tmp_path / "c"
    result = cli.invoke(app, ["merge", *map(str, sources), "--out", str(out)])
    assert result.exit_code == 0
    assert CASES[0].label in result.stdout
    assert str(sources[1]) in result.stdout
    assert json.loads((out / "suite.json").read_text())["cases"]


@pytest.mark.parametrize(
    ("folders", "out", "expected"),
    [
        (["a", "nosuch"], "c", ["nosuch"]),
        (["a", "a"], "c", ["named twice", "/a"]),
        (["a", "b"], "b", ["named twice", "/b"]),
        (["a", "empty"], "c", ["empty"]),
    ],
)
def test_wrong_folders_are_told_in_one_line(tmp_path, folders, out, expected):
    for name in ("a", "b"):
        store.write(tmp_path / name, record(), {})
    (tmp_path / "empty").mkdir()
    paths = [str(tmp_path / name) for name in folders]
    result = cli.invoke(app, ["merge", *paths, "--out", str(tmp_path / out)])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert all(text in result.stderr for text in expected)
    assert not (tmp_path / "c").exists()
