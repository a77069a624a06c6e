"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import inspect
import os
import re
import shlex
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Exit, Option

from benchmarks.cli.console import errors, note, say, usage_errors

if TYPE_CHECKING:
    from benchmarks.datasets.tables import Selection

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
ROOT = "Folder of data files (else that of FLOWGAUGE_DATA, or a cache)."
DataRoot = Annotated[File, Option(help=ROOT)]
SUITE = "A suite's name, the path of a TOML file, or a folder of results."
OUT = "Results folder (default: results/<suite>, or SUITE if it is one)."
STUDY = "Studies of the suite, a,b, instead of all of them; repeatable."
VALUE = "key=value for any value of the suite; repeatable."
DATA = "A data set, or a file of one, a,b, instead of the suite's; repeatable."
TABLE = "A table in a file; data info takes any data set."
TARGET = "Columns whose density given the others is meant, a,b; repeatable."
CONTEXT = "Columns that the density is given, in place of all others, a,b; repeatable."
SUPPORT = "Bounds of all columns of the density, 0,1, or of one, NAME=0,inf; repeatable."
DROPNA = "Leave out rows with missing or infinite values."
NOISE = "Add uniform noise to columns of whole numbers or equal steps."


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

    modules = {load_plugin(Path(path)).__name__ for path in split(list(map(str, paths)))}
    return [name for name in members if members.module_of(name) in modules]


def flows_of(patterns: Sequence[str]) -> list[str]:
    """Flows of names, patterns or files, several by commas, each once; ValueError for no flow."""
    from flows import members

    names: list[str] = []
    for pattern in split(patterns):
        if pattern.endswith(".toml") or (os.path.isfile(pattern) and Path(pattern).suffix != ".py"):
            raise ValueError(
                f"{pattern!r} is no flow: `flowgauge run` takes suites, `choose` tables; name "
                "flows, or a file .py that registers them"
            )
        if not pattern.endswith(".py"):
            names += [name for name in members if fnmatch(name, pattern)] or [pattern]
        elif registered := load_plugins([Path(pattern)]):
            names += registered
        else:
            raise ValueError(f"{pattern!r} registers no flow: decorate one with @flows.register")
    return list(dict.fromkeys(names))


def split(texts: Sequence[str] | None) -> list[str]:
    """Names of a repeatable option that also takes several, a,b; a file's is left as it is."""
    pieces = ([t] if ":" in t or os.path.isfile(t) else t.split(",") for t in texts or ())
    return [name for piece in pieces for name in map(str.strip, piece)]


def numbers(text: str, option: str) -> list[int]:
    """Parse "2..512" as 2, 4, ..., 512, the end always the last; "3,10,63" as it is.

    ValueError for a text that is neither, naming the ``option``.
    """
    if span := re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", text):
        first, last = map(int, span.groups())
        if 1 <= first < last:
            doubled = [first]
            while doubled[-1] * 2 < last:
                doubled.append(doubled[-1] * 2)
            return [*doubled, last]
    elif re.fullmatch(r"[1-9]\d{0,17}(,[1-9]\d{0,17})*", text):
        return [int(number) for number in text.split(",")]
    raise ValueError(f"cannot read --{option} {text!r}: write 2..512, or 3,10,63, from 1 on")


def taking(read: Callable[..., tuple[Any, ...]], values: int) -> Callable[..., Any]:
    """Decorate a command, which takes the options of ``read`` in place of its first ``values``.

    It is called with what ``read`` returns, so many values, and its other options.
    """
    shared = inspect.signature(read, eval_str=True).parameters.values()

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        others = list(inspect.signature(command, eval_str=True).parameters.values())[values:]

        @wraps(command)
        def wrapper(**options: Any) -> None:
            with usage_errors():
                first = read(**{option.name: options.pop(option.name) for option in shared})
            command(*first, **options)

        merged = [option.replace(kind=option.KEYWORD_ONLY) for option in (*shared, *others)]
        wrapper.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]  # typer's source
        wrapper.__annotations__ = {option.name: option.annotation for option in merged}
        return wrapper

    return decorate


