"""The fingerprint of the code that measures a case: when it changes, the record is stale.

It covers the modules that a measurement can reach by import, from the study, from the flow's
module and from the data set's, and the content of a data set's files. Comments, docstrings,
formatting and what only draws or judges do not count, and a new member leaves the records of the
others as they are.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from benchmarks import datasets
from benchmarks.core.case import Case, digest
from benchmarks.core.study import registry as studies
from benchmarks.datasets.disk import Absent, sha256
from benchmarks.measure.machine import machine_class, versions
from flows import members

NOT_MEASURING = (  # what only draws, or judges
    "benchmarks.plotting.draw",
    "benchmarks.core.exhibit",
    "benchmarks.views",
)
OFFERED = "flows.conformance"  # by flows to its users: it measures where a study imports it
PRESENTATION = frozenset({"tables", "figures", "reads"})  # of a study: what only shows records


def fingerprint(
    case: Case, installed: Mapping[str, str] | None = None, machine: str | None = None
) -> str:
    """Sixteen digits of the code, versions and, where it is timed, machine behind a case.

    ``installed`` versions and a ``machine``'s class stand in for those of this process.
    """
    roots = {studies.module_of(case.study)}
    packages = {"torch", "torchdiffeq", "nflows"}
    if case.flow in members:
        roots.add(members.module_of(case.flow))
        packages.add(members.package_of(case.flow) or "torch")
    if case.dataset is not None:
        roots.add(datasets.module_of(case.dataset))
    parts = {name: _code(name) for name in sorted(_reached(frozenset(roots)))}
    timed = studies[case.study].timed
    where = "" if not timed else machine_class(case.device) if machine is None else machine
    present = versions() if installed is None else installed
    needed = {k: v for k, v in present.items() if k in packages}
    what = {"code": parts, "versions": needed, "machine": where}
    data = {"data": ["absent"]} if absent(case.dataset) else _data(case.dataset)
    return digest({**what, **data})[:16]


def absent(dataset: str | None) -> bool:
    """Whether a data set's files are not there."""
    try:
        _data(dataset)
    except Absent:
        return True
    return False


def _data(name: str | None) -> dict[str, list[str]]:
    """What the files of a data set hold; of one that has none, nothing."""
    module = sys.modules[datasets.module_of(name)] if name is not None else None
    files = getattr(module, "files", None)
    return {"data": [sha256(path) for path in files(name)]} if files else {}


@cache
def _reached(roots: frozenset[str]) -> frozenset[str]:
    """The project's modules that ``roots`` reach by import, themselves included."""
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in seen or name.startswith(NOT_MEASURING) or _source(name) is None:
            continue
        seen.add(name)
        imported: list[str] = []
        for node in ast.walk(_tree(name)):
            if isinstance(node, ast.Import):
                imported += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        waiting += [other for other in imported if name != "flows" or not other.startswith(OFFERED)]
    return frozenset(seen)


@cache
def _source(name: str) -> Path | None:
    """The file of one of the project's modules or of a plug-in; None for any other."""
    ours = name.partition(".")[0] in ("flows", "benchmarks")
    if not ours and not name.startswith("flowgauge_plugin_") and name not in _registering():
        return None
    if name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
        return Path(file) if file else None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def _registering() -> set[str]:
    """Modules of other distributions that registered a flow."""
    return {members.module_of(name) for name in members}


@cache
def _tree(name: str) -> ast.Module:
    """A module's syntax without docstrings; of a study's, only what its measurement uses."""
    path = _source(name)
    tree = ast.parse(path.read_bytes() if path else b"")
    shows = name.startswith("benchmarks.studies")  # the protocol's module too
    study = name.startswith("benchmarks.studies.")
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            kept = [child for child in body if not _immaterial(child, shows)]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]  # ast.AST declares no body
    while study and (unused := [node for node in tree.body if _unused(node, tree)]):
        tree.body = [node for node in tree.body if node not in unused]
    return tree


def _immaterial(node: ast.stmt, shows: bool) -> bool:
    """Whether it is a docstring or, in a module that ``shows`` records, only for that."""
    if isinstance(node, ast.FunctionDef):
        return shows and node.name in PRESENTATION
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return shows and node.target.id in PRESENTATION
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _unused(node: ast.stmt, tree: ast.Module) -> bool:
    """Whether nothing else in the module mentions what this top-level statement defines."""
    if isinstance(node, ast.FunctionDef) and not node.decorator_list:
        defined = {node.name}
    elif isinstance(node, ast.Import | ast.ImportFrom):
        defined = {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    elif isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) for t in node.targets):
        defined = {target.id for target in node.targets if isinstance(target, ast.Name)}
    else:
        return False
    others = (inner for other in tree.body if other is not node for inner in ast.walk(other))
    return not defined & {inner.id for inner in others if isinstance(inner, ast.Name)}


@cache
def _code(name: str) -> str:
    """Digest of a module's code, without comments, docstrings, imports and presentation."""
    tree = _tree(name)
    imports = ast.Import | ast.ImportFrom
    return digest([ast.unparse(node) for node in tree.body if not isinstance(node, imports)])
