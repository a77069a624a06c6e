"""Whether a record is current, or serves another case: versions that its code declares, and files.

A case depends on its study, its flow or baseline, its data set, the packages that these lie in and
those that the study uses. Each declares two integers where it is defined: ``version``, what is
computed, and ``pace``, how fast. Counts and qualities are current while the versions are those of
the record, times while the paces are too. Plug-ins and data files declare nothing: their content
counts, of a plug-in that of every file of its own that it imports. Imports are read from the text,
so that what a factory imports when it is called counts as well.
"""

import ast
import importlib.util
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from benchmarks import datasets, protocols
from benchmarks.core.case import Case
from benchmarks.core.record import Record, Standing
from benchmarks.core.study import registry as studies
from benchmarks.core.study import study_of
from benchmarks.datasets.disk import Absent, sha256
from benchmarks.measure.machine import revision
from benchmarks.training.baselines import BASELINES
from flows import members
from flows.plugins import PREFIX
from flows.registry import Declared, Registry

OURS = ("flows", "benchmarks")
INSTALLED = {"site-packages", "dist-packages"}  # folders of distributions


@dataclass(frozen=True)
class Dependencies:
    """What a case depends on: versions and paces by name, content hashes by name."""

    declared: Mapping[str, Declared]
    files: Mapping[str, str]


def dependencies(case: Case) -> Dependencies:
    """What a case depends on now; ValueError for a study, flow or data set that there is not."""
    modules = {f"study {case.study}": studies.module_of(case.study)}
    study = study_of(case)
    declared = {f"study {case.former}": Declared(study.version, study.pace)}
    if case.flow in BASELINES:
        declared[f"baseline {case.flow}"] = Declared(BASELINES[case.flow].version)
    else:
        modules[f"flow {case.flow}"] = members.module_of(case.flow)
        declared[f"flow {case.flow}"] = members.declared(case.flow)
    if case.dataset is not None:
        modules[f"data {case.dataset}"] = datasets.registry.module_of(case.dataset)
        declared[f"data {case.dataset}"] = datasets.registry.declared(case.dataset)
    if protocol := case.roles.get("by"):
        declared[f"protocol {protocol}"] = Declared(protocols.read(protocol).version)
    packages = {*study.uses, *(p for m in modules.values() for p in _packages(m))}
    declared |= {name: _declared(name) for name in sorted(packages)}
    files: dict[str, str] = {}
    for module in modules.values():
        files |= plugin_files(module)
    return Dependencies(declared, files | data_files(case.dataset))


def dependencies_at_hand(case: Case) -> Dependencies:
    """What a case depends on; of one whose data files are absent, what it declares alone."""
    try:
        return dependencies(case)
    except OSError:
        return dependencies(case.changed(dataset=None))


def plugins_of(case: Case) -> dict[str, dict[str, str]]:
    """The plug-ins that a case's study, flow and data set are of: their files and commits."""
    every: dict[str, Registry[Any]]
    every = {"study": studies, "flow": members, "data": datasets.registry}
    names = {"study": case.study, "flow": case.flow, "data": str(case.dataset)}
    modules = {k: every[k].module_of(name) for k, name in names.items() if name in every[k]}
    return {kind: fact for kind, module in modules.items() if (fact := commit_of(module))}


def standing(record: Record) -> Standing:
    """Whether the present code would give a record's figures.

    What a record does not know it was measured with at version and pace 1. Current as well where
    it cannot be told: without the flow's plug-in or the data set's files.
    """
    try:
        now = dependencies(record.case)
    except (Absent, ValueError) as error:
        if record.case.study not in studies:
            return Standing(str(error), str(error))
        return Standing(unchecked=_absent_member(record.case) or str(error))
    versions, paces = [], []
    for name, declared in now.declared.items():
        before = record.declared.get(name, Declared())
        if before.version != declared.version:
            versions.append(f"version of {name} moved from {before.version} to {declared.version}")
        elif before.pace != declared.pace:
            paces.append(f"pace of {name} moved from {before.pace} to {declared.pace}")
    changed = [n for n, content in now.files.items() if record.files.get(n, content) != content]
    versions += [f"{name} changed" for name in changed]
    counts = "; ".join(versions)
    return Standing(counts, "; ".join([*versions, *paces]) if record.timed or counts else "")


def data_files(name: str | None) -> dict[str, str]:
    """Content hashes of a data set's files; none of a set that has none. Raises `Absent`."""
    paths = datasets.files(name) if name is not None else ()
    return {f"file {path.name}": sha256(path)[:16] for path in paths}


def _absent_member(case: Case) -> str:
    """What a plug-in that is not loaded has registered: the flow or the data set of a case."""
    absent = ""
    if case.flow not in BASELINES and case.flow not in members:
        absent = f"flow {case.flow!r}"
    elif case.dataset is not None and case.dataset not in datasets.registry:
        absent = f"data set {case.dataset!r}"
    return absent and f"{absent} is not registered (--plugin FILE loads it)"


