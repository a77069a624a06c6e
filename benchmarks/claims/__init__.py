"""Claims of a lecture, judged by records; nothing is trained or timed here.

A row of ``criteria.toml`` has the statement of a claim, its slide in the `LECTURE`, what it reads,
and what confirms or refutes it, versioned and dated. A module of this folder judges the claims of
a subject, each by a function ``judge(frame) -> Verdict`` that is decorated with
`@register("its-name")`; modules are imported on first use. A plug-in gives `register` what the
table would have. A verdict and its numbers are computed from the frame of
`benchmarks.core.frame.load`; missing records make it "not_measured".
"""

import dataclasses
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

import pandas as pd

from benchmarks.analysis.criteria import FEWEST, LEVEL, MARGIN, UPDATES
from benchmarks.analysis.inference import Standing
from benchmarks.core.exhibit import RECORDS, Table, columns
from benchmarks.core.naming import counted
from flows.registry import Registry

LECTURE = "D. Gontar, “Neural ODE. FFJORD.”, HSE 2019"  # whose slides the claims are from
TABLE: dict[str, Any] = tomllib.loads((files(__package__) / "criteria.toml").read_text("utf-8"))
RULES: dict[str, dict[str, Any]] = TABLE["claims"]  # rows of the lecture's claims, thresholds too
VERSION: int = TABLE["version"]
DATE: str = TABLE["date"].isoformat()

K = TypeVar("K")
Outcome = Literal["confirmed", "refuted", "conditional", "undecided", "not_measured"]


class NotMeasured(Exception):
    """The records that a verdict needs are missing; the message says which."""


@dataclass(frozen=True)
class Part:
    """What records say of a claim on a data set at a budget."""

    data: str
    budget: str  #: "60 s"; empty where none was set
    value: float  #: a lead in nats, or a ratio of seconds or FLOPs
    interval: tuple[float, float]  #: of confidence 1 - `LEVEL`; NaN where it is not known
    how: str  #: how the first side stands
    holds: bool | None  #: whether the claim does; None where that is open
    splits: int  #: or draws, or trainings
    ratio: bool = False  #: whether the value is one

    @property
    def judged(self) -> bool:
        """Whether it decides anything."""
        return self.splits >= FEWEST


@dataclass(frozen=True)
class Verdict:
    """Outcome of a claim, and what it rests on."""

    outcome: Outcome
    sentence: str  #: one, with its figures
    records: tuple[str, ...] = ()  #: keys of the records behind it
    strength: str = ""  #: a sentence on what speaks for the verdict
    weakness: str = ""  #: and against it
    parts: tuple[Part, ...] = ()  #: of each data set the least budget first
    cited: str = ""  #: a sentence that the verdicts of other claims cite


@dataclass(frozen=True)
class Claim:
    """A statement, and how records judge it."""

    id: str
    judge: Callable[[Any], Verdict]  # gets the frame, or what ``prepare`` makes of it
    statement: str
    criterion: str  # what confirms it, and what refutes it
    studies: Sequence[str]  # whose records it reads
    suite: str  # measures these studies
    exhibits: Sequence[str] = ()  # names of the tables and figures that show it
    also: Sequence[str] = ()  # studies whose records it reads where a run has some
    prepare: Callable[[pd.DataFrame], Any] | None = None  # called once for all claims that share it
    page: int | None = None  # of its slide in the `LECTURE`
    slide: str = ""  # its title
    strength: str = ""  # what speaks for such a verdict
    weakness: str = ""  # and against it
    cites: str = ""  # a claim whose verdict has a sentence for it, be it of another run
    check: bool = False  # it holds by construction
    part: str = ""  # of its study

    @property
    def reads(self) -> tuple[str, ...]:
        """All studies whose records it reads."""
        return (*self.studies, *self.also)

    @property
    def title(self) -> str:
        """The statement; of a claim that holds by construction, that it is a check."""
        return f"Check: {self.statement}" if self.check else self.statement

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
        studies = " ".join(f"--study {self.part or name}" for name in self.studies)
        return f"{self.remedy} {studies} --out results/again"

    def verdict(self, frame: pd.DataFrame) -> Verdict:
        """Verdict of these records; of several claims `Evidence` gives it in less time."""
        return Evidence(frame).verdict(self)


