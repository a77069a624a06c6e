"""Print the lines of each room beside its budget; exit with 1 where one is beyond it.

A room is a key of ``[tool.flowgauge.budgets]`` in pyproject.toml: folders or files, separated by
spaces. Lines are those of Python, Jinja, JavaScript, CSS, Markdown and TOML that git tracks or
would; suites, protocols and vendored libraries count in no room.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KINDS = {".py", ".jinja", ".js", ".css", ".md", ".toml", ".rst", ".sh"}
DATA = ("benchmarks/suites/", "benchmarks/protocols/", "docs/_build/", "docs/api/generated/")
DATA += ("benchmarks/report/vendored/",)  # as its authors have published it
FILES = "files"  # after a room's name: the budget is one of Python files, not of lines


def listed(room: str) -> list[Path]:
    """The files of a room, those that git ignores left out."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *room.split()]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    counted = [name for name in names.splitlines() if not name.startswith(DATA)]
    return [path for name in counted if (path := ROOT / name).suffix in KINDS and path.is_file()]


def main() -> int:
    """Print a line a room; the exit status is 1 where a room has more than its budget."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    beyond = False
    for name, budget in project["tool"]["flowgauge"]["budgets"].items():
        room, _, unit = name.partition(":")
        paths = listed(room)
        size = sum(path.suffix == ".py" for path in paths)
        if unit != FILES:
            size = sum(len(path.read_text("utf-8").splitlines()) for path in paths)
        mark = "" if size <= budget else "  beyond its budget: take out what is too much"
        beyond = beyond or bool(mark)
        print(f"{size:>7,} of {budget:>7,} {unit or 'lines'}  {room}{mark}")
    return int(beyond)


if __name__ == "__main__":
    sys.exit(main())
