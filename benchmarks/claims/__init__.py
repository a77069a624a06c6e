"""Claims of a lecture, one file each, judged by records; nothing is trained or timed here.

A module of this folder defines ``judge(frame) -> Verdict`` and decorates it with `@register(...)`,
which gives the statement, its place in the `LECTURE`, and made-up records that would confirm or
refute it (`benchmarks.claims.examples`). What does is in ``criteria.toml``. Every module is
imported on first use, so there is no list to keep. A verdict and its numbers are computed from the
frame of `benchmarks.core.frame.load`; missing records make it "not_measured".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from benchmarks.analysis import criteria
from benchmarks.analysis.criteria import Criterion
from benchmarks.analysis.inference import Standing
from benchmarks.core.exhibit import RECORDS
from flows.registry import Registry

LECTURE = "D. Gontar, “Neural ODE. FFJORD.”, HSE 2019"  # whose slides the claims are from

Outcome = Literal["confirmed", "refuted", "conditional", "undecided", "not_measured"]


class NotMeasured(Exception):
    """The records that a verdict needs are missing; the message says which."""


@dataclass(frozen=True)
class Verdict:
    """Outcome of a claim, one sentence with its figures, and the keys of the records behind it.

    ``strength`` and ``weakness`` say in a sentence what speaks for the verdict and against it.
    ``exhibits`` are the names of the tables and figures that show it, as studies name them.
    """

    outcome: Outcome
    sentence: str
    records: tuple[str, ...] = ()
    exhibits: tuple[str, ...] = ()
    strength: str = ""
    weakness: str = ""


@dataclass(frozen=True)
class Claim:
    """A statement, and how records judge it.

    ``page`` is the number of its slide in the `LECTURE` and ``slide`` the title, None and "" of a
    claim that is not the lecture's; ``item`` orders the claims of a slide. ``rule`` says what
    confirms and what refutes it. ``studies`` are those whose records it reads, ``suite`` one that
    measures them all, ``exhibits`` the tables and figures that show it; it reads the records of the
    studies ``also`` too, where a run has some. ``examples`` are outcomes, each with a function that
    makes up records of it, for tests. ``judge`` gets what ``prepare`` takes from the frame, which
    claims with one ``prepare`` share, or else the frame itself.
    """

    id: str
    page: int | None
    item: int
    slide: str
    statement: str
    rule: Criterion
    studies: tuple[str, ...]
    suite: str
    exhibits: tuple[str, ...]
    examples: Sequence[tuple[Outcome, Callable[[], pd.DataFrame]]]
    judge: Callable[[Any], Verdict]
    also: tuple[str, ...] = ()
    prepare: Callable[[pd.DataFrame], Any] | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """All studies whose records it reads."""
        return (*self.studies, *self.also)

    @property
    def criterion(self) -> str:
        """What confirms and what refutes it."""
        return self.rule.text

    @property
    def title(self) -> str:
        """The statement; of a claim that holds by construction, that it is a check."""
        return f"Check: {self.statement}" if self.rule.check else self.statement

    @property
    def place(self) -> str:
        """Where the lecture has it: "slide 4", or "not of the lecture"."""
        return "not of the lecture" if self.page is None else f"slide {self.page}"

    @property
    def remedy(self) -> str:
        """Command that measures the records that are missing."""
        return f"flowgauge run {self.suite}"

    @property
    def command(self) -> str:
        """Command that measures its studies again, in a folder without records of them."""
        studies = " ".join(f"--study {name}" for name in self.studies)
        return f"{self.remedy} {studies} --out results/again"

    def verdict(self, frame: pd.DataFrame) -> Verdict:
        """Verdict of these records; of several claims `Evidence` gives it in less time."""
        return Evidence(frame).verdict(self)


class Evidence:
    """The records of a run; verdicts, and what several claims take from them, computed once."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self._prepared: dict[tuple[Any, ...], Any] = {}
        self._verdicts: dict[str, Verdict] = {}

    def verdict(self, claim: Claim) -> Verdict:
        """Verdict of these records.

        Left out are those of other studies and, by a claim of the lecture, those on a user's files.
        """
        if claim.id not in self._verdicts:
            self._verdicts[claim.id] = self._judged(claim)
        return self._verdicts[claim.id]

    def _judged(self, claim: Claim) -> Verdict:
        try:
            verdict = claim.judge(self._of(claim))
        except NotMeasured as missing:
            return Verdict("not_measured", f"There are no {missing}: {claim.remedy} measures them.")
        rule = claim.rule
        sentences = (verdict.strength, rule.strength), (verdict.weakness, rule.weakness)
        strength, weakness = (" ".join(filter(None, parts)) for parts in sentences)
        return replace(verdict, exhibits=claim.exhibits, strength=strength, weakness=weakness)

    def _of(self, claim: Claim) -> Any:
        """What the claim judges, computed once for all claims that prepare the same records."""
        place = claim.prepare, claim.reads, claim.page is None
        if place not in self._prepared:
            frame = self.frame
            if len(frame):
                frame = frame[frame["study"].isin(claim.reads)].reset_index(drop=True)
            if len(frame) and claim.page is not None:
                frame = _of_lecture(frame)
            self._prepared[place] = claim.prepare(frame) if claim.prepare else frame
        return self._prepared[place]


