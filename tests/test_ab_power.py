"""What `flowgauge ab` sees: the slowdown that is to be found, and the committed runs."""

from __future__ import annotations

from pathlib import Path

import torch

import flows
from benchmarks.ab import slowdown
from benchmarks.ab.benches import DEFAULT
from benchmarks.ab.power_table import (
    alarms,
    between_processes,
    by_benchmark,
    by_factor,
    found,
    read,
    verdicts,
)

ROOT = Path(__file__).parent.parent
RUNS = read(ROOT / "results" / "ab" / "power.jsonl")
PAGE = (ROOT / "docs" / "ab.md").read_text()


def test_the_committed_runs_find_a_tenth_and_raise_few_alarms():
    made, none = ([run for run in RUNS if bool(run["slowed"]) == kind] for kind in (True, False))
    assert [run["run"] for run in RUNS] == list(range(80))
    assert len(made) == len(none) == 40
    assert {run["slowed"] for run in made} == set(DEFAULT)
    assert sum(map(found, made)) >= 38
    assert sum(bool(alarms(run)) for run in none) <= 2


def test_the_committed_verdicts_follow_from_the_committed_blocks():
    for run in RUNS:
        assert set(run["benchmarks"]) == set(DEFAULT)
        assert verdicts(run) == {name: b["verdict"] for name, b in run["benchmarks"].items()}


def test_the_page_says_what_the_committed_runs_say():
    loads = [run["load"] for run in RUNS]
    told = [by_benchmark(RUNS), by_factor(RUNS), between_processes(RUNS)]
    told += [f"the load average between {min(loads):.1f} and {max(loads):.1f}"]
    words = " ".join(PAGE.split())
    for text in told:
        assert " ".join(text.split()) in words, text


def test_a_slowdown_adds_work_and_changes_no_value(monkeypatch):
    monkeypatch.setattr(slowdown, "CALIBRATED", 0.0)
    x, products = torch.randn(4, 3), []
    for operation, method in {"log_prob": "log_prob", "gradient": "loss"}.items():
        flow = flows.build("maf", 3)
        expected = getattr(flow, method)(x)
        slowdown.slowed(flow, operation, 0.1)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "mm", lambda *given: products.append(given))
            torch.testing.assert_close(getattr(flow, method)(x), expected)
        assert products
