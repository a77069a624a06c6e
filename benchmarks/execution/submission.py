"""Scripts and manifests that run a suite on a cluster: SLURM arrays, Kubernetes Indexed Jobs."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from benchmarks.execution.suite import Suite
from benchmarks.execution.tasks import budget, tasks

MOST = 1001  # SLURM's MaxArraySize if it does not tell
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")  # of an object in Kubernetes
SHORTEST = 600.0  # seconds of a task: SLURM signals it two to three minutes before its end
# variables of the environment that a job is given
PASSED = ("FLOWGAUGE_DATA", "FLOWGAUGE_CLAIM_SECONDS", "FLOWGAUGE_HOST", "PYTHONPATH")
TEMPLATES = Environment(
    loader=PackageLoader("benchmarks.execution"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True)
class Array:
    """A script of a job array; ``alone`` if its tasks have a node to themselves."""

    path: Path
    text: str
    alone: bool


@dataclass(frozen=True)
class Resources:
    """What each task of an array or a job asks for; None leaves it to the cluster."""

    jobs: int = 1
    partition: str | None = None
    gres: str | None = None
    time: str | None = None
    at_most: int | None = None  # tasks at once
    tasks: int | None = None  # in all, instead of as many as fit twice into the time

    def count(self, seconds: float, blocks: int) -> int:
        """The number of tasks for so many blocks, which take one worker so long.

        Without a time of theirs tasks are to end within half an hour. ValueError for a time that is
        none of SLURM's, or too short.
        """
        limit = slurm_seconds(self.time) if self.time else 3600.0
        if limit < SHORTEST:
            raise ValueError(
                f"--time {self.time} is too short to stop at a checkpoint before its end: "
                f"take at least {SHORTEST / 60:.0f} minutes"
            )
        return max(1, min(self.tasks or math.ceil(2 * seconds / limit), blocks))


def slurm_seconds(text: str) -> float:
    """The seconds of a time as SLURM writes it: MM, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        raise ValueError(f"time {text!r} is not SLURM's: write MM, HH:MM:SS or D-HH:MM:SS")
    days, *parts = (int(group) if group else None for group in match.groups())
    numbers = [part for part in parts if part is not None]
    if days is not None:  # hours first
        units: tuple[int, ...] = (3600, 60, 1)
    else:
        units = {1: (60,), 2: (60, 1), 3: (3600, 60, 1)}[len(numbers)]
    total = (days or 0) * 86400 + sum(a * b for a, b in zip(numbers, units, strict=False))
    if not total:
        raise ValueError(f"time {text!r} is no time: ask for more")
    return float(total)


def slurm(suite: Suite, folder: Path, command: Sequence[str], asked: Resources) -> list[Array]:
    """Scripts of job arrays that run a suite into a folder that all nodes share.

    First come arrays of what runs beside others, then those of what has a node to itself; an array
    has fewer tasks than SLURM's MaxArraySize. ValueError for a time that is none of SLURM's.
    """
    most = _most()
    arrays = []
    for phase, expected, blocks in _phases(suite):
        if not blocks:
            continue
        jobs = asked.jobs if phase == "beside" else 1
        count = asked.count(expected / jobs, blocks)
        for part, offset in enumerate(range(0, count, most - 1)):
            last = min(count - offset, most - 1)
            path = folder / "slurm" / f"{phase}-{part + 1}.sh"
            text = TEMPLATES.get_template("slurm.sh.jinja").render(
                about=f"Suite {suite.name!r}: what runs {phase}, task {offset + 1} to "
                f"{offset + last} of {count}.",
                name=_name(suite, phase),
                last=last,
                offset=offset,
                count=count,
                at_most=asked.at_most,
                cores=suite.threads * jobs,
                options=_options(suite, asked, phase, path.parent.resolve()),
                folder=shlex.quote(str(Path.cwd())),
                environment=[(n, shlex.quote(os.environ[n])) for n in PASSED if n in os.environ],
                command=shlex.join([*command, "--jobs", str(jobs)]),
                phase=phase,
            )
            arrays.append(Array(path, text, phase == "alone"))
    return arrays


