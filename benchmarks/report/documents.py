"""Documents with numbers: Markdown templates, filled from the records of committed runs alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from benchmarks.audit import ledger, page
from benchmarks.claims import Claim, Verdict, claims
from benchmarks.core import store
from benchmarks.core.exhibit import Figure, Table
from benchmarks.core.formats import markdown, markdown_table
from benchmarks.core.naming import counted
from benchmarks.report.cells import grid
from benchmarks.report.claims import by_run
from benchmarks.report.pictures import small_png
from benchmarks.report.quoted import Quoted, folders
from benchmarks.report.suite_keys import suite_keys

TEMPLATE = ".md.jinja"
FIGURES = "figures"
LEFT_OUT = "*Not shown: its records are stale, and are to be measured anew.*"


class Documents:
    """What the templates of a documentation folder can call; figures that they show are kept."""

    def __init__(self, results: Path) -> None:
        self.audited = results / "audit" / "audit.json"
        self.runs = {folder.name: Quoted(folder) for folder in folders(results)}
        self.shown: dict[str, Figure] = {}

    def render(self, template: Path) -> str:
        """The text of a template."""
        environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
        )
        names = ["table", "note", "figure", "figure_note", "claims", "claims_by_run"]
        names += ["overview", "names", "datasets", "stale", "audit", "says"]
        environment.globals.update({name: getattr(self, name) for name in names})
        environment.globals["suite_keys"] = suite_keys
        return environment.from_string(template.read_text()).render()

    def names(self) -> list[str]:
        """The names of the runs."""
        return list(self.runs)

    def datasets(self, run: str, study: str, **values: Any) -> list[str]:
        """The data sets of a study's cases that are done and in which columns have these values."""
        if run not in self.runs:
            return []
        frame = self.runs[run].frame
        rows = frame[(frame["study"] == study) & (frame["status"] == "done")]
        return list(_where(rows, values)["dataset"].unique())

    def overview(self) -> str:
        """A row for each run: suite, cases, machine, versions."""
        return _markdown(pd.DataFrame([run.facts() for run in self.runs.values()]))

    def stale(self) -> str:
        """A line for each reason for which records of a run are stale."""
        reasons = [(run, *item) for run in self.runs.values() for item in run.stale().items()]
        lines = [f"- {run.name}: {counted(n, 'case')}, {markdown(why)}" for run, why, n in reasons]
        return "\n".join(lines) or "No record is stale."

    def audit(self) -> str:
        """The sections of the committed audit of other libraries."""
        rows, scripts = ledger.read(self.audited), ledger.read_scripts(self.audited)
        return page.sections(rows, scripts)

    def table(
        self,
        run: str,
        name: str,
        columns: Sequence[str] = (),
        **values: Any,
    ) -> str:
        """A table of a run; ``columns`` of it, and the rows in which columns have these values.

        Columns without any value, such as times of a run that was not quiet, are left out. A
        table of stale records that cannot be made without them is a sentence.
        """
        table = self._exhibit("table", run, name)
        if table is None:
            return LEFT_OUT
        frame = _where(table.frame, values)
        if columns:
            beside = [n for c in columns for n in table.column(c).beside if n in frame]
            frame = frame[[c for c in [*columns, *beside] if c in frame]]
        return _table(replace(table, frame=frame.reset_index(drop=True)))

    def note(self, run: str, name: str) -> str:
        """The note of a table."""
        table = self._exhibit("table", run, name)
        return markdown(table.note) if table else ""

    def figure(self, run: str, name: str) -> str:
        """A figure of a run, which is drawn beside the document."""
        figure = self._exhibit("figure", run, name)
        if figure is None:
            return LEFT_OUT
        self.shown[f"{run}-{name}.png"] = figure
        return f"![{markdown(figure.title)}]({FIGURES}/{run}-{name}.png)"

    def figure_note(self, run: str, name: str) -> str:
        """The note of a figure."""
        figure = self._exhibit("figure", run, name)
        return markdown(figure.note) if figure else ""

    def says(self, run: str, study: str) -> list[str]:
        """What a study says of a run, a sentence an item; none where the run lacks it."""
        lines = self.runs[run].says(study) if run in self.runs else []
        return [markdown(line) for line in lines]

    def claims(self) -> str:
        """Every claim with its verdict, the sentence with its numbers, and its slide."""
        rows = []
        for claim in claims():
            verdict, run = self._judge(claim)
            sentence = verdict.sentence if run else "Not measured quietly by these runs."
            rows.append(
                {
                    "Claim": claim.title,
                    "Verdict": verdict.outcome.replace("_", " "),
                    "Measured": sentence,
                    "Strength": verdict.strength,
                    "Weakness": verdict.weakness,
                    "Run": run or "–",
                    "Slide": "–" if claim.page is None else claim.page,
                }
            )
        return _markdown(pd.DataFrame(rows))

    def claims_by_run(self) -> str:
        """The verdicts of every run on every claim, and where they differ."""
        outcomes = {
            claim.title: {
                run.name: run.evidence.verdict(claim).outcome for run in self.runs.values()
            }
            for claim in claims()
        }
        return _markdown(by_run(outcomes))

    def draw(self, folder: Path) -> None:
        """Write the figures that were shown into a folder, and remove all others there."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.png"):
            if path.name not in self.shown:
                path.unlink()
        for name, figure in self.shown.items():
            store.replace(folder / name, small_png(figure))

    def _exhibit(self, kind: str, run: str, name: str) -> Any:
        """A table or figure; None where the run's records are stale and do not give it."""
        try:
            return getattr(self.runs[run], kind)(name)
        except ValueError:
            if not self.runs[run].stale():
                raise
            return None

    def _judge(self, claim: Claim) -> tuple[Verdict, str]:
        """The verdict of the first run that can judge a claim, that of its own suite before others.

        The name of the run is empty where none can.
        """
        order = sorted(
            self.runs.values(), key=lambda run: (run.suite != claim.suite, -len(run.frame))
        )
        verdict = Verdict("not_measured", "")
        for run in order:
            verdict = run.evidence.verdict(claim)
            if verdict.outcome != "not_measured":
                return verdict, run.name
        return verdict, ""


def write(results: Path, docs: Path) -> list[Path]:
    """Render every template of a documentation folder beside itself, and draw what they show."""
    documents = Documents(results)
    written = []
    for path, text in rendered(documents, docs):
        store.replace(path, text.encode())
        written.append(path)
    documents.draw(docs / FIGURES)
    return written


def rendered(documents: Documents, docs: Path) -> Iterator[tuple[Path, str]]:
    """Each document that has a template, and its text."""
    for template in sorted(docs.glob(f"*{TEMPLATE}")):
        yield docs / f"{template.name.removesuffix('.jinja')}", documents.render(template)


def _where(frame: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    """The rows in which columns have these values, or one of a list of them."""
    for column, value in values.items():
        wanted = value if isinstance(value, list | tuple) else [value]
        frame = frame[frame[column].isin(wanted)]
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
