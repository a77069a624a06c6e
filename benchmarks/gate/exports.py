"""What other tools read: github-action-benchmark's customSmallerIsBetter, and JUnit's XML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np
from scipy import stats

from benchmarks.core.store import Values
from benchmarks.gate.comparison import Comparison, Verdict
from benchmarks.gate.rendering import row
from benchmarks.gate.sides import Entry
from benchmarks.gate.times import relative


def github_benchmark(verdict: Verdict) -> str:
    """The new side as ``customSmallerIsBetter``: an array of name, unit, value and range.

    Times are in units of the reference workload, with half their interquartile range, qualities
    means over seeds with their standard error. What is better if larger has its sign changed: of a
    log-likelihood it is the negative one.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in verdict.measured:
        groups.setdefault(entry.group, []).append(entry)
    items = [item for label, group in groups.items() for item in _items(label, group)]
    return json.dumps(items, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def junit(verdict: Verdict) -> str:
    """A suite for each class and a test for each case in it, which fails where the gate does.

    A case of which nothing in a class could be compared is skipped there.
    """
    root = ElementTree.Element("testsuites", name="flowgauge compare")
    for kind in ("case", "exact", "quality", "time"):
        cases: dict[str, list[Comparison]] = {}
        for found in verdict.comparisons:
            if found.kind == kind:
                cases.setdefault(found.case, []).append(found)
        suite = ElementTree.SubElement(root, "testsuite", name=kind)
        for label, comparisons in cases.items():
            _testcase(suite, kind, label, comparisons)
        _count(suite)
    _count(root)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _items(label: str, entries: list[Entry]) -> Iterator[dict[str, Any]]:
    for name, metric in entries[0].metrics.items():
        having = [entry for entry in entries if name in entry.metrics]
        if metric.better == "neither":
            continue
        smaller = metric.better == "lower"
        unit, said, error = metric.unit, name if smaller else f"negative {name}", float("nan")
        values = np.array([np.median(entry.metrics[name].values) for entry in having])
        if metric.kind == "time":
            samples = [x for x in (relative(entry, name) for entry in having) if x is not None]
            if not samples:
                continue
            values = np.array([np.median(x) for x in samples])
            unit, said = "reference workloads", name if smaller else f"inverse {name}"
            error = float(stats.iqr(np.concatenate(samples)) / 2)
        elif metric.kind == "quality":
            values = values if smaller else -values
            error = _error(name, values, entries[0].metrics)
        value = float(values.mean())
        if np.isfinite(value):
            item = {"name": f"{label}: {said}", "unit": unit or "1", "value": value}
            yield {**item, "range": f"± {error:.3g}"} if error > 0 else item


def _error(name: str, values: np.ndarray, metrics: Any) -> float:
    """The standard error over seeds, or with one seed over the test set; NaN where not known."""
    if len(values) > 1:
        return float(stats.sem(values))
    companion: Values | None = metrics.get(f"{name}_se")
    return float("nan") if companion is None else float(np.median(companion.values))


def _testcase(
    suite: ElementTree.Element, kind: str, label: str, comparisons: list[Comparison]
) -> None:
    test = ElementTree.SubElement(
        suite, "testcase", classname=f"flowgauge.{kind}", name=_legal(label), time="0"
    )
    failures = [_legal(" | ".join(filter(None, row(c)[1:]))) for c in comparisons if c.fails]
    if failures:
        message = failures[0] if len(failures) == 1 else f"{len(failures)} failures"
        failure = ElementTree.SubElement(test, "failure", type=kind, message=message)
        failure.text = "\n".join(failures)
    elif all(found.outcome == "incomparable" for found in comparisons):
        ElementTree.SubElement(test, "skipped", message=_legal(comparisons[0].note))


def _count(element: ElementTree.Element) -> None:
    """Attributes that say how many tests an element holds, and how they ended."""
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
        element.set(name, str(len(list(element.iter(tag)))))
    element.set("errors", "0")
    element.set("time", "0")


def _legal(text: str) -> str:
    """Without the control characters that no XML may hold."""
    return "".join(c for c in text if c in "\t\n" or c >= " ")
