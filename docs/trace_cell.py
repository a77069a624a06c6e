"""Count the functions that a number passes from frame to cell: ``python docs/trace_cell.py``.

A function of benchmarks/ counts if it hands the value on: as a number or in a column of what it
returns, unless that goes into another table. One that only reads it does not.
"""

from __future__ import annotations

import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pandas as pd

import benchmarks
from benchmarks.core.exhibit import Folder, Table
from benchmarks.report.cells import grid

ROOT = Path(benchmarks.__file__).parent
CELLS = (  # run, study, metric, what chooses its row, table
    ("reference", "density", "test_ll", {"flow": "realnvp", "dataset": "magic"}, "density-magic"),
    ("complexity", "cost", "log_prob_flops", {"flow": "realnvp", "dim": 64}, "cost-growth"),
    ("evaluations", "nfe", "nfe_end", {"flow": "ffjord"}, "nfe-training"),
)


def has(thing: Any, value: float, depth: int = 4) -> bool:
    """Whether a value is in a thing: itself, an element, a cell."""
    if isinstance(thing, float | int) and not isinstance(thing, bool):
        return float(thing) == value
    if isinstance(thing, pd.DataFrame):
        return any(has(thing[name], value) for name in thing if thing[name].dtype.kind in "fiO")
    if isinstance(thing, pd.Series):
        return any(has(part, value, 0) for part in thing.tolist())
    if isinstance(thing, np.ndarray):
        return thing.dtype.kind in "fi" and bool((thing == value).any())
    if depth == 0:
        return False
    if is_dataclass(thing) and not isinstance(thing, type):
        return any(has(getattr(thing, f.name, None), value, depth - 1) for f in fields(thing))
    if isinstance(thing, dict):
        thing = list(thing.values())
    return isinstance(thing, list | tuple) and any(has(x, value, depth - 1) for x in thing)


def handed_on(value: float, name: str, shows: Folder, rows: pd.DataFrame) -> dict[CodeType, int]:
    """The functions that hand a value on while a table of rows is shown, with their lines."""
    calls: list[dict[CodeType, int]] = [{}]  # of each function that runs, those that ran in it

    def note(frame: FrameType, event: str, result: Any) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(str(ROOT)) or code.co_name.startswith("<"):
            return
        if event == "call":
            calls.append({})
        elif event == "return":
            inner, parts = calls.pop(), result if isinstance(result, list | tuple) else [result]
            tables = {part.name for part in parts if isinstance(part, Table)}
            if tables and name not in tables:
                return
            if has(result, value):
                lines = {line for _, _, line in code.co_lines() if line}
                inner[code] = max(lines) - min(lines) + 1
            calls[-1] |= inner

    sys.setprofile(note)
    try:
        for table in shows.tables(rows.copy()):
            if table.name == name:
                grid(table)
    finally:
        sys.setprofile(None)
    return calls[0]


def main() -> None:
    """Print the functions of each cell."""
    for run, study, metric, where, name in CELLS:
        frame = benchmarks.load(ROOT.parent / "results" / run)
        shows = Folder(f"benchmarks.studies.{study}")
        rows = frame[frame["study"].isin([study, *shows.reads])].reset_index(drop=True)
        chosen = rows[(rows[list(where)] == pd.Series(where)).all(axis=1)]
        value = float(chosen[metric].dropna().iloc[0])
        shows.tables(rows.copy())  # what is kept is kept
        codes = handed_on(value, name, shows, rows)
        longest = max(codes.values(), default=0)
        print(f"{metric} of {study} ({name}): {len(codes)} functions, the longest {longest} lines")
        for code, lines in codes.items():
            print(f"  {Path(code.co_filename).relative_to(ROOT)}:{code.co_name} ({lines})")


if __name__ == "__main__":
    main()
