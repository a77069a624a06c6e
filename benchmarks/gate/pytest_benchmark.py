"""Read files of pytest-benchmark as measurements like those of a record.

A benchmark describes itself in ``extra_info``: ``metric`` names what its clock measures (`SECONDS`
by default), ``counts`` are exact metrics beside it, ``reference_seconds`` times of the reference
workload; ``flow``, ``dim``, ``rows`` and ``threads`` are what it was measured with. The fixtures of
`pytest_flowgauge` write these, and the facts of the machine that records have.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic_core import from_json

from benchmarks.core.case import digest
from benchmarks.core.frame import REFERENCE
from benchmarks.core.record import Values

SECONDS = "call_seconds"  # the metric of a benchmark that names none


def load(path: Path) -> pd.DataFrame:
    """Load a file, or the newest of a storage, with the columns of `benchmarks.core.frame.load`.

    The study is "micro", ``setting.work`` is pytest's name, parameters are ``setting.*``, and
    ``notes`` holds the rest of ``extra_info``.
    """
    rows = []
    for row in read(path):
        for name, metric in row.pop("metrics").items():
            row |= {name: metric.median, f"{name}.values": list(metric.values)}
        rows.append({**row, "run": path.resolve().stem})
    return pd.DataFrame(rows)


def read(path: Path) -> list[dict[str, Any]]:
    """Read a file, or the newest of a storage, a row a benchmark; ValueError if there is none."""
    path = newest(path) if path.is_dir() else path
    file = content(path)
    if not file.get("benchmarks"):
        raise ValueError(f"{str(path)!r} holds no benchmark of pytest-benchmark")
    try:
        return [_row(entry, file) for entry in file["benchmarks"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} is not a file of pytest-benchmark: {error!r}") from error


def newest(folder: Path) -> Path:
    """Find the latest file in a storage of pytest-benchmark; ValueError if there is none."""
    dates: dict[Path, str] = {}
    for path in (*folder.glob("*.json"), *folder.glob("*/*.json")):
        with contextlib.suppress(ValueError):  # not a JSON object
            if "benchmarks" in (file := content(path)):
                dates[path] = str(file.get("datetime", ""))
    if not dates:
        raise ValueError(f"{str(folder)!r} holds neither records/ nor a file of pytest-benchmark")
    return max(dates, key=lambda path: (dates[path], path))


def content(path: Path) -> dict[str, Any]:
    """Read the JSON object of a file; ValueError if it is not one."""
    try:
        file = from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{str(path)!r} cannot be read as JSON: {reason}") from error
    if not isinstance(file, dict):
        raise ValueError(f"{str(path)!r} holds a JSON {type(file).__name__}, not an object")
    return file


def _row(entry: dict[str, Any], file: dict[str, Any]) -> dict[str, Any]:
    """The columns of a benchmark, and its metrics as `Values` by name."""
    notes, stats = dict(entry.get("extra_info") or {}), entry["stats"]
    values = {
        notes.pop("metric", SECONDS): stats.get("data") or stats["median"],
        **notes.pop("counts", {}),
    }
    if reference := notes.pop("reference_seconds", None):
        values[REFERENCE] = reference
    machine = {**file.get("machine_info", {}), **file.get("machine_info", {}).get("flowgauge", {})}
    if isinstance(cpu := machine.get("cpu"), Mapping):  # pytest-benchmark's own
        machine |= {"cpu": cpu.get("brand_raw", ""), "cores": cpu.get("count")}
    return {
        "study": "micro",
        "flow": notes.pop("flow", None),
        "dim": notes.pop("dim", None),
        "batch": notes.pop("rows", None),
        "threads": notes.pop("threads", None),
        "key": digest(entry["fullname"])[:16],
        "status": "done",
        "reason": "",
        "seed": 0,
        **{f"setting.{name}": value for name, value in (entry.get("params") or {}).items()},
        "setting.work": entry["fullname"],
        "commit": str(file.get("commit_info", {}).get("id", "")),
        "started": str(file.get("datetime", "")),
        "machine": machine,
        "versions": dict(machine.get("versions", {})),
        "notes": notes,
        "arrays": None,
        "metrics": {name: Values.of(name, numbers) for name, numbers in values.items()},
    }
