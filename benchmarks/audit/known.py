"""Faults of other libraries that were reported or read elsewhere."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

from benchmarks.audit.comparison import is_fault
from benchmarks.audit.ledger import Row
from benchmarks.audit.scripts import FOLDER


def faults() -> list[dict[str, Any]]:
    """The faults of ``known.toml``, in their order."""
    return list(tomllib.loads((FOLDER / "known.toml").read_text())["faults"])


def seen_rows(fault: dict[str, Any], rows: Sequence[Row]) -> list[str]:
    """The rows named by a known fault that are faults of one of its families."""
    names = {row["row"] for row in rows if row["family"] in fault["families"] and is_fault(row)}
    return [name for name in fault["rows"] if name in names]