class Evidence:
    """The records of a run; verdicts, and what several claims take from them, computed once."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self.others: Sequence[Evidence] = ()  # of other runs, which claims may cite
        self._prepared: dict[tuple[Any, ...], Any] = {}
        self._verdicts: dict[str, Verdict] = {}

    def verdict(self, claim: Claim) -> Verdict:
        """Verdict of these records.

        Left out are those of other studies and, by a claim of the lecture, those on a user's files.
        """
        if claim.id not in self._verdicts:
            try:
                verdict = claim.judge(self._of(claim))
                self._verdicts[claim.id] = replace(
                    verdict,
                    sentence=verdict.sentence + self._cited(claim),
                    strength=f"{verdict.strength} {claim.strength}".strip(),
                    weakness=f"{verdict.weakness} {claim.weakness}".strip(),
                )
            except NotMeasured as missing:
                text = f"There are no {missing}: {claim.remedy} measures them."
                self._verdicts[claim.id] = Verdict("not_measured", text)
        return self._verdicts[claim.id]

    def _cited(self, claim: Claim) -> str:
        """The sentence of the claim that this one cites, of the run with the most records of it."""
        runs = (self, *self.others) if claim.cites else ()
        cited = [run.verdict(registry[claim.cites]) for run in runs]
        return max(cited, key=lambda v: (bool(v.cited), len(v.records))).cited if cited else ""

    def _of(self, claim: Claim) -> Any:
        """What the claim judges, computed once for all claims that prepare the same records."""
        place = claim.prepare, claim.reads, claim.page is None
        if place not in self._prepared:
            frame = self.frame
            if len(frame):
                chosen = frame["study"].isin(claim.reads)
                if claim.page is not None and "dataset" in frame:  # "my.csv" is a user's file
                    chosen &= ~frame["dataset"].map(lambda n: bool(Path(str(n)).suffix))
                frame = frame[chosen].reset_index(drop=True)
            self._prepared[place] = claim.prepare(frame) if claim.prepare else frame
        return self._prepared[place]


def together(frames: Mapping[K, pd.DataFrame]) -> dict[K, Evidence]:
    """Evidence of each run, whose claims may cite the other runs."""
    every = {run: Evidence(frame) for run, frame in frames.items()}
    for evidence in every.values():
        evidence.others = [other for other in every.values() if other is not evidence]
    return every


registry: Registry[Claim] = Registry("claim", ("benchmarks.claims",), group="flowgauge.claims")


def register(id: str, **fields: Any) -> Callable[[Callable[[Any], Verdict]], Any]:
    """Decorator: register a judge as a `Claim`, that of the table unless there is a ``criterion``.

    ``fields`` are those of `Claim`: a plug-in gives statement, criterion, studies and suite.
    Raises ValueError without a criterion for a claim that the table lacks.
    """
    if "criterion" not in fields:
        if id not in RULES:
            raise ValueError(f"claim {id!r} has no criterion: give register(..., criterion=...)")
        fields = _of_table(id) | fields

    def decorate(judge: Callable[[Any], Verdict]) -> Callable[[Any], Verdict]:
        registry.add(id, Claim(id, judge, **fields), judge.__module__)
        return judge

    return decorate


def _of_table(id: str) -> dict[str, Any]:
    """Return the fields of a claim of the lecture."""
    rule = RULES[id]
    first = rule["studies"][0]
    level = level_of(id if id in TABLE["shares"] else "leads")
    shared = {"level": level, "updates": UPDATES, "margin": MARGIN, "fewest": FEWEST}
    texts = {name: text.format(**shared) for name, text in TABLE["shared"].items()}
    fields = {field.name for field in dataclasses.fields(Claim)}
    return {
        "suite": TABLE["suites"][first],
        **{name: value for name, value in rule.items() if name in fields},
        "criterion": rule["text"].format(**texts, **shared, **rule),
        "also": TABLE["also"].get(first, ()),
        "slide": TABLE["slides"][str(rule["page"])],
    }


def level_of(tests: str) -> float:
    """Return the level of a claim's tests, or of "leads": its share of `LEVEL` (Bonferroni)."""
    return LEVEL * float(TABLE["shares"][tests])


