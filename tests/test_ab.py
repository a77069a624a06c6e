"""`flowgauge ab`: worktrees, workers, the statistics of blocks, the command."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from benchmarks.analysis.criteria import LEVEL
from benchmarks.gate import ab
from benchmarks.gate.ab import BASE, NEW, Measurement, Result, Revision, checkouts, compare, judge
from repositories import commit, git, write_files
from runs import flowgauge

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


def samples(seed: int, slowed: float = 0.0, noise: float = 0.03):
    """Log-ratios of six benchmarks, skewed as times are, the first slower by a share."""
    random = np.random.default_rng(seed)
    drawn = {n: noise * (random.gamma(2, size=(2, 40)).T @ [1, -1]) / 2**0.5 for n in NAMES}
    return {**drawn, NAMES[0]: drawn[NAMES[0]] + np.log1p(slowed)}


def test_noise_raises_few_alarms_in_all_benchmarks_together():
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


@pytest.mark.parametrize(
    ("values", "factor", "verdict"),
    [
        (samples(0, slowed=0.04)[NAMES[0]], 1.05, "same"),  # below the factor
        (samples(0, slowed=0.04)[NAMES[0]], 1.02, "slower"),
        (samples(0, slowed=-0.1)[NAMES[0]], 1.05, "faster"),
        (samples(0, slowed=0.1, noise=5.0)[NAMES[0]], 1.05, "same"),  # not significant
        (np.full(5, 0.5), 1.05, "too few"),
        (np.full(6, 0.5), 1.05, "slower"),
        (np.zeros(6), 1.05, "same"),
    ],
)
def test_a_verdict_needs_a_factor_and_a_significant_number_of_blocks(values, factor, verdict):
    assert judge({"one": values}, factor)["one"].verdict == verdict
    if verdict == "slower" and len(values) == 6:
        assert judge(dict.fromkeys(NAMES, values))["bench0"].verdict == "too few"


@pytest.mark.parametrize("order", [ab.ABBA, ab.BAAB])
@pytest.mark.parametrize("drift", [1.0, 1.5])  # of the time from a visit to the next
def test_a_drift_common_to_both_sides_cancels(order, drift):
    block = {BASE: [], NEW: []}
    for step, side in enumerate(order):
        time = (1.1 if side == NEW else 1.0) * drift**step
        block[side].append({"processor": [2 * time, time, 3 * time]})
    assert ab.log_ratios([block]) == pytest.approx(np.log(1.1))


@pytest.mark.parametrize(
    ("base", "new", "undeclared"),
    [([1, 1], [1, 1], True), ([1, 1], [1, 2], False), (None, None, False)],
)
def test_a_time_that_moved_needs_a_raised_pace_or_version(base, new, undeclared):
    sides = {BASE: base, NEW: new}
    declared = {k: v and {"flow glow": v, "flows": [1, 1]} for k, v in sides.items()}
    for verdict in ("slower", "faster", "same"):
        measured = Measurement(declared, 1.0, 1.0, 1.0, 1.0, verdict)
        result = Result([], 1.0, 1.05, {"glow/gradient": measured})
        moved = undeclared and verdict != "same"
        assert result.status(require_pace=True) == moved
        assert result.status() == (verdict == "slower")
        assert any("pace" in note for note in result.notes) == moved


def test_benchmarks_of_one_side_alone_are_no_pass_and_a_reason_is_given_once():
    failed = Measurement(verdict=f"failed in {BASE}", reason="no module")
    measured = {"a/log_prob": failed, "b/log_prob": failed, "c/log_prob": Measurement()}
    measured["c/log_prob"].verdict = "appeared"
    result = Result([], 1.0, 1.05, measured)
    assert result.status() == 2
    assert result.notes[0] == "a/log_prob, b/log_prob: no module"
    assert "none slower" not in result.notes[-1]


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
    commit(tmp_path, "one")
    git(tmp_path, "tag", "one")
    code.write_text(FAKE.format(names=["dies", "raises", "never", "both", "come"], broken=True))
    (tmp_path / ".gitignore").write_text("ignored\n")
    commit(tmp_path, "two")
    hook = tmp_path / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho hooked > " + str(tmp_path / "hooked"))
    hook.chmod(0o755)
    (tmp_path / "flows" / "dropped").unlink()
    (tmp_path / "flows" / "staged").write_text("staged")
    git(tmp_path, "add", "flows/staged")
    (tmp_path / "flows" / "untracked name").write_text("new")
    (tmp_path / "flows" / "ignored").write_text("never")
    return tmp_path


def test_worktrees_are_the_revisions_and_leave_no_trace_after_an_interrupt(repository):
    before = state(repository)
    with suppress(KeyboardInterrupt), checkouts("one", ".", "HEAD") as (one, present, head):
        assert "gone" in (one.path / "flows" / "__init__.py").read_text()
        held = [{p.name for p in (r.path / "flows").iterdir()} for r in (present, head)]
        assert held == [{"__init__.py", "staged", "untracked name"}, {"__init__.py", "dropped"}]
        assert present.commit == f"{head.commit}-dirty"
        assert one.commit == git(repository, "rev-parse", "one")[:12]
        (present.path / "flows" / "__init__.py").write_text("")
        raise KeyboardInterrupt
    assert not one.path.parent.exists()
    assert state(repository) == before


@pytest.mark.system
def test_outcomes_of_families_that_die_raise_stay_come_and_go(repository, tmp_path_factory):
    """By the command, which writes both of its files and leaves no trace."""
    before, out = state(repository), tmp_path_factory.mktemp("out")
    names = [f"{family}/log_prob" for family in ("dies", "raises", "never", "both", "come", "gone")]
    files = ["--json", out / "ab.json", "--markdown", out / "ab.md"]
    options = ["--only", ",".join(names), "--seconds", 9, "--factor", 1e9]
    flowgauge("ab", "one", "HEAD", *options, *files, status=1)
    benchmarks = json.loads((out / "ab.json").read_text())["benchmarks"]
    assert [*benchmarks] == names
    dies, raises, never, both, *others = benchmarks.values()
    assert dies["verdict"] == raises["verdict"] == "failed in new"
    assert never["verdict"] == "failed in base"
    assert both["verdict"] in ("same", "too few")
    assert [other["verdict"] for other in others] == ["appeared", "vanished"]
    assert "exit status 3" in dies["reason"]
    assert "no such luck" in raises["reason"]
    assert both["declared"][BASE] == {"flow both": [2, 1], "flows": [1, 1]}
    assert both["declared"][NEW] == both["declared"][BASE]
    assert both["blocks"]
    for block in both["blocks"]:
        assert len({len(visit["clock"]) for side in (BASE, NEW) for visit in block[side]}) == 1
    comment = (out / "ab.md").read_text()
    assert comment.count("\n| ") == 2 + len(names)
    assert all(name in comment for name in names)
    assert state(repository) == before


def test_a_worker_that_hangs_is_lost(repository, monkeypatch):
    monkeypatch.setattr("benchmarks.measure.process.START", 0.05)
    done = flowgauge("ab", "one", "--only", "both/log_prob", status=2)
    assert "took longer than" in done.stderr


@pytest.mark.system
@pytest.mark.parametrize(
    ("code", "reason"), [("x = (", "(flows/__init__.py, line 1): SyntaxError"), ("", "--package")]
)
def test_a_revision_that_cannot_be_imported_is_named(repository, code, reason):
    (repository / "flows" / "__init__.py").write_text(code)
    done = flowgauge("ab", ".", "one", "--only", "both/log_prob", status=2)
    assert "'.' cannot be timed" in done.stderr
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["one", "nosuch"], ["nosuch", "no commit"]),
        (["one", "--only", "glow/fly"], ["glow/fly", "log_prob"]),
        (["one", *(f"--only=f{index}" for index in range(7))], ["at most 6"]),
        (["one", "--json", "/"], ["'/'", "directory"]),
        (["one", "--seconds", "1"], ["seconds", "5"]),
        (["one", "--package", "mine/inner"], ["--package"]),
        (["one", "--plugin", __file__], ["--plugin", "outside of the repository"]),
    ],
)
def test_wrong_usage_is_one_line_and_status_two(repository, arguments, expected):
    done = flowgauge("ab", *arguments, status=2)
    assert all(text in done.stderr for text in expected), done.stderr


@pytest.mark.system
def test_other_dependencies_need_another_environment(tmp_path):
    declared = {"a": '["numpy >= 1"]', "b": '["NumPy>=1"]', "c": '["no-such @ file:///no/such"]'}
    declared |= {"d": "[]"}
    revisions = [Revision(name, name, tmp_path / name) for name in declared]
    for revision in revisions:
        revision.path.mkdir()
        text = f"[project]\ndependencies = {declared[revision.ref]}"
        (revision.path / "pyproject.toml").write_text(text)
    assert ab.package_folders(revisions[:2]) == [[], []]
    with pytest.raises(ValueError, match=r"different dependencies.*'c'.*no/such"):
        ab.package_folders([revisions[2], revisions[0]])
    theirs, ours = ab.package_folders([revisions[3], revisions[0]])
    assert theirs != ours
    assert all(Path(*folder).is_dir() for folder in (theirs, ours))
    revisions[0].path.joinpath("pyproject.toml").write_text("[")
    with pytest.raises(ValueError, match=r"pyproject\.toml"):
        ab.package_folders(revisions)


PROJECT = '[project.entry-points."flowgauge.flows"]\none = "mine.one:register"\nother = "mines"\n'
FLOW = """
import flows
from nflows.transforms import LULinear
from helper import NAME

