"""The suite ci executes the lines that records' figures come from, but for a list with reasons.

The list is in pyproject.toml, at ``tool.coverage``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
LEAST = 0.95  # of the lines of each part
RUN = """
import torch
from benchmarks.core.study import registry as studies
from benchmarks.core.record import Record, Values
from benchmarks.core.study import Skipped
from benchmarks.execution import suite
from benchmarks.measure.dispatched import Dispatched, dispatched

torch.set_num_threads(1)
records = {}
for planned in suite.read("ci").cases():
    study, case = studies[planned.study], planned
    try:
        if planned.needs:
            case = study.resolved(planned, [records[key] for key in planned.needs])
    except Skipped:
        continue
    if records:
        with Dispatched():  # alone: `dispatched` empties all caches, which takes time
            results = list(study.measure([case]))
    else:
        results = dispatched(study, [case])
    for _, result in results:
        metrics = {name: Values.of(name, value) for name, value in result.metrics.items()}
        status = "failed" if result.failure else "done"
        records[planned.key] = Record(case=case, key=case.key, status=status, metrics=metrics)
"""
REPORT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["coverage"]["report"]


@pytest.fixture(scope="module")
def covered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What coverage says of each file after a run of the suite."""
    folder = tmp_path_factory.mktemp("coverage")
    script, report = folder / "run.py", folder / "report.json"
    script.write_text(RUN, "utf-8")
    how = [f"--rcfile={ROOT / 'pyproject.toml'}", f"--data-file={folder / 'data'}"]
    for command in (["run", *how, str(script)], ["json", "-q", *how, "-o", str(report)]):
        subprocess.run([sys.executable, "-m", "coverage", *command], cwd=ROOT, check=True)
    return dict(json.loads(report.read_text("utf-8"))["files"])


def part(file: str) -> str:
    """The library, a room of the harness, or a module of the studies."""
    top, room, *_ = Path(file).parts
    return top if top == "flows" else file if room == "studies" else f"{top}/{room}"


@pytest.mark.slow
def test_the_suite_executes_what_figures_come_from(covered: dict[str, Any]) -> None:
    parts: dict[str, dict[str, Any]] = defaultdict(dict)
    for file, about in covered.items():
        parts[part(file)][file] = parts["all"][file] = about
    faults = []
    for name, files in parts.items():
        lines = sum(about["summary"]["num_statements"] for about in files.values())
        missing = {f: about["missing_lines"] for f, about in files.items()}
        if sum(map(len, missing.values())) > (1 - LEAST) * lines:
            faults.append(f"{name}, {lines} lines, without {missing}")
    assert len(parts) > len(list(ROOT.glob("benchmarks/studies/*/study.py")))
    assert not faults, "\n".join(faults)


def test_the_list_names_what_there_is() -> None:
    files = [str(p.relative_to(ROOT)) for top in ("flows", "benchmarks") for p in
             (ROOT / top).rglob("*.py")]  # fmt: skip
    included = [file for file in files if any(fnmatch(file, p) for p in REPORT["include"])]
    text = "\n".join((ROOT / file).read_text("utf-8") for file in included)
    assert [p for p in REPORT["omit"] if not any(fnmatch(f, p) for f in included)] == []
    assert [p for p in REPORT["exclude_also"] if not re.search(p, text)] == []
