"""What the chooser is asked: a table in its columns, and a plan for the minutes there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import typer

from benchmarks.cli.console import console, errors
from benchmarks.core.formats import plain

if TYPE_CHECKING:
    from benchmarks.core.record import Record
    from benchmarks.datasets.own import Selection
    from benchmarks.execution.suite import Suite
    from benchmarks.studies.choose.plan import Plan
    from benchmarks.studies.frontier.entries import Entrant

EFFORT = 2e9  # FLOPs a second of the mixture's fit, which gets the seconds of a family


def selected(
    file: str,
    drop: Sequence[str] | None,
    columns: Sequence[str] | None,
    target: Sequence[str] | None,
) -> Selection:
    """The table in its columns; ValueError for a column that it does not have."""
    from benchmarks.datasets import own
    from benchmarks.datasets.inspection import quoted

    table, given = next(iter(own.read_whole(file).values())), own.Selection.of(file)
    chosen = [
        [n for text in some or () for n in text.split(",")] for some in (columns, drop, target)
    ]
    selection = given.narrowed(table, *chosen)
    targets = selection.target
    aside = [name for name in table.attrs.get("targets", ()) if name not in selection.columns]
    note = f"the density is that of {', '.join(targets)} given the other columns" if targets else ""
    if not targets and aside:
        note = f"left out: {quoted(aside)}; --target {','.join(aside)} asks for the density given X"
    if note:
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    return selection


def check_table(name: str) -> None:
    """Print what is doubtful about a table; exit with 2, and all that is wrong, if it has none."""
    from benchmarks.datasets import own

    inspection = own.inspect(name)
    for fault in inspection.faults:
        errors.print(f"flowgauge: error: {name}: {fault}", style="red", soft_wrap=True)
    if inspection.faults:
        errors.print("--drop NAME leaves a column out", soft_wrap=True)
        raise typer.Exit(2)
    for remark in inspection.remarks:
        console.print(f"warning: {remark}", style="yellow", soft_wrap=True)


def suite_of(name: str, minutes: float, plan: Plan, listed: Sequence[Entrant]) -> Suite:
    """The suite of a plan for a table and the flows that are asked for, the first of them first."""
    from benchmarks import datasets
    from benchmarks.execution.suite import Suite
    from benchmarks.studies.choose.plan import batch

    entered, left_out = _divided(plan, listed)
    study = {
        "study": "choose",
        "datasets": [name],
        "flows": [entrant.model_dump(mode="json", exclude_defaults=True) for entrant in entered],
        "baselines": ["gaussian", {"flow": "mixture", "effort": EFFORT * plan.of_family}],
        "batch": batch(len(datasets.load(name).train)),
        "configurations": plan.configurations,
        "places": plan.places,
        "seconds": plan.trial,
        "final_seconds": plan.final,
        "minutes": minutes,
        "left_out": left_out,
    }
    title = plain(f"choose {Path(name.partition(':')[0]).name}")[:99]
    values: dict[str, Any] = {"name": title, "threads": 1, "time_limit": 60 * minutes}
    values |= {"about": f"Which flow for {name}: {minutes:g} min.", "studies": (study,)}
    return Suite.model_validate(values)


@dataclass(frozen=True)
class Earlier:
    """A run that another goes on with: its plan, the seconds of its finals, its best by validation.

    Zero seconds where it has no final yet.
    """

    plan: Plan
    seconds: float
    best: tuple[str, float]

    @classmethod
    def of(cls, plan: Plan, records: Sequence[Record]) -> Self:
        """What the records of a plan say."""
        trained = [r for r in records if r.status == "done" and "label" in r.case.settings]
        finals = [r.case.settings for r in trained if r.case.settings["stage"] == "final"]
        seconds = max((float(settings["training"]["clock"]) for settings in finals), default=0.0)
        scores = [(r.metrics["val_ll"].median, str(r.case.settings["label"])) for r in trained]
        score, label = max(scores, default=(-math.inf, ""))
        return cls(plan, seconds, (label, score))


def earlier(folder: Path, name: str, minutes: float, listed: Sequence[Entrant]) -> Earlier | None:
    """The run that a folder holds if its question was the same, and it had time for its trials."""
    from benchmarks.core import store
    from benchmarks.execution import suite as suites
    from benchmarks.studies.choose.plan import Plan

    if suites.planned(str(folder)) is None:
        return None
    with suppress(ValueError, KeyError, TypeError):
        before = suites.read(str(folder))
        (study,) = before.studies
        plan = Plan(
            len(study["flows"]),
            study["configurations"],
            study["places"],
            study["seconds"],
            study["final_seconds"],
        )
        again = suite_of(name, minutes, plan, listed)
        if again.model_dump(mode="json") == before.model_dump(mode="json"):
            keys = {case.key for case in again.cases()}
            records = [record for key, record in store.read(folder).items() if key in keys]
            late = [record for record in records if record.status == "skipped"]
            if not any(record.case.settings.get("stage") == "trial" for record in late):
                return Earlier.of(plan, records)
    return None


def _divided(plan: Plan, listed: Sequence[Entrant]) -> tuple[Sequence[Entrant], list[str]]:
    """The families that a plan has time for, and the names of the others."""
    return listed[: plan.families], [entrant.flow for entrant in listed[plan.families :]]


def announce(plan: Plan, listed: Sequence[Entrant], jobs: int) -> None:
    """Print which flows are compared, for how long each, and which are left out."""
    from benchmarks.core.naming import counted

    entered, left_out = _divided(plan, listed)
    console.print(
        f"{', '.join(e.flow for e in entered)} on {counted(jobs, 'core')}: for each "
        f"{counted(plan.configurations, 'trial')} of {plan.trial:.1f} s, then about "
        f"{plan.final:.0f} s",
        soft_wrap=True,
    )
    if left_out:
        console.print(f"left out for want of time: {', '.join(left_out)}", soft_wrap=True)