def shell(arrays: Sequence[Array]) -> list[str]:
    """The lines of a shell that submit arrays, those alone after all others."""
    lines, before = [], ""
    waited = any(array.alone for array in arrays)
    for array in arrays:
        path = shlex.quote(str(array.path))
        if array.alone:
            lines.append(f"sbatch {'--dependency=afterany$jobs ' if before else ''}{path}")
        elif waited:
            lines.append(f"jobs={before}:$(sbatch --parsable {path})")
            before = "$jobs"
        else:
            lines.append(f"sbatch {path}")
    return lines


def submit(arrays: Sequence[Array]) -> list[str]:
    """Submit arrays, those alone after all others; their job numbers.

    ValueError where sbatch is absent or refuses one.
    """
    numbers: list[str] = []
    first: list[str] = []
    for array in arrays:
        after = [f"--dependency=afterany:{':'.join(first)}"] if array.alone and first else []
        number = _sbatch([*after, str(array.path)])
        numbers.append(number)
        if not array.alone:
            first.append(number)
    return numbers


def kubernetes(
    suite: Suite, command: Sequence[str], asked: Resources, image: str, volume: str
) -> str:
    """The manifest of an Indexed Job whose pods share the volume of a claim under /results.

    A pod cannot have a node to itself for a part of its life: records of times know nothing of what
    ran beside, and the reference workload tells.
    """
    (_, beside, _), (_, alone, _) = _phases(suite)
    blocks = len(tasks(suite.cases(), suite.operators))
    return TEMPLATES.get_template("kubernetes.yaml.jinja").render(
        about=f"Suite {suite.name!r} in pods that share a volume.",
        name=_name(suite),
        count=asked.count(beside / asked.jobs + alone, blocks),
        at_most=asked.at_most,
        image=image,
        volume=volume,
        command=shlex.join(["exec", *command, "--jobs", str(asked.jobs)]),
        cores=suite.threads * asked.jobs,
        gpus=asked.jobs if suite.device.startswith("cuda") else 0,
    )


def _phases(suite: Suite) -> list[tuple[str, float, int]]:
    """Each phase with the seconds that it is expected to take, and the number of its tasks."""
    listed = tasks(suite.cases(), suite.operators)
    beside = [task for task in listed if not task.alone]
    alone = [task for task in listed if task.alone]
    after = [seconds for task in beside for case in task.cases if (seconds := budget(case)[1])]
    return [
        ("beside", sum(task.budget for task in beside), len(beside)),
        ("alone", sum(task.budget for task in alone) + sum(after), len(alone) + len(after)),
    ]


def _options(suite: Suite, asked: Resources, phase: str, logs: Path) -> list[str]:
    """Options of sbatch, which reads quotes as a shell does; a GPU for each worker on CUDA."""
    gpus = f"gpu:{asked.jobs}" if suite.device.startswith("cuda") else None
    named = {
        "output": str(logs).replace("%", "%%") + "/%x-%A_%a.out",
        "partition": asked.partition,
        "gres": asked.gres or gpus,
        "time": asked.time,
    }
    if broken := [name for name, value in named.items() if value and not value.isprintable()]:
        raise ValueError(f"--{broken[0]} {named[broken[0]]!r}: write it in one line")
    options = [f"--{name}={shlex.quote(value)}" for name, value in named.items() if value]
    return options + (["--exclusive"] if phase == "alone" else [])


def _name(suite: Suite, *more: str) -> str:
    """A name that SLURM and Kubernetes accept: letters, digits and dashes.

    A pod's host name is that of its job with its index, 63 letters at most.
    """
    words = re.sub(r"[^a-z0-9]+", "-", "-".join(["flowgauge", suite.name, *more]).lower())
    return words[:52].strip("-")


def _most() -> int:
    """SLURM's MaxArraySize; its default where SLURM does not tell."""
    if shutil.which("scontrol") is None:
        return MOST
    answer = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True)
    limit = re.search(r"MaxArraySize\s*=\s*(\d+)", answer.stdout)
    return max(2, int(limit[1])) if limit else MOST


def _sbatch(arguments: Sequence[str]) -> str:
    """Submit a script; its job number."""
    if shutil.which("sbatch") is None:
        raise ValueError("there is no sbatch here: leave out --now, and submit where SLURM is")
    answer = subprocess.run(["sbatch", "--parsable", *arguments], capture_output=True, text=True)
    if answer.returncode:
        raise ValueError(f"sbatch refused {arguments[-1]!r}: {answer.stderr.strip()}")
    return answer.stdout.strip().partition(";")[0]
