"""Two revisions timed against each other: worktrees, workers, environments, the command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.ab import rendering
from benchmarks.ab.benches import DEFAULT, MOST, select
from benchmarks.ab.checkouts import Revision, checkouts
from benchmarks.ab.environments import dependencies, interpreter, interpreters
from benchmarks.ab.link import WorkerGone, WorkerProcess
from benchmarks.ab.schedule import BASE, NEW
from benchmarks.ab.session import compare
from benchmarks.ab.subject import Subject
from benchmarks.cli.app import app
from repositories import git

ROOT = Path(__file__).parent.parent
FAKE = """
import os, torch
def names(): return {names}
class members:
    def declared(name): return 2, 1
    def module_of(name): return "flows.both"
def build(name, dim):
    return Fake(name)
class Fake:
    def __init__(self, name): self.name = name
    def initialize(self, x): return self
    def log_prob(self, x):
        print("noise on standard output")
        if self.name == "dies" and {broken}: os._exit(3)
        if self.name == "never": raise ValueError("never did")
        if self.name == "raises" and {broken}: raise ValueError("no such luck")
        return x.tanh().sum(1)
"""


def test_benchmarks_by_name():
    assert select(None) == list(DEFAULT)
    assert len(DEFAULT) == MOST
    assert select(["glow", "planar", "maf/sample", "glow"]) == [
        "glow/gradient",
        "planar/gradient",
        "maf/sample",
    ]
    for wrong in (["glow/fly"], ["/sample"], [f"f{i}" for i in range(MOST + 1)]):
        with pytest.raises(ValueError, match=r"gradient|at most 6"):
            select(wrong)


def state(folder):
    """All of a repository that a command might have touched."""
    files = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and ".git" not in p.parts}
    listings = (git(folder, *c) for c in (["status", "--porcelain"], ["stash", "list"], ["branch"]))
    index = (folder / ".git" / "index").read_bytes()
    return files, index, *listings, git(folder, "worktree", "list").count("\n")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with two revisions of fake flows, and uncommitted changes; the present one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows").mkdir()
    code = tmp_path / "flows" / "__init__.py"
    code.write_text(FAKE.format(names=["dies", "raises", "never", "both", "gone"], broken=False))
    (tmp_path / "flows" / "dropped").write_text("old")
    (tmp_path / "elsewhere").write_text("old")
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    git(tmp_path, "tag", "one")
    code.write_text(FAKE.format(names=["dies", "raises", "never", "both", "come"], broken=True))
    (tmp_path / ".gitignore").write_text("ignored\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "two")
    hook = tmp_path / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho hooked > " + str(tmp_path / "hooked"))
    hook.chmod(0o755)
    (tmp_path / "flows" / "dropped").unlink()
    (tmp_path / "flows" / "staged").write_text("staged")
    git(tmp_path, "add", "flows/staged")
    (tmp_path / "flows" / "untracked name").write_text("new")
    (tmp_path / "flows" / "ignored").write_text("never")
    (tmp_path / "elsewhere").write_text("new")
    return tmp_path


def test_worktrees_are_the_revisions_and_leave_no_trace(repository):
    before = state(repository)
    with checkouts("one", ".", "HEAD") as (one, present, head):
        assert "gone" in (one.path / "flows" / "__init__.py").read_text()
        held = [{p.name for p in (r.path / "flows").iterdir()} for r in (present, head)]
        assert held == [{"__init__.py", "staged", "untracked name"}, {"__init__.py", "dropped"}]
        assert not (present.path / "elsewhere").exists()
        assert present.commit == f"{head.commit}-dirty"
        assert one.commit == git(repository, "rev-parse", "one")[:12]
        (present.path / "flows" / "__init__.py").write_text("")
    assert not one.path.parent.exists()
    assert state(repository) == before


def test_an_interrupt_leaves_no_trace(repository):
    before = state(repository)
    with pytest.raises(KeyboardInterrupt), checkouts("one", ".") as revisions:
        raise KeyboardInterrupt
    assert not any(revision.path.exists() for revision in revisions)
    assert state(repository) == before


@pytest.mark.system
def test_outcomes_of_families_that_die_raise_stay_come_and_go(repository):
    before, pythons = state(repository), [sys.executable] * 2
    names = [f"{family}/log_prob" for family in ("dies", "raises", "never", "both", "come", "gone")]
    with checkouts("one", "HEAD") as revisions:
        results = compare(revisions, pythons, names, seconds=4.0, factor=1e9)
        with pytest.raises(ValueError, match="neither"):
            compare(revisions, pythons, ["no/sample"], seconds=0.0, factor=1.05)
    verdicts = [result.verdict for result in results.values()]
    assert verdicts[:2] == ["failed in new", "failed in new"]
    assert verdicts[2] == "failed in base"
    assert verdicts[3] in ("same", "too few")
    assert verdicts[4:] == ["appeared", "vanished"]
    assert [result.failed for result in results.values()] == [True, True, *[False] * 4]
    assert "exit status 3" in results["dies/log_prob"].reason
    assert "no such luck" in results["raises/log_prob"].reason
    assert results["both/log_prob"].declared == {
        side: {"flow both": [2, 1], "flows": [1, 1]} for side in (BASE, NEW)
    }
    page = rendering.markdown(results, rendering.caption(revisions, 4.0, 1e9))
    assert page.count("\n| ") == 2 + len(names)
    assert all(name in page for name in names)
    assert state(repository) == before


@pytest.mark.parametrize(
    ("code", "reason"), [("import no_such_package", "no_such_package"), ("", "--package")]
)
def test_a_revision_that_cannot_be_imported_is_said_to_be(repository, code, reason):
    (repository / "flows" / "__init__.py").write_text(code)
    done = CliRunner().invoke(app, ["ab", ".", "one", "--only", "both/log_prob"])
    assert done.exit_code == 2
    assert "'.' cannot be timed" in done.stderr
    assert reason in done.stderr


def test_the_timing_side_imports_no_flows():
    """They may be broken where the command is given."""
    code = (
        "import sys; from benchmarks.ab import rendering, session;"
        "assert not {'flows', 'torch'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_worker_that_hangs_is_gone(tmp_path):
    worker = WorkerProcess(sys.executable, tmp_path, None, start_limit=0.0)
    with pytest.raises(WorkerGone, match="no answer"):
        worker.ask({})
    worker.close()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["one", "nosuch"], ["nosuch", "no commit"]),
        (["one", "--only", "glow/fly"], ["glow/fly", "log_prob"]),
        (["one", "--json", "/"], ["'/'", "directory"]),
        (["one", "--seconds", "1"], ["seconds", "5"]),
    ],
)
def test_wrong_usage_is_one_line_and_status_two(repository, arguments, expected):
    done = CliRunner().invoke(app, ["ab", *arguments])
    assert done.exit_code == 2
    assert all(text in done.stderr for text in expected), done.stderr


def test_outside_of_a_repository_it_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    done = CliRunner().invoke(app, ["ab", "HEAD"])
    assert done.exit_code == 2
    assert "not a git repository" in done.stderr


@pytest.mark.system
def test_other_dependencies_need_another_environment(tmp_path):
    declared = {"a": '["numpy >= 1"]', "b": '["NumPy>=1"]', "c": '["no-such @ file:///no/such"]'}
    declared |= {"d": "[]"}
    revisions = [Revision(name, name, tmp_path / name) for name in declared]
    for revision in revisions:
        revision.path.mkdir()
        text = f"[project]\ndependencies = {declared[revision.ref]}"
        (revision.path / "pyproject.toml").write_text(text)
    assert interpreters(revisions[:2]) == [sys.executable] * 2
    assert dependencies(tmp_path) == set()
    assert interpreter(revisions[0]) == sys.executable
    with pytest.raises(ValueError, match=r"different dependencies.*'c'.*no/such"):
        interpreter(revisions[2])
    with pytest.raises(ValueError, match=r"different dependencies.*'c'.*no/such"):
        interpreters([revisions[2], revisions[0]])
    theirs, _ = interpreters([revisions[3], revisions[0]], Subject("mine", root=tmp_path))
    assert theirs != sys.executable  # nothing to install, and what it lacks is that of this one
    subprocess.run([theirs, "-c", "import numpy"], check=True)
    revisions[0].path.joinpath("pyproject.toml").write_text("[")
    with pytest.raises(ValueError, match=r"pyproject\.toml"):
        interpreters(revisions)


SLOWER = """
_build = build
def build(name, dim, **options):
    flow = _build(name, dim, **options)
    log_prob = flow.log_prob
    flow.log_prob = lambda x: [log_prob(x) for _ in range(10)][0]
    return flow
