"""Count the functions that a number passes from frame to cell: ``python docs/trace_cell.py``.

A number passes a function of benchmarks/ that gets it among its arguments and returns it, as a
number, in a column of a frame, or in its text. Functions that get it alone see it: they test it,
or count by its frame.
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
from benchmarks.core.exhibit import Folder
from benchmarks.report.cells import grid

ROOT = Path(benchmarks.__file__).parent
CELLS = (  # run, study, metric, what chooses its row, table
    ("reference", "density", "test_ll", {"flow": "realnvp", "dataset": "magic"}, "density-magic"),
    ("complexity", "cost", "log_prob_flops", {"flow": "realnvp", "dim": 64}, "cost-growth"),
    ("evaluations", "nfe", "nfe_end", {"flow": "ffjord"}, "nfe"),
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


def traced(value: float, show: Any) -> tuple[dict[CodeType, int], set[CodeType]]:
    """The functions that pass a value while something is shown, by lines; and all that see it."""
    passing: dict[CodeType, int] = {}
    seeing: set[CodeType] = set()
    entered: set[int] = set()  # calls that got it

    def note(frame: FrameType, event: str, result: Any) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(str(ROOT)) or code.co_name.startswith("<"):
            return
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if event == "call" and any(has(frame.f_locals.get(name), value) for name in names):
            entered.add(id(frame))
            seeing.add(code)
        elif event == "return" and id(frame) in entered:
            entered.discard(id(frame))
            if has(result, value):
                lines = {line for _, _, line in code.co_lines() if line}
                passing[code] = max(lines) - min(lines) + 1

    sys.setprofile(note)
    try:
        show()
    finally:
        sys.setprofile(None)
    return passing, seeing


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

        passing, seeing = traced(value, show)
        longest = max(passing.values(), default=0)
        count = (
            f"passes {len(passing)} functions, the longest {longest} lines; {len(seeing)} see it"
        )
        print(f"{metric} of {study} ({name}) {count}")
        for code, lines in passing.items():
            print(f"  {Path(code.co_filename).relative_to(ROOT)}:{code.co_name} ({lines})")


if __name__ == "__main__":
    main()
