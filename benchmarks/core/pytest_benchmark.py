"""Files of pytest-benchmark, read as measurements like those of a record.

A benchmark describes itself in ``extra_info``: ``metric`` names what its clock shows (`SECONDS` if
absent), ``counts`` are exact metrics beside it, ``reference_seconds`` times of the reference
workload; ``flow``, ``dim``, ``rows`` and ``threads`` are what it was measured with. The fixtures of
the plug-in `pytest_flowgauge` write these, and facts of the machine as records have them.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic_core import from_json

from benchmarks.core.case import digest
from benchmarks.core.record import Values

SECONDS = "call_seconds"  # the metric of a benchmark that names none


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of a file; ``name`` is pytest's, with the file; the rest as in a record."""

    name: str
    params: dict[str, Any]
    information: dict[str, Any]
    metrics: dict[str, Values]
    machine: dict[str, Any]
    commit: str
    started: str

    @property
    def versions(self) -> dict[str, str]:
        """Versions of packages, where the file has them."""
        return dict(self.machine.get("versions", {}))


def newest(folder: Path) -> Path:
    """The latest file in pytest-benchmark's storage; ValueError where there is none."""
    dates: dict[Path, str] = {}
    for path in (*folder.glob("*.json"), *folder.glob("*/*.json")):
        with contextlib.suppress(ValueError):  # no JSON object
            if "benchmarks" in (file := content(path)):
                dates[path] = str(file.get("datetime", ""))
    if not dates:
        raise ValueError(f"{str(folder)!r} holds neither records/ nor a file of pytest-benchmark")
    return max(dates, key=lambda path: (dates[path], path))


def read(path: Path) -> list[Benchmark]:
    """The benchmarks of a file, or of the newest of a storage; ValueError where there are none."""
    path = newest(path) if path.is_dir() else path
    file = content(path)
    if not file.get("benchmarks"):
        raise ValueError(f"{str(path)!r} holds no benchmark of pytest-benchmark")
    try:
        return [_benchmark(entry, file) for entry in file["benchmarks"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} is no file of pytest-benchmark: {error!r}") from error


def content(path: Path) -> dict[str, Any]:
    """The JSON object of a file; ValueError where it is none."""
    try:
        file = from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{str(path)!r} cannot be read as JSON: {reason}") from error
    if not isinstance(file, dict):
        raise ValueError(f"{str(path)!r} holds a JSON {type(file).__name__}, not an object")
    return file


def load(path: str | Path) -> pd.DataFrame:
    """A file, or the newest of a storage, as a long frame with the columns of `frame.load`.

    The study is "micro"; ``setting.work`` is pytest's name, parameters are ``setting.*``, and the
    rest of ``extra_info`` is in ``notes``.
    """
    path = Path(path)
    run = path.resolve().stem
    return pd.DataFrame([{**_row(benchmark), "run": run} for benchmark in read(path)])


def _benchmark(entry: dict[str, Any], file: dict[str, Any]) -> Benchmark:
    """One benchmark of a file's JSON; KeyError, TypeError or AttributeError where it is none."""
    information, stats = dict(entry.get("extra_info") or {}), entry["stats"]
    values: dict[str, Any] = {
        information.pop("metric", SECONDS): stats.get("data") or stats["median"],
        **information.pop("counts", {}),
    }
    about = file.get("machine_info", {})
    if reference := information.pop("reference_seconds", None):
        values["reference_seconds"] = reference
    return Benchmark(
        name=entry["fullname"],
        params=dict(entry.get("params") or {}),
        information=information,
        metrics={name: Values.of(name, numbers) for name, numbers in values.items()},
        machine=about | about.get("flowgauge", {}),
        commit=str(file.get("commit_info", {}).get("id", "")),
        started=str(file.get("datetime", "")),
    )


def _row(benchmark: Benchmark) -> dict[str, Any]:
    """A row of the long frame."""
    notes = dict(benchmark.information)
    row = {"study": "micro", "flow": notes.pop("flow", None), "dim": notes.pop("dim", None)}
    row |= {"batch": notes.pop("rows", None), "threads": notes.pop("threads", None)}
    row |= {"key": digest(benchmark.name)[:16], "status": "done", "reason": "", "seed": 0}
    row |= {f"setting.{name}": value for name, value in benchmark.params.items()}
    row |= {"setting.work": benchmark.name, "commit": benchmark.commit}
    row |= {"started": benchmark.started, "machine": benchmark.machine}
    row |= {"versions": benchmark.versions, "notes": notes, "arrays": None}
    for name, metric in benchmark.metrics.items():
        row[name] = metric.median
        row[f"{name}.values"] = list(metric.values)
    return row
