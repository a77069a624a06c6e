"""The machine and the software that numbers were measured with."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cpuinfo
import psutil
import torch

from flows.linalg import threaded_batched_lu_is_faulty

PACKAGES = ("torch", "torchdiffeq", "nflows", "numpy", "scipy", "scikit-learn", "zuko", "flowgauge")


def machine(device: str = "cpu") -> dict[str, Any]:
    """What the speed of this machine depends on, as JSON."""
    facts: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "blas": _blas(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "batched_lu_faulty": _faulty_lu(),
        "governor": _governor(),
        "load": round(os.getloadavg()[0], 2),
    }
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


@cache
def _cpu() -> str:
    """The processor's name; asking for it takes a process of its own, so once."""
    name: str = cpuinfo.get_cpu_info().get("brand_raw", platform.processor() or "unknown")
    return name


def _governor() -> str:
    """How the system sets the processor's frequency; "unknown" where it does not say."""
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text().strip()
    except OSError:
        return "unknown"


def _blas() -> str:
    """The linear algebra that torch was built with."""
    told = torch.__config__.show()
    mkl = re.search(r"Math Kernel Library Version ([\d.]+)", told)
    built = re.search(r"BLAS_INFO=(\w+)", told)
    return f"MKL {mkl[1]}" if mkl else built[1] if built else "unknown"


def _faulty_lu() -> bool:
    """Whether batched LU is wrong here with two threads or more; MKL's own messages are muffled."""
    threads, streams = torch.get_num_threads(), {fd: os.dup(fd) for fd in (1, 2)}
    with open(os.devnull, "wb") as nowhere:
        for fd in streams:
            os.dup2(nowhere.fileno(), fd)
        torch.set_num_threads(max(2, threads))
        try:
            return threaded_batched_lu_is_faulty()
        finally:
            torch.set_num_threads(threads)
            ctypes.CDLL(None).fflush(None)  # MKL prints through C's buffer
            for fd, stream in streams.items():
                os.dup2(stream, fd)
                os.close(stream)


@cache
def versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


@cache
def commit() -> str:
    """The git commit of this checkout, "-dirty" where its code changed; empty outside of one."""
    here = Path(__file__).parent
    try:
        sha = subprocess.run(
            ["git", "-C", here, "rev-parse", "--short=12", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
        dirt = subprocess.run(
            ["git", "-C", here, "status", "--porcelain", "-uno", "..", "../../flows"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{sha}-dirty" if dirt else sha
