"""A duel's outcomes as rows of text, as Markdown for a comment, and as JSON with every sample."""

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
from benchmarks.ab.session import Outcome

HEADERS = ("Benchmark", "Base (ms)", "New (ms)", "Ratio", "95 % interval", "p", "Verdict")


def rows(outcomes: Mapping[str, Outcome]) -> Iterator[tuple[str, ...]]:
    """The cells of each benchmark, as in `HEADERS`: medians of the shortest calls of visits."""
    for name, outcome in outcomes.items():
        if (judged := outcome.judged) is None:
            yield (name, "", "", "", "", "", outcome.verdict)
            continue
        base, new = (f"{1e3 * level(outcome, side):.3g}" for side in (BASE, NEW))
        interval = f"{judged.low:.3f} to {judged.high:.3f}"
        yield (name, base, new, f"{judged.ratio:.3f}", interval, _p(judged.p), judged.verdict)


def level(outcome: Outcome, side: str) -> float:
    """Seconds of the processor: the median over visits of their shortest call."""
    visits = [visit for block in outcome.blocks for visit in block[side]]
    return float(np.median([min(visit["processor"]) for visit in visits]))


def summary(outcomes: Mapping[str, Outcome]) -> str:
    """One sentence."""
    worse = [name for name, outcome in outcomes.items() if outcome.worse]
    faster = [name for name, outcome in outcomes.items() if outcome.verdict == "faster"]
    few = [name for name, outcome in outcomes.items() if outcome.verdict == "too few"]
    told = [f"slower or failed: {', '.join(worse)}" if worse else "none slower"]
    told += [f"faster: {', '.join(faster)}"] if faster else []
    told += [f"too few blocks to judge, give more seconds: {', '.join(few)}"] if few else []
    return "; ".join(told)


def reasons(outcomes: Mapping[str, Outcome]) -> list[str]:
    """Why benchmarks failed."""
    return [f"{name}: {outcome.reason}" for name, outcome in outcomes.items() if outcome.reason]


def caption(revisions: Sequence[Revision], seconds: float, factor: float) -> str:
    """What was compared, and what the verdict means."""
    base, new = (f"{r.ref} ({r.commit})" for r in revisions)
    return (
        f"{new} against {base}: processor time of two processes taking turns on one core, "
        f"{seconds:.0f} s in all. Slower or faster: by a factor of {factor:g} or more, and p < "
        f"{LEVEL:g} (Wilcoxon's signed-rank test over blocks, corrected for the number of "
        "benchmarks)."
    )


def markdown(outcomes: Mapping[str, Outcome], about: str) -> str:
    """A comment for a pull request."""
    lines = [HEADERS, ("---", *["---:"] * 5, "---")]
    lines += [(f"`{name}`", *cells) for name, *cells in rows(outcomes)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    failed = "\n".join(["```text", *reasons(outcomes), "```"]) if any(reasons(outcomes)) else ""
    return "\n\n".join(filter(None, [f"**{summary(outcomes)}**", table, failed, about])) + "\n"


def document(
    outcomes: Mapping[str, Outcome], revisions: Sequence[Revision], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """All of it: `facts`, both sides, each verdict, and the seconds of each call of each block."""
    sides = zip((BASE, NEW), revisions, strict=True)
    return {
        **{name: {"ref": r.ref, "commit": r.commit} for name, r in sides},
        **facts,
        "benchmarks": {name: _entry(outcome) for name, outcome in outcomes.items()},
    }


def machine() -> dict[str, Any]:
    """What the times are of; without the library, which may be broken where this is."""
    return {
        "cpu": cpuinfo.get_cpu_info().get("brand_raw", "unknown"),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "load": os.getloadavg()[0],
    }


def _entry(outcome: Outcome) -> dict[str, Any]:
    clock = log_ratios(outcome.blocks, "clock") if outcome.blocks else np.array([])
    return {
        **(asdict(outcome.judged) if outcome.judged else {}),
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        "clock_ratio": float(np.exp(np.median(clock))) if len(clock) else None,
        "blocks": outcome.blocks,
    }


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"
