"""Draw the report of every committed run into a folder: ``python docs/reports.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks import report

RESULTS = Path(__file__).parent.parent / "results"


def main(folder: Path) -> None:
    """Write FOLDER/NAME/index.html for each run under results/ that has a plan."""
    for plan in sorted(RESULTS.glob("*/suite.json")):
        print(report.write(plan.parent, out=folder / plan.parent.name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
