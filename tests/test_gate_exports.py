"""What the gate hands to other tools, read as they read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.cli.app import app
from benchmarks.core.case import Case, Seeds
from benchmarks.core.record import Record
from records import cli, folder, record


def maf(dim: int, *, seed: int = 0, cpu: str = "a", **metrics: float | list[float]) -> Record:
    """A record of one case with these metrics."""
    case = Case(study="cost", flow="maf", dim=dim, batch=4, seeds=Seeds.of(seed))
    return record(case, metrics, machine={"cpu": cpu, "threads": 1})


BASE = [
    maf(2, log_prob_flops=100, parameters=7),
    maf(3, log_prob_flops=100),
    maf(4, log_prob_seconds=[0.2] * 9, reference_seconds=[0.1] * 9),
    *(maf(5, seed=seed, test_ll=-2.0 + 0.1 * seed) for seed in range(3)),
    maf(6, test_ll=1.5, test_ll_se=0.25, sample_rate=[10.0] * 5, reference_seconds=[0.1]),
]
NEW = [
    maf(2, log_prob_flops=110, parameters=7),
    maf(4, cpu="b", log_prob_seconds=[0.3, 0.4, 0.5, 0.6], reference_seconds=[0.2] * 9),
    *BASE[3:],
    maf(7, log_prob_flops=9),
]


@pytest.fixture
def exported(tmp_path) -> Callable[..., str]:
    """The file that an option of ``flowgauge compare`` writes, and its exit status is checked."""

    def export(option: str, base: list[Record] = BASE, new: list[Record] = NEW, status=1) -> str:
        sides = {"base": base, "new": new}
        paths = [str(folder(tmp_path / name, *records)) for name, records in sides.items()]
        file: Path = tmp_path / "export"
        result = cli.invoke(app, ["compare", *paths, option, str(file)])
        assert result.exit_code == status, result.output
        return file.read_text(encoding="utf-8")

    return export


def test_github_action_benchmark_reads_the_new_side(exported):
    """customSmallerIsBetter: name and unit strings, value a number, range and extra strings."""
    items = json.loads(exported("--github-benchmark"))
    for item in items:
        assert (
            {"name", "unit", "value"} <= item.keys() <= {"name", "unit", "value", "range", "extra"}
        )
        assert isinstance(item["value"], int | float)
        assert all(isinstance(v, str) and v for k, v in item.items() if k != "value")
    named = {item["name"]: item for item in items}
    assert len(named) == len(items), "a name is a series: twice in a file, it is one"
    assert named["cost maf D=2: log_prob_flops"] == {
        "name": "cost maf D=2: log_prob_flops", "unit": "FLOP", "value": 110.0,
    }  # fmt: skip
    assert named["cost maf D=7: log_prob_flops"]["value"] == 9  # new ones too
    time = named["cost maf D=4: log_prob_seconds"]
    assert (time["value"], time["unit"]) == (pytest.approx(2.25), "reference workloads")
    assert time["range"] == "± 0.375"
    likelihood = named["cost maf D=5: negative test_ll"]
    assert (likelihood["value"], likelihood["unit"]) == (pytest.approx(1.9), "nats")
    assert likelihood["range"] == "± 0.0577"  # over seeds
    assert named["cost maf D=6: negative test_ll"]["range"] == "± 0.25"  # over the test set
    assert named["cost maf D=6: inverse sample_rate"]["value"] == pytest.approx(1.0)


TAGS = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def check_junit(text: str) -> dict[tuple[str, str], str]:
    """How each test of JUnit's XML ended, as a dashboard reads it; the structure is asserted.

    That of the schema that Jenkins publishes: suites of cases, each with a name and a class and at
    most one of failure, error and skipped, and attributes that count them.
    """
    root = ElementTree.fromstring(text)
    assert (root.tag, {suite.tag for suite in root}) == ("testsuites", {"testsuite"})
    assert all(suite.get("name") for suite in root)
    ended = {}
    for test in (test for suite in root for test in suite):
        assert test.tag == "testcase"
        assert all(test.get(name) for name in ("name", "classname"))
        assert float(test.get("time", "0")) >= 0
        assert len(test) <= 1
        assert all(result.tag in TAGS.values() and result.get("message") for result in test)
        ended[test.get("classname"), test.get("name")] = test[0].tag if len(test) else "passed"
    for element in (root, *root):
        tests = list(element.iter("testcase"))
        assert int(element.get("tests", -1)) == len(tests)
        for attribute, tag in TAGS.items():
            number = sum(test.find(tag) is not None for test in tests)
            assert int(element.get(attribute, -1)) == number
    return ended


def test_junit_fails_where_the_gate_does(exported):
    text = exported("--junit")
    ended = check_junit(text)
    assert ended["flowgauge.exact", "cost maf D=2"] == "failure"
    assert ended["flowgauge.case", "cost maf D=3"] == "failure"  # vanished
    assert ended["flowgauge.time", "cost maf D=4"] == "skipped"  # another machine
    assert ended["flowgauge.quality", "cost maf D=5"] == "passed"
    failures = [key for key, end in ended.items() if end == "failure"]
    assert len(failures) == 2
    assert "+10.00%" in text


def test_junit_passes_where_the_gate_does(exported):
    ended = check_junit(exported("--junit", BASE, BASE, status=0))
    assert set(ended.values()) == {"passed"}


def test_what_a_flow_says_cannot_break_a_file(exported):
    """Reasons of failures hold whatever an exception said: markup, colours, line ends."""
    reason = "]]> <b>\x1b[31m|no|\x00\ufffe &amp; `code`\nsecond"
    broken = BASE[0].model_copy(update={"status": "failed", "reason": reason})
    base, new = [BASE[0]], [broken]
    assert set(check_junit(exported("--junit", base, new)).values()) == {"failure"}
    (row,) = [line for line in exported("--markdown", base, new).splitlines() if "failed:" in line]
    assert row.replace("\\|", "").count("|") == 7
    assert "<b>" not in row
