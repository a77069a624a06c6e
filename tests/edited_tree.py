"""Copies of the project's code with edits: what they leave current, what the gate sees."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
NEW_CASE = "not in the baseline"  # of a case whose key no record of it has
JUDGE = """
import json, sys
from pathlib import Path
from fnmatch import fnmatch
import torch
from benchmarks.core import store
from benchmarks.core.case import studies
from benchmarks.core.naming import labels
from benchmarks.execution import suite
from benchmarks.execution.versions import dependencies
from benchmarks.core.record import Record, Values
from benchmarks.gate import guard
from benchmarks.measure.dispatched import dispatched
torch.set_num_threads(1)
baseline = store.read(Path(sys.argv[1]))
cases = suite.read("ci").cases()
names = labels(cases)
moved = {}
for case in cases:
    if not any(fnmatch(names[case.key], pattern) for pattern in sys.argv[3:]):
        continue
    (_, result), = dispatched(studies[case.study], [case])
    record = Record(
        case=case, key=case.key, status="failed" if result.failure else "done",
        metrics={n: Values.of(n, v) for n, v in result.metrics.items()}, notes=dict(result.notes),
        declared=dict(dependencies(case).declared),
    )
    before = baseline.get(case.key)
    fault = guard.refusal(before, record) if before is not None else sys.argv[2]
    moved[names[case.key]] = fault
print(json.dumps(moved))
"""


Standing = dict[str, list[dict[str, str]]]  # cases by where they stand, as `flowgauge status`


Standings = dict[str, list[dict[str, str]]]  # key, label and reason of cases by where they stand


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


def faults(tree: Path, *patterns: str) -> dict[str, str]:
    """What the gate says of the suite ci's cases of these labels under the code of a copy."""
    return dict(run(tree, "-c", JUDGE, str(ROOT / "results/baseline"), NEW_CASE, *patterns))
