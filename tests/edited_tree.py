"""Copies of the project's code with edits: what they leave current, what the gate sees."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
Standing = dict[str, list[dict[str, str]]]  # cases by where they stand, as `flowgauge status`


class Edit(NamedTuple):
    """A change of one file: a text that it has, and the one in its place."""

    file: str
    old: str
    new: str


def copied(folder: Path, *edits: Edit) -> Path:
    """A copy of the code with edits made; LookupError for one whose text a file does not have."""
    for package in ("flows", "benchmarks"):
        shutil.copytree(ROOT / package, folder / package, dirs_exist_ok=True)
    for edit in edits:
        path = folder / edit.file
        text = path.read_text("utf-8")
        if edit.old not in text:
            raise LookupError(f"{edit.file} has no text {edit.old!r}: renew the edit")
        path.write_text(text.replace(edit.old, edit.new, 1), "utf-8")
    return folder


def run(tree: Path, *arguments: str) -> Any:
    """What Python, with the copy's code first on its path, prints last, as JSON."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    environment.pop("FLOWGAUGE_DATA", None)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=environment, capture_output=True, text=True
    )
    if not done.stdout.strip():
        raise RuntimeError(f"{arguments[:3]} printed nothing: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def standing(tree: Path, folder: Path) -> Standing:
    """Where the cases of a results folder stand under the code of a copy."""
    return dict(run(tree, "-m", "benchmarks", "status", str(folder), "--json", "-"))


def faults(*trees: tuple[Path, Sequence[str]]) -> list[dict[str, str]]:
    """For each copy, what the gate says of the suite ci's cases of these labels under its code."""
    listed = json.dumps([[str(tree), list(patterns)] for tree, patterns in trees])
    judge, baseline = ROOT / "tests/judge.py", ROOT / "results/baseline"
    return list(run(trees[0][0], "-P", str(judge), str(baseline), listed))
