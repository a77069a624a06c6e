"""What a run that was killed leaves behind, and what the next one removes of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.cli.app import app
from benchmarks.core import store
from benchmarks.core.record import Record
from benchmarks.execution import leftovers
from folders import case_of
from records import record_of

cli = CliRunner()
TEMPORARIES = (".suite.json.host-1-2", "records/.k.npz.a.b-c-3-4", "checkpoints/.k-m.kept.h-5-6")
OTHERS = (".lock", ".report.lock", ".gitignore", "notes.txt")


def made(path: Path, age: float = 0.0) -> Path:
    """A file that was written so many seconds before now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return path


def put(folder: Path, batch: int, **changes: object) -> Record:
    record = record_of(case_of(batch)).model_copy(update=changes)
    store.write(folder, record)
    return record


@pytest.mark.parametrize("packed", [False, True])
def test_temporaries_and_files_of_cases_that_are_done_are_removed(tmp_path, packed) -> None:
    """And none that a training would go on from: of one that failed, or began after its record."""
    done, failed = put(tmp_path, 1), put(tmp_path, 2, status="failed", reason="no")
    pending = put(tmp_path, 3, pending=True)
    if packed:
        store.pack(tmp_path)
    for name in (*TEMPORARIES, *OTHERS):
        made(tmp_path / name)
    folder = tmp_path / "checkpoints"
    over = made(folder / f"{done.key}-mark.safetensors", age=60)
    shared = made(folder / f"{done.key}-mark-other.safetensors", age=60)
    kept = [
        made(folder / f"{failed.key}-mark.safetensors", age=60),
        made(folder / f"{pending.key}-mark.kept", age=60),
        made(folder / f"{done.key}-newer.safetensors", age=-60),
        made(folder / "unknown-mark.safetensors", age=60),
    ]
    leftovers.sweep(tmp_path, store.read(tmp_path))
    assert not any((tmp_path / name).exists() for name in TEMPORARIES)
    assert not over.exists()
    assert not shared.exists()
    assert all(path.exists() for path in (*kept, *(tmp_path / name for name in OTHERS)))


def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder") as error:
        store.replace(tmp_path / "folder", b"content")
    assert error.value.filename == str(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("place", ["claims", "suite.json/inner", "."])
def test_a_place_that_cannot_be_written_is_one_line_and_status_2(tmp_path, place) -> None:
    """By the way that serves a disk that is full."""
    blocked = tmp_path / "out" / place  # . is the folder itself
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_bytes(b"")
    small = ["--study", "identities", "--out", str(tmp_path / "out")]
    result = cli.invoke(app, ["run", "smoke", *small])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert str(tmp_path / "out") in result.stderr
