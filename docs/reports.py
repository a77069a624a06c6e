"""Draw the report of every committed run into a folder: ``python docs/reports.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from pages import folders

from benchmarks import report


def main(folder: Path) -> None:
    """Write FOLDER/NAME/index.html for each run that the documents cite, and a list of them."""
    links = []
    for run in folders():
        print(report.write(run, out=folder / run.name))
        links.append(f'<li><a href="{run.name}/index.html">{run.name}</a></li>')
    title = "Reports of the committed runs"
    page = f"<!DOCTYPE html><title>{title}</title><h1>{title}</h1><ul>{''.join(links)}</ul>"
    (folder / "index.html").write_text(page)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
