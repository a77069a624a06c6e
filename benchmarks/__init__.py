"""The harness: suites, cases, measurements, records and reports over `flows`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def load(*paths: str | Path) -> pd.DataFrame:
    """Results as one long frame, a row a case, with the column ``run`` naming the path.

    Each path is a results folder, or a file or storage of pytest-benchmark. Columns are those of
    `benchmarks.core.frame.load`. ValueError for a path that is none of these.
    """
    import pandas as pd

    from benchmarks.core import frame, store

    if absent := [str(path) for path in paths if not Path(path).exists()]:
        raise ValueError(f"there is no file or folder {absent[0]!r}")
    folders = [path for path in map(Path, paths) if store.is_folder(path)]
    others = [path for path in map(Path, paths) if not store.is_folder(path)]
    frames = [frame.load(*folders)] if folders else []
    if others:
        from benchmarks.gate import pytest_benchmark

        frames += [pytest_benchmark.load(path) for path in others]
    return pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
