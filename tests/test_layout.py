"""The layout: harness modules lie in rooms, results hold data alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = 16


def test_the_harness_has_no_loose_module() -> None:
    harness = ROOT / "benchmarks"
    assert {path.stem for path in harness.glob("*.py")} == {"__init__", "__main__"}
    assert len([path for path in harness.iterdir() if any(path.glob("*.py"))]) <= ROOMS


def test_results_hold_packed_records_plans_and_benchmarks_alone() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.splitlines()]
    allowed = ("records-*.parquet", "arrays-*.zip", "suite.json", "audit.json.gz")
    for path in files:
        if path.parent.parent.name != "benchmarks":
            assert any(path.match(pattern) for pattern in allowed), path
        else:
            assert path.suffix == ".json", path
    records = [path for path in files if path.parent.name != "results"]
    assert sum(path.stat().st_size for path in records) <= 12e6
    assert sum(path.stat().st_size for path in {*files} - {*records}) <= 8e6
