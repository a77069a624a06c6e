"""The tutorial holds: its files conform, its code runs, its suite gives a row in the report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import flows
from benchmarks.cli.app import app

TUTORIAL = (Path(__file__).parent.parent / "docs" / "tutorial.md").read_text()
FENCES = re.findall(r"^```(\w+)\n(.*?)^```", TUTORIAL, re.M | re.S)
FILES = {
    found[1]: text for _, text in FENCES if (found := re.match(r"# (\w+\.(?:py|toml))\n", text))
}
CODE = [text for language, text in FENCES if language == "python" and text not in FILES.values()]
COMMANDS = re.findall(r"^flowgauge (.*)$", TUTORIAL, re.M)


@pytest.fixture
def _at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the tutorial's files, and a registry that forgets them."""
    flows.names()
    monkeypatch.setattr(flows.members, "_members", dict(flows.members._members))
    monkeypatch.setattr(flows.registry, "_PLUGINS", {})
    for module in [name for name in FILES if name.endswith(".py")]:
        monkeypatch.delitem(
            __import__("sys").modules, f"flowgauge_plugin_{module[:-3]}", raising=False
        )
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)


def test_it_has_files_code_and_commands() -> None:
    assert set(FILES) == {"bent.py", "mine.toml"}
    assert len(CODE) == 4
    assert COMMANDS == ["check bent.py", "run mine.toml --plugin bent.py --out results/mine"]


@pytest.mark.usefixtures("_at_work")
def test_its_code_runs_in_order() -> None:
    namespace: dict[str, object] = {"__name__": "tutorial"}
    for code in CODE:
        exec(compile(code, "tutorial.md", "exec"), namespace)


@pytest.mark.usefixtures("_at_work")
def test_its_commands_give_a_row_in_every_table(tmp_path: Path) -> None:
    for command in COMMANDS:
        result = CliRunner().invoke(app, command.split())
        assert result.exit_code == 0, result.output
    report = (tmp_path / "results" / "mine" / "report" / "report.md").read_text()
    tables = re.split(r"^### Table \d+\. ", report, flags=re.M)[1:]
    costs, likelihoods = (
        next(table for table in tables if table.startswith(title))
        for title in ("Cost by dimension", "Test log-likelihood")
    )
    for table in (costs, likelihoods):
        assert re.search(r"^\| bent \|", table, re.M), table


@pytest.mark.usefixtures("_at_work")
def test_the_mistake_that_it_names_fails_where_it_says(tmp_path: Path) -> None:
    sound = FILES["bent.py"]
    broken = sound.replace("return x, -torch.log1p", "return x, torch.log1p")
    assert broken != sound
    (tmp_path / "bent.py").write_text(broken)
    flows.registry.load_plugin("bent.py")
    failed = {row.name for row in flows.check("bent", dim=2).failed}
    assert failed >= {"inverse log-determinant", "round trip from data", "log_prob of samples"}
