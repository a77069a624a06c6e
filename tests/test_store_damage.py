"""Results folders that are damaged, of a newer schema or no folders: named, never changed."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.cli.app import app
from benchmarks.core import store
from benchmarks.core.record import SCHEMA
from benchmarks.execution.plan import state
from benchmarks.execution.run import run
from benchmarks.execution.suite import Suite
from records import arrays_of, case_of, content, edit, put, record_of, values


@pytest.mark.parametrize("fields", [{}, {"status": "of a later release"}, {"case": 3}])
def test_a_loose_record_of_a_newer_schema_is_named_and_kept(tmp_path, fields):
    """By a run too, which neither sets it aside nor measures over it."""
    put(tmp_path, 1)
    victim = put(tmp_path, 2)
    edit(victim, schema=SCHEMA + 1, **fields)
    before = victim.read_bytes()
    with pytest.warns(UserWarning, match=victim.name):
        assert set(values(tmp_path)) == {1}
    assert not store.corrupt(tmp_path)
    assert store.newer(tmp_path).keys() == {victim.stem}
    store.set_aside(tmp_path)
    store.pack(tmp_path)
    assert victim.read_bytes() == before
    with pytest.warns(UserWarning, match=victim.name):
        assert set(values(tmp_path)) == {1}


def test_a_run_measures_nothing_over_a_record_of_a_newer_schema(tmp_path):
    entry = {"study": "cost", "dims": [2], "batch": [4], "seconds": 0, "flows": ["realnvp"]}
    suite = Suite(name="one", threads=1, studies=(entry,))
    (case,) = suite.cases()
    store.write(tmp_path, record_of(case))
    (path,) = store.loose(tmp_path)
    edit(path, schema=SCHEMA + 1)
    before = path.read_bytes()

    class Silent:
        def begin(self, cases, kept, budget):
            assert not cases

    with pytest.warns(UserWarning, match=path.name):
        run(suite, tmp_path, Silent())
    with pytest.warns(UserWarning, match=path.name):
        now = state(suite, tmp_path)
    assert now.missing == {case.key}
    assert path.read_bytes() == before
    assert str(SCHEMA + 1) in now.reason(case.key)


def test_a_packed_record_of_a_newer_schema_is_named_and_kept(tmp_path, monkeypatch):
    put(tmp_path, 1)
    monkeypatch.setattr("benchmarks.core.record.SCHEMA", SCHEMA + 1)
    record = record_of(case_of(2)).model_copy(update={"schema_": SCHEMA + 1})
    store.write(tmp_path, record)
    table = store.pack(tmp_path)
    assert table is not None
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=table.name):
        assert set(values(tmp_path)) == {1}
    put(tmp_path, 3)
    store.pack(tmp_path)
    put(tmp_path, 4)
    before = content(tmp_path)
    with pytest.raises(store.FolderError, match=table.name):
        store.pack(tmp_path, join=True)
    assert content(tmp_path) == before


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def overwritten(path: Path) -> None:
    path.write_bytes(bytes(reversed(path.read_bytes())))


DAMAGES = (truncated, emptied, overwritten)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_damaged_loose_record_is_set_aside_on_demand_alone(tmp_path, damage, suffix):
    put(tmp_path, 1)
    victim = put(tmp_path, 2, {"a": np.arange(100.0)}).with_suffix(suffix)
    damage(victim)
    before = content(tmp_path)
    assert [path.stem for path in store.corrupt(tmp_path)] == [victim.stem]
    store.pack(tmp_path)
    assert before[str(victim)] == content(tmp_path)[str(victim)]
    store.set_aside(tmp_path)
    assert not store.corrupt(tmp_path)
    assert (tmp_path / "corrupt" / victim.name).is_file()
    assert set(values(tmp_path)) == {1}


def test_a_record_that_the_disk_refuses_is_named_and_not_set_aside(tmp_path, monkeypatch):
    paths = [put(tmp_path, batch) for batch in (1, 2)]
    before, read_bytes = content(tmp_path), Path.read_bytes

    def refused(path: Path) -> bytes:
        if path == paths[0]:
            raise OSError(errno.EIO, "Input/output error")
        return read_bytes(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refused)
        assert store.corrupt(tmp_path).keys() == {paths[0]}
        assert not store.set_aside(tmp_path)
    assert content(tmp_path) == before


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pattern", ["records-*.parquet", "arrays-*.zip"])
def test_a_damaged_part_is_named(tmp_path, damage, pattern):
    put(tmp_path, 1, {"a": np.arange(100.0)})
    store.pack(tmp_path)
    (victim,) = tmp_path.glob(pattern)
    damage(victim)
    put(tmp_path, 2, {"a": np.arange(100.0)})
    before = content(tmp_path)
    with pytest.raises(store.FolderError, match=victim.name):
        arrays_of(tmp_path)
    with pytest.raises(store.FolderError, match=victim.name):
        store.pack(tmp_path, join=True)
    drafts = {path for path in content(tmp_path) if Path(path).name.startswith(".")}
    assert before == {path: c for path, c in content(tmp_path).items() if path not in drafts}


COMMANDS = (
    ("pack",),
    ("pack", "--all"),
    ("report",),
    ("status", "--json", "-"),
    ("run",),
    ("run", "--renew-times"),
    ("claims",),
    ("baseline", "update"),
    ("baseline", "check", "--target"),
)


def missing(folder: Path) -> None:
    """No folder at all."""


def a_file(folder: Path) -> None:
    folder.write_text("no folder")


def no_records(folder: Path) -> None:
    folder.mkdir()


def plan_of_nothing(folder: Path) -> None:
    put(folder)
    store.pack(folder)
    (folder / "suite.json").write_text("[")


def damaged_part(folder: Path) -> None:
    entry = {"study": "cost", "dims": [2], "batch": [4], "seconds": 0, "flows": ["realnvp"]}
    for batch in (1, 2):
        put(folder, batch)
        store.pack(folder)
    put(folder, 3)
    plan = {"name": "one", "suite": {"name": "one", "studies": [entry]}}
    (folder / "suite.json").write_text(json.dumps(plan))
    truncated(next(folder.glob("*.parquet")))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("damage", [missing, a_file, no_records, plan_of_nothing, damaged_part])
def test_commands_refuse_what_is_no_sound_folder(tmp_path, monkeypatch, command, damage):
    monkeypatch.chdir(tmp_path)
    damage(tmp_path / "victim")
    before = content(tmp_path)
    result = CliRunner().invoke(app, [*command, "victim"])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if damage is plan_of_nothing and command[0] in ("pack", "baseline"):
        return  # sound records, whose plan these do not read
    if damage is damaged_part and command == ("pack",):
        return  # it adds a part and reads no other
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert "victim" in result.stderr
    assert before == {
        p: c for p, c in content(tmp_path).items() if not Path(p).name.startswith(".lock")
    }