def _packages(module: str) -> Iterator[str]:
    """The packages of ours that a module lies in, the outermost first."""
    parents = module.split(".")[:-1]
    if parents and parents[0] in OURS:
        for length in range(1, len(parents) + 1):
            if (name := ".".join(parents[:length])) not in ("benchmarks", "benchmarks.studies"):
                yield name


@cache
def _declared(package: str) -> Declared:
    module = import_module(package)
    return Declared(getattr(module, "version", 1), getattr(module, "pace", 1))


def source_of(case: Case, records: Mapping[str, Record]) -> Record | None:
    """A complete and current record of the work that a case is resolved to; None without one."""
    if not case.resolves:
        return None
    kind, work = _kind(case), _work(case)
    for record in records.values():
        complete = record.case.resolves and record.status == "done"
        alike = complete and _kind(record.case) == kind and _work(record.case) == work
        if alike and not standing(record).reason:
            return record
    return None


def _kind(case: Case) -> tuple[str, str, str | None]:
    return case.study, case.flow, case.dataset


def _work(case: Case) -> dict[str, Any]:
    """What is measured: the identity of a resolved case without what decided it."""
    identity = {name: part for name, part in case.identity.items() if name != "needs"}
    settings = identity.get("settings", {})
    deciding = studies[case.study].deciding
    return identity | {"settings": {k: v for k, v in settings.items() if k not in deciding}}


def plugin_files(module: str) -> dict[str, str]:
    """Content hashes of a plug-in's file and of every file of its own that it imports, by name.

    The packages that hold it are among them, since Python runs them first.
    Its own are those of its folder and of its distribution, and whatever is imported from a folder
    of no other distribution, such as a package under development. None of a module of ours.
    """
    if (first := _file(module)) is None:
        return {}
    root = first.parent
    if not module.startswith(PREFIX):
        root = first.parents[module.count(".") + (first.name == "__init__.py")]
    distributions = {*_installed()[module.partition(".")[0]]}
    seen: dict[str, Path] = {}
    waiting = [(path, root) for path in [first, *_files(root, module)]]
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
    return {f"file {name}": sha256(path)[:16] for name, path in sorted(seen.items())}


def commit_of(module: str) -> dict[str, str]:
    """The file of a plug-in's module, and its `revision`; nothing of a module of ours."""
    first = _file(module)
    return {} if first is None else {"file": first.name, "commit": revision(first)}


def _file(module: str) -> Path | None:
    """The file of a module that is not ours; None if there is none."""
    path = getattr(sys.modules.get(module), "__file__", None)
    if module.partition(".")[0] in OURS or path is None:
        return None
    return Path(path).resolve()


@cache
def _installed() -> Mapping[str, list[str]]:
    """The distributions of each top-level name that is installed; none of any other."""
    return defaultdict(list, packages_distributions())


def _place(top: str, base: Path, distributions: Set[str]) -> Path | None:
    """The folder that a plug-in imports a top-level name of its own from; None of another's."""
    if not top or top in OURS or top in sys.stdlib_module_names:
        return None
    place = None if INSTALLED & set(base.parts) or not _files(base, top) else base
    place = place or _origin(top)
    if place and INSTALLED & set(place.parts) and distributions.isdisjoint(_installed()[top]):
        return None
    return place


def _origin(top: str) -> Path | None:
    """The folder that holds a top-level module or package; None if it cannot be found."""
    with suppress(ImportError, ValueError):
        if spec := importlib.util.find_spec(top):
            places = [*(spec.submodule_search_locations or ())]
            places += [spec.origin] if spec.has_location and spec.origin else []
            return Path(places[0]).resolve().parent if places else None
    return None


def _imported(node: ast.AST, path: Path, root: Path) -> Iterator[str]:
    """Dotted names, seen from ``root``, that a statement or call of a file may import."""
    match node:
        case ast.Import(names=aliases):
            yield from (alias.name for alias in aliases)
        case ast.Call(
            func=ast.Name(id="import_module" | "__import__")
            | ast.Attribute(attr="import_module" | "__import__"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            package = ".".join(path.relative_to(root).parts[:-1]) if name.startswith(".") else ""
            yield (package + name).strip(".")
        case ast.ImportFrom(module=module, names=aliases, level=level):
            base = module.split(".") if module else []
            if level:
                folder = path.parents[level - 1]
                if not folder.is_relative_to(root):
                    return
                base = [*folder.relative_to(root).parts, *base]
            name = ".".join(base)
            yield name
            yield from (f"{name}.{alias.name}".strip(".") for alias in aliases)


def _files(root: Path, name: str) -> list[Path]:
    """The files that a dotted name stands for under ``root``, packages' ``__init__`` among them."""
    parts = name.split(".") if name else []
    paths = [root.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)]
    modules = [root.joinpath(*parts).with_suffix(".py")] if parts else []
    return [p for p in (*paths, *modules) if p.is_file()]
