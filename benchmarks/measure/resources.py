"""What this process may use of its machine: cores, memory and GPUs, rather than all there are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
TOPOLOGY = Path("/sys/devices/system/cpu")
KILLED = Path("/proc/vmstat")
MEMBERSHIP = Path("/proc/self/cgroup")


def cores() -> list[frozenset[int]]:
    """Return the physical cores that may be used, each as its logical processors.

    They are those of the affinity mask, at most as many as the cgroup's quota has whole cores, but
    at least one.
    """
    allowed = _affinity()
    groups = {_siblings(processor) & allowed for processor in allowed}
    listed = sorted(groups, key=min)
    quota = min((share for share in _quotas()), default=float("inf"))
    return listed[: max(1, int(min(quota, len(listed))))]


def memory_bytes() -> int:
    """Return the bytes of memory that may be used: the machine's, or the cgroup's limit."""
    names = ("memory.max", "memory.limit_in_bytes")
    limits = [_number(path) for name in names for path in _files(name, "memory")]
    return int(min(psutil.virtual_memory().total, *limits, float("inf")))


def killed_for_memory() -> int:
    """Return how many processes the kernel has killed for want of memory since it was started."""
    lines = [line.split() for line in _text(KILLED).splitlines()]
    return sum(int(number) for name, number in lines if name == "oom_kill")


def gpus() -> list[str]:
    """Return the GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def _affinity() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _siblings(processor: int) -> frozenset[int]:
    """Return the logical processors that share a physical core with one, itself included."""
    for name in ("core_cpus_list", "thread_siblings_list"):
        try:
            text = (TOPOLOGY / f"cpu{processor}" / "topology" / name).read_text()
        except OSError:
            continue
        return frozenset(_listed(text)) | {processor}
    return frozenset({processor})


def _listed(text: str) -> Iterator[int]:
    """Yield the numbers of a kernel's list such as ``0-3,8``."""
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            yield from range(int(first), int(last or first) + 1)


def _quotas() -> Iterator[float]:
    """Yield the numbers of cores that cgroups of this process allow, of both cgroup versions."""
    for path in _files("cpu.max", "cpu"):
        first, _, last = _text(path).partition(" ")
        if first.isdigit() and last.isdigit():
            yield int(first) / int(last)
    for path in _files("cpu.cfs_quota_us", "cpu"):
        quota, period = _number(path), _number(path.with_name("cpu.cfs_period_us"))
        if 0 < quota < float("inf") and 0 < period < float("inf"):
            yield quota / period


def _files(name: str, controller: str) -> Iterator[Path]:
    """Yield the files of a name in the cgroups of this process and in those above them.

    A container sees its own cgroup at the root.
    """
    for line in _text(MEMBERSHIP).splitlines():
        _, controllers, below = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controller if controllers else CGROUPS
        folder = Path(below)
        for parent in (folder, *folder.parents):
            path = root / str(parent).lstrip("/") / name
            if path.is_file():
                yield path


def _number(path: Path) -> float:
    """Return the number in a file; infinity for "max" and for a file that cannot be read."""
    text = _text(path)
    return float(text) if text.lstrip("-").isdigit() else float("inf")


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