def read_suite(
    suite: Annotated[str, Argument(help=SUITE, autocompletion=complete_suites)],
    study: Annotated[Texts, Option(help=STUDY)] = None,
    out: Annotated[File, Option(help=OUT)] = None,
    device: Annotated[str | None, Option(help="Device to measure on: cpu, cuda, cuda:1.")] = None,
    threads: Annotated[int | None, Option(help="Threads of the worker.")] = None,
    plugin: Plugin = None,
    overrides: Annotated[Texts, Option("-s", "--set", help=VALUE)] = None,
    data: Annotated[Texts, Option(help=DATA, autocompletion=complete_data)] = None,
    data_root: DataRoot = None,
) -> tuple[Any, Path]:
    """Resolve the options of a suite: the suite and its results folder; ValueError for wrong ones.

    Plug-ins are loaded and the data root is set on the way.
    """
    from benchmarks.execution import suite as suites

    use_data_root(data_root)
    load_plugins(plugin)
    machine = {"device": device, "threads": threads}
    values = [f"{key}={value}" for key, value in machine.items() if value is not None]
    chosen = suites.read(suite, [*(overrides or ()), *values])
    chosen = chosen.only(split(study)) if study else chosen
    chosen = chosen.on(split(data)) if data else chosen
    folder = out or suites.planned(suite) or Path("results") / chosen.name
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{str(folder)!r} cannot be a results folder: it is a file")
    return chosen, folder


def read_table(
    file: Annotated[str, Argument(help=TABLE, autocompletion=complete_data)],
    columns: Annotated[Texts, Option(help="Columns that are taken, a,b; repeatable.")] = None,
    drop: Annotated[Texts, Option(help="Columns that are left out, a,b; repeatable.")] = None,
    target: Annotated[Texts, Option(help=TARGET)] = None,
    context: Annotated[Texts, Option(help=CONTEXT)] = None,
    support: Annotated[Texts, Option(help=SUPPORT)] = None,
    dropna: Annotated[bool, Option("--dropna", help=DROPNA)] = False,
    dequantise: Annotated[bool, Option("--dequantise", help=NOISE)] = False,
) -> tuple[Any]:
    """Resolve the options of a table: what is wanted of a file, or the name of a data set.

    ValueError for a file that cannot be read, wrong columns, and options of another data set.
    """
    from benchmarks.datasets import tables

    lists = {"columns": columns, "drop": drop, "target": target, "context": context}
    options: dict[str, Any] = {how: tuple(split(texts)) for how, texts in lists.items()}
    options |= {"support": tuple(support or ()), "dropna": dropna, "dequantise": dequantise}
    selection = tables.Selection.of(file)
    if tables.is_file(file):
        return (selection.narrowed(next(iter(tables.read(file).values())), **options),)
    if wrong := [how for how, value in options.items() if value]:
        raise ValueError(f"{file!r} is not a file: --{wrong[0]} is for files")
    return (selection,)


def check_table(selection: Selection, status: int) -> str:
    """Print what is doubtful about a table; return its name.

    Print all its faults and exit with ``status`` if it has any.
    """
    from benchmarks.datasets import tables

    name = str(selection)
    inspection = tables.inspect(name)
    for fault in inspection.faults:
        say(f"flowgauge: error: {name}: {fault}", "red", on=errors)
    if inspection.faults:
        raise Exit(status)
    say(f"data set: {shlex.quote(name)}")
    if selection.target or selection.context:
        density, context = ", ".join(selection.target), ", ".join(selection.context)
        others = "the other columns"
        note(f"the density is that of {density or others} given {context or others}")
    for remark in inspection.remarks:
        say(f"warning: {remark}", "yellow")
    return name


on_suite, on_table = taking(read_suite, 2), taking(read_table, 1)
