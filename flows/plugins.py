"""Plug-ins: Python files, and entry points of other distributions, that register members."""

import importlib.util
import io
import os
import sys
import traceback
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

FOREIGN = (Exception, SystemExit, GeneratorExit)  # of others' code, which must end no command
LONGEST = 500  # characters of a message that are kept
GROUPS = "flowgauge."  # how the names of the groups of entry points begin
PREFIX = "flowgauge_plugin_"  # of the module of a plug-in's file, before the file's stem

loaded: dict[str, ModuleType] = {}  #: modules of files that were loaded, by their names
_importing: list[str] = []  # the innermost last
_admitted: frozenset[str] | None = None  # entry points that may be loaded; None: all


def described(error: BaseException) -> str:
    """The type of an error and the first line of its message, cut where it is long."""
    try:
        text = str(error)[:LONGEST].strip()
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no message'}"


def load_plugin(path: str | Path) -> ModuleType:
    """Import a Python file that registers members; ValueError where it is missing or broken.

    Its imports find modules beside it, after all others. The file of a module that an entry point
    names is imported as that module. Changes to settings of the process are undone.
    """
    path = Path(os.path.realpath(path))  # which a loop of links has
    name = f"{PREFIX}{path.stem}"
    if (point := _installed(path)) is not None:
        try:
            load_entry_point(point)
        except FOREIGN as error:
            raise _broken(path, error) from error
        return sys.modules[point.module]
    if (known := loaded.get(name)) is not None and known.__file__ == str(path):
        return known
    if path.suffix != ".py" or not path.is_file():
        fault = "is not a Python file" if path.exists() else "does not exist"
        raise ValueError(f"plug-in {str(path)!r} {fault}")
    if known is not None:
        raise ValueError(f"plug-in {str(path)!r} has the name of {known.__file__!r}: rename one")
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = loaded[name] = importlib.util.module_from_spec(spec)
    try:
        with _import(str(path)), _beside(str(path.parent)):
            spec.loader.exec_module(module)
    except BaseException as error:  # KeyboardInterrupt too, which a file may raise
        del sys.modules[name], loaded[name]
        raise _broken(path, error) from error
    return module


def _broken(path: Path, error: BaseException) -> ValueError:
    """What says why a plug-in cannot be imported, and the line of it that the error came from."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    line, fault = (lines or [None])[-1], described(error)
    if isinstance(error, SyntaxError):
        line, fault = error.lineno, f"SyntaxError: {error.msg}"
    where = f"line {line}: " if line else ""
    return ValueError(f"plug-in {str(path)!r} cannot be imported: {where}{fault}")


def _installed(path: Path) -> EntryPoint | None:
    """The entry point that names the module of a file, if it may be loaded; it imports nothing."""
    for group in (group for group in entry_points().groups if group.startswith(GROUPS)):
        for point in entry_points(group=group):
            top, *rest = point.module.split(".")
            with suppress(ValueError):  # of a module without a specification
                spec = importlib.util.find_spec(top)
                roots = (spec and spec.submodule_search_locations) or []
                files = [str(Path(root, *rest).with_suffix(".py")) for root in roots if rest]
                files += [str(Path(root, *rest, "__init__.py")) for root in roots]
                files += [str(spec.origin)] if spec and not rest else []
                if str(path) in files and _admits(point):
                    return point
    return None


def _admits(point: EntryPoint) -> bool:
    """Whether `load_only` has not left an entry point out."""
    return _admitted is None or point.value in _admitted


def load_entry_point(point: EntryPoint) -> None:
    """Import what an entry point names, unless `load_only` has left it out."""
    if _admits(point):
        with _import(point.value):
            point.load()


def load_only(plugins: Collection[str]) -> None:
    """Load plug-ins, as `flows.registry.needed` names them, and no entry point but those after."""
    global _admitted
    files = [plugin for plugin in plugins if plugin.endswith(".py")]
    _admitted = frozenset(plugins) - {*files}
    for group in entry_points().groups if _admitted else ():
        for point in entry_points(group=group) if group.startswith(GROUPS) else ():
            load_entry_point(point)
    for plugin in files:
        load_plugin(plugin)


def loaded_files() -> list[str]:
    """Paths of the plug-ins' files that this process has loaded."""
    return [str(module.__file__) for module in loaded.values()]


def importing() -> str:
    """The plug-in whose import is under way; empty if none is."""
    return _importing[-1] if _importing else ""


@contextmanager
def _import(plugin: str) -> Iterator[None]:
    """Note that a plug-in is being imported, and undo what it does to the process's settings.

    ValueError where it has replaced a function of this library, which is put back.
    """
    import flows
    from flows.isolation import unchanged

    _importing.append(plugin)
    output = io.StringIO()
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] == "flows"]
    before = [
        (module, name, value)
        for module in ours
        for name, value in vars(module).items()
        if callable(value) or (module is flows and not isinstance(value, ModuleType))
    ]
    try:
        with unchanged(f"plug-in {plugin!r}"), staying(), redirect_stdout(output):
            yield
    finally:
        _importing.pop()
        moved = [(m, n, v) for m, n, v in before if vars(m).get(n) is not v]
        for module, name, value in moved:
            setattr(module, name, value)
        later = flows.LATER.keys() & vars(flows).keys()  # which the module never has itself
        for name in later:
            delattr(flows, name)
        if text := output.getvalue()[:LONGEST].replace("\n", " | ").strip(" |"):
            warnings.warn(f"plug-in {plugin!r} printed (kept apart): {text}", stacklevel=4)
    if names := [*later, *(f"{module.__name__}.{name}" for module, name, _ in moved)]:
        raise ValueError(f"it replaces {names[0]}: give its own function another name")


@contextmanager
def staying() -> Iterator[None]:
    """Raise SystemExit where others' code ends the process by `os._exit`."""

    def leave(status: int) -> NoReturn:
        raise SystemExit(status)

    end, os._exit = os._exit, leave
    try:
        yield
    finally:
        os._exit = end


@contextmanager
def _beside(folder: str) -> Iterator[None]:
    """Let imports find the modules of a folder, after all others; it may have a ``flows``."""
    absent = folder not in sys.path
    sys.path += [folder] * absent
    try:
        yield
    finally:
        if absent:
            sys.path.remove(folder)
