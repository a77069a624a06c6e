"""Write the pages of results, and their figures, from the committed runs: ``python docs/pages.py``.

Each docs/*.md.jinja becomes docs/*.md, and the figures that they show stand in docs/figures. Times
that were not measured quietly, or are stale, are left out.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import findings
import jinja2
import matplotlib
import pandas as pd
from matplotlib import pyplot as plt
from PIL import Image

import flows
from benchmarks.claims import Claim, Evidence, Verdict, by_budget, claims, together
from benchmarks.core import store
from benchmarks.core.exhibit import Column, Figure, Table, showing
from benchmarks.core.formats import markdown, markdown_table
from benchmarks.core.frame import SCATTERED, processor, time_columns
from benchmarks.core.naming import counted
from benchmarks.core.study import registry, study_of
from benchmarks.datasets.tabular import TABLES
from benchmarks.execution import suite
from benchmarks.report import runs
from benchmarks.report.cells import grid
from benchmarks.report.pictures import SAVED

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "results"
LEFT_OUT = "*Not shown: its records are stale, and are to be measured anew.*"
COLOURS = 128  # of the palette of a PNG


def folders() -> list[Path]:
    """The folders of the runs that documents cite: those at rest, except the baseline."""
    planned = sorted(path.parent for path in RESULTS.glob("*/suite.json"))
    return [folder for folder in planned if store.tables(folder) and folder.name != runs.BASELINE]


class Quoted:
    """The tables and figures of one run, by name, with the times that may be quoted alone."""

    def __init__(self, folder: Path) -> None:
        (self.run,) = runs.read([folder])
        self.name, self.suite = folder.name, self.run.plan.name
        self._exhibits: dict[tuple[str, str], list[Any]] = {}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The long frame without times that were not measured quietly, or are stale."""
        cases = {key: record.case for key, record in self.run.records.items()}
        together = [k for k, c in cases.items() if c.study in registry and study_of(c).interleaved]
        frame = quotable(self.run.frame, self.run.cautions, together)
        empty = [name for name in time_columns(frame) if frame[name].isna().all()]
        return frame.drop(columns=empty).copy()  # in one piece

    def exhibit(self, kind: str, name: str) -> Any:
        """One of the "tables" or "figures" of its studies; None where stale records give none."""
        for study in map(str, self.frame["study"].unique()):
            try:
                exhibits = self._made(kind, study)
            except Exception:  # what is stale may lack what a table needs
                if not self.stale():
                    raise
                continue
            for item in exhibits:
                if item.name == name:
                    return item
        if self.stale():
            return None
        raise ValueError(f"run {self.name!r} has no {name!r} among its {kind}")

    def _made(self, kind: str, study: str) -> list[Any]:
        if (kind, study) not in self._exhibits:
            names = {study, *showing(study).reads}
            rows = self.frame[self.frame["study"].isin(names)].reset_index(drop=True)
            self._exhibits[kind, study] = getattr(showing(study), kind)(rows)
        return self._exhibits[kind, study]

    def facts(self) -> dict[str, Any]:
        """Its row in a table of runs."""
        records = self.run.records.values()
        timed = sum(record.timed for record in records)
        measured = [record for record in records if record.status != "skipped"]
        machines = {processor(record.machine) or "unknown" for record in measured}
        torch = {record.versions.get("torch", "unknown") for record in measured}
        states = self.run.counts
        lacking = sum(c.key not in self.run.records for c in suite.read(self.suite).cases())
        return {
            "Run": self.name,
            "Suite": self.suite,
            "Cases": len(self.run.states),
            "Lacking": lacking,
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


class Documents:
    """What templates can call, by the names of these methods; figures that they show are kept."""

    def __init__(self) -> None:
        self.runs = {folder.name: Quoted(folder) for folder in folders()}
        self.shown: dict[str, Figure] = {}

    @cached_property
    def evidence(self) -> dict[str, Evidence]:
        """What claims are judged by, by the name of the run."""
        return together({name: run.frame for name, run in self.runs.items()})

    def pages(self) -> Iterator[tuple[Path, str]]:
        """Each document that has a template, and its text."""
        environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
        )
        names = "table note figure sentence leaders verdicts undecided claims"
        names += " overview sets families stale"
        environment.globals.update({name: getattr(self, name) for name in names.split()})
        for template in sorted(DOCS.glob("*.md.jinja")):
            text = environment.from_string(template.read_text()).render()
            yield DOCS / template.name.removesuffix(".jinja"), text

    def overview(self) -> str:
        """A row for each run: suite, cases, machine, versions."""
        return _markdown(pd.DataFrame([run.facts() for run in self.runs.values()]))

    def sets(self) -> str:
        """A row for each real table of the package: source, licence, and what became of columns."""
        splits = [f"{row.draws} draws" if row.draws else "random" for row in TABLES]
        frame = pd.DataFrame(TABLES).assign(split=splits, noise=[row.noise for row in TABLES])
        names = ["name", "dim", "rows", "split", "title", "source", "licence", "columns", "noise"]
        return _markdown(frame[names].rename(columns=str.capitalize))

    def families(self) -> str:
        """A row for each family of this package: how it computes what, and how right it is."""
        rows = [{"Family": name, **vars(flows.capabilities(name))} for name in flows.own()]
        frame = pd.DataFrame(rows).replace({True: "yes", False: "–"})
        names = [name if "_" in name else name.capitalize() for name in frame]
        return _markdown(frame.set_axis(names, axis="columns"))

    def stale(self) -> str:
        """A line for each reason for which records of a run are stale."""
        reasons = [(run, *item) for run in self.runs.values() for item in run.stale().items()]
        lines = [f"- {run.name}: {counted(n, 'case')}, {markdown(why)}" for run, why, n in reasons]
        return "\n".join(lines) or "No record is stale."

    def table(self, run: str, name: str, columns: Sequence[str] = (), **values: Any) -> str:
        """A table of a run; ``columns`` of it, and the rows in which columns have these values.

        Columns without any value, such as times of a run that was not quiet, are left out. A
        table of stale records that cannot be made without them is a sentence.
        """
        table = self.runs[run].exhibit("tables", name)
        if table is None:
            return LEFT_OUT
        frame = _where(table.frame, values)
        if columns:
            beside = [n for c in columns if c in table.shown for n in table.shown[c].beside]
            frame = frame[[c for c in [*columns, *beside] if c in frame]]
        return _table(replace(table, frame=frame.reset_index(drop=True)))

    def note(self, run: str, name: str, kind: str = "tables") -> str:
        """The note of a table or figure, after what is read first of leaders."""
        exhibit = self.runs[run].exhibit(kind, name)
        first = getattr(exhibit, "first", None) or ""
        return markdown(f"{first} {exhibit.note}".strip()) if exhibit else ""

    def figure(self, run: str, name: str) -> str:
        """A figure of a run, which is drawn beside the document."""
        figure = self.runs[run].exhibit("figures", name)
        if figure is None:
            return LEFT_OUT
        self.shown[f"{run}-{name}.png"] = figure
        title = markdown(figure.title)
        return f"**{title}**\n\n![{title}](figures/{run}-{name}.png)"

    def sentence(self, name: str) -> str:
        """A sentence of `findings` with its numbers; ValueError where it no longer holds."""
        return findings.sentences[name].of(self)

    def leaders(self, models: Sequence[str]) -> str:
        """What these models close of the gap, what a density costs them, and a sample beside it."""
        table = self.runs["tables"].exhibit("tables", "frontier-leaders")
        costs = pd.concat([self.runs[name].frame for name in ("complexity", "libraries")])
        costs = costs[(costs["dim"] == 16) & costs["sample_flops"].notna()]
        beside = (costs["sample_flops"] / costs["log_prob_flops"]).groupby(costs["flow"]).median()
        frame = _where(table.frame, {"model": models}).drop(columns=["train_flops", "budget_spent"])
        frame = frame.assign(sample=frame["model"].map(beside)).reset_index(drop=True)
        columns = {**table.columns, "sample": Column("Sample ÷ density", digits=".2g")}
        columns = {name: column for name, column in columns.items() if name in frame}
        return _table(replace(table, frame=frame, columns=columns))

    def verdicts(self) -> str:
        """Claims on families, by budget."""
        every = {claim.title: self._judge(claim)[0] for claim in claims()}
        return _table(by_budget(every))

    def undecided(self) -> str:
        """Each claim that is undecided, and what would decide it, by `findings`.

        ValueError where a claim is undecided and nothing is said of it, or the other way round.
        """
        open_ = {c.id: c.title for c in claims() if self._judge(c)[0].outcome == "undecided"}
        if wrong := set(open_) ^ set(findings.DECIDING):
            raise ValueError(f"findings.DECIDING has to name the undecided claims: {wrong}")
        return "\n".join(f"- {markdown(t)} {findings.DECIDING[n]}" for n, t in open_.items())

    def claims(self) -> str:
        """Every claim with its verdict, its run and its slide."""
        rows = []
        for claim in claims():
            verdict, run = self._judge(claim)
            outcome = verdict.outcome.replace("_", " ")
            slide = "–" if claim.page is None else claim.page
            rows.append({"Claim": claim.title, "Verdict": outcome, "Run": run, "Slide": slide})
        return _markdown(pd.DataFrame(rows))

    def _judge(self, claim: Claim) -> tuple[Verdict, str]:
        """The verdict of the first run that can judge a claim, that of its own suite before others.

        The name of the run is empty where none can.
        """
        every = self.runs.values()
        order = sorted(every, key=lambda run: (run.suite != claim.suite, -len(run.frame)))
        verdicts = ((self.evidence[run.name].verdict(claim), run.name) for run in order)
        measured = ((v, name) for v, name in verdicts if v.outcome != "not_measured")
        return next(measured, (Verdict("not_measured", ""), ""))


