"""The host's locks: who holds it alone or with others, and the cores of each run."""

from __future__ import annotations

import os
import stat

import pytest

from benchmarks.execution import host

CORES = [frozenset({2 * n, 2 * n + 1}) for n in range(6)]


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setenv(host.VARIABLE, str(tmp_path))


class Waits(Exception):
    """What a test raises in place of waiting."""


def waiting():
    raise Waits


def test_many_hold_the_host_together_and_one_alone():
    with host.beside(waiting), host.beside(waiting), pytest.raises(Waits), host.alone(waiting):
        pass
    with host.alone(waiting):
        for other in (host.beside, host.alone):
            with pytest.raises(Waits), other(waiting):
                pass
    with host.beside(waiting):
        pass


def test_runs_of_a_host_are_bound_to_different_cores():
    with host.reserved(CORES, 2) as first, host.reserved(CORES, 3) as second:
        assert first == CORES[:2]
        assert second == CORES[2:5]
        with host.reserved(CORES, 3) as third:  # too few are left
            assert third == [CORES[5], *CORES[:2]]
    with host.reserved(CORES, 6) as again:
        assert again == CORES


def test_locks_are_open_to_all_users(tmp_path):
    before = os.umask(0o077)
    try:
        with host.alone(), host.reserved(CORES, 1):
            modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == {0o666}


def test_a_folder_of_locks_that_is_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(host.VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(ValueError, match=host.VARIABLE), host.alone():
        pass
