"""What a plan tells: faults of flows, flows that keep their own values, failures kept."""

from __future__ import annotations

import json
import tomllib
import warnings

import pytest
from typer.testing import CliRunner

from benchmarks.cli.app import app
from benchmarks.core import store
from benchmarks.execution import suite
from benchmarks.execution.plan import faults_of_flows

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
def invoke(tmp_path, monkeypatch):
    """The command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_each_fault_is_told_of_its_case(tmp_path):
    file = tmp_path / "one.toml"
    file.write_text(COST)
    cases = suite.read(str(file)).cases()
    by_flow = {case.key: (case.flow, case.dim) for case in cases}
    assert [by_flow[key] for key in faults_of_flows(cases)] == [("cnf", 2), ("cnf", 4)]
    (only,) = faults_of_flows(cases, each_dim=False).items()
    assert by_flow[only[0]] == ("cnf", 2)
    assert REASON in only[1]


def test_dry_run_and_status_name_what_cannot_be_constructed(invoke, tmp_path):
    (tmp_path / "one.toml").write_text(COST)
    dry = invoke("run", "one.toml", "--dry-run")
    assert dry.exit_code == 2
    assert REASON in dry.stderr
    status = invoke("status", "one.toml", "--json", "-")
    assert status.exit_code == 1
    missing = json.loads(status.stdout)["missing"]
    assert sum(REASON in case["reason"] for case in missing) == 1
    assert REASON in invoke("status", "one.toml").stdout


@pytest.mark.slow
def test_failures_that_are_kept_are_told_with_the_remedy(invoke, tmp_path):
    (tmp_path / "one.toml").write_text(COST.replace("[2, 4]", "[2]"))
    for kept in (False, True):
        result = invoke("run", "one.toml")
        assert result.exit_code == 1
        assert (REASON in result.stdout) != kept
        assert ("--retry" in result.stdout) == kept
    assert {r.status for r in store.read(tmp_path / "results" / "one").values()} == {
        "done",
        "failed",
    }


def test_report_takes_the_name_of_a_suite_that_was_run(invoke, tmp_path):
    """As status does."""
    assert invoke("report", "quick").exit_code == 2
    assert not list(tmp_path.iterdir())
    (tmp_path / "results" / "quick" / "records").mkdir(parents=True)
    result = invoke("report", "quick")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "results" / "quick" / "report").is_dir()


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


def test_a_machine_without_data_or_gpu_plans_what_others_measure(invoke, tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWGAUGE_DATA", str(tmp_path))
    chosen = ["quick", "--study", "density", "--data", "gas", "--device", "cuda"]
    assert invoke("run", *chosen, "--dry-run").exit_code == 0
    status = invoke("status", *chosen, "--json", "-")
    assert len(json.loads(status.stdout)["missing"]) > 0
    refused = invoke("run", *chosen)
    assert refused.exit_code == 2
    assert "cuda" in refused.stderr
    chosen = [part for part in chosen if part not in ("--device", "cuda")]
    assert "data fetch gas" in invoke("run", *chosen).stderr
