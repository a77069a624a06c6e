"""What the runs of `power` came to, as Markdown: what was found, and which alarms were false."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ab.benches import FACTOR
from benchmarks.ab.judgement import judge

FACTORS = (1.02, 1.03, 1.05, 1.07)

Run = Mapping[str, Any]


def read(file: Path) -> list[dict[str, Any]]:
    """The runs that a file has; none where there is no file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def verdicts(run: Run, factor: float = FACTOR) -> dict[str, str]:
    """What the log-ratios of a run are judged to say."""
    samples = {n: b["log_ratios"] for n, b in run["benchmarks"].items() if b["log_ratios"]}
    return {name: judged.verdict for name, judged in judge(samples, factor).items()}


def found(run: Run, factor: float = FACTOR) -> bool:
    """Whether the benchmark that was made slower is called so."""
    return verdicts(run, factor).get(run["slowed"]) == "slower"


def alarms(run: Run, factor: float = FACTOR) -> list[str]:
    """Benchmarks that are called slower, or faster, and are not."""
    called = verdicts(run, factor).items()
    return [name for name, v in called if v in ("slower", "faster") and name != run["slowed"]]


def by_benchmark(runs: Sequence[Run]) -> str:
    """Of each benchmark that was made slower, and of the runs without one: what was found."""
    lines = ["| Made slower | Runs | Found | New / base, median (least to most) | False alarms |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    names = dict.fromkeys(run["slowed"] for run in runs)
    for name in sorted(names, key=lambda name: name is None):
        of = [run for run in runs if run["slowed"] == name]
        timed = [
            b["ratio"] for run in of for n, b in run["benchmarks"].items() if name in (n, None)
        ]
        ratios = f"{np.median(timed):.3f} ({min(timed):.3f} to {max(timed):.3f})"
        wrong, right = sum(bool(alarms(run)) for run in of), sum(map(found, of))
        lines.append(
            f"| {name or 'none'} | {len(of)} | {right if name else ''} | {ratios} | {wrong} |"
        )
    return "\n".join(lines)


def by_factor(runs: Sequence[Run]) -> str:
    """What was found, and how many runs had a false alarm, had the factor been another."""
    made = [run for run in runs if run["slowed"]]
    none = [run for run in runs if not run["slowed"]]
    lines = [
        f"| Factor | Found of {len(made)} | Runs of {len(none)} without a slowdown with alarms |"
    ]
    lines += ["| ---: | ---: | ---: |"]
    for factor in FACTORS:
        right = sum(found(run, factor) for run in made)
        wrong = sum(bool(alarms(run, factor)) for run in none)
        lines.append(f"| {factor:g} | {right} | {wrong} |")
    return "\n".join(lines)


def between_processes(runs: Sequence[Run]) -> str:
    """By how much two processes of one revision differ, from the runs without a slowdown."""
    same = [b for run in runs if not run["slowed"] for b in run["benchmarks"].values()]
    ratios = np.array([b["ratio"] for b in same])
    sd, most = ratios.std(ddof=1), abs(ratios - 1).max()
    outside = sum(not b["low"] <= 1 <= b["high"] for b in same)
    return (
        f"{len(ratios)} ratios have a standard deviation of {sd:.3f} and are at most {most:.3f} "
        f"away from 1; {outside} of their intervals leave 1 out"
    )
