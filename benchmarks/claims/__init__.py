"""The deck's claims: one file each, judged by what records say; nothing is trained or timed here.

A module of this folder defines ``judge(frame) -> Verdict`` and decorates it with `@register(...)`,
which says what is claimed, where, and what would confirm or refute it. Every module is imported on
first use, so there is no list to keep. A verdict and its numbers are computed from the frame that
`benchmarks.core.store.load` gives; records that are missing make it "not_measured".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from flows.registry import Registry

Outcome = Literal["confirmed", "refuted", "conditional", "not_measured"]


class NotMeasured(Exception):
    """The records that a verdict needs are missing; the message says which."""


@dataclass(frozen=True)
class Verdict:
    """What became of a claim: the outcome, one sentence with its figures, the records behind it.

    ``exhibits`` are the names of the tables and figures that show it, as studies name them.
    """

    outcome: Outcome
    sentence: str
    records: tuple[str, ...] = ()
    exhibits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """What the deck says, and how records are to judge it.

    ``page`` is that of the deck and ``slide`` its title; ``item`` orders the claims of a page.
    ``criterion`` says what confirms and what refutes it. ``studies`` are those whose records it
    reads, ``suite`` one that measures them all, ``exhibits`` what shows them.
    """

    id: str
    page: int
    item: int
    slide: str
    statement: str
    criterion: str
    studies: tuple[str, ...]
    suite: str
    exhibits: tuple[str, ...]
    judge: Callable[[pd.DataFrame], Verdict]

    @property
    def remedy(self) -> str:
        """The command that measures what a verdict needs, where that is missing."""
        return f"flowgauge run {self.suite}"

    @property
    def command(self) -> str:
        """The command that measures it once more, in a folder where a run finds no records of it.

        What the suite has of other studies is left out.
        """
        studies = " ".join(f"--study {name}" for name in self.studies)
        return f"{self.remedy} {studies} --out results/again"

    def verdict(self, frame: pd.DataFrame) -> Verdict:
        """The verdict of these records; those of other studies are not looked at."""
        if len(frame):
            frame = frame[frame["study"].isin(self.studies)]
        try:
            found = self.judge(frame.reset_index(drop=True))
        except NotMeasured as missing:
            return Verdict("not_measured", f"There are no {missing}: {self.remedy} measures them.")
        return replace(found, exhibits=self.exhibits)


registry: Registry[Claim] = Registry("claim", ("benchmarks.claims",))


def register(
    id: str,
    *,
    page: int,
    slide: str,
    statement: str,
    criterion: str,
    studies: tuple[str, ...],
    exhibits: tuple[str, ...],
    item: int = 1,
    suite: str = "complexity",
) -> Callable[[Callable[[pd.DataFrame], Verdict]], Callable[[pd.DataFrame], Verdict]]:
    """Decorator: register a judge as the claim that these words describe."""

    def decorate(judge: Callable[[pd.DataFrame], Verdict]) -> Callable[[pd.DataFrame], Verdict]:
        about = (id, page, item, slide, statement, criterion, studies, suite, exhibits)
        registry.add(id, Claim(*about, judge), judge.__module__)
        return judge

    return decorate


def claims() -> list[Claim]:
    """All claims, in the deck's order."""
    return sorted((registry[name] for name in registry), key=lambda c: (c.page, c.item, c.id))


def done(frame: pd.DataFrame, study: str, *metrics: str) -> pd.DataFrame:
    """The done records of a study that have all of these metrics; NotMeasured where none has."""
    rows = frame[(frame["study"] == study) & (frame["status"] == "done")] if len(frame) else frame
    rows = rows.dropna(axis="columns", how="all")
    if len(rows) and set(metrics) <= set(rows):
        rows = rows.dropna(subset=list(metrics))
    if rows.empty or not set(metrics) <= set(rows):
        told = f" with {', '.join(metrics)}" if metrics else ""
        raise NotMeasured(f"records of the study {study}{told}")
    return rows.copy()


def outcome(holds: Iterable[bool]) -> Outcome:
    """Confirmed where it holds in all cases, refuted where in none, conditional in between."""
    found = list(holds)
    return "confirmed" if all(found) else "conditional" if any(found) else "refuted"


def of_leads(leads: Iterable[tuple[float, float]], errors: float) -> Outcome:
    """Confirmed where every lead is above 0 by so many errors, refuted where every one is below.

    Each lead comes with its standard error. A tie is evidence of neither, nor is an unknown error.
    """
    signs = {(lead > errors * error) - (lead < -errors * error) for lead, error in leads}
    return "confirmed" if signs == {1} else "refuted" if signs == {-1} else "conditional"


def keys(*rows: pd.DataFrame) -> tuple[str, ...]:
    """The records of these rows, each once."""
    return tuple(dict.fromkeys(key for part in rows for key in part["key"]))


def span(values: Iterable[float], digits: str = ".3g") -> str:
    """ "2.0" or "1.2 to 3.4": the least and the largest."""
    listed = list(values)
    ends = dict.fromkeys(format(end, digits) for end in (min(listed), max(listed)))
    return " to ".join(ends)


def listed(parts: Iterable[str]) -> str:
    """ "a, b and c", each once."""
    *first, last = dict.fromkeys(parts)
    return f"{', '.join(first)} and {last}" if first else last
