"""A committed run as documents quote it: its records, with the times that may be quoted alone."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.claims import Evidence
from benchmarks.core import store
from benchmarks.core.exhibit import Figure, Table
from benchmarks.core.frame import processor, quotable, time_columns
from benchmarks.core.study import registry
from benchmarks.execution import suite
from benchmarks.report import runs

BASELINE = "baseline"  # the gate's folder: the suite ci, which no document cites


def folders(results: Path) -> list[Path]:
    """The folders of the runs that documents cite: those at rest, except the baseline."""
    planned = sorted(path.parent for path in results.glob("*/suite.json"))
    planned = [folder for folder in planned if store.tables(folder)]
    return [folder for folder in planned if folder.name != BASELINE]


class Quoted:
    """The tables and figures of one run, by name."""

    def __init__(self, folder: Path) -> None:
        (self.run,) = runs.read([folder])
        self.name, self.suite = folder.name, self.run.plan.name
        self._exhibits: dict[tuple[str, str], list[Any]] = {}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The long frame without times that were not measured quietly, or are stale."""
        frame = quotable(self.run.frame, self.run.cautions)
        empty = [name for name in time_columns(frame) if frame[name].isna().all()]
        return frame.drop(columns=empty).copy()  # in one piece

    @cached_property
    def evidence(self) -> Evidence:
        """What claims are judged by."""
        return Evidence(self.frame)

    @cached_property
    def lacking(self) -> int:
        """How many cases its suite has by now that the run did not measure."""
        return sum(case.key not in self.run.records for case in suite.read(self.suite).cases())

    def table(self, name: str) -> Table:
        """A table that one of its studies makes; ValueError if none does."""
        table: Table = self._named("tables", name)
        return table

    def figure(self, name: str) -> Figure:
        """A figure that one of its studies makes; ValueError if none does."""
        figure: Figure = self._named("figures", name)
        return figure

    def says(self, study: str) -> list[str]:
        """What a study says of the run; nothing where the run has no records of it."""
        return self._made("says", study)

    def facts(self) -> dict[str, Any]:
        """Its row in a table of runs."""
        records = self.run.records.values()
        timed = sum(record.timed for record in records)
        measured = [record for record in records if record.status != "skipped"]
        machines = {processor(record.machine) or "unknown" for record in measured}
        torch = {record.versions.get("torch", "unknown") for record in measured}
        states = self.run.counts
        return {
            "Run": self.name,
            "Suite": self.suite,
            "Cases": len(self.run.states),
            "Lacking": self.lacking,
            "Stale": states["stale"],
            "Stale in times": states["stale in times"],
            "Timed": timed,
            "Times quoted": timed - len(self.run.cautions),
            "Machine": ", ".join(sorted(machines)),
            "torch": ", ".join(sorted(torch)),
        }

    def stale(self) -> Counter[str]:
        """How many cases are stale for which reason."""
        return Counter(case.reason for case in self.run.states if case.state.startswith("stale"))

    def _named(self, kind: str, name: str) -> Any:
        known: list[str] = []
        for study in self.frame["study"].unique():
            try:
                exhibits = self._made(kind, str(study))
            except Exception as error:  # one study's fault; the name may be another's
                known.append(f"({study}: {error!r})")
                continue
            for item in exhibits:
                if item.name == name:
                    return item
                known.append(item.name)
        raise ValueError(f"run {self.name!r} has no {name!r} among its {kind}: {', '.join(known)}")

    def _made(self, kind: str, study: str) -> list[Any]:
        """The tables or figures of a study, made once."""
        if (kind, study) not in self._exhibits:
            names = {study, *registry[study].reads}
            rows = self.frame[self.frame["study"].isin(names)].reset_index(drop=True)
            self._exhibits[kind, study] = getattr(registry[study], kind)(rows)
        return self._exhibits[kind, study]
