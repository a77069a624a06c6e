"""The workflow's step that keeps the history on a branch."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from repositories import commit, git

WORKFLOW = Path(__file__).parent.parent / ".github" / "workflows" / "ci.yml"
HISTORY = Path("results/history/history.jsonl")


def append(checkout: Path) -> int:
    """Run the step in a checkout, with lines that are not committed; its exit status."""
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["history"]["steps"]
    (script,) = (step["run"] for step in steps if step.get("name") == "append to the branch")
    return subprocess.run(["bash", "-ec", script], cwd=checkout, check=False).returncode


@pytest.fixture
def checkouts(tmp_path: Path) -> list[Path]:
    """Two checkouts of one repository, with a committed history of one line."""
    origin, first, second = (tmp_path / name for name in ("origin", "first", "second"))
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(origin))
    (first / HISTORY).parent.mkdir(parents=True)
    (first / HISTORY).write_text("committed\n")
    commit(first, "one")
    git(first, "remote", "add", "origin", str(origin))
    git(first, "push", "-q", "origin", "main")
    git(tmp_path, "clone", "-q", str(origin), str(second))
    return [first, second]


def test_lines_of_several_runs_add_up_on_the_branch(checkouts: list[Path]) -> None:
    """Each from the file that it checked out, whether it knows of the others or not."""
    for index, checkout in enumerate([*checkouts, checkouts[0]]):
        (checkout / HISTORY).write_text(f"committed\nline {index}\n")
        assert append(checkout) == 0
        assert append(checkout) == 0
    git(checkouts[0], "fetch", "-q", "origin", "history")
    lines = git(checkouts[0], "show", "FETCH_HEAD:history.jsonl")
    assert lines.splitlines() == ["committed", "line 0", "line 1", "line 2"]
    assert git(checkouts[0], "ls-tree", "--name-only", "FETCH_HEAD").split() == ["history.jsonl"]


def test_without_the_right_to_push_it_fails(checkouts: list[Path]) -> None:
    hook = checkouts[0].parent / "origin" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert append(checkouts[0]) != 0
