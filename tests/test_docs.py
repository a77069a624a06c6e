"""The documents are true: README's tables, figures, commands and code; versions agree."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import flows
from benchmarks.cli.app import app
from benchmarks.core.frame import load
from benchmarks.execution import suite
from benchmarks.execution.run import state
from benchmarks.training.settings import Training
from flows.conformance import ROWS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMITTED = ("reference", "complexity", "densities", "truth", "libraries", "slide")
REPORTS = "".join((ROOT / "results" / r / "report" / "report.md").read_text() for r in COMMITTED)
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_table_row_of_the_readme_stands_in_a_committed_report():
    report = REPORTS.splitlines()
    rows = [line for line in README.splitlines() if line.startswith("| ")]
    assert len(rows) > 5
    for row in rows:  # which a report ends with the numbers of its records
        assert any(line.startswith(row.removesuffix("|")) for line in report), row


def test_every_likelihood_in_the_readme_stands_in_a_committed_report():
    found = re.findall(r"−\d+\.\d{3}\s± \d+\.\d{3}", README)
    assert len(found) > 20
    for number in found:
        assert number.replace("\n", " ") in REPORTS, number


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("reference", "quick"),
        *((name, name) for name in ("complexity", "densities", "truth", "slide")),
    ],
)
def test_a_committed_run_is_its_suite_and_whole(folder, name):
    now = state(suite.read(name), ROOT / "results" / folder)
    assert not now.missing, f"suite {name!r} has changed: run it again into results/{folder}"
    assert not now.failed
    assert set(load(ROOT / "results" / folder)["status"]) == {"done"}


def test_the_density_slide_has_the_budgets_of_full():
    """As its line says: each of its cases is one of that suite, by its key."""
    full = {case.key for case in suite.read("full").cases()}
    assert {case.key for case in suite.read("slide").cases()} <= full


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_pictures_exist(document):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_exist(document):
    environments = set(re.findall(r"^\[testenv:(\w+)\]", (ROOT / "tox.ini").read_text(), re.M))
    text = document.read_text()
    assert set(re.findall(r"tox run -e (\w+)", text)) <= environments
    for command in set(re.findall(r"^flowgauge (\w+)", text, re.M)):
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command
    for name in set(re.findall(r"flowgauge (?:run|status) (\w+)(?= |$|`)", text, re.M)):
        assert name in suite.names(), name


def test_python_of_the_readme_runs(monkeypatch):
    flows.names()
    monkeypatch.setattr(flows.members, "_members", dict(flows.members._members))
    shown = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(shown) == 3
    for code in shown:
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert flows.build("my_flow", dim=2).sample(3).shape == (3, 2)  # without a warning


def test_versions_agree():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()


def test_the_page_on_conformance_has_every_row_in_order():
    page = (ROOT / "docs" / "conformance.md").read_text()
    rows = re.findall(r"^\| ([^|]+?) \|", page, re.M)
    assert rows == ["row", *(row.name for row in ROWS)]


def test_the_page_on_densities_has_every_setting_of_a_training_and_its_default():
    text = (ROOT / "docs" / "densities.md").read_text()
    told = {k: json.loads(v) for k, v in re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", text, re.M)}
    assert told == Training().model_dump()
