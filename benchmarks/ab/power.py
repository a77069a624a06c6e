"""What ``flowgauge ab`` sees: ``python -m benchmarks.ab.power FILE``, a line of JSON for each run.

In every other run the new side is the base with one benchmark made a tenth slower, each of the six
in turn; in the others both sides are the same. Runs that the file has are not made again.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.ab import slowdown
from benchmarks.ab.benches import DEFAULT, FACTOR
from benchmarks.ab.checkouts import checkouts, git
from benchmarks.ab.environments import interpreters
from benchmarks.ab.judgement import log_ratios
from benchmarks.ab.power_table import between_processes, by_benchmark, by_factor, read
from benchmarks.ab.session import duel

SLOWDOWN = 0.1
APPENDED = '''

from flows._slowdown import slowed as _slowed

_unslowed = build


def build(name: str, dim: int, **options: Any) -> Flow:
    """As before, with one method of one family made slower by a share of its time."""
    flow = _unslowed(name, dim, **options)
    return _slowed(flow, "{operation}", {share}) if name == "{family}" else flow
'''


def slow_down(path: Path, benchmark: str, share: float) -> None:
    """Make a benchmark of the checkout in ``path`` slower by a share of its own time."""
    family, _, operation = benchmark.partition("/")
    shutil.copyfile(slowdown.__file__, path / "flows" / "_slowdown.py")
    with (path / "flows" / "__init__.py").open("a", encoding="utf-8") as file:
        file.write(APPENDED.format(family=family, operation=operation, share=share))


def slowed(index: int) -> str | None:
    """The benchmark that is made slower in a run; None where none is."""
    return DEFAULT[index // 2 % len(DEFAULT)] if index % 2 == 0 else None


def carried_out(index: int, seconds: float) -> dict[str, Any]:
    """One run, as JSON; log-ratios of its blocks stand for the samples."""
    which, load, started = slowed(index), os.getloadavg()[0], time.time()
    with checkouts("HEAD", "HEAD") as revisions:
        if which is not None:
            slow_down(revisions[1].path, which, SLOWDOWN)
        tree = git(
            revisions[0].path, "rev-parse", "HEAD:flows"
        )  # stays, whatever becomes of commits
        pythons = interpreters(revisions)
        found = duel(revisions, pythons, DEFAULT, seconds=seconds, factor=FACTOR, seed=index)
    return {
        "run": index,
        "slowed": which,
        "slowdown": SLOWDOWN if which else 0.0,
        "flows": tree,
        "budget": seconds,
        "seconds": round(time.time() - started, 1),
        "load": round(load, 2),
        "benchmarks": {
            name: {
                **(asdict(outcome.judged) if outcome.judged else {}),
                "verdict": outcome.verdict,
                "reason": outcome.reason,
                "log_ratios": [round(float(r), 5) for r in log_ratios(outcome.blocks)],
            }
            for name, outcome in found.items()
        },
    }


def main(
    file: Annotated[Path, typer.Argument(help="Where a line is added for each run.")],
    runs: Annotated[int, typer.Option(min=1, help="Runs in all, of both kinds.")] = 80,
    seconds: Annotated[float, typer.Option(min=5, max=60, help="Of timing, for a run.")] = 40,
) -> None:
    """Measure how many slowdowns are found, and how many alarms are false."""
    file.parent.mkdir(parents=True, exist_ok=True)
    done = {run["run"] for run in read(file)}
    for index in (i for i in range(runs) if i not in done):
        line = json.dumps(carried_out(index, seconds))
        with file.open("a", encoding="utf-8") as out:
            out.write(line + "\n")
        typer.echo(f"run {index} done")
    for told in (by_benchmark, between_processes, by_factor):
        typer.echo(f"\n{told(read(file))}")


if __name__ == "__main__":
    typer.run(main)
