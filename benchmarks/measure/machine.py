"""The machine and the software that numbers were measured with."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cpuinfo
import torch

from benchmarks.measure.resources import memory_bytes

HOOK_VARIABLES = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}  # set by git where it runs hooks
PACKAGES = (
    *("torch", "torchdiffeq", "nflows", "numpy", "scipy", "scikit-learn", "flowgauge"),
    *("zuko", "normflows", "torchflows", "FrEIA"),  # libraries compared
)


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
        "governor": _governor(),
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


def _governor() -> str:
    """Return the governor of the processor's frequency, or "unknown"."""
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text().strip()
    except OSError:
        return "unknown"


def _blas() -> str:
    """Return the linear algebra library that torch was built with."""
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
    """Return the git commit of this checkout, "-dirty" if its code changed; "" outside of one.

    An installed package may lie within a repository of its user's, which does not track it.
    """
    file = Path(__file__).resolve()
    root = file.parents[2]
    try:
        if Path(git(root, "rev-parse", "--show-toplevel")) != root:
            return ""
        git(root, "ls-files", "--error-unmatch", str(file))
        sha = git(root, "rev-parse", "--short=12", "HEAD")
        dirt = git(root, "status", "--porcelain", "-uno", "benchmarks", "flows")
    except ValueError:
        return ""
    return f"{sha}-dirty" if dirt else sha


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
