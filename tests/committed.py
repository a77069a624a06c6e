"""The committed runs whose records claims are judged by."""

from pathlib import Path

from benchmarks.claims import claims

ROOT = Path(__file__).parent.parent / "results"
SUITES = sorted({claim.suite for claim in claims()})
FOLDERS = {**{suite: ROOT / suite for suite in SUITES}, "quick": ROOT / "reference"}  # by suite
