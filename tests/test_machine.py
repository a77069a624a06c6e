"""The machine: affinity, quotas and limits of both cgroup versions, GPUs, versions, the commit."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.measure import machine
from benchmarks.measure.machine import git


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine of four processors on two physical cores; a function that writes its files."""
    for name, folder in (("CGROUPS", "cgroup"), ("TOPOLOGY", "cpu")):
        monkeypatch.setattr(machine, name, tmp_path / folder)
    monkeypatch.setattr(machine, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    for processor in range(4):
        siblings = "0-1" if processor < 2 else "2,3"
        write(f"cpu/cpu{processor}/topology/thread_siblings_list", siblings)
    return write


def test_siblings_are_one_core_and_the_affinity_mask_counts(system, monkeypatch):
    assert machine.cores() == [{0, 1}, {2, 3}]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3}, raising=False)
    assert machine.cores() == [{1}, {3}]


@pytest.mark.parametrize(
    ("quota", "count"),
    [("150000 100000", 1), ("250000 100000", 2), ("max 100000", 2), ("50000 100000", 1)],
)
def test_a_quota_of_the_second_version_limits_the_cores(system, quota, count):
    system("membership", "0::/a/b")
    system("cgroup/a/cpu.max", quota)  # of the parent
    assert len(machine.cores()) == count


def test_a_quota_of_the_first_version_limits_the_cores(system):
    system("membership", "3:cpu,cpuacct:/x\n0::/")
    system("cgroup/cpu/x/cpu.cfs_period_us", "100000")
    for quota, count in (("100000", 1), ("-1", 2)):
        system("cgroup/cpu/x/cpu.cfs_quota_us", quota)
        assert len(machine.cores()) == count


@pytest.mark.parametrize(
    ("membership", "file"),
    [
        ("0::/a", "a/memory.max"),
        ("4:memory:/a", "memory/a/memory.limit_in_bytes"),
        ("4:memory:/gone", "memory/memory.limit_in_bytes"),
    ],
)
def test_the_memory_is_that_of_the_cgroup(system, membership, file):
    system("membership", membership)
    total = machine.memory_bytes()
    system(f"cgroup/{file}", "1000000")
    assert machine.memory_bytes() == 1_000_000 < total
    system(f"cgroup/{file}", "max")
    assert machine.memory_bytes() == total


def test_visible_gpus_are_those_of_the_environment(monkeypatch):
    for visible, gpus in (("2, GPU-a1", ["2", "GPU-a1"]), ("", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert machine.gpus() == gpus


def test_the_kernels_kills_for_memory_are_counted(system, tmp_path, monkeypatch):
    system("vmstat", "pgfault 12\noom_kill 3\noom_killer 5")
    for name, count in (("vmstat", 3), ("absent", 0)):
        monkeypatch.setattr(machine, "KILLED", tmp_path / name)
        assert machine.killed_for_memory() == count


@pytest.mark.parametrize(("place", "tracked"), [("", True), ("", False), ("venv", True)])
def test_a_commit_is_that_of_the_packages_own_repository(
    place: str, tracked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of a repository that it is installed into, whether tracked or not."""
    file = tmp_path / place / "benchmarks" / "measure" / "machine.py"
    file.parent.mkdir(parents=True)
    shutil.copy(machine.__file__, file)
    git(tmp_path, "init", "-q")
    if tracked:
        git(tmp_path, "add", str(file))
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    git(tmp_path, *who, "commit", "-q", "--allow-empty", "-m", "first")
    monkeypatch.setattr(machine, "__file__", str(file))
    own = git(tmp_path, "rev-parse", "--short=12", "HEAD") if tracked and not place else ""
    assert machine.commit.__wrapped__() == own
    if own:
        file.write_text("changed")
        assert machine.commit.__wrapped__() == f"{own}-dirty"