def quotable(
    frame: pd.DataFrame, cautions: Mapping[str, str], together: Collection[str] = ()
) -> pd.DataFrame:
    """A copy of the frame without the times that are not to be quoted, by ``cautions`` of keys.

    Of `SCATTERED` times the raw values stay of cases that are timed ``together`` with their block:
    what slows one slows all, so that ratios of medians may be quoted, with their intervals.
    """
    why = frame["key"].map(cautions)
    ratios = (why == SCATTERED) & frame["key"].isin(together)
    raw = {name: name.endswith(".values") for name in time_columns(frame)}
    left = {name: frame[name].mask(why.notna() & ~(ratios & kept)) for name, kept in raw.items()}
    return frame.assign(**left)


def _where(frame: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    """The rows in which columns have these values, or one of a list of them."""
    for column, value in values.items():
        frame = frame[frame[column].isin(value if isinstance(value, list | tuple) else [value])]
    return frame


def _table(table: Table) -> str:
    """A table as Markdown, without columns that have no value."""
    cells = grid(table)
    positions = [i for i, name in enumerate(table.shown) if table.frame[name].notna().any()]
    rows = [[row[i].markdown for i in positions] for row in cells.rows]
    numbers = [place for place, i in enumerate(positions) if cells.numeric[i]]
    return markdown_table([markdown(cells.headers[i]) for i in positions], rows, numbers)


def _markdown(frame: pd.DataFrame) -> str:
    return _table(Table("", "", "", frame))


def png(figure: Figure) -> bytes:
    """Draw a figure as a PNG with a palette; the same figure gives the same bytes."""
    with matplotlib.rc_context({**SAVED, "savefig.dpi": 110}):
        picture = figure.draw()
        full, small = io.BytesIO(), io.BytesIO()
        picture.savefig(full, format="png", metadata={"Software": None})
        plt.close(picture)
    image = Image.open(full).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(small, format="PNG", optimize=True)
    return small.getvalue()


def main() -> None:
    """Write the pages, draw what they show, and remove all other figures."""
    documents = Documents()
    for page, text in documents.pages():
        store.replace(page, text.encode())
        print(page)
    (DOCS / "figures").mkdir(exist_ok=True)
    for path in (DOCS / "figures").glob("*.png"):
        if path.name not in documents.shown:
            path.unlink()
    for name, figure in documents.shown.items():
        store.replace(DOCS / "figures" / name, png(figure))


if __name__ == "__main__":
    main()
