"""Suites and plans: cases, keys, overrides, folders that stand for them, faults of flows."""

from __future__ import annotations

import json
import shutil
import tomllib
import warnings
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.naming import labels
from benchmarks.execution import suite
from benchmarks.execution.plan import Shard, budget, dealt, tasks, wall_seconds
from runs import flowgauge

ROOT = Path(__file__).parent.parent


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
    result = flowgauge("status", folder, "--json", "-", status=1)
    groups = json.loads(result.stdout)
    assert [entry["key"] for entry in groups["missing"]] == new != []
    assert len(groups["done"]) + len(groups["stale"]) == len(cases) - len(new)
    (folder / "suite.json").write_text("[]")
    assert "is not a plan" in flowgauge("status", folder, status=2).stderr


@pytest.mark.parametrize("name", suite.names())
def test_every_suite_expands_to_distinct_cases(name):
    """And a person can tell them apart, by labels that say no more than that takes."""
    cases = _cases(name)
    assert len({case.key for case in cases}) == len(cases) > 0
    names = labels(cases)
    assert len(set(names.values())) == len(cases)
    for case in cases:
        assert names[case.key].startswith(case.label)


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


COST = """
about = "x"
threads = 1
[[studies]]
study = "cost"
dims = [2, 4]
seconds = 0
flows = [{ flow = "realnvp" }, { flow = "cnf", options = { hidden = -5 } }]
"""
REASON = "hidden"  # the option at fault
DENSITY = """
about = "x"
[[studies]]
study = "density"
datasets = ["8gaussians"]
flows = [{ flow = "realnvp", updates = 7 }, { flow = "maf" }]
"""


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty folder, in which commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_dry_run_and_status_name_what_cannot_be_constructed(empty):
    (empty / "one.toml").write_text(COST)
    dry = flowgauge("run", "one.toml", "--dry-run", status=2)
    assert REASON in dry.stderr
    status = flowgauge("status", "one.toml", "--json", "-", status=1)
    missing = json.loads(status.stdout)["missing"]
    assert sum(REASON in case["reason"] for case in missing) == 1
    assert REASON in flowgauge("status", "one.toml", status=1).stdout


@pytest.mark.slow
def test_failures_that_are_kept_are_told_with_the_remedy(empty):
    (empty / "one.toml").write_text(COST.replace("[2, 4]", "[2]"))
    for kept in (False, True):
        result = flowgauge("run", "one.toml", status=1)
        assert (REASON in result.stdout) != kept
        assert ("--retry" in result.stdout) == kept
    assert {r.status for r in store.read(empty / "results" / "one").values()} == {
        "done",
        "failed",
    }


def test_report_takes_the_name_of_a_suite_that_was_run(empty):
    """As status does."""
    flowgauge("report", "quick", status=2)
    assert not list(empty.iterdir())
    (empty / "results" / "quick" / "records").mkdir(parents=True)
    flowgauge("report", "quick")
    assert (empty / "results" / "quick" / "report").is_dir()


@pytest.mark.parametrize(("key", "flows"), [("updates", ["realnvp"]), ("batch", [])])
def test_an_override_names_the_flows_that_it_does_not_reach(key, flows):
    values = tomllib.loads(DENSITY)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        suite.override(values, f"density.{key}=5")
    assert values["studies"][0][key] == 5
    assert values["studies"][0]["flows"][0]["updates"] == 7
    for flow in ("realnvp", "maf"):
        assert any(flow in str(w.message) for w in caught) == (flow in flows)


def test_a_machine_without_data_or_gpu_plans_what_others_measure(empty, monkeypatch):
    monkeypatch.setenv("FLOWGAUGE_DATA", str(empty))
    chosen = ["quick", "--study", "density", "--data", "gas", "--device", "cuda"]
    flowgauge("run", *chosen, "--dry-run")
    status = flowgauge("status", *chosen, "--json", "-", status=1)
    assert len(json.loads(status.stdout)["missing"]) > 0
    assert "cuda" in flowgauge("run", *chosen, status=2).stderr
    chosen = [part for part in chosen if part not in ("--device", "cuda")]
    assert "data fetch gas" in flowgauge("run", *chosen, status=2).stderr


budgets = st.lists(st.floats(0.01, 1000), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def cases():
    """The cases of a suite of every study."""
    return suite.read("smoke").cases()


@given(budgets, st.integers(1, 12))
def test_dealing_loses_nothing_and_is_near_the_lower_bound(given_budgets, count):
    hands = dealt(given_budgets, count)
    assert sorted(index for hand in hands for index in hand) == list(range(len(given_budgets)))
    longest = max(sum(given_budgets[i] for i in hand) for hand in hands)
    bound = max(sum(given_budgets) / count, *given_budgets)
    assert longest <= (4 / 3) * bound * (1 + 1e-9) + max(given_budgets) / 3


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_a_partition_that_keeps_blocks_whole(cases, count):
    parts = [Shard(number, count).part(cases) for number in range(1, count + 1)]
    assert sorted(c.key for part in parts for c in part) == sorted(c.key for c in cases)
    place = {case.key: number for number, part in enumerate(parts) for case in part}
    for task in tasks(cases):
        assert len({place[case.key] for case in task.cases}) == 1
    assert [c.key for c in parts[0]] == [c.key for c in cases if place[c.key] == 0]


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "a/b", "1/2/3", "-1/2", "1.5/2"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ValueError, match="K/N"):
        Shard.of(text)


def test_more_jobs_shorten_what_runs_side_by_side_alone(cases):
    total = sum(budget(case) for case in cases)
    walls = [wall_seconds(cases, jobs) for jobs in (1, 2, 4, 1000)]
    assert walls[0] == pytest.approx(total)
    assert walls == sorted(walls, reverse=True)
    alone = sum(task.budget for task in tasks(cases) if task.alone)
    assert walls[-1] > alone > 0
