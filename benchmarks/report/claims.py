"""Claims in a report: verdicts by its records, and commands for the claims without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import pandas as pd

from benchmarks.claims import DATE, LECTURE, VERSION, Claim, Verdict, by_budget, claims, together
from benchmarks.core.exhibit import RECORDS, Table
from benchmarks.report.runs import Run

TITLE = "What becomes of the claims"
ABOUT = (
    f"The claims of a lecture, {LECTURE}, then others, and what these records make of them. "
    f"Undecided: they show neither. Criteria of version {VERSION}, {DATE}."
)
BY_RUN = "Verdicts by run"
BY_RUN_NOTE = (
    "Each run alone. Runs differ where two of them are confirmed, refuted or conditional, and not "
    "the same: sizes, budgets and data are not either."
)


@dataclass(frozen=True)
class Judgement:
    """A claim with the verdict of a run's records; ``run`` is empty where there is one run."""

    claim: Claim
    verdict: Verdict
    run: str


@dataclass
class Judged:
    """The claims that records judge; those that they do not; faults."""

    judgements: list[Judgement] = field(default_factory=list)
    others: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def table(self) -> Table:
        """A row for each verdict."""
        rows = [
            {
                "Claim": judged.claim.title,
                **({"Run": judged.run} if judged.run else {}),
                "Verdict": judged.verdict.outcome,
                "Measured": judged.verdict.sentence,
                "Slide": "–" if judged.claim.page is None else judged.claim.page,
                RECORDS: judged.verdict.records,
            }
            for judged in self.judgements
        ]
        return Table("claims", TITLE, ABOUT, pd.DataFrame(rows))

    @property
    def beside(self) -> list[Table]:
        """Verdicts by budget and, of several runs, by run: those tables that have rows."""
        outcomes: dict[str, dict[str, str]] = {}
        for item in self.judgements:
            outcomes.setdefault(item.claim.title, {})[item.run] = item.verdict.outcome
        verdicts = {f"{j.claim.title} {j.run}".strip(): j.verdict for j in self.judgements}
        runs = Table("claims-by-run", BY_RUN, BY_RUN_NOTE, by_run(outcomes))
        tables = [by_budget(verdicts), *[runs] * any(item.run for item in self.judgements)]
        return [table for table in tables if len(table.frame)]

    @property
    def missing(self) -> dict[str, str]:
        """The commands that measure what the others need, each with the names of its claims."""
        commands: dict[str, list[str]] = {}
        for claim in self.others:
            commands.setdefault(claim.remedy, []).append(claim.id)
        return {command: ", ".join(ids) for command, ids in commands.items()}


def judge(
    runs: Sequence[Run], noted: Callable[[list[str], str], AbstractContextManager[None]]
) -> Judged:
    """Judge every claim by each run alone; ``noted(notes, what)`` keeps a fault from the rest."""
    section = Judged()
    evidence = together({run.label if len(runs) > 1 else "": run.frame for run in runs})
    for claim in claims():
        with noted(section.notes, f"Claim {claim.id!r}"):
            every = [Judgement(claim, part.verdict(claim), run) for run, part in evidence.items()]
            judgements = [each for each in every if each.verdict.outcome != "not_measured"]
            section.judgements += judgements
            section.others += [] if judgements else [claim]
    return section


def by_run(outcomes: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Outcomes of each claim, a column a run, and whether runs contradict each other.

    What is undecided or not measured contradicts nothing. Runs and claims without any are left out.
    """
    words = {
        claim: {run: text.replace("_", " ") for run, text in runs.items() if text != "not_measured"}
        for claim, runs in outcomes.items()
    }
    columns = list(dict.fromkeys(run for runs in outcomes.values() for run in runs))
    columns = [run for run in columns if any(run in texts for texts in words.values())]
    rows = []
    for claim, texts in words.items():
        different = len(set(texts.values()) - {"undecided"}) > 1
        row = {"Claim": claim, **{run: texts.get(run, "–") for run in columns}}
        rows += [{**row, "Runs": "differ" if different else ""}] if texts else []
    return pd.DataFrame(rows)
