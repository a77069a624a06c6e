"""What a process may use: affinity, quotas and limits of both cgroup versions, siblings, GPUs."""

from __future__ import annotations

import os

import pytest

from benchmarks.measure import machine as resources


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine of four processors on two physical cores; a function that writes its files."""
    for name, folder in (("CGROUPS", "cgroup"), ("TOPOLOGY", "cpu")):
        monkeypatch.setattr(resources, name, tmp_path / folder)
    monkeypatch.setattr(resources, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)

    def write(**files: str) -> None:
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

    for processor in range(4):
        folder = tmp_path / "cpu" / f"cpu{processor}" / "topology"
        folder.mkdir(parents=True)
        (folder / "core_cpus_list").write_text("0-1\n" if processor < 2 else "2,3\n")
    return write


def test_siblings_are_one_core_and_the_affinity_mask_counts(system, monkeypatch):
    assert resources.cores() == [{0, 1}, {2, 3}]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3}, raising=False)
    assert resources.cores() == [{1}, {3}]


@pytest.mark.parametrize(
    ("quota", "count"),
    [("150000 100000", 1), ("250000 100000", 2), ("max 100000", 2), ("50000 100000", 1)],
)
def test_a_quota_of_the_second_version_limits_the_cores(system, tmp_path, quota, count):
    system(membership="0::/a/b")
    path = tmp_path / "cgroup" / "a" / "cpu.max"  # of the parent
    path.parent.mkdir(parents=True)
    path.write_text(quota)
    assert len(resources.cores()) == count


def test_a_quota_of_the_first_version_limits_the_cores(system, tmp_path):
    system(membership="3:cpu,cpuacct:/x\n0::/")
    folder = tmp_path / "cgroup" / "cpu" / "x"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("100000")
    (folder / "cpu.cfs_period_us").write_text("100000")
    assert len(resources.cores()) == 1
    (folder / "cpu.cfs_quota_us").write_text("-1")
    assert len(resources.cores()) == 2


@pytest.mark.parametrize(
    ("membership", "file"),
    [
        ("0::/a", "a/memory.max"),
        ("4:memory:/a", "memory/a/memory.limit_in_bytes"),
        ("4:memory:/gone", "memory/memory.limit_in_bytes"),
    ],
)
def test_the_memory_is_that_of_the_cgroup(system, tmp_path, membership, file):
    system(membership=membership)
    total = resources.memory_bytes()
    path = tmp_path / "cgroup" / file
    path.parent.mkdir(parents=True)
    path.write_text("1000000")
    assert resources.memory_bytes() == 1_000_000 < total
    path.write_text("max")
    assert resources.memory_bytes() == total


def test_visible_gpus_are_those_of_the_environment(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-a1")
    assert resources.gpus() == ["2", "GPU-a1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert resources.gpus() == []
