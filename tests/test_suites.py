"""Suites: their cases, keys and labels, overrides, folders that stand for them."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.cli.app import app
from benchmarks.core.case import Case
from benchmarks.core.naming import apart, labels
from benchmarks.execution import suite

ROOT = Path(__file__).parent.parent
cli = CliRunner()


@cache
def _cases(name):
    return suite.read(name).cases()


def test_studies_of_a_suite_have_its_cases():
    """With the same keys, in the same order, whichever of them are named."""
    full = suite.read("complexity")
    for names in (["identities"], ["trace", "nfe"]):
        every = [(case.key, {case.study, case.former}) for case in _cases("complexity")]
        cases = [key for key, own in every if own & {*names}]
        assert [case.key for case in full.only(names).cases()] == cases


def test_a_results_folder_stands_for_the_suite_that_was_run_there(tmp_path):
    """Its plan is asked, and the folder itself for its records."""
    folder = tmp_path / "mine"
    shutil.copytree(ROOT / "results" / "truth", folder, ignore=shutil.ignore_patterns("report"))
    plan = json.loads((folder / "suite.json").read_text())
    plan["suite"]["seeds"] = [0, 7]
    (folder / "suite.json").write_text(json.dumps(plan))
    assert suite.read(str(folder)).seeds == (0, 7)
    cases = suite.read(str(folder)).cases()
    new = [case.key for case in cases if case.seeds.init == 7]
    result = cli.invoke(app, ["status", str(folder), "--json", "-"])
    assert result.exit_code == 1
    groups = json.loads(result.stdout)
    assert [entry["key"] for entry in groups["missing"]] == new != []
    assert len(groups["done"]) + len(groups["stale"]) == len(cases) - len(new)
    (folder / "suite.json").write_text("[]")
    assert "is not a plan" in cli.invoke(app, ["status", str(folder)]).stderr


@pytest.mark.parametrize("name", suite.names())
def test_every_suite_expands_to_distinct_cases(name):
    """And a person can tell them apart, by labels that say no more than that takes."""
    cases = _cases(name)
    assert len({case.key for case in cases}) == len(cases) > 0
    names = labels(cases)
    assert len(set(names.values())) == len(cases)
    for case in cases:
        assert names[case.key].startswith(case.label)


def test_equal_labels_say_what_differs():
    """A nested option by its last name; what only one of them has, too."""
    rows = [("glow", {"linear": "lu", "solver": {"rtol": 1e-5}}), ("glow", {"linear": "naive"})]
    assert apart(rows) == ["glow linear=lu rtol=1e-05", "glow linear=naive"]
    assert apart([("glow", {"a": 1}), ("maf", {"a": 2}), ("glow", {"a": 1})]) == [
        "glow",
        "maf",
        "glow",
    ]


def test_overrides_reach_every_part_of_a_suite():
    overrides = ["threads=1", "seeds=[3, 4]", "cost.batch=7", "density.training.clip=2.0"]
    chosen = suite.read("smoke", overrides)
    assert (chosen.threads, chosen.seeds) == (1, (3, 4))
    cases = chosen.cases()
    assert {case.batch for case in cases if case.study == "cost"} == {7}
    trained = [case for case in cases if case.study == "density" and case.updates]
    assert {case.settings["training"]["clip"] for case in trained} == {2.0}


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 3}, {"flow": "glow"}, {"batch": 9}, {"updates": 1}, {"threads": 2},
        {"options": {"hidden": 8}}, {"settings": {"x": 1}}, {"dtype": "float64"},
        {"device": "cuda"}, {"dataset": "magic"}, {"protocol": "0"}, {"seeds": {"noise": 1}},
    ],
)  # fmt: skip
def test_whatever_can_change_a_number_changes_the_key(change):
    case = {"study": "cost", "flow": "realnvp", "dim": 2, "batch": 4, "options": {"hidden": 4}}
    assert Case(**case).key != Case(**{**case, **change}).key
    assert Case(**case).key == Case(**dict(reversed(case.items()))).key
