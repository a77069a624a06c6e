"""Files of plug-ins: those of their own that they import, by content, and the commits they are at.

Imports are read from the text, so that what a factory imports when it is called counts as well.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Collection, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from benchmarks.datasets.disk import sha256
from benchmarks.measure.machine import git
from flows.plugins import PREFIX

OURS = ("flows", "benchmarks")
INSTALLED = {"site-packages", "dist-packages"}  # folders of distributions
DYNAMIC = ("import_module", "__import__")  # functions that import a module by its name


def plugin_files(module: str) -> dict[str, str]:
    """Content hashes of a plug-in's file and of every file of its own that it imports, by name.

    The packages that hold it are among them, since Python runs them first.
    Its own are those of its folder and of its distribution, and whatever is imported from a folder
    of no other distribution, such as a package under development. None of a module of ours.
    """
    first = _file(module)
    if first is None:
        return {}
    depth = module.count(".") + (first.name == "__init__.py")
    root = first.parent if module.startswith(PREFIX) else first.parents[depth]
    packages = [] if module.startswith(PREFIX) else _files(root, module)
    reached = _reached([first, *packages], root, _distributions(module))
    return {f"file {name}": sha256(path)[:16] for name, path in sorted(reached.items())}


def commit_of(module: str) -> dict[str, str]:
    """The file of a plug-in's module, and its commit with "-dirty" if the tree has changes.

    Without a repository that tracks the file there is no commit; nothing of a module of ours.
    """
    first = _file(module)
    return {} if first is None else {"file": first.name, "commit": _commit(first)}


def _commit(file: Path) -> str:
    try:
        git(file.parent, "ls-files", "--error-unmatch", str(file))
        dirt = git(Path(git(file.parent, "rev-parse", "--show-toplevel")), "status", "--porcelain")
        return git(file.parent, "rev-parse", "--short=12", "HEAD") + "-dirty" * bool(dirt)
    except ValueError:
        return ""


def _file(module: str) -> Path | None:
    """The file of a module that is not ours; None if there is none."""
    path = getattr(sys.modules.get(module), "__file__", None)
    if module.partition(".")[0] in OURS or path is None:
        return None
    return Path(path).resolve()


def _distributions(module: str) -> Collection[str]:
    return _installed().get(module.partition(".")[0], ())


@cache
def _installed() -> dict[str, list[str]]:
    """The distributions of each top-level name that is installed."""
    return dict(packages_distributions())


def _reached(files: list[Path], root: Path, distributions: Collection[str]) -> dict[str, Path]:
    """The files of its own that files import, directly or not, themselves included, by name."""
    seen: dict[str, Path] = {}
    waiting = [(path, root) for path in files]
    while waiting:
        path, base = waiting.pop()
        if path in seen.values():
            continue
        name = str(path.relative_to(base))
        seen[name if name not in seen else str(path)] = path
        for node in ast.walk(ast.parse(path.read_bytes())):
            for imported in _imported(node, path, base):
                if place := _place(imported.partition(".")[0], base, distributions):
                    waiting += [(file, place) for file in _files(place, imported)]
    return seen


def _place(top: str, base: Path, distributions: Collection[str]) -> Path | None:
    """The folder that a plug-in imports a top-level name of its own from; None of another's."""
    if not top or top in OURS or top in sys.stdlib_module_names:
        return None
    if INSTALLED & set(base.parts) or not _files(base, top):
        if not (origin := _origin(top)):
            return None
        base = origin
    foreign = INSTALLED & set(base.parts) and not {*_installed().get(top, ())} & {*distributions}
    return None if foreign else base


def _origin(top: str) -> Path | None:
    """The folder that holds a top-level module or package; None if it cannot be found."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    places = [*(spec.submodule_search_locations or ())]
    places += [spec.origin] if spec.has_location and spec.origin else []
    return Path(places[0]).resolve().parent if places else None


def _imported(node: ast.AST, path: Path, root: Path) -> Iterator[str]:
    """Dotted names, seen from ``root``, that a statement or call of a file may import."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.Call):
        function = node.func
        name = getattr(function, "attr", getattr(function, "id", ""))
        texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
        if name in DYNAMIC and texts and isinstance(texts[0], str):
            package = ".".join(path.relative_to(root).parts[:-1])
            yield (package + texts[0] if texts[0].startswith(".") else texts[0]).strip(".")
    elif isinstance(node, ast.ImportFrom):
        base = (node.module or "").split(".") if node.module else []
        if node.level:
            folder = path.parents[node.level - 1]
            if not folder.is_relative_to(root):
                return
            base = [*folder.relative_to(root).parts, *base]
        name = ".".join(base)
        yield name
        yield from (f"{name}.{alias.name}".strip(".") for alias in node.names)


def _files(root: Path, name: str) -> list[Path]:
    """The files that a dotted name stands for under ``root``, packages' ``__init__`` among them."""
    parts = name.split(".") if name else []
    paths = [root.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)]
    own = [root.joinpath(*parts).with_suffix(".py")] if parts else []
    return [p for p in (*paths, *own) if p.is_file()]
