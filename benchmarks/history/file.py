"""The history file: a line of JSON a snapshot, only ever appended to.

The order of lines has no meaning, and one that stands there twice counts once. So files of two
branches are merged by keeping the lines of both, which git's driver ``union`` does.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import filelock
from pydantic import ValidationError
from pydantic_core import from_json

from benchmarks.core.formats import brief, readable
from benchmarks.history.snapshot import SCHEMA, Snapshot
from benchmarks.measure.machine import git


@dataclass(frozen=True)
class History:
    """Snapshots in the order of their commits, and where git has these; `ordered` makes one."""

    snapshots: Sequence[Snapshot]
    places: Mapping[str, int] = field(default_factory=dict)

    def range(self, before: Snapshot, after: Snapshot) -> str:
        """What changed from one commit to the next that was measured: a commit or A..B."""
        first, last = (self.places.get(snapshot.commit) for snapshot in (before, after))
        adjacent = first is not None and last is not None and last - first == 1
        return after.name if adjacent else f"{before.name}..{after.name}"


def read(path: Path, repository: Path) -> History:
    """The snapshots of a history file in the order of their commits.

    That is the order of git, in which a commit comes after its parents, or that of dates where the
    repository lacks one of them. Lines of a newer schema are left out with a warning. ValueError
    for a file that does not exist or has a line that is no snapshot.
    """
    if not path.is_file():
        raise ValueError(f"there is no history {str(path)!r}: flowgauge history add makes one")
    snapshots = []
    for number, line in enumerate(lines(path), 1):
        try:
            content = readable(from_json(line))
            if content["schema"] > SCHEMA:
                warnings.warn(
                    f"line {number} of {str(path)!r} is left out: its schema {content['schema']} "
                    f"is newer than {SCHEMA}: update flowgauge",
                    stacklevel=2,
                )
                continue
            snapshots.append(Snapshot.model_validate(content))
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"line {number} of {str(path)!r} is no snapshot of a commit: {brief(error)}. "
                "Remove the line, or restore the file"
            ) from error
    return ordered(snapshots, repository)


def lines(path: Path) -> list[str]:
    """The lines of a history file, each once; none where there is no file."""
    if not path.is_file():
        return []
    return list(dict.fromkeys(filter(None, path.read_text(encoding="utf-8").splitlines())))


def append(path: Path, new: Iterable[str]) -> list[str]:
    """Append the lines that a history file does not have; which these are.

    Commands that do so at once wait for each other.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(".lock")):
        present = {*lines(path)}
        missing = [line for line in dict.fromkeys(new) if line not in present]
        cut = present and not path.read_bytes().endswith(b"\n")  # by an editor
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" * bool(cut) + "".join(f"{line}\n" for line in missing))
    return missing


def ordered(snapshots: Sequence[Snapshot], repository: Path) -> History:
    """Snapshots by their commits, those of one commit by the time when they were measured."""
    places = _places({snapshot.commit for snapshot in snapshots}, repository)
    listed = sorted(snapshots, key=lambda s: (s.date.timestamp(), s.commit, s.dirty, s.measured))
    if all(snapshot.commit in places for snapshot in snapshots):
        listed.sort(key=lambda snapshot: places[snapshot.commit])
    return History(listed, places)


def _places(commits: Collection[str], repository: Path) -> dict[str, int]:
    """Where commits stand in the order of git, parents first; empty outside of a repository."""
    order = ("--date-order", "--reverse", "--ignore-missing")
    try:
        names = git(repository, "rev-list", *order, *sorted(commits), "--").split()
    except ValueError:
        return {}
    return {commit: place for place, commit in enumerate(names)}
