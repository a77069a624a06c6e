"""What other tools read: github-action-benchmark's customSmallerIsBetter, and JUnit's XML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np
import scipy

from benchmarks.core.record import Values
from benchmarks.gate.comparison import CLASSES, UNKNOWN, Comparison, Verdict
from benchmarks.gate.rendering import row
from benchmarks.gate.sources import Entry, grouped
from benchmarks.gate.times import relative


def github_benchmark(verdict: Verdict) -> str:
    """Write the new result as ``customSmallerIsBetter``: an array of name, unit, value and range.

    Times are in units of the reference workload, with half their interquartile range, qualities
    means over seeds with their standard error. A value that is better if larger has its sign
    changed: a log-likelihood becomes the negative one.
    """
    groups = grouped(verdict.measured).items()
    items = [item for label, group in groups for item in _items(label, group)]
    return json.dumps(items, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def junit(verdict: Verdict) -> str:
    """Write a suite for each class and in it a test for each case, which fails where the gate does.

    A case is skipped in a class of which nothing could be compared.
    """
    root = ElementTree.Element("testsuites", name="flowgauge compare")
    for kind in CLASSES:
        cases: dict[str, list[Comparison]] = {}
        for comparison in verdict.comparisons:
            if comparison.kind == kind:
                cases.setdefault(comparison.case, []).append(comparison)
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
        smaller, kind = metric.better == "lower", entries[0].kind(name)
        unit, title, error = metric.unit, name if smaller else f"negative {name}", float("nan")
        values = np.array([entry.metrics[name].median for entry in having])
        if kind == "time":
            samples = [x for x in (relative(entry, name) for entry in having) if x is not None]
            if not samples:
                continue
            values = np.array([np.median(x) for x in samples])
            unit, title = "reference workloads", name if smaller else f"inverse {name}"
            error = float(scipy.stats.iqr(np.concatenate(samples)) / 2)
        elif kind == "quality":
            values = values if smaller else -values
            error = _error(name, values, entries[0].metrics)
        value = float(values.mean())
        if np.isfinite(value):
            item = {"name": f"{label}: {title}", "unit": unit or "1", "value": value}
            yield {**item, "range": f"± {error:.3g}"} if error > 0 else item


def _error(name: str, values: np.ndarray, metrics: Any) -> float:
    """The standard error over seeds, or with one seed over the test set; NaN where not known."""
    if len(values) > 1:
        return float(scipy.stats.sem(values))
    companion: Values | None = metrics.get(f"{name}_se")
    return float("nan") if companion is None else companion.median


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
    elif all(c.outcome in UNKNOWN for c in comparisons):
        ElementTree.SubElement(test, "skipped", message=_legal(comparisons[0].note))


def _count(element: ElementTree.Element) -> None:
    """Attributes that say how many tests an element holds, and how they ended."""
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
        element.set(name, str(len(list(element.iter(tag)))))
    element.set("errors", "0")
    element.set("time", "0")


def _legal(text: str) -> str:
    """Without the characters that no XML may hold: controls, U+FFFE and U+FFFF."""
    return "".join(c for c in text if c in "\t\n" or (c >= " " and c not in "\ufffe\uffff"))
