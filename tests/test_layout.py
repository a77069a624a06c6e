"""The layout: harness modules lie in rooms, results hold data alone, and imports are few."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = 16
COMMAND = "import sys; from benchmarks.cli.app import app; app({}, standalone_mode=False)"
REPORT = COMMAND.format("['report', 'results/{}', '--out', sys.argv[1]]")
WITHOUT = {  # code, and packages that it does without
    "help": (COMMAND.format("['--help']"), "torch"),
    "timing": ("import benchmarks.gate.ab", "flows"),
    "planning": (
        "import benchmarks.execution.run; from benchmarks.core.study import registry; [*registry]",
        "dask scipy.stats sklearn",
    ),
    "reading": (
        "import benchmarks; assert len(benchmarks.load('results/truth'))",
        "torch flows benchmarks.studies",
    ),
    "report": pytest.param(REPORT.format("truth"), "torch", marks=pytest.mark.slow),
    "report of trainings": pytest.param(
        REPORT.format("conditional"), "torch", marks=pytest.mark.slow
    ),
}
CHECK = """
import sys
absent = tuple(f"{name}." for name in sys.argv[2:])
assert not [name for name in sys.modules if f"{name}.".startswith(absent)]
"""


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


@pytest.mark.parametrize(("code", "absent"), WITHOUT.values(), ids=WITHOUT)
def test_nothing_is_imported_that_is_not_needed(code: str, absent: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", code + CHECK, str(tmp_path), *absent.split()]
    subprocess.run(command, cwd=ROOT, check=True)
