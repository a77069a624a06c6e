"""The files of an audit: its rows and the scripts that show its failures, written as it goes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.core import store

TASK = ("library", "version", "family", "dim", "dtype", "parameters")
FIELDS = (*TASK, "row", "figure", "bound", "passed", "confirmed")
WHERE = ("library", "family", "dim", "dtype", "parameters", "row")
Row = dict[str, Any]


class Ledger:
    """The rows of one JSON file, and the scripts in the file beside it.

    A file that is there is read, and goes on. Every change writes the files anew and atomically, a
    line a row, so that a kill loses nothing that was added. ValueError for a file of another kind.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.scripts_path = path, scripts_path(path)
        self.rows = read(path) if path.exists() else []
        self.scripts = read_scripts(path)
        path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def tasks(self) -> set[tuple[Any, ...]]:
        """The tasks whose rows are there."""
        return {tuple(row[field] for field in TASK) for row in self.rows}

    def forget(self, library: str, version: str) -> None:
        """Drop what is there of a library's other versions."""
        stale = {r["family"] for r in self.rows if is_of(r, library) and r["version"] != version}
        self.rows = [r for r in self.rows if not is_of(r, library) or r["version"] == version]
        self.scripts = [s for s in self.scripts if s["family"] not in stale]

    def add(self, rows: Sequence[Row], scripts: Sequence[Row]) -> None:
        """Add the rows of a task, and of each row of a family the first script that confirms it."""
        self.rows += rows
        for script in scripts:
            same = [s for s in self.scripts if all(s[k] == script[k] for k in ("family", "row"))]
            if not same or (script["confirmed"] and not same[0]["confirmed"]):
                self.scripts = [s for s in self.scripts if s not in same] + [script]
        self.scripts.sort(key=lambda s: (s["family"], s["row"]))
        _write(self.scripts_path, self.scripts)  # first: a task is done once its rows are there
        _write(self.path, self.rows)


def is_of(row: Row, library: str) -> bool:
    """Whether a row is of a library."""
    return bool(row["library"] == library)


def plain(value: float | None) -> float | None:
    """A number as JSON has it, to four digits: None for NaN and infinity."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def read(path: Path) -> list[Row]:
    """The rows of an audit's file; ValueError where it has none."""
    try:
        rows = json.loads(path.read_text())
        if not all(set(row) == {*FIELDS} for row in rows):
            raise ValueError("rows need the fields " + ", ".join(FIELDS))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(path)!r} is no list of an audit's rows: {error}; name another file"
        ) from error
    return list(rows)


def read_scripts(path: Path) -> list[Row]:
    """The scripts beside an audit's file; none where they are absent."""
    file = scripts_path(path)
    return list(json.loads(file.read_text())) if file.exists() else []


def scripts_path(path: Path) -> Path:
    """The file of the scripts, beside that of the rows."""
    return path.with_suffix(".scripts.json")


def _write(path: Path, rows: Sequence[Row]) -> None:
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    store.replace(path, f"[\n{lines}\n]\n".encode())
