"""The documents hold, and so does the layout of harness, results and imports."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pages import folders

from benchmarks.cli.app import app
from benchmarks.core.frame import load, plan_of
from benchmarks.execution import suite
from benchmarks.execution.plan import state
from documents import DOCS, DOCUMENTS, ROOT, commands, named
from flows.conformance import ROWS
from repositories import git

CLICK = typer.main.get_command(app)


def test_tables_and_figures_of_the_readme_are_those_of_the_results():
    readme, results = (ROOT / "README.md").read_text(), (DOCS / "results.md").read_text()
    rows = [line for line in readme.splitlines() if line.startswith("| ")]
    assert rows
    assert set(rows) <= set(results.splitlines()), "copy the table from docs/results.md"
    for figure in re.findall(r"docs/(figures/[\w-]+\.png)", readme):
        assert figure in results


@pytest.mark.parametrize("folder", folders(), ids=lambda path: path.name)
def test_a_committed_run_is_whole(folder):
    """Every case of its plan is done, or a training that diverged, which is a result."""
    frame, plan = load(folder), plan_of(folder, {})
    assert {case.key for case in plan.cases} == set(frame["key"])
    others = frame[~frame["status"].isin(["done", "skipped"])]
    assert others["reason"].str.startswith("TrainingError").all()
    assert folder.name != "reference" or not state(suite.read(plan.name), folder).missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_links_lead_somewhere(document):
    text = re.sub(r"^ *```.*?^ *```", "", document.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        page = document.parent / path if path else document
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), target


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them, and its explicit ones."""
    text = page.read_text()
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
    return slugs | set(re.findall(r"^\((\w+)\)=$", text, re.M))


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_commands_parse(document):
    environments = set(re.findall(r"^\[testenv:(\w+)\]", (ROOT / "tox.ini").read_text(), re.M))
    assert set(re.findall(r"tox run -e (\w+)", document.read_text())) <= environments
    for line in commands(document):
        command: Any = CLICK
        words = shlex.split(line, comments=True)
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context(line, list(words))
        if command.name in ("run", "status") and re.fullmatch(r"[a-z]+", words[0]):
            assert words[0] in suite.names(), line


def test_what_stands_in_two_files_agrees():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["authors"] == yaml.safe_load((ROOT / "CITATION.cff").read_text())["authors"]
    minimum = (ROOT / ".ci/minimum.txt").read_text().replace("==", ">=").splitlines()
    assert minimum[1:] == project["dependencies"]
    action = yaml.safe_load((ROOT / ".github/actions/flowgauge/action.yml").read_text())
    rows = re.findall(r"^\| `([\w-]+)` \|", (DOCS / "your_library.md").read_text(), re.M)
    assert rows == [*action["inputs"]]


def test_the_map_of_the_architecture_is_that_of_the_tree():
    page, named = (DOCS / "architecture.md").read_text(), {}
    (block,) = re.findall(r"## The rooms\n\n```\n(.*?)```", page, re.S)
    for line in block.splitlines():
        names = re.split(r"\s{2,}", line.strip())[0].replace(",", "").split()
        names = [name.rstrip("/").partition("/")[0] for name in names]
        if not line.startswith(" "):
            package = names[0]
            named[package] = set()
        else:
            named[package].update(names)
    for package in ("flows", "benchmarks"):
        tree = {path.stem for path in (ROOT / package).iterdir() if list(path.glob("*.py"))}
        tree |= {path.stem for path in (ROOT / package).glob("*.py") if path.stem[0] != "_"}
        assert named[package] == tree


def test_the_page_on_conformance_has_every_row_in_order():
    rows = re.findall(r"^\| ([^|]+?) \|", (DOCS / "conformance.md").read_text(), re.M)
    assert rows == ["row", *(row.name for row in ROWS)]


COMMAND = "import sys; from benchmarks.cli.app import app; app({}, standalone_mode=False)"
REPORT = COMMAND.format("['report', 'results/{}', '--out', sys.argv[1]]")
WITHOUT = {  # code, and packages that it does without
    "help": (COMMAND.format("['--help']"), "torch"),
    "timing": ("import benchmarks.gate.ab", "flows"),
    "families": ("import flows; [flows.members[n] for n in flows.own()]", "torch._dynamo sklearn"),
    "planning": (
        "import benchmarks.execution.run; from benchmarks.core.study import registry; [*registry]",
        "dask scipy.stats sklearn",
    ),
    "reading": (
        "import benchmarks; assert len(benchmarks.load('results/truth'))",
        "torch flows benchmarks.studies",
    ),
    "report": pytest.param(REPORT.format("truth"), "torch", marks=pytest.mark.slow),
    "report of trainings": pytest.param(
        REPORT.format("conditional"), "torch", marks=pytest.mark.slow
    ),
}
CHECK = """
import sys
absent = tuple(f"{name}." for name in sys.argv[2:])
assert not [name for name in sys.modules if f"{name}.".startswith(absent)]
"""


def test_results_hold_packed_records_plans_and_benchmarks_alone():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in git(ROOT, "ls-files", "results").splitlines()]
    allowed = ("records-*.parquet", "arrays-*.zip", "suite.json", "audit.json.gz")
    for path in files:
        if path.parent.parent.name != "benchmarks":
            assert any(path.match(pattern) for pattern in allowed), path
        else:
            assert path.suffix == ".json", path
    assert sum(path.stat().st_size for path in files) <= 14e6


@pytest.mark.parametrize(("code", "absent"), WITHOUT.values(), ids=WITHOUT)
def test_nothing_is_imported_that_is_not_needed(code, absent, tmp_path):
    command = [sys.executable, "-c", code + CHECK, str(tmp_path), *absent.split()]
    subprocess.run(command, cwd=ROOT, check=True)
