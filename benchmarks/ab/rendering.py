"""Measurements as rows of text, as Markdown for a comment, and as JSON with every sample."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import cpuinfo
import numpy as np

from benchmarks.ab.checkouts import Revision
from benchmarks.ab.judgement import LEVEL, log_ratios
from benchmarks.ab.schedule import BASE, NEW
from benchmarks.ab.session import Measurement
from benchmarks.core.formats import markdown_table

HEADERS = ("Benchmark", "Base (ms)", "New (ms)", "Ratio", "95 % interval", "p", "Verdict")


def rows(measurements: Mapping[str, Measurement]) -> Iterator[tuple[str, ...]]:
    """The cells of each benchmark, as in `HEADERS`: medians of the shortest calls of visits."""
    for name, measurement in measurements.items():
        if (judgement := measurement.judgement) is None:
            yield (name, "", "", "", "", "", measurement.verdict)
            continue
        base, new = (f"{1e3 * _seconds(measurement, side):.3g}" for side in (BASE, NEW))
        interval = f"{judgement.low:.3f} to {judgement.high:.3f}"
        p = f"{judgement.p:.3f}" if judgement.p >= 0.001 else "< 0.001"
        yield (name, base, new, f"{judgement.ratio:.3f}", interval, p, judgement.verdict)


def _seconds(measurement: Measurement, side: str) -> float:
    """Seconds of the processor: the median over visits of their shortest call."""
    visits = [visit for block in measurement.blocks for visit in block[side]]
    return float(np.median([min(visit["processor"]) for visit in visits]))


def summary(measurements: Mapping[str, Measurement]) -> str:
    """One sentence: what is slower or failed, what is faster, what had too few blocks."""
    with_verdict: dict[str, list[str]] = {}
    for name, measurement in measurements.items():
        verdict = "slower" if measurement.failed else measurement.verdict
        with_verdict.setdefault(verdict, []).append(name)
    beginnings = {
        "slower": "slower or failed",
        "faster": "faster",
        "too few": "too few blocks to judge, give more seconds",
    }
    parts = [] if "slower" in with_verdict else ["none slower"]
    if not any(m.judgement or m.verdict == "too few" for m in measurements.values()):
        parts = ["no benchmark runs on both sides: nothing was judged"]
    parts += [
        f"{beginning}: {', '.join(with_verdict[verdict])}"
        for verdict, beginning in beginnings.items()
        if verdict in with_verdict
    ]
    return "; ".join(parts)


def reasons(measurements: Mapping[str, Measurement]) -> list[str]:
    """A line for each reason of failures, and for each family whose `pace` is to be raised."""
    failed: dict[str, list[str]] = {}
    for name, measurement in measurements.items():
        failed.setdefault(measurement.reason, []).append(name)
    lines = [f"{', '.join(names)}: {reason}" for reason, names in failed.items() if reason]
    undeclared = {name.partition("/")[0]: m for name, m in measurements.items() if m.undeclared}
    for family, measurement in undeclared.items():
        _, pace = (measurement.declared[NEW] or {}).get(f"flow {family}", (1, 1))
        lines.append(
            f"{family}: its times moved, its version and pace did not; if that is meant, raise its "
            f"pace to {pace + 1} where it is registered"
        )
    return lines


def caption(revisions: Sequence[Revision], seconds: float, factor: float) -> str:
    """What was compared, and what the verdict means."""
    base, new = (f"{r.ref} ({r.commit})" for r in revisions)
    return (
        f"{new} against {base}: processor time of two processes taking turns on one core, "
        f"{seconds:.0f} s in all. Slower or faster: by a factor of {factor:g} or more, and p < "
        f"{LEVEL:g} (Wilcoxon's signed-rank test over blocks, corrected for the number of "
        "benchmarks)."
    )


def markdown(measurements: Mapping[str, Measurement], about: str) -> str:
    """A comment for a pull request."""
    lines = [(f"`{name}`", *cells) for name, *cells in rows(measurements)]
    table = markdown_table(HEADERS, lines, range(1, 6))
    notes = reasons(measurements)
    block = "\n".join(["```text", *notes, "```"]) if notes else ""
    return "\n\n".join(filter(None, [f"**{summary(measurements)}**", table, block, about])) + "\n"


def document(
    measurements: Mapping[str, Measurement],
    revisions: Sequence[Revision],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """JSON of both revisions, the facts, each verdict, and the seconds of each call."""
    sides = zip((BASE, NEW), revisions, strict=True)
    return {
        **{name: {"ref": r.ref, "commit": r.commit} for name, r in sides},
        **facts,
        "benchmarks": {name: _entry(m) for name, m in measurements.items()},
    }


def machine() -> dict[str, Any]:
    """The machine and the versions that the times belong to, read without importing torch."""
    return {
        "cpu": cpuinfo.get_cpu_info().get("brand_raw", "unknown"),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "load": os.getloadavg()[0],
    }


def _entry(measurement: Measurement) -> dict[str, Any]:
    """JSON of one benchmark."""
    clock = log_ratios(measurement.blocks, "clock") if measurement.blocks else np.array([])
    return {
        **(asdict(measurement.judgement) if measurement.judgement else {}),
        "verdict": measurement.verdict,
        "reason": measurement.reason,
        "declared": measurement.declared,
        "clock_ratio": float(np.exp(np.median(clock))) if len(clock) else None,
        "blocks": measurement.blocks,
    }
