"""The layout: harness modules lie in rooms, and no module is long. import-linter does the rest."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
LINES, ROOMS = 250, 17


def test_modules_are_short() -> None:
    modules = [*ROOT.glob("flows/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]
    lengths = {str(path): len(path.read_text().splitlines()) for path in modules}
    assert {path: length for path, length in lengths.items() if length > LINES} == {}


def test_the_harness_has_no_loose_module() -> None:
    harness = ROOT / "benchmarks"
    assert {path.stem for path in harness.glob("*.py")} == {"__init__", "__main__"}
    assert len([path for path in harness.iterdir() if any(path.glob("*.py"))]) <= ROOMS
