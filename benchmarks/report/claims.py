"""Claims in a report: verdicts by its records, and commands for the claims without one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from benchmarks.claims import DATE, LECTURE, VERSION, Claim, Verdict, by_budget
from benchmarks.core.exhibit import RECORDS, Table

TITLE = "What becomes of the claims"
ABOUT = (
    f"The claims of a lecture, {LECTURE}, then others, and what these records make of them. "
    f"Undecided: they show neither. Criteria of version {VERSION}, {DATE}."
)
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
    def tables(self) -> list[Table]:
        """A row for each verdict; verdicts by budget and, of several runs, by run."""
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
        outcomes: dict[str, dict[str, str]] = {}
        for item in self.judgements:
            outcomes.setdefault(item.claim.title, {})[item.run] = item.verdict.outcome
        verdicts = {f"{j.claim.title} {j.run}".strip(): j.verdict for j in self.judgements}
        tables = [Table("claims", TITLE, ABOUT, pd.DataFrame(rows)), by_budget(verdicts)]
        if any(item.run for item in self.judgements):
            tables.append(Table("claims-by-run", "Verdicts by run", BY_RUN_NOTE, by_run(outcomes)))
        return [table for table in tables if len(table.frame)]

    @property
    def missing(self) -> dict[str, str]:
        """The commands that measure what the others need, each with the names of its claims."""
        commands: dict[str, list[str]] = {}
        for claim in self.others:
            commands.setdefault(claim.remedy, []).append(claim.id)
        return {command: ", ".join(ids) for command, ids in commands.items()}


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