@flows.register(NAME, uses=())
def flow(dim):
    "One layer."
    return LULinear(dim)
"""


@pytest.mark.system
@pytest.mark.parametrize("source", [".", "src"])
def test_a_package_and_a_plug_in_of_anyone_are_those_of_each_revision(
    tmp_path, monkeypatch, source
):
    """The entry points of the package count, and all that its modules import from the tree."""
    monkeypatch.chdir(tmp_path)
    files = {
        "pyproject.toml": PROJECT,
        f"{source}/mine/__init__.py": "",
        f"{source}/mine/one.py": FLOW,
        f"{source}/helper.py": "NAME = 'theirs_old'",
        "flows/__init__.py": "raise SystemExit('a package of the repository was imported')",
        "plugin.py": FLOW.replace("from helper import NAME", "NAME = 'theirs_plugin'"),
    }
    write_files(tmp_path, files)
    commit(tmp_path, "one")
    (tmp_path / source / "helper.py").write_text("NAME = 'theirs_new'")
    result = compare("HEAD", ".", package="mine", plugin=Path("plugin.py"), seconds=9.0, factor=1e9)
    verdicts = {name: measured.verdict for name, measured in result.benchmarks.items()}
    assert verdicts.pop("theirs_plugin/gradient") in ("same", "too few")
    assert verdicts == {"theirs_old/gradient": "vanished", "theirs_new/gradient": "appeared"}
    with pytest.raises(ValueError, match=r"No module named 'absent'.*--package"):
        compare("HEAD", ".", package="absent", seconds=5.0)
