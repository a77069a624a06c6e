"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.cli.console import usage_errors
from benchmarks.core.formats import brief

if TYPE_CHECKING:
    from benchmarks.execution.suite import Suite


def _completed(module: str) -> Callable[[str], list[str]]:
    """Complete a name in a shell from the ``names()`` of a module, which it imports then."""

    def complete(incomplete: str) -> list[str]:
        names: list[str] = import_module(module).names()
        return [name for name in names if name.startswith(incomplete)]

    return complete


complete_flows = _completed("flows")
complete_data = _completed("benchmarks.datasets")

SuiteName = Annotated[
    str,
    typer.Argument(
        help="A suite's name, the path of a TOML file, or a folder of results.",
        autocompletion=_completed("benchmarks.execution.suite"),
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Results folder (default: results/<suite>, or SUITE if it is one)."),
]
Studies = Annotated[
    list[str] | None,
    typer.Option("--study", help="A study of the suite, instead of all of them; repeatable."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-s", "--set", help="key=value for any value of the suite; repeatable."),
]
Device = Annotated[str | None, typer.Option(help="Device to measure on: cpu, cuda, cuda:1.")]
Data = Annotated[
    list[str] | None,
    typer.Option(
        help="A data set, or a file of one, instead of the suite's; repeatable.",
        autocompletion=complete_data,
    ),
]
Threads = Annotated[int | None, typer.Option(help="Threads of the worker.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write it as JSON to a file; - for standard output.")
]
Plugin = Annotated[
    list[Path] | None,
    typer.Option(
        help="A Python file that registers flows, data sets, studies or claims; repeatable."
    ),
]
Flows = Annotated[
    list[str] | None,
    typer.Option(
        "--flow",
        help="A flow, a pattern or a file of flows, in place of all; repeatable.",
        autocompletion=complete_flows,
    ),
]
KeepWeights = Annotated[
    bool,
    typer.Option(
        "--keep-weights",
        help="Keep each flow that is trained and scored, in weights/KEY, for flows.load.",
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder of data files (else that of FLOWGAUGE_DATA, or a cache)."),
]


def use_data_root(root: Path | None) -> None:
    """Look for data files in a folder, here and in the worker; ValueError where it is none."""
    if root is not None:
        if not root.is_dir():
            raise ValueError(f"data root {str(root)!r} is not a folder")
        os.environ["FLOWGAUGE_DATA"] = str(root.resolve())


def load_plugins(paths: Sequence[Path] | None) -> list[str]:
    """Import plug-in files; the flows that they register. ValueError for one that cannot be."""
    from flows import members
    from flows.plugins import load_plugin

    modules = {load_plugin(path).__name__ for path in paths or ()}
    return [name for name in members if members.module_of(name) in modules]


def flows_of(patterns: Sequence[str]) -> list[str]:
    """Flows of names or patterns, or that files register, each once; ValueError for no flow."""
    from flows import members

    names: list[str] = []
    for pattern in patterns:
        if pattern.endswith(".py"):
            matches = load_plugins([Path(pattern)])
            if not matches:
                raise ValueError(
                    f"{pattern!r} registers no flow: decorate one with @flows.register"
                )
        else:
            matches = [name for name in members if fnmatch(name, pattern)] or [pattern]
        names += matches
    return list(dict.fromkeys(names))


def results_folder(name: Path) -> Path:
    """The folder that a path or a suite's name stands for, as `read_suite` would resolve it."""
    from benchmarks.execution import suite as suites

    path = Path("results") / name
    return path if str(name) in suites.names() and not name.exists() and path.is_dir() else name


def on_suite(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command of a suite: it takes the options that name one, as `read_suite` has them.

    The command itself is called with the suite, its results folder, and its own options.
    """
    shared = inspect.signature(read_suite, eval_str=True).parameters.values()
    own = list(inspect.signature(command, eval_str=True).parameters.values())[2:]

    @wraps(command)
    def wrapper(**options: Any) -> None:
        with usage_errors():
            plan = read_suite(**{option.name: options.pop(option.name) for option in shared})
        command(*plan, **options)

    merged = [option.replace(kind=option.KEYWORD_ONLY) for option in (*shared, *own)]
    wrapper.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]  # typer's source
    wrapper.__annotations__ = {option.name: option.annotation for option in merged}
    return wrapper


def read_suite(
    suite: SuiteName,
    study: Studies = None,
    out: Out = None,
    device: Device = None,
    threads: Threads = None,
    plugin: Plugin = None,
    overrides: Overrides = None,
    data: Data = None,
    data_root: DataRoot = None,
) -> Any:
    """Resolve the options of a suite: the suite and its results folder; ValueError for wrong ones.

    Plug-ins are loaded and the data root is set on the way.
    """
    from benchmarks.execution import suite as suites

    use_data_root(data_root)
    load_plugins(plugin)
    machine = {"device": device, "threads": threads}
    values = [f"{key}={value}" for key, value in machine.items() if value is not None]
    chosen = suites.read(suite, [*(overrides or ()), *values])
    chosen = chosen.only(study) if study else chosen
    chosen = chosen.on(data) if data else chosen
    folder = out or suites.planned(suite) or Path("results") / chosen.name
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{str(folder)!r} cannot be a results folder: it is a file")
    return chosen, folder


def check_device(device: str) -> None:
    """ValueError for a device that this machine does not have."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used here: {brief(error)}") from error


def check_data(suite: Suite) -> None:
    """ValueError, with how to fetch them, where files of a suite's data sets are absent here."""
    from benchmarks import datasets
    from benchmarks.core.study import registry

    needed = {case.dataset for case in suite.cases() if registry[case.study].needs_data}
    for name in sorted(needed - {None}, key=str):
        datasets.files(str(name))
