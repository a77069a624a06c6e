"""Draw reports of the committed runs into a folder: ``python docs/reports.py FOLDER``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from pages import folders

from benchmarks import report
from benchmarks.core import store


def main(folder: Path) -> None:
    """Write FOLDER/explorer.html and a report of each run, its records beside it, and a list."""
    print(report.explore(*folders(), out=folder))
    links = ['<li><a href="explorer.html">Explorer</a></li>']
    for run in folders():
        print(report.write(run, out=folder / run.name))
        parts = [Path(shutil.copy(table, folder / run.name)).name for table in store.tables(run)]
        files = {"index.html": run.name} | {part: part for part in parts}
        named = [f'<a href="{run.name}/{file}">{text}</a>' for file, text in files.items()]
        links.append(f"<li>{' '.join(named)}</li>")
    title = "Reports of the committed runs"
    page = f"<!DOCTYPE html><title>{title}</title><h1>{title}</h1><ul>{''.join(links)}</ul>"
    (folder / "index.html").write_text(page)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
