"""Two revisions timed against each other: what blocks say, who is timed when, and worktrees."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.ab import rendering
from benchmarks.ab.benches import DEFAULT, MOST, select
from benchmarks.ab.checkouts import Revision, checkouts
from benchmarks.ab.environments import dependencies, interpreters
from benchmarks.ab.judgement import LEVEL, Judgement, judge, log_ratios
from benchmarks.ab.link import WorkerGone, WorkerProcess
from benchmarks.ab.schedule import ABBA, BAAB, BASE, NEW, blocks, calls_of, orders
from benchmarks.ab.session import Measurement, compare
from benchmarks.cli.app import app

ROOT = Path(__file__).parent.parent
NAMES = [f"bench{index}" for index in range(6)]

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


def samples(seed: int, slowed: float = 0.0, noise: float = 0.03, count: int = 40):
    """Log-ratios of six benchmarks, skewed as times are, the first slower by a share."""
    random = np.random.default_rng(seed)
    drawn = {n: noise * (random.gamma(2, size=(2, count)).T @ [1, -1]) / 2**0.5 for n in NAMES}
    return {**drawn, NAMES[0]: drawn[NAMES[0]] + np.log1p(slowed)}


def test_a_slowdown_is_found_and_no_other():
    for seed in range(40):
        verdicts = {n: j.verdict for n, j in judge(samples(seed, slowed=0.1)).items()}
        assert verdicts == {n: "slower" if n == NAMES[0] else "same" for n in NAMES}


def test_the_test_alone_holds_its_level_for_all_benchmarks_together():
    runs = [judge(samples(seed, noise=0.3), factor=1.0) for seed in range(300)]
    wrong = sum(any(j.verdict != "same" for j in run.values()) for run in runs)
    assert wrong <= 300 * LEVEL + 3 * np.sqrt(300 * LEVEL * (1 - LEVEL))


def test_the_interval_covers_and_the_sides_are_alike():
    covered = 0
    for seed in range(200):
        values = samples(seed, slowed=0.1, noise=0.2)[NAMES[0]]
        one, mirrored = (judge({"one": v})["one"] for v in (values, -values))
        assert one.ratio == pytest.approx(1 / mirrored.ratio)
        assert (one.low, one.high) == pytest.approx((1 / mirrored.high, 1 / mirrored.low))
        covered += one.low <= 1.1 <= one.high
    assert covered >= 200 * 0.95 - 3 * np.sqrt(200 * 0.95 * 0.05)


def test_a_difference_below_the_factor_is_none_and_one_that_is_not_significant_neither():
    assert judge(samples(0, slowed=0.04))[NAMES[0]].verdict == "same"
    assert judge(samples(0, slowed=0.04), factor=1.02)[NAMES[0]].verdict == "slower"
    assert judge(samples(0, slowed=-0.1))[NAMES[0]].verdict == "faster"
    assert judge(samples(0, slowed=0.1, noise=5.0))[NAMES[0]].verdict == "same"


def test_too_few_blocks_are_said_to_be():
    assert judge({"one": np.full(5, 0.5)})["one"].verdict == "too few"
    assert judge({"one": np.full(6, 0.5)})["one"].verdict == "slower"
    assert judge({"one": np.zeros(6)})["one"].verdict == "same"
    assert judge({n: np.full(7, 0.5) for n in NAMES})["bench0"].verdict == "too few"


def visits(base, new):
    """A block of visits with these shortest calls."""
    return {
        side: [{"processor": [2 * t, t, 3 * t], "clock": [t]} for t in times]
        for side, times in ((BASE, base), (NEW, new))
    }


def test_a_drift_common_to_both_sides_cancels():
    for order in (ABBA, BAAB):
        for drift in (1.0, 1.5):  # of the time from a visit to the next
            times = {BASE: [], NEW: []}
            for step, side in enumerate(order):
                times[side].append((1.1 if side == NEW else 1.0) * drift**step)
            assert log_ratios([visits(*times.values())]) == pytest.approx(np.log(1.1))


def test_every_two_blocks_are_balanced():
    drawn = list(islice(orders(Random(0)), 40))
    assert all({*pair} == {ABBA, BAAB} for pair in zip(drawn[::2], drawn[1::2], strict=True))
    assert {*drawn[::2]} == {ABBA, BAAB}


def test_rounds_visit_both_sides_alike_until_the_deadline(monkeypatch):
    now, asked = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def ask(side, name, calls):
        now[0] += 1.0
        asked.append((side, name, calls))
        return None if name == "bad" and len(asked) > 60 else {"processor": [1.0], "clock": [1.0]}

    timed = list(blocks(ask, {"good": 1e-4, "bad": 1.0}, 200.0, Random(0)))
    assert now[0] <= 200.0 < now[0] + 5
    assert all(len(block[side]) == 2 for _, block in timed for side in (BASE, NEW))
    assert 5 < sum(name == "bad" for name, _ in timed) < sum(name == "good" for name, _ in timed)
    assert {c for _, name, c in asked if name == "good"} == {calls_of(1e-4)}
    assert calls_of(1e-4) > calls_of(1.0) >= 1
    assert not list(blocks(ask, {}, 1000.0, Random(0)))


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


def git(folder, *arguments):
    """What a git command prints."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", "--no-optional-locks", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


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


@pytest.mark.slow
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


def test_a_revision_that_cannot_be_imported_is_said_to_be(repository):
    (repository / "flows" / "__init__.py").write_text("import no_such_package")
    done = CliRunner().invoke(app, ["ab", ".", "one", "--only", "both/log_prob"])
    assert done.exit_code == 2
    assert "'.' cannot be timed" in done.stderr
    assert "no_such_package" in done.stderr


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
    ("base", "new", "undeclared"),
    [
        ([1, 1], [1, 1], True),
        ([1, 1], [1, 2], False),
        ([1, 1], [2, 1], False),
        (None, [1, 1], False),
        ([1, 1], None, False),
        (None, None, False),
    ],
)
def test_a_time_that_moved_needs_a_raised_pace_or_version(base, new, undeclared):
    sides = {BASE: base, NEW: new}
    declared = {k: v and {"flow glow": v, "flows": [1, 1]} for k, v in sides.items()}
    for verdict in ("slower", "faster", "same", "too few"):
        judgement = Judgement(1.0, 1.0, 1.0, 1.0, verdict)
        result = Measurement(judgement=judgement, declared=declared)
        assert result.undeclared == (undeclared and verdict in ("slower", "faster"))
        assert any("pace" in line for line in rendering.reasons({"glow/gradient": result})) == (
            result.undeclared
        )


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


@pytest.mark.slow
def test_other_dependencies_need_another_environment(tmp_path):
    declared = {"a": '["numpy >= 1"]', "b": '["NumPy>=1"]', "c": '["no-such @ file:///no/such"]'}
    revisions = [Revision(name, name, tmp_path / name) for name in declared]
    for revision in revisions:
        revision.path.mkdir()
        text = f"[project]\ndependencies = {declared[revision.ref]}"
        (revision.path / "pyproject.toml").write_text(text)
    assert interpreters(revisions[:2]) == [sys.executable] * 2
    assert dependencies(tmp_path) == set()
    with pytest.raises(ValueError, match=r"different dependencies.*'c'.*no/such"):
        interpreters(revisions[::-2])
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


@pytest.mark.slow
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
