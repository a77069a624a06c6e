"""What ``flowgauge ab`` sees: ``python -m benchmarks.ab.power FILE``, a line of JSON for each run.

In every other run the new side is the base with one benchmark made a tenth slower, each of the six
in turn; in the others both sides are the same. Runs that the file has are not made again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.ab.benches import DEFAULT
from benchmarks.ab.checkouts import checkouts
from benchmarks.ab.environments import interpreters
from benchmarks.ab.judgement import FACTOR, log_ratios
from benchmarks.ab.session import duel

SLOWDOWN = 0.1
SLOWED = '''

_unslowed = build


def build(name: str, dim: int, **options: Any) -> Flow:
    """As before, with one method of one family made slower by a share of its time."""
    flow = _unslowed(name, dim, **options)
    return _slowed(flow) if name == "{family}" else flow


def _slowed(flow: Flow) -> Flow:
    import statistics
    import time

    import torch

    operation, share = "{operation}", {slowdown}
    method = {{"gradient": "loss", "log_prob": "log_prob"}}[operation]
    plain, ones, counts = getattr(flow, method), torch.ones(16, 16), []

    def more(count: int) -> None:
        with torch.no_grad():
            for _ in range(count):
                torch.mm(ones, ones)

    def seconds(x: Any, count: int) -> float:
        torch.manual_seed(0)
        start = time.process_time()
        more(count)
        if operation == "gradient":
            flow.zero_grad()
            plain(x).backward()
        else:
            plain(x)
        return time.process_time() - start

    def calibrated(x: Any) -> int:
        count = 500
        for _ in range(3):
            pairs, until = [], time.process_time() + 1.0
            while time.process_time() < until:
                pairs.append((seconds(x, 0), seconds(x, count)))
            own, whole = (statistics.quantiles(spent)[0] for spent in zip(*pairs))
            count = max(1, round(count * share * own / (whole - own)))
        torch.manual_seed(0)
        return count

    def slower(x: Any) -> Any:
        if not counts:
            counts.append(calibrated(x))
        more(counts[0])
        return plain(x)

    setattr(flow, method, slower)
    return flow
'''


def slowed(index: int) -> str | None:
    """The benchmark that is made slower in a run; None where none is."""
    return DEFAULT[index // 2 % len(DEFAULT)] if index % 2 == 0 else None


def carried_out(index: int, seconds: float) -> dict[str, Any]:
    """One run, as JSON; log-ratios of its blocks stand for the samples."""
    which, load, started = slowed(index), os.getloadavg()[0], time.time()
    with checkouts("HEAD", "HEAD") as revisions:
        if which is not None:
            family, _, operation = which.partition("/")
            code = SLOWED.format(family=family, operation=operation, slowdown=SLOWDOWN)
            with (revisions[1].path / "flows" / "__init__.py").open("a") as file:
                file.write(code)
        pythons = interpreters(revisions)
        found = duel(revisions, pythons, DEFAULT, seconds=seconds, factor=FACTOR, seed=index)
    return {
        "run": index,
        "slowed": which,
        "slowdown": SLOWDOWN if which else 0.0,
        "commit": revisions[0].commit,
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


def read(file: Path) -> list[dict[str, Any]]:
    """The runs that a file has; none where there is no file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def found(run: Mapping[str, Any]) -> bool:
    """Whether the benchmark that was made slower is called so."""
    return run["slowed"] is not None and run["benchmarks"][run["slowed"]]["verdict"] == "slower"


def alarms(run: Mapping[str, Any]) -> list[str]:
    """Benchmarks that are called slower and were not made so."""
    verdicts = {name: b["verdict"] for name, b in run["benchmarks"].items()}
    return [n for n, verdict in verdicts.items() if verdict == "slower" and n != run["slowed"]]


def summary(runs: Sequence[Mapping[str, Any]]) -> str:
    """Counts in one line."""
    made = [run for run in runs if run["slowed"]]
    none = [run for run in runs if not run["slowed"]]
    return (
        f"found in {sum(map(found, made))} of {len(made)} runs with one slowed down, "
        f"with false alarms in {sum(bool(alarms(run)) for run in made)} of them; "
        f"false alarms in {sum(bool(alarms(run)) for run in none)} of {len(none)} without"
    )


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
        typer.echo(f"{index}: {summary(read(file))}")


if __name__ == "__main__":
    typer.run(main)
