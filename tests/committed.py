"""The committed runs whose records claims are judged by."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.core.frame import load

ROOT = Path(__file__).parent.parent / "results"
FOLDERS = {  # by suite
    "complexity": ROOT / "complexity",
    "densities": ROOT / "densities",
    "quick": ROOT / "reference",
}


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    """The committed records of either suite."""
    return {name: load(folder) for name, folder in FOLDERS.items()}
