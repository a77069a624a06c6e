"""The command ``flowgauge submit``: run a suite on a cluster, by SLURM or Kubernetes."""

from __future__ import annotations

import inspect
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.cli.console import console, usage_errors
from benchmarks.cli.options import on_suite, read_suite

CONTAINED = ["flowgauge", "run"]  # the command in a container


@on_suite
def submit(
    plan: Any,
    folder: Path,
    context: typer.Context,
    slurm: Annotated[bool, typer.Option("--slurm", help="Write scripts of job arrays.")] = False,
    kubernetes: Annotated[
        bool, typer.Option("--kubernetes", help="Write the manifest of an Indexed Job.")
    ] = False,
    now: Annotated[bool, typer.Option("--now", help="Submit the arrays with sbatch.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Workers of each task.")] = 1,
    tasks: Annotated[
        int | None, typer.Option(min=1, help="Number of tasks (default: by expected time).")
    ] = None,
    at_most: Annotated[int | None, typer.Option(min=1, help="Tasks that run at once.")] = None,
    time: Annotated[
        str | None,
        typer.Option(help="Time limit of a task as SLURM writes it: 90 (minutes), 4:00:00, 1-12."),
    ] = None,
    partition: Annotated[str | None, typer.Option(help="SLURM's partition.")] = None,
    gres: Annotated[str | None, typer.Option(help="SLURM's generic resources: gpu:1.")] = None,
    image: Annotated[str | None, typer.Option(help="Container image for Kubernetes.")] = None,
    volume: Annotated[
        str | None, typer.Option(help="PersistentVolumeClaim that all pods mount at /results.")
    ] = None,
) -> None:
    """Write what runs a suite on a cluster, and submit it with --now.

    Exit status: 0, 2 for wrong usage or a cluster that refuses.
    """
    with usage_errors():
        from benchmarks.core import store
        from benchmarks.execution import submission
        from benchmarks.execution.state import write_plan

        if slurm == kubernetes:
            raise ValueError("name one of --slurm and --kubernetes")
        foreign: dict[str, object] = {"--image": image, "--volume": volume}
        if kubernetes:
            foreign = {"--now": now, "--partition": partition, "--gres": gres}
        if wrong := [name for name, value in foreign.items() if value]:
            other = "--slurm" if kubernetes else "--kubernetes"
            raise ValueError(f"{wrong[0]} is an option of {other}")
        asked = submission.Resources(jobs, partition, gres, time, at_most, tasks)
        given = _given(context)
        if kubernetes:
            if not (image and volume):
                raise ValueError("--kubernetes needs an --image and the --volume of a claim")
            if not submission.NAME.fullmatch(volume):
                raise ValueError(f"--volume {volume!r}: a claim's name has a-z, 0-9, - and . alone")
            out = ["--out", f"/results/{folder.name}"]
            text = submission.kubernetes(plan, [*CONTAINED, *given, *out], asked, image, volume)
            path = folder / "kubernetes.yaml"
            _write(path, text)
            console.print(f"kubectl apply -f {shlex.quote(str(path))}", soft_wrap=True)
            return
        command = [*_command(), "run", *given, "--out", str(folder)]
        arrays = submission.slurm(plan, folder, command, asked)
        with store.held(folder):
            write_plan(plan, folder)  # for the command status, from now on
        for old in (folder / "slurm").glob("*.sh"):
            old.unlink()
        for array in arrays:
            _write(array.path, array.text)
        if now:
            numbers = submission.submit(arrays)
            console.print(f"submitted: {', '.join(numbers)}; flowgauge status {folder} --watch")
            return
        for line in submission.shell(arrays):
            console.print(line, soft_wrap=True)


def _write(path: Path, text: str) -> None:
    from benchmarks.core import store

    path.parent.mkdir(parents=True, exist_ok=True)
    store.replace(path, text.encode())


def _command() -> list[str]:
    """The command that runs here, as another shell starts it."""
    script = Path(sys.argv[0])
    own = script.name == "flowgauge" and script.is_file()
    return [str(script.absolute())] if own else [sys.executable, "-m", "benchmarks"]


def _given(context: typer.Context) -> list[str]:
    """The arguments that named the suite, as they were given, but for the results folder."""
    shared = set(inspect.signature(read_suite).parameters) - {"out"}
    arguments: list[str] = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.name not in shared or value is None:
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            flag = [] if parameter.param_type_name == "argument" else [parameter.opts[0]]
            arguments += [*flag, str(one)]
    return arguments
