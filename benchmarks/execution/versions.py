"""Whether a record is current: the versions that its code declares, and the files it was read from.

A case depends on its study, its flow, its data set, the packages that these lie in and those that
the study uses. Each declares two integers where it is defined: ``version``, what is computed, and
``pace``, how fast. Counts and qualities are current while the versions are those of the record,
times while the paces are too. Plug-ins and data files declare nothing: their content counts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from benchmarks import datasets, protocols
from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.record import Record
from benchmarks.core.study import registry as studies
from benchmarks.datasets import own
from benchmarks.datasets.disk import Absent, sha256
from benchmarks.execution.sources import OURS, commit_of, plugin_files
from benchmarks.training.baselines import BASELINES
from flows import members
from flows.registry import Declared


@dataclass(frozen=True)
class Dependencies:
    """What a case depends on: versions and paces by name, content hashes by name."""

    declared: Mapping[str, Declared]
    files: Mapping[str, str]


@dataclass(frozen=True)
class Standing:
    """Why a record's counts and qualities, and why its times, are stale; empty where current.

    ``unchecked`` says what is not there that would decide it; such a record counts as current.
    """

    counts: str = ""
    times: str = ""
    unchecked: str = ""

    @property
    def reason(self) -> str:
        """The reason that weighs more, in one line; empty where all is current."""
        return self.counts or (f"times alone: {self.times}" if self.times else "")


def dependencies(case: Case) -> Dependencies:
    """What a case depends on now; ValueError for a study, flow or data set that there is not."""
    modules = {f"study {case.study}": studies.module_of(case.study)}
    study = studies[case.study].part(case.settings)
    declared = {f"study {case.former}": Declared(study.version, study.pace)}
    if case.flow not in BASELINES:
        modules[f"flow {case.flow}"] = members.module_of(case.flow)
        declared[f"flow {case.flow}"] = members.declared(case.flow)
    if case.dataset is not None:
        modules[f"data {case.dataset}"] = datasets.module_of(case.dataset)
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
    modules: dict[str, str] = {}
    if case.study in studies:
        modules["study"] = studies.module_of(case.study)
    if case.flow in members:
        modules["flow"] = members.module_of(case.flow)
    if case.dataset is not None and case.dataset in datasets.registry:
        modules["data"] = datasets.module_of(case.dataset)
    facts = {kind: commit_of(module) for kind, module in modules.items()}
    return {kind: fact for kind, fact in facts.items() if fact}


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


def standings(records: Iterable[Record]) -> dict[str, tuple[str, str, str, str]]:
    """The standing of records by key: counts, times, reason, unchecked."""
    listed = {}
    for record in records:
        own.admit(record.case.dataset or "")
        now = standing(record)
        listed[record.key] = (now.counts, now.times, now.reason, now.unchecked)
    return listed


def data_files(name: str | None) -> dict[str, str]:
    """Content hashes of a data set's files; none of a set that has none. Raises `Absent`."""
    module = sys.modules.get(datasets.module_of(name)) if name is not None else None
    files = getattr(module, "files", None)
    return {f"file {path.name}": sha256(path)[:16] for path in files(name)} if files else {}


def _absent_member(case: Case) -> str:
    """What a plug-in that is not loaded has registered: the flow or the data set of a case."""
    if case.flow not in BASELINES and case.flow not in members:
        return f"flow {case.flow!r} is not registered (--plugin FILE loads it)"
    if case.dataset is not None and case.dataset not in datasets.names():
        return f"data set {case.dataset!r} is not registered (--plugin FILE loads it)"
    return ""


def absent(dataset: str | None) -> bool:
    """Whether a data set's files are not there."""
    try:
        data_files(dataset)
    except Absent:
        return True
    return False


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


if __name__ == "__main__":  # the question of a report: which records of a folder are current
    print(json.dumps(standings(store.read(Path(sys.argv[1])).values())))
