"""Count the functions that a number passes from frame to cell: ``python docs/trace_cell.py``.

A function of benchmarks/ counts if the value is among its arguments or in what it returns, as a
number, in a column of a frame, or in its text.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pandas as pd

import benchmarks
from benchmarks.core.exhibit import Folder
from benchmarks.report.cells import grid

ROOT = Path(benchmarks.__file__).parent
CELLS = (  # run, study, metric, what chooses its row, table
    ("reference", "density", "test_ll", {"flow": "realnvp", "dataset": "magic"}, "density-magic"),
    ("complexity", "cost", "log_prob_flops", {"flow": "realnvp", "dim": 64}, "cost-growth"),
    ("evaluations", "nfe", "nfe_end", {"flow": "ffjord"}, "nfe"),
)


def has(thing: Any, value: float, depth: int = 3) -> bool:
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


def seen(value: float, show: Any) -> dict[CodeType, int]:
    """The functions that see a value while something is shown, with their lines."""
    codes: dict[CodeType, int] = {}

    def note(frame: FrameType, event: str, result: Any) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(str(ROOT)) or code.co_name.startswith("<"):
            return
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        things: Iterable[Any] = [result] if event == "return" else map(frame.f_locals.get, names)
        if code not in codes and event in ("call", "return") and any(has(x, value) for x in things):
            lines = {line for _, _, line in code.co_lines() if line}
            codes[code] = max(lines) - min(lines) + 1

    sys.setprofile(note)
    try:
        show()
    finally:
        sys.setprofile(None)
    return codes


def main() -> None:
    """Print the functions of each cell."""
    for run, study, metric, where, name in CELLS:
        frame = benchmarks.load(ROOT.parent / "results" / run)
        shows = Folder(f"benchmarks.studies.{study}")
        rows = frame[frame["study"].isin([study, *shows.reads])].reset_index(drop=True)
        chosen = rows[(rows[list(where)] == pd.Series(where)).all(axis=1)]
        value = float(chosen[metric].dropna().iloc[0])
        shows.tables(rows.copy())  # what is kept is kept

        def show(shows: Folder = shows, rows: pd.DataFrame = rows, name: str = name) -> None:
            for table in shows.tables(rows.copy()):
                if table.name == name:
                    grid(table)

        codes = seen(value, show)
        longest = max(codes.values(), default=0)
        print(f"{metric} of {study} ({name}): {len(codes)} functions, the longest {longest} lines")
        for code, lines in codes.items():
            print(f"  {Path(code.co_filename).relative_to(ROOT)}:{code.co_name} ({lines})")


if __name__ == "__main__":
    main()