"""


@pytest.mark.system
def test_the_working_tree_against_its_commit(tmp_path, monkeypatch):
    """End to end, with the flows of this repository, of which one is slowed down."""
    shutil.copytree(ROOT / "flows", tmp_path / "flows")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    with (tmp_path / "flows" / "__init__.py").open("a") as file:
        file.write(SLOWER)
    monkeypatch.chdir(tmp_path)
    out, comment = tmp_path / "ab.json", tmp_path / "ab.md"
    command = ["ab", "HEAD", "--only", "realnvp/log_prob", "--seconds", "7", "--require-pace"]
    done = CliRunner().invoke(app, [*command, "--json", str(out), "--markdown", str(comment)])
    document = json.loads(out.read_text())
    (entry,) = document["benchmarks"].values()
    statuses = {"slower": 1, "faster": 1, "same": 0, "too few": 2}
    assert done.exit_code == statuses[entry["verdict"]], done.output
    assert document["new"]["commit"] == document["base"]["commit"] + "-dirty"
    for block in entry["blocks"]:
        lengths = {len(times) for side in (BASE, NEW) for v in block[side] for times in v.values()}
        assert len(lengths) == 1
    assert "realnvp/log_prob" in comment.read_text()
    assert entry["verdict"] in comment.read_text()