def claims() -> list[Claim]:
    """All claims, in the lecture's order; those that are of no slide last."""
    order = [*RULES, *sorted({*registry} - {*RULES})]
    return [registry[name] for name in order if name in registry]


# ---- what judges share --------------------------------------------------------------------------


def done(frame: pd.DataFrame, study: str | Sequence[str], *metrics: str) -> pd.DataFrame:
    """The done records of studies that have all of these metrics; NotMeasured where none has."""
    names = [study] if isinstance(study, str) else study
    if len(frame):
        frame = frame[frame["study"].isin(names) & (frame["status"] == "done")]
        frame = frame.loc[:, frame.notna().any() | (frame.columns == "arrays")]
    rows = frame.dropna(subset=[*metrics]) if set(metrics) <= set(frame) else frame[:0]
    if rows.empty:
        needed = f" with {', '.join(metrics)}" if metrics else ""
        raise NotMeasured(f"records of the study {' or '.join(names)}{needed}")
    return rows.copy()


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


def by_budget(verdicts: Mapping[str, Verdict]) -> Table:
    """A row for each claim that is judged by budget, by its title, and a column a budget.

    A cell has the outcome, in how many comparisons the claim holds, and their values.
    """
    rows: list[dict[str, Any]] = []
    for title, verdict in verdicts.items():
        budgets = dict.fromkeys(part.budget for part in verdict.parts)
        cells = {b or "once": _cell([p for p in verdict.parts if p.budget == b]) for b in budgets}
        rows += [{"claim": title, **cells, RECORDS: verdict.records}] if cells else []
    names = sorted({*chain(*rows)} - {"claim", RECORDS}, key=lambda n: (n == "once", len(n), n))
    note = (
        f"In how many comparisons a claim holds, of those with {FEWEST} splits, draws or trainings "
        "or more; fewer decide nothing. Behind it the least and the largest lead, or ratio of "
        "seconds or FLOPs. Its verdict is that of the largest such budget of each set."
    )
    layout = columns("claim", *names)
    return Table.of("claims-by-budget", "Verdicts by budget", note, rows, layout)


def _cell(parts: Sequence[Part]) -> str:
    """ "refuted, 0 of 5: −1.56 to −0.01 nats"."""
    judged = [part for part in parts if part.judged]
    holds = [part.holds for part in judged]
    how = f"not judged, {counted(max(part.splits for part in parts), 'split')}"
    if judged:
        how = f"{outcome(holds)}, {holds.count(True)} of {len(holds)}"
    values = [part.value for part in judged or parts]
    if parts[0].ratio:
        return f"{how}: × {span(values)}"
    return f"{how}: {span(values, '+.2f')} nats".replace("-", "−")


def ahead(standings: Iterable[Standing]) -> list[bool | None]:
    """Whether the first of each comparison is ahead; None where that is open."""
    return [None if standing == "open" else standing == "ahead" for standing in standings]


def keys(*rows: pd.DataFrame) -> tuple[str, ...]:
    """Keys of the records of these rows, or that they come from, each once."""
    groups = (chain(*part[RECORDS]) if RECORDS in part else part["key"] for part in rows)
    return tuple(dict.fromkeys(chain(*groups)))


def span(values: Iterable[float], digits: str = ".3g") -> str:
    """ "2.0" or "1.2 to 3.4": the least and the largest."""
    numbers = list(values)
    ends = dict.fromkeys(format(end, digits) for end in (min(numbers), max(numbers)))
    return " to ".join(ends)


def listed(parts: Iterable[str], none: str = "") -> str:
    """ "a, b and c", each once; ``none`` of no parts."""
    *first, last = dict.fromkeys(parts) or [none]
    return f"{', '.join(first)} and {last}" if first else last
