"""Draw the report of every committed run into a folder: ``python docs/reports.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.report.quoted import folders

from benchmarks import report

RESULTS = Path(__file__).parent.parent / "results"


def main(folder: Path) -> None:
    """Write FOLDER/NAME/index.html for each run that the documents cite."""
    for run in folders(RESULTS):
        print(report.write(run, out=folder / run.name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
