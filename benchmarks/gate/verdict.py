"""What a comparison says, and how tables, Markdown, JSON, JUnit and a GitHub action write it."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import scipy
from pydantic_core import to_json

from benchmarks.analysis.criteria import LEVEL
from benchmarks.core.formats import NOTHING, markdown_details, markdown_table, number, plain
from benchmarks.core.formats import markdown as escape
from benchmarks.core.metrics import Kind
from benchmarks.core.naming import counted, undigested
from benchmarks.gate.sources import Entry, grouped

HEADERS = ("Case", "Metric", "Base", "New", "Change", "Verdict")
NAMED = 3  # cases of a headline
ROWS = 200  # of a table in Markdown: a comment holds 65,536 characters
MARKS = {"better": "🟢", "appeared": "🔵"}
NOT_XML = dict.fromkeys((0xFFFE, 0xFFFF))  # characters that XML cannot hold

Class = Literal["case", Kind]
CLASSES: tuple[Class, ...] = ("case", "exact", "quality", "time")
Comparable = Literal["worse", "better", "stayed", "unjudged", "incomparable"]
Outcome = Literal[Comparable, "appeared", "vanished", "failed", "moved"]  # moved: of the guard
UNKNOWN: tuple[Outcome, ...] = ("unjudged", "incomparable")


@dataclass(frozen=True)
class Comparison:
    """One metric of one case in both results, or, without a metric, what became of a case."""

    case: str
    metric: str
    kind: Class
    outcome: Outcome
    fails: bool = False
    unit: str = ""
    base: float | None = None  # count, mean over seeds, or median in times of the reference
    new: float | None = None
    change: str = ""
    p: float | None = None  # corrected for the number of tests
    note: str = ""  # the reason for the outcome
    remedy: str = ""  # what to do if it was meant
    operators: str = ""  # that moved

    @property
    def row(self) -> tuple[str, ...]:
        """Cells under `HEADERS`."""
        values = (self._value(value) for value in (self.base, self.new))
        verdict = f"{self.outcome}: {self.note}" if self.note else self.outcome
        return (self.case, self.metric, *values, self.change, verdict)

    def _value(self, value: float | None) -> str:
        if value is None:
            return "" if self.kind == "case" else NOTHING
        return f"{number(value, ',.0f' if self.kind == 'exact' else '.5g')} {self.unit}".strip()


@dataclass(frozen=True)
class Verdict:
    """Everything that was compared, and whether the build fails."""

    base: str
    new: str
    factor: float
    comparisons: tuple[Comparison, ...]
    measured: tuple[Entry, ...]  # cases of the new result
    raised: Mapping[str, Sequence[str]]  # cases that moved, by version that was raised
    aged: Mapping[str, int]  # stale records of the new result, by reason
    moves: Sequence[str] = ()  # which flows cost or compute something else

    @property
    def failures(self) -> list[Comparison]:
        return [comparison for comparison in self.comparisons if comparison.fails]

    @property
    def judged(self) -> int:
        return sum(c.kind != "case" and c.outcome not in UNKNOWN for c in self.comparisons)

    @property
    def status(self) -> int:
        """Exit status: 0 passed, 1 failed, 2 if nothing was judged."""
        return 1 if self.failures else 0 if self.judged else 2

    @property
    def notable(self) -> list[Comparison]:
        """All but what stayed or cannot be compared, failures first."""
        moved = [c for c in self.comparisons if c.outcome not in ("stayed", "incomparable")]
        return sorted(moved, key=lambda comparison: not comparison.fails)

    @property
    def unresolved(self) -> list[Comparison]:
        """Qualities that differ by less than their error can resolve."""
        stayed = [c for c in self.comparisons if c.outcome == "stayed" and c.kind == "quality"]
        return [comparison for comparison in stayed if comparison.base != comparison.new]

    @property
    def headlines(self) -> list[str]:
        """What happened, and then what to do about it, a regression first; none if it passed."""
        groups: dict[tuple[str, str], list[Comparison]] = {}
        for failure in self.failures:
            if failure.outcome != "moved":
                groups.setdefault((failure.metric, failure.outcome), []).append(failure)
        lines = list(self.moves)
        for (metric, outcome), group in groups.items():
            change = f", {group[0].change}" * bool(group[0].change)
            cases = "; ".join(c.case for c in group[:NAMED]) + " …" * (len(group) > NAMED)
            what = f"{metric} {outcome}".strip()
            lines.append(f"{what} in {counted(len(group), 'case')}: {cases}{change}")
        remedies = dict.fromkeys(failure.remedy for failure in self.failures if failure.remedy)
        meant = "; ".join(remedies) or "measure the base anew, or name cases that may go in --allow"
        return lines and [
            *lines,
            "If this was not meant, it is a regression: mend the code, and run the suite again.",
            f"If it was meant: {meant}.",
        ]

    @property
    def summary(self) -> list[str]:
        """A line for each class, and the last for the verdict."""
        lines = []
        for kind in CLASSES:
            counts = Counter(c.outcome for c in self.comparisons if c.kind == kind)
            if counts:
                outcomes = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items()))
                lines.append(f"{kind}: {outcomes}")
        reasons = Counter(c.note for c in self.comparisons if c.outcome == "incomparable")
        lines += [f"{n} not comparable: {why}" for why, n in reasons.items()]
        for name, labels in self.raised.items():
            moved = f"figures moved in {len(labels)} cases: {'; '.join(labels)}"
            lines.append(f"raised: {name}; {moved if labels else 'no figure moved'}")
        for why, n in self.aged.items():
            lines.append(f"older than the code here: {counted(n, 'record')} of {self.new} ({why})")
        records = (entry.record for entry in self.measured)
        lines += filter(None, [undigested(record for record in records if record)])
        if self.failures:
            return [*lines, f"FAILED: {counted(len(self.failures), 'failure')}"]
        return [*lines, "passed" if self.judged else "NOT COMPARABLE: nothing was judged"]


def as_markdown(verdict: Verdict) -> str:
    """Write for a comment on a pull request or the summary of a job."""
    *classes, result = verdict.summary
    blocks = [
        f"### Gate: {escape(result)}",
        f"{escape(verdict.new)} against {escape(verdict.base)}",
        "\n".join(f"- {escape(line)}" for line in classes),
    ]
    blocks[1:1] = [escape(line) for line in verdict.headlines]
    if verdict.notable:
        blocks.append(_table(verdict.notable))
    if verdict.unresolved:
        summary = f"{len(verdict.unresolved)} qualities moved by less than their error resolves"
        blocks.append(markdown_details(summary, _table(verdict.unresolved)))
    return "\n\n".join(blocks) + "\n"


def _table(comparisons: Sequence[Comparison]) -> str:
    rows = []
    for comparison in comparisons[:ROWS]:
        *cells, verdict = map(escape, comparison.row)
        mark = "🔴" if comparison.fails else MARKS.get(comparison.outcome, "⚪")
        rows.append((*cells, f"{mark} {verdict}"))
    table = markdown_table(HEADERS, rows, range(2, len(HEADERS) - 1))
    more = len(comparisons) - ROWS
    return f"{table}\n\nand {more} more" if more > 0 else table


def as_json(verdict: Verdict) -> str:
    """Write everything that was compared, what stayed too; null for numbers that JSON lacks."""
    content = {
        "base": verdict.base,
        "new": verdict.new,
        "fails": bool(verdict.failures),
        "judged": verdict.judged,
        "level": LEVEL,
        "factor": verdict.factor,
        "headlines": verdict.headlines,
        "summary": verdict.summary,
        "comparisons": verdict.comparisons,
    }
    return to_json(content, indent=1, inf_nan_mode="null").decode() + "\n"


def as_junit(verdict: Verdict) -> str:
    """Write a suite a class with a test a case, which is skipped if nothing could be compared."""
    root = ElementTree.Element("testsuites", name="flowgauge compare")
    suites = {kind: ElementTree.SubElement(root, "testsuite", name=kind) for kind in CLASSES}
    tests: dict[tuple[Class, str], list[Comparison]] = {}
    for comparison in verdict.comparisons:
        tests.setdefault((comparison.kind, comparison.case), []).append(comparison)
    for (kind, label), comparisons in tests.items():
        about = {"classname": f"flowgauge.{kind}", "name": _xml(label), "time": "0"}
        test = ElementTree.SubElement(suites[kind], "testcase", about)
        rows = [_xml(" | ".join(filter(None, c.row[1:]))) for c in comparisons if c.fails]
        if rows:
            message = rows[0] if len(rows) == 1 else f"{len(rows)} failures"
            failure = ElementTree.SubElement(test, "failure", type=kind, message=message)
            failure.text = "\n".join(rows)
        elif all(c.outcome in UNKNOWN for c in comparisons):
            ElementTree.SubElement(test, "skipped", message=_xml(comparisons[0].note))
    for element in (*root, root):
        for name, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
            element.set(name, str(len(list(element.iter(tag)))))
        element.attrib.update(errors="0", time="0")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    return plain(text).translate(NOT_XML)


def as_github_benchmark(verdict: Verdict) -> str:
    """Write the new result as ``customSmallerIsBetter``: an array of name, unit, value and range.

    Times are in units of the reference workload, with half their interquartile range, qualities
    means over seeds with their standard error. A metric that is better if larger is negated and
    named so ("negative test_ll"), and a rate is inverted.
    """
    groups = grouped(verdict.measured).items()
    items = [item for label, group in groups for item in _items(label, group)]
    return json.dumps(items, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _items(label: str, entries: list[Entry]) -> Iterator[dict[str, Any]]:
    first = entries[0]
    for name, metric in ((name, values.metric) for name, values in first.metrics.items()):
        kind, unit, error, prefix = first.kind(name), metric.unit, 0.0, ""
        members = [entry for entry in entries if name in entry.metrics]
        if kind == "time":
            samples = [x for entry in members if (x := entry.relative(name)) is not None]
            values = np.array([np.median(x) for x in samples])
            error = float(scipy.stats.iqr(np.concatenate(samples)) / 2) if samples else 0.0
            unit = "reference workloads"
        else:
            values = np.array([entry.metrics[name].median for entry in members])
            if kind == "quality" and len(values) > 1:
                error = float(scipy.stats.sem(values))
            elif kind == "quality" and f"{name}_se" in first.metrics:
                error = first.metrics[f"{name}_se"].median
        if metric.better == "higher":
            prefix = "inverse " if kind == "time" else "negative "
            values = values if kind == "time" else -values
        value = float(values.mean()) if len(values) else math.nan
        if math.isfinite(value) and metric.better != "neither":
            item = {"name": f"{label}: {prefix}{name}", "unit": unit or "1", "value": value}
            yield {**item, "range": f"± {error:.3g}"} if error > 0 else item
