"""The table of metrics: a faulty row and a metric without one are named."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.core import metrics
from benchmarks.core.exhibit import Column
from benchmarks.core.metrics import FILE, METRICS, read
from benchmarks.core.study import Result

ROW = {"about": "an error", "unit": "s", "better": "lower", "kind": "time"}
UNKNOWN = "_".join(METRICS)  # longer than every name


@pytest.mark.parametrize(
    "change",
    [
        {"better": "least"},
        {"kind": "other"},
        {"per": "epoch"},
        {"display": "MiB"},
        {"colour": "red"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_faulty_row_is_named_with_its_file(change: dict[str, Any]) -> None:
    assert read({"fine": ROW})["fine"].unit == "s"
    with pytest.raises(ValueError, match=rf"(?s)odd_metric.*{FILE}"):
        read({"fine": ROW, "odd_metric": ROW | change})


@pytest.mark.parametrize(
    "use", [Column.of, lambda name: Result({name: 1.0})], ids=["table", "case"]
)
def test_a_metric_without_a_row_is_named_with_the_file(use: Any) -> None:
    with pytest.raises(ValueError, match=rf"(?s){UNKNOWN}.*{FILE}"):
        use(UNKNOWN)


def test_a_plug_in_adds_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once or more with the same meaning; another meaning needs another name."""
    monkeypatch.setattr(metrics, "METRICS", dict(metrics.METRICS))
    row = {"about": "slope", "unit": "", "better": "lower", "kind": "quality"}
    for _ in range(2):
        metrics.register("largest_slope", **row)
    assert metrics.defined("largest_slope").about == "slope"
    with pytest.raises(ValueError, match="'parameters' is defined already"):
        metrics.register("parameters", **row)
    with pytest.raises(ValueError, match="better"):
        metrics.register("other", **{**row, "better": "less"})
