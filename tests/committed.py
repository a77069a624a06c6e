"""The committed runs whose records claims are judged by."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent / "results"
FOLDERS = {  # by suite
    "complexity": ROOT / "complexity",
    "frontier": ROOT / "frontier",
    "quick": ROOT / "reference",
}
