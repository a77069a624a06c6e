"""The machine: its facts and versions, what of it may be used, and what others do on it."""

import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cpuinfo
import psutil
import torch

HOOK_VARIABLES = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}  # set by git where it runs hooks
PACKAGES = (
    *("torch", "torchdiffeq", "nflows", "numpy", "scipy", "scikit-learn", "flowgauge"),
    *("zuko", "normflows", "torchflows", "FrEIA"),  # libraries compared
)
CGROUPS = Path("/sys/fs/cgroup")
TOPOLOGY = Path("/sys/devices/system/cpu")
GOVERNOR = TOPOLOGY / "cpu0/cpufreq/scaling_governor"  # of the frequency
KILLED = Path("/proc/vmstat")
MEMBERSHIP = Path("/proc/self/cgroup")


def machine(device: str = "cpu") -> dict[str, Any]:
    """Return the facts that the speed of this machine depends on, as JSON."""
    facts: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_bytes": memory_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "blas": _blas(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "governor": _text(GOVERNOR) or "unknown",
        "load": round(os.getloadavg()[0], 2),
    }
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


@cache
def _cpu() -> str:
    """Return the processor's name; cached, since finding it starts a process."""
    name: str = cpuinfo.get_cpu_info().get("brand_raw", platform.processor() or "unknown")
    return name


def _blas() -> str:
    text = torch.__config__.show()
    mkl = re.search(r"Math Kernel Library Version ([\d.]+)", text)
    built = re.search(r"BLAS_INFO=(\w+)", text)
    return f"MKL {mkl[1]}" if mkl else built[1] if built else "unknown"


@cache
def versions() -> dict[str, str]:
    """Return the versions of the packages that numbers depend on."""
    numbers = {}
    for package in PACKAGES:
        try:
            numbers[package] = version(package)
        except PackageNotFoundError:
            numbers[package] = "not installed"
    return numbers


@cache
def commit() -> str:
    """Return the `revision` of this checkout by its code alone; "" outside of one.

    An installed package may lie within a repository of its user's.
    """
    file = Path(__file__).resolve()
    repository = file.parents[2] / ".git"
    return revision(file, "-uno", "benchmarks", "flows") if repository.exists() else ""


def revision(file: Path, *scope: str) -> str:
    """Return a file's commit, "-dirty" if git status has changes of ``scope``; "" if untracked."""
    try:
        git(file.parent, "ls-files", "--error-unmatch", str(file))
        root = Path(git(file.parent, "rev-parse", "--show-toplevel"))
        dirt = git(root, "status", "--porcelain", *scope)
        return git(root, "rev-parse", "--short=12", "HEAD") + "-dirty" * bool(dirt)
    except ValueError:
        return ""


def cores() -> list[frozenset[int]]:
    """Return the physical cores that may be used, each as its logical processors.

    They are those of the affinity mask, at most as many as the cgroup's quota has whole cores, but
    at least one.
    """
    pinned = hasattr(os, "sched_getaffinity")
    allowed = frozenset(os.sched_getaffinity(0) if pinned else range(os.cpu_count() or 1))
    groups = sorted({_siblings(processor) & allowed for processor in allowed}, key=min)
    return groups[: max(1, int(min([*_quotas(), len(groups)])))]


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
    return [str(number) for number in range(torch.cuda.device_count())]


def _siblings(processor: int) -> frozenset[int]:
    """Return all logical processors of one's physical core; the kernel lists them as ``0-3,8``."""
    parts = _text(TOPOLOGY / f"cpu{processor}" / "topology" / "thread_siblings_list").split(",")
    ends = [part.partition("-") for part in parts if part]
    ranges = [range(int(first), int(last or first) + 1) for first, _, last in ends]
    return frozenset({processor}.union(*ranges))


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


class Beside:
    """Accounts for the machine's work from construction on."""

    def __init__(self) -> None:
        self._start, self._busy, self._own = time.monotonic(), _busy(), _own()

    def shared(self) -> dict[str, float] | None:
        """Return the mean numbers of cores that others kept busy and that a hypervisor took.

        None if the system does not tell: outside Linux, and in containers, whose processes see
        neither the machine's work nor each other's.
        """
        seconds = time.monotonic() - self._start
        if self._busy is None or (busy := _busy()) is None or seconds <= 0:
            return None
        used = busy[0] - self._busy[0] - (_own() - self._own)
        stolen = busy[1] - self._busy[1]
        return {
            "other_cores": round(max(0.0, used) / seconds, 3),
            "stolen_cores": round(max(0.0, stolen) / seconds, 3),
        }


def _busy() -> tuple[float, float] | None:
    """Return core-seconds of all processes since the system's start, and those stolen."""
    marks = ("/.dockerenv", "/run/.containerenv")
    contained = any(map(os.path.exists, marks)) or "KUBERNETES_SERVICE_HOST" in os.environ
    if contained or not psutil.LINUX:
        return None
    times = psutil.cpu_times()
    busy = times.user + times.nice + times.system + times.irq + times.softirq
    return busy, times.steal


def _own() -> float:
    """Return core-seconds of this process, its children, those alive too, and its parent."""
    used = os.times()
    total = used.user + used.system + used.children_user + used.children_system
    for process in (*psutil.Process().children(), *psutil.Process().parents()[:2]):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return its output; ValueError with git's message if it fails."""
    command = ["git", "--no-optional-locks", "-c", "core.hooksPath=/dev/null", "-C", str(folder)]
    variables = {name: value for name, value in os.environ.items() if name not in HOOK_VARIABLES}
    try:
        process = subprocess.run(
            [*command, *arguments], env=variables, capture_output=True, text=True, check=True
        )
    except FileNotFoundError:
        raise ValueError("git is needed for this, and is not installed") from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip() or f"exit status {error.returncode}"
        raise ValueError(f"git {arguments[0]} in {str(folder.resolve())!r}: {reason}") from None
    return process.stdout.strip()
