"""Which cases of several results folders are the same, measured at another time or place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.core.case import Case, digest
from benchmarks.core.series import HOW

PLACE = ("device", "dtype", "threads")  # in which folders may differ as wholes: CPU and GPU, say
MEANS = {name.partition(".")[2] for name in HOW}
COUNTED = "meta"  # the device of what is counted from shapes, which is none


def labels(folders: Sequence[Path]) -> list[str]:
    """Folders' names, with as many of their parents as it takes; ValueError for one given twice."""
    paths = [folder.resolve() for folder in folders]
    if twice := [str(f) for f, path in zip(folders, paths, strict=True) if paths.count(path) > 1]:
        raise ValueError(f"{twice[-1]!r} is given twice: name different results folders")
    return ["/".join(_ending(path, [other for other in paths if other != path])) for path in paths]


def _ending(path: Path, others: Sequence[Path]) -> Sequence[str]:
    """The last parts of a path, as many as no other has."""
    for count in range(1, len(path.parts)):
        if all(other.parts[-count:] != path.parts[-count:] for other in others):
            return path.parts[-count:]
    return path.parts


def identities(sides: Sequence[Iterable[Case]]) -> list[list[str]]:
    """For each side's cases what is equal for the same case of other sides.

    It leaves out where and by what means a case is measured (`PLACE`, budgets of seconds), unless
    a side has several cases that differ in nothing else: those are the same only if all is equal.
    """
    keyed = [[(_loose(case), case.key) for case in cases] for cases in sides]
    several = {
        loose
        for cases in keyed
        for loose, count in Counter(loose for loose, _ in cases).items()
        if count > 1
    }
    return [[key if loose in several else loose for loose, key in cases] for cases in keyed]


def _loose(case: Case) -> str:
    told = case.model_dump(mode="json", exclude=set(PLACE))
    told["settings"] = {k: v for k, v in case.settings.items() if k not in MEANS}
    return digest([told, case.device == COUNTED])
