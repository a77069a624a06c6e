"""Python of the README and of the documentation runs; the tutorial's commands do what it says.

The Python blocks of a page run in their order, in one process, in a folder that holds the files
that the page shows (a block whose first line is "# name.py" or "# name.toml") and the committed
results. A block marked as "python fragment" does not run.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from documents import DOCUMENTS, ROOT, blocks, commands, named

PAGES = [page for page in DOCUMENTS if any(b.language == "python" for b in blocks(page))]
TUTORIAL = ROOT / "docs" / "tutorial.md"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder; torch's and our own warnings are errors."""
    command = [sys.executable, "-W", "error::UserWarning", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def write_files(page: Path, folder: Path) -> None:
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(block.text)


@pytest.mark.parametrize("document", PAGES, ids=named)
def test_python_of_a_page_runs(document: Path, tmp_path: Path) -> None:
    write_files(document, tmp_path)
    (tmp_path / "results").symlink_to(ROOT / "results")
    parts = []
    for block in blocks(document):
        if block.language == "python" and block.words != "fragment":
            load = f"__import__('flows.plugins').plugins.load_plugin({block.file!r})\n"
            parts.append(load if block.file else block.text)
    (tmp_path / "page.py").write_text("".join(parts))
    result = run(tmp_path, "page.py")
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("document", [ROOT / "README.md", TUTORIAL], ids=named)
def test_a_flow_that_is_shown_conforms(document: Path, tmp_path: Path) -> None:
    write_files(document, tmp_path)
    (plugin,) = (block.file for block in blocks(document) if block.file.endswith(".py"))
    result = run(tmp_path, "-m", "benchmarks", "check", plugin, "--dim", "2")
    assert result.returncode == 0, result.stdout


@pytest.mark.slow
def test_the_tutorials_suite_gives_a_row_in_every_table(tmp_path: Path) -> None:
    write_files(TUTORIAL, tmp_path)
    (command,) = (c for c in commands(TUTORIAL) if c.startswith("run"))
    few = ["-s", "cost.seconds=0.05", "-s", "density.updates=40", "-s", "density.baselines=[]"]
    result = run(tmp_path, "-m", "benchmarks", *command.split(), *few)
    assert result.returncode == 0, result.stdout + result.stderr
    tables = tmp_path / "results" / "mine" / "report" / "tables"
    for name in ("cost-by-dimension", "density"):
        assert "★ bent" in pd.read_csv(tables / f"{name}.csv").iloc[:, 0].to_list(), name


@pytest.mark.slow
def test_the_mistake_in_the_tutorial_fails_where_it_says(tmp_path: Path) -> None:
    write_files(TUTORIAL, tmp_path)
    file = tmp_path / "bent.py"
    broken = file.read_text().replace("return x, -torch.log1p", "return x, torch.log1p")
    assert broken != file.read_text()
    file.write_text(broken)
    result = run(tmp_path, "-m", "benchmarks", "check", "bent.py", "--dim", "2", "--csv", "out.csv")
    assert result.returncode == 1
    figures = pd.read_csv(tmp_path / "out.csv")
    failed = set(figures[figures["status"] == "fail"]["row"])
    (sentence,) = re.findall(r"forgotten, the rows\s+(.*?)\s+are among", TUTORIAL.read_text(), re.S)
    assert failed >= set(re.findall(r'"(.*?)"', sentence.replace("\n", " ")))
