"""Documents with numbers: Markdown templates, filled from the records of committed runs alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import pandas as pd
from matplotlib import pyplot as plt
from PIL import Image

from benchmarks.claims import Claim, Verdict, claims
from benchmarks.core import store
from benchmarks.core.exhibit import RECORDS, Figure, Table
from benchmarks.core.formats import markdown
from benchmarks.core.frame import load
from benchmarks.core.metrics import METRICS
from benchmarks.core.plan import plan_of
from benchmarks.core.quotable import quotable
from benchmarks.core.study import registry
from benchmarks.report.cells import Cell, grid
from benchmarks.report.pictures import SAVED

TEMPLATE = ".md.jinja"
FIGURES = "figures"
BASELINE = "baseline"  # the gate's, in miniature
TIMES = [name for name, metric in METRICS.items() if metric.kind == "time"]
DPI = 110
COLOURS = 128  # of a figure's palette


class Run:
    """The records of one results folder, with the times that may be quoted and no others."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.suite = plan_of(folder, {}).name
        self.measured = load(folder)
        self.quiet = quotable(self.measured)
        self._exhibits: dict[tuple[str, str], list[Any]] = {}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The long frame; times that were not measured quietly are missing."""
        frame = self.measured.copy()
        names = [n for metric in TIMES for n in (metric, f"{metric}.values") if n in frame]
        frame[names] = frame[names].where(self.quiet)
        return frame.drop(columns=[name for name in names if frame[name].isna().all()]).copy()

    def table(self, name: str) -> Table:
        """A table that one of its studies makes of it; ValueError where none does."""
        return self._named("tables", name)

    def figure(self, name: str) -> Figure:
        """A figure that one of its studies makes of it; ValueError where none does."""
        return self._named("figures", name)

    def facts(self) -> dict[str, Any]:
        """Its row in a table of runs."""
        machines = [m.get("cpu") or "unknown" for m in self.measured["machine"]]
        torch = [versions.get("torch", "unknown") for versions in self.measured["versions"]]
        return {
            "Run": self.name,
            "Suite": self.suite,
            "Cases": len(self.measured),
            "Done": int((self.measured["status"] == "done").sum()),
            "Measured quietly": int(self.quiet.sum()),
            "Machine": ", ".join(sorted(set(machines))),
            "torch": ", ".join(sorted(set(torch))),
        }

    @property
    def studies(self) -> list[str]:
        """The names of its studies."""
        return [str(name) for name in self.frame["study"].unique()]

    def _named(self, kind: str, name: str) -> Any:
        known: list[str] = []
        for study in self.studies:
            try:
                exhibits = self._made(kind, study)
            except Exception as error:
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


class Documents:
    """What the templates of a documentation folder can call; figures that they show are kept."""

    def __init__(self, results: Path) -> None:
        self.runs = {folder.name: Run(folder) for folder in runs(results)}
        self.shown: dict[str, Figure] = {}

    def render(self, template: Path) -> str:
        """The text of a template."""
        environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
        )
        names = ("table", "note", "figure", "claims", "overview", "names", "figure_note")
        environment.globals.update({name: getattr(self, name) for name in names})
        return environment.from_string(template.read_text()).render()

    def names(self) -> list[str]:
        """The names of the runs."""
        return list(self.runs)

    def overview(self) -> str:
        """A row for each run: suite, cases, machine, versions."""
        return _markdown(pd.DataFrame([run.facts() for run in self.runs.values()]))

    def table(
        self,
        run: str,
        name: str,
        columns: Sequence[str] = (),
        where: Callable[[pd.DataFrame], Any] | None = None,
        **values: Any,
    ) -> str:
        """A table of a run; ``columns`` of it, and the rows in which columns have these values.

        Columns without any value, such as times of a run that was not quiet, are left out.
        """
        table = self.runs[run].table(name)
        frame = table.frame
        for column, value in values.items():
            wanted = value if isinstance(value, list | tuple) else [value]
            frame = frame[frame[column].isin(wanted)]
        if columns:
            beside = [n for c in columns for n in table.column(c).beside if n in frame]
            frame = frame[[c for c in [*columns, *beside] if c in frame]]
        return _table(replace(table, frame=frame.reset_index(drop=True)))

    def note(self, run: str, name: str) -> str:
        """The note of a table."""
        return markdown(self.runs[run].table(name).note)

    def figure(self, run: str, name: str) -> str:
        """A figure of a run, which is drawn beside the document."""
        figure = self.runs[run].figure(name)
        self.shown[f"{run}-{name}.png"] = figure
        return f"![{markdown(figure.title)}]({FIGURES}/{run}-{name}.png)"

    def figure_note(self, run: str, name: str) -> str:
        """The note of a figure."""
        return markdown(self.runs[run].figure(name).note)

    def claims(self) -> str:
        """Every claim with its verdict, the sentence with its numbers, and its slide."""
        rows = []
        for claim in claims():
            verdict, run = self._judge(claim)
            sentence = verdict.sentence if run else "Not measured quietly by these runs."
            rows.append(
                {
                    "Claim": claim.statement,
                    "Verdict": verdict.outcome.replace("_", " "),
                    "Measured": sentence,
                    "Run": run or "–",
                    "Slide": claim.page,
                }
            )
        return _markdown(pd.DataFrame(rows))

    def draw(self, folder: Path) -> None:
        """Write the figures that were shown into a folder, and remove all others there."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.png"):
            if path.name not in self.shown:
                path.unlink()
        for name, figure in self.shown.items():
            store.replace(folder / name, _png(figure))

    def _judge(self, claim: Claim) -> tuple[Verdict, str]:
        """The verdict of the first run that can judge a claim, that of its own suite before others.

        The name of the run is empty where none can.
        """
        order = sorted(
            self.runs.values(), key=lambda run: (run.suite != claim.suite, -len(run.frame))
        )
        verdict = Verdict("not_measured", "")
        for run in order:
            verdict = claim.verdict(run.frame)
            if verdict.outcome != "not_measured":
                return verdict, run.name
        return verdict, ""


def runs(results: Path) -> list[Path]:
    """The folders of the runs that documents cite: those with a plan, but for the baseline."""
    folders = sorted(path.parent for path in results.glob("*/suite.json"))
    return [folder for folder in folders if folder.name != BASELINE]


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


def _table(table: Table) -> str:
    """A table as Markdown, without columns that have no value."""
    shown = grid(table)
    kept = [
        i
        for i, name in enumerate(table.shown)
        if table.frame[name].notna().any() and name != RECORDS
    ]
    lines = [[markdown(shown.headers[i]) for i in kept]]
    lines.append(["---:" if shown.numeric[i] else "---" for i in kept])
    lines += [[_cell(row[i]) for i in kept] for row in shown.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    text = markdown(cell.text)
    return f"**{text}**" if cell.best else text


def _markdown(frame: pd.DataFrame) -> str:
    return _table(Table("", "", "", frame))


def _png(figure: Figure) -> bytes:
    """A figure as a small PNG; the same figure gives the same bytes."""
    with matplotlib.rc_context({**SAVED, "savefig.dpi": DPI}):
        drawn = figure.draw()
        try:
            buffer = io.BytesIO()
            drawn.savefig(buffer, format="png", metadata={"Software": None})
        finally:
            plt.close(drawn)
    image = Image.open(buffer).convert("RGB")
    palette = image.quantize(COLOURS, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    palette.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
