"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from benchmarks.cli.console import usage_errors

File = Path | None
Texts = list[str] | None


def _completed(module: str) -> Callable[[str], list[str]]:
    """Complete a name in a shell from the ``names()`` of a module, which it imports then."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in import_module(module).names() if name.startswith(incomplete)]

    return complete


complete_flows = _completed("flows")
complete_data = _completed("benchmarks.datasets")
complete_suites = _completed("benchmarks.execution.suite")

NUMBERS = "2..512 doubles up to 512; 3,10,63 lists values"
JsonFile = Annotated[File, Option("--json", help="Write JSON to a file; - for standard output.")]
PLUGIN = "A Python file that registers flows, data sets, studies or claims; repeatable."
Plugin = Annotated[list[Path] | None, Option(help=PLUGIN)]
KEEP = "Keep each flow that is trained and scored, in weights/KEY, for flows.load."
KeepWeights = Annotated[bool, Option("--keep-weights", help=KEEP)]
ROOT = "Folder of data files (else that of FLOWGAUGE_DATA, or a cache)."
DataRoot = Annotated[File, Option(help=ROOT)]
SUITE = "A suite's name, the path of a TOML file, or a folder of results."
SuiteName = Annotated[str, Argument(help=SUITE, autocompletion=complete_suites)]
OUT = "Results folder (default: results/<suite>, or SUITE if it is one)."
STUDY = "A study of the suite, instead of all of them; repeatable."
VALUE = "key=value for any value of the suite; repeatable."
DATA = "A data set, or a file of one, instead of the suite's; repeatable."


def use_data_root(root: Path | None) -> None:
    """Look for data files in a folder, here and in the worker; ValueError where it is none."""
    if root is not None:
        if not root.is_dir():
            raise ValueError(f"data root {str(root)!r} is not a folder")
        os.environ["FLOWGAUGE_DATA"] = str(root.resolve())


def load_plugins(paths: Sequence[Path] | None) -> list[str]:
    """Import plug-in files; the flows that they register. ValueError for one that cannot be."""
    if not paths:
        return []
    from flows import members
    from flows.plugins import load_plugin

    modules = {load_plugin(path).__name__ for path in paths}
    return [name for name in members if members.module_of(name) in modules]


def flows_of(patterns: Sequence[str]) -> list[str]:
    """Flows of names or patterns, or that files register, each once; ValueError for no flow."""
    from flows import members

    names: list[str] = []
    for pattern in patterns:
        if not pattern.endswith(".py"):
            names += [name for name in members if fnmatch(name, pattern)] or [pattern]
        elif registered := load_plugins([Path(pattern)]):
            names += registered
        else:
            raise ValueError(f"{pattern!r} registers no flow: decorate one with @flows.register")
    return list(dict.fromkeys(names))


def on_suite(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command of a suite: it takes the options that name one, as `read_suite` has them.

    The command itself is called with the suite, its results folder, and its other options.
    """
    shared = inspect.signature(read_suite, eval_str=True).parameters.values()
    others = list(inspect.signature(command, eval_str=True).parameters.values())[2:]

    @wraps(command)
    def wrapper(**options: Any) -> None:
        with usage_errors():
            plan = read_suite(**{option.name: options.pop(option.name) for option in shared})
        command(*plan, **options)

    merged = [option.replace(kind=option.KEYWORD_ONLY) for option in (*shared, *others)]
    wrapper.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]  # typer's source
    wrapper.__annotations__ = {option.name: option.annotation for option in merged}
    return wrapper


def read_suite(
    suite: SuiteName,
    study: Annotated[Texts, Option(help=STUDY)] = None,
    out: Annotated[File, Option(help=OUT)] = None,
    device: Annotated[str | None, Option(help="Device to measure on: cpu, cuda, cuda:1.")] = None,
    threads: Annotated[int | None, Option(help="Threads of the worker.")] = None,
    plugin: Plugin = None,
    overrides: Annotated[Texts, Option("-s", "--set", help=VALUE)] = None,
    data: Annotated[Texts, Option(help=DATA, autocompletion=complete_data)] = None,
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