registry: Registry[Claim] = Registry("claim", ("benchmarks.claims",), group="flowgauge.claims")


def register(
    id: str,
    *,
    statement: str,
    studies: tuple[str, ...],
    suite: str,
    exhibits: tuple[str, ...],
    examples: Sequence[tuple[Outcome, Callable[[], pd.DataFrame]]],
    criterion: str | None = None,
    also: tuple[str, ...] = (),
    prepare: Callable[[pd.DataFrame], Any] | None = None,
    page: int | None = None,
    slide: str = "",
    item: int = 1,
) -> Callable[[Callable[[Any], Verdict]], Callable[[Any], Verdict]]:
    """Decorator: register a judge as a `Claim` of these attributes.

    Raises ValueError if there is no ``criterion`` and ``criteria.toml`` has none of that name.
    """

    def decorate(judge: Callable[[Any], Verdict]) -> Callable[[Any], Verdict]:
        rule = criteria.of(id) if criterion is None else Criterion(criterion)
        place = (id, page, item, slide, statement)
        claim = Claim(*place, rule, studies, suite, exhibits, examples, judge, also, prepare)
        registry.add(id, claim, judge.__module__)
        return judge

    return decorate


def claims() -> list[Claim]:
    """All claims, in the lecture's order; those that are of no slide last."""
    every = [registry[name] for name in registry]
    return sorted(every, key=lambda c: (c.page is None, c.page or 0, c.item, c.id))


def done(frame: pd.DataFrame, study: str | Sequence[str], *metrics: str) -> pd.DataFrame:
    """The done records of studies that have all of these metrics; NotMeasured where none has."""
    names = [study] if isinstance(study, str) else study
    if len(frame):
        frame = frame[frame["study"].isin(names) & (frame["status"] == "done")]
    rows = frame
    rows = rows.loc[:, rows.notna().any() | (rows.columns == "arrays")]
    if len(rows) and set(metrics) <= set(rows):
        rows = rows.dropna(subset=list(metrics))
    if rows.empty or not set(metrics) <= set(rows):
        needed = f" with {', '.join(metrics)}" if metrics else ""
        raise NotMeasured(f"records of the study {' or '.join(names)}{needed}")
    return rows.copy()


def ahead(standings: Iterable[Standing]) -> list[bool | None]:
    """Whether the first of each comparison is ahead; None where that is open."""
    return [None if standing == "open" else standing == "ahead" for standing in standings]


def outcome(holds: Iterable[bool | None]) -> Outcome:
    """Confirmed where it holds in all cases, refuted where it is shown to hold in none.

    Conditional where it holds in some and not in others; else undecided: None, where neither is
    shown, is evidence of neither.
    """
    cases = {None if case is None else bool(case) for case in holds}
    if {True, False} <= cases:
        return "conditional"
    if not cases or None in cases:
        return "undecided"
    return "confirmed" if True in cases else "refuted"


def keys(*rows: pd.DataFrame) -> tuple[str, ...]:
    """Keys of the records of these rows, or that they come from, each once."""
    listed = (chain(*part[RECORDS]) if RECORDS in part else part["key"] for part in rows)
    return tuple(dict.fromkeys(chain(*listed)))


def span(values: Iterable[float], digits: str = ".3g") -> str:
    """ "2.0" or "1.2 to 3.4": the least and the largest."""
    numbers = list(values)
    ends = dict.fromkeys(format(end, digits) for end in (min(numbers), max(numbers)))
    return " to ".join(ends)


def listed(parts: Iterable[str]) -> str:
    """ "a, b and c", each once."""
    *first, last = dict.fromkeys(parts)
    return f"{', '.join(first)} and {last}" if first else last


def _is_file(name: str) -> bool:
    """Whether a data set's name is that of a user's file: it has a suffix before any options."""
    return bool(Path(re.split(r":(?:columns|drop|target)=|:dequantise", name)[0]).suffix)


def _of_lecture(frame: pd.DataFrame) -> pd.DataFrame:
    """The records that the lecture speaks of: those on data sets that are no files of a user."""
    names = frame.get("dataset", pd.Series(None, frame.index))
    files = names.map(lambda name: isinstance(name, str) and _is_file(name)).astype(bool)
    return frame[~files].reset_index(drop=True)
