"""pytest-benchmark's files: its benchmarks as measurements like those of a record.

A benchmark says in ``extra_info`` what it measures: ``metric`` is the name of what its clock shows
(seconds of a call where it says none), ``counts`` are exact metrics beside it,
``reference_seconds`` times of the reference workload, and ``flow``, ``dim``, ``rows`` and
``threads`` what it was measured with.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.case import digest
from benchmarks.core.record import Values

SECONDS = "call_seconds"  # of a benchmark that does not name its metric


@dataclass(frozen=True)
class Micro:
    """One benchmark of a file; ``name`` is pytest's, with the file."""

    name: str
    params: dict[str, Any]
    information: dict[str, Any]
    metrics: dict[str, Values]
    machine: dict[str, Any]
    commit: str
    started: str

    @property
    def versions(self) -> dict[str, str]:
        """Of the packages that numbers depend on, where the file says them."""
        return dict(self.machine.get("versions", {}))


def newest(folder: Path) -> Path:
    """The file of a folder in pytest-benchmark's layout that was written last.

    Raises ValueError where there is none.
    """
    dated = []
    for path in (*folder.glob("*.json"), *folder.glob("*/*.json")):
        with contextlib.suppress(ValueError):  # another file
            found = content(path)
            if "benchmarks" in found:
                dated.append((str(found.get("datetime", "")), path))
    if not dated:
        raise ValueError(f"{str(folder)!r} holds neither records/ nor a file of pytest-benchmark")
    return max(dated)[1]


def read(path: Path) -> list[Micro]:
    """The benchmarks of a file, or of the newest of a folder; ValueError where it holds none."""
    path = newest(path) if path.is_dir() else path
    found = content(path)
    if not found.get("benchmarks"):
        raise ValueError(f"{str(path)!r} holds no benchmark of pytest-benchmark")
    about = {
        "machine": found.get("machine_info", {}),
        "commit": str(found.get("commit_info", {}).get("id", "")),
        "started": str(found.get("datetime", "")),
    }
    try:
        return [_micro(benchmark, about) for benchmark in found["benchmarks"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} is no file of pytest-benchmark: {error!r}") from error


def content(path: Path) -> dict[str, Any]:
    """A file's JSON object; ValueError where it is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{str(path)!r} cannot be read as JSON: {reason}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{str(path)!r} holds a JSON {type(found).__name__}, not an object")
    return found


def load(path: str | Path) -> pd.DataFrame:
    """A file's benchmarks, or those of the newest of a folder, in the columns of `store.load`.

    The study is "micro"; ``setting.work`` is pytest's name, parameters are ``setting.*``, and the
    rest of ``extra_info`` is in ``notes``.
    """
    return pd.DataFrame([_row(micro) for micro in read(Path(path))])


def _micro(benchmark: dict[str, Any], about: dict[str, Any]) -> Micro:
    information, stats = dict(benchmark.get("extra_info") or {}), benchmark["stats"]
    samples = [float(x) for x in stats.get("data") or [stats["median"]]]
    metrics = {**_values(information.pop("metric", SECONDS), samples)}
    counts = information.pop("counts", {})
    counts |= {"reference_seconds": information.pop("reference_seconds", None)}
    for name, value in counts.items():
        metrics |= _values(name, value) if value is not None else {}
    params = dict(benchmark.get("params") or {})
    return Micro(benchmark["fullname"], params, information, metrics, **about)


def _values(name: str, values: Any) -> dict[str, Values]:
    return {name: Values.of(name, values)}


def _row(micro: Micro) -> dict[str, Any]:
    notes = dict(micro.information)
    row = {"study": "micro", "flow": notes.pop("flow", None), "dim": notes.pop("dim", None)}
    row |= {"batch": notes.pop("rows", None), "threads": notes.pop("threads", None)}
    row |= {"key": digest(micro.name)[:16], "status": "done", "reason": "", "seed": 0}
    row |= {f"setting.{name}": value for name, value in micro.params.items()}
    row |= {"setting.work": micro.name, "commit": micro.commit, "started": micro.started}
    row |= {"machine": micro.machine, "versions": micro.versions, "notes": notes, "arrays": None}
    for name, metric in micro.metrics.items():
        row[name] = float(np.median(metric.values))
        row[f"{name}.values"] = metric.values
    return row
