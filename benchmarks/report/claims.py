"""The claims as a report shows them: those that its records judge, and what the others need."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import pandas as pd

from benchmarks.claims import Claim, Verdict, claims
from benchmarks.core.exhibit import RECORDS, Table

TITLE = "What becomes of the claims"
ABOUT = (
    "What an introduction to Neural ODEs and FFJORD claims, slide by slide, and what these records "
    "make of it: confirmed, refuted, or conditional on what the sentence names."
)


@dataclass
class Judged:
    """The claims that records judge, each with its verdict; those that they do not; faults."""

    verdicts: list[tuple[Claim, Verdict]] = field(default_factory=list)
    others: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def table(self) -> Table:
        """A row for each claim that was judged."""
        columns = ["Claim", "Verdict", "Measured", "Slide", RECORDS]
        rows = [(c.statement, v.outcome, v.sentence, c.page, v.records) for c, v in self.verdicts]
        return Table("claims", TITLE, ABOUT, pd.DataFrame(rows, columns=columns))

    @property
    def missing(self) -> dict[str, str]:
        """The commands that measure what the others need, each with the names of its claims."""
        commands: dict[str, list[str]] = {}
        for claim in self.others:
            commands.setdefault(claim.remedy, []).append(claim.id)
        return {command: ", ".join(ids) for command, ids in commands.items()}


def judge(
    frame: pd.DataFrame, noted: Callable[[list[str], str], AbstractContextManager[None]]
) -> Judged:
    """Every claim judged by these records; ``noted(notes, what)`` keeps a fault from the rest."""
    found = Judged()
    for claim in claims():
        with noted(found.notes, f"Claim {claim.id!r}"):
            verdict = claim.verdict(frame)
            if verdict.outcome == "not_measured":
                found.others.append(claim)
            else:
                found.verdicts.append((claim, verdict))
    return found
