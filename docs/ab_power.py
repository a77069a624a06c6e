"""Measure the power of `flowgauge ab`: ``python docs/ab_power.py FILE.csv`` adds missing runs.

In every other run the new side has one benchmark made a tenth slower, each of the default ones in
turn; in the others both sides are equal. `docs/data/ab_power.csv` holds the runs that docs/ab.md
quotes, a row for each benchmark of each run.
"""

from __future__ import annotations

import contextlib
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.gate.ab import DEFAULT, Subject, compare

ROOT = Path(__file__).resolve().parent.parent
RUNS, SECONDS, SHARE = 80, 40.0, 0.1
HEADER = ["run", "slowed", "load", "benchmark", "blocks", "ratio", "low", "high", "p", "verdict"]
SLOWED = '''

def _slowed(flow, operation, share):
    """Add products of small matrices to a method: as many as take a share of its own time."""
    import statistics
    import time

    import torch

    method = {{"gradient": "loss", "log_prob": "log_prob"}}[operation]
    original, ones, counts = getattr(flow, method), torch.ones(16, 16), []

    def work(count):
        with torch.no_grad():
            for _ in range(count):
                torch.mm(ones, ones)

    def seconds(x, count):
        torch.manual_seed(0)
        start = time.process_time()
        work(count)
        if operation == "gradient":
            flow.zero_grad()
            original(x).backward()
        else:
            original(x)
        return time.process_time() - start

    def calibrate(x):
        count = 500
        for _ in range(3):
            pairs, until = [], time.process_time() + 1.0
            while time.process_time() < until or len(pairs) < 2:
                pairs.append((seconds(x, 0), seconds(x, count)))
            own, both = (statistics.quantiles(times)[0] for times in zip(*pairs))
            count = max(1, round(count * share * own / (both - own)))
        torch.manual_seed(0)
        return count

    def slower(x):
        if not counts:
            counts.append(calibrate(x))
        work(counts[0])
        return original(x)

    setattr(flow, method, slower)
    return flow


_build = build


def build(name, dim, **options):
    flow = _build(name, dim, **options)
    return _slowed(flow, "{operation}", {share}) if name == "{family}" else flow
'''


def rows(run: int) -> list[tuple[object, ...]]:
    """Carry out one run; a row for each benchmark."""
    slowed = DEFAULT[run // 2 % len(DEFAULT)] if run % 2 == 0 else ""
    load = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        subprocess.run(["git", "clone", "-q", "--shared", ROOT, "."], check=True)
        if slowed:
            family, _, operation = slowed.partition("/")
            with Path("flows/__init__.py").open("a") as file:
                file.write(SLOWED.format(family=family, operation=operation, share=SHARE))
        results = compare("HEAD", ".", Subject(root=Path(folder)), seconds=SECONDS).benchmarks
    table = []
    for name, result in results.items():
        if result.ratio is None:
            raise SystemExit(f"run {run}: {name} has no times: {result.verdict} {result.reason}")
        figures = (f"{x:.5f}" for x in (result.ratio, result.low, result.high))
        size = len(result.blocks)
        table.append(
            (run, slowed, load, name, size, *figures, f"{result.p:.3g}", result.verdict)
        )
    return table


def main(path: Path) -> None:
    """Carry out the runs that the file lacks, each appended as soon as it is done."""
    if not path.exists():
        path.write_text(",".join(HEADER) + "\n")
    with path.open(newline="") as file:
        done = {int(row["run"]) for row in csv.DictReader(file)}
    for run in sorted(set(range(RUNS)) - done):
        table = rows(run)
        with path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
