"""Locks: a results folder has one run at a time, a machine one run that is timing."""

import os
import stat
from pathlib import Path

import pytest

from benchmarks.core import locks, store
from records import case_of, record_of
from runs import COST, flowgauge, refused, toml


@pytest.mark.parametrize("command", ["run", "pack", "merge"])
def test_who_holds_a_folder_is_named_and_readers_go_on(tmp_path: Path, command: str) -> None:
    (tmp_path / "one.toml").write_text(toml(COST))
    folder, other = tmp_path / "out", tmp_path / "other"
    for place in (folder, other):
        store.write(place, record_of(case_of()))
    words = {
        "run": ["run", str(tmp_path / "one.toml"), "--out", str(folder)],
        "pack": ["pack", str(folder)],
        "merge": ["merge", str(other), "--out", str(folder)],
    }[command]
    with locks.held(folder):
        line = refused(*words)
        flowgauge("status", tmp_path / "one.toml", "--out", folder, status=1)
    assert all(text in line for text in (str(folder), f"process {os.getpid()} ("))
    with locks.held(folder):  # it was let go
        pass


def test_one_run_is_timing_and_others_are_told_for_whom(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(locks.VARIABLE, str(tmp_path))

    def waiting(reason: str) -> None:
        raise RuntimeError(reason)

    before = os.umask(0o077)
    try:
        with (
            locks.timing(Path("results/truth"), waiting),
            pytest.raises(RuntimeError, match=rf"Waiting for run {os.getpid()} .* results/truth"),
            locks.timing(Path("results/other"), waiting),
        ):
            pass
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o666}  # open to all users
    with locks.timing(Path("results/other"), waiting):
        pass


def test_a_place_of_the_lock_that_is_no_folder_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(locks.VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(ValueError, match=locks.VARIABLE), locks.timing(tmp_path, print):
        pass


@pytest.mark.parametrize("place", ["records", "suite.json/inner", "."])
def test_a_place_that_cannot_be_written_is_one_line_and_status_2(tmp_path, place) -> None:
    """By the way that serves a disk that is full."""
    (tmp_path / "one.toml").write_text(toml(COST))
    blocked = tmp_path / "out" / place  # . is the folder itself
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_bytes(b"")
    out = tmp_path / "out"
    assert str(out) in refused("run", tmp_path / "one.toml", "--out", out)
