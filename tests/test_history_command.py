"""The commands ``flowgauge history``, in repositories of tests."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.cli.app import app
from benchmarks.core.frame import Plan, Planned
from benchmarks.history import file
from benchmarks.history.page import render
from benchmarks.history.steps import steps
from benchmarks.history.trends import trends
from gate_records import cost, folder
from repositories import commit, git

ROOT = Path(__file__).parent.parent
HISTORY = Path("results/history/history.jsonl")
# a revision's own command: it writes a record whose count is the revision's
FAKE = """
import json, pathlib, subprocess, sys
assert sys.argv[1] == "run" and pathlib.Path(sys.argv[2]).read_text() and sys.argv[3] == "--out"
{body}
record = json.loads({record!r})
record["commit"] = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True)[:12]
records = pathlib.Path(sys.argv[4]) / "records"
records.mkdir(parents=True)
(records / (record["key"] + ".json")).write_text(json.dumps(record))
"""


def command(*arguments: str | Path, status: int = 0) -> str:
    """What a command of the history prints; its exit status is checked."""
    result = CliRunner().invoke(app, ["history", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository, the present folder, of four revisions: one fails, one needs what is not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".gitignore").write_text("/results/\n")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'flowgauge'\nversion = '0'\n")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").write_text("")
    (tmp_path / "s.toml").write_text("about = 'a suite'")
    changes = {
        "100": "",
        "broken": "sys.exit('no such key')",
        "hangs": "while True: pass",
    }
    for subject, body in (*changes.items(), ("120", "")):
        record = cost(2, float(subject) if subject.isdigit() else 0).json_bytes().decode()
        module = tmp_path / "benchmarks" / "__main__.py"
        module.write_text(FAKE.format(record=record, body=body))
        commit(tmp_path, subject)
    return tmp_path


def test_commits_are_measured_by_their_own_code(repository: Path) -> None:
    before = git(repository, "worktree", "list"), git(repository, "status", "--porcelain")
    suite = ("--suite", "s.toml")
    output = command("measure", "HEAD~3", "HEAD~3..HEAD~2", "HEAD", *suite, status=1)
    command("measure", "HEAD~1", *suite, "--limit", 1, status=1)
    snapshots = file.read(HISTORY, repository).snapshots
    assert [s.subject for s in snapshots] == ["100", "broken", "hangs", "120"]
    assert [s.reason for s in snapshots if s.reason] == [
        "its run ended with status 1: no such key",
        "its run did not end within 1 s",
    ]
    assert [s.cases[0].exact["log_prob_flops"] for s in snapshots if s.cases] == [100, 120]
    assert output.count("1 case") == 2
    output = command("show", "log_prob_flops")
    assert "+20 %" in output
    assert "did not end within 1 s" in output
    assert (git(repository, "worktree", "list"), git(repository, "status", "--porcelain")) == before
    assert "there already" in command("measure", "HEAD", *suite)
    assert len(file.lines(HISTORY)) == 4


def test_adding_twice_adds_once(repository: Path) -> None:
    run = folder(repository / "run", cost(2, commit=git(repository, "rev-parse", "HEAD").strip()))
    assert "1 line added" in command("add", run)
    assert "0 lines added" in command("add", run, HISTORY)
    other = repository / "other.jsonl"
    assert "1 line added" in command("add", HISTORY, run, "--file", other)
    assert other.read_text() == HISTORY.read_text()


def test_what_is_of_no_commit_of_its_own_is_refused(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD").strip()[:12]
    runs = {
        "dirty": [cost(2, commit=f"{head}-dirty")],
        "2 commits": [cost(2, commit=head), cost(3, commit="0" * 12)],
        "name no commit": [cost(2)],
        "000000": [cost(2, commit="0" * 12)],
        "2 machines": [cost(2, commit=head), cost(3, commit=head, machine={"cpu": "another"})],
    }
    for index, (words, records) in enumerate(runs.items()):
        assert words in command("add", folder(repository / str(index), *records), status=2)
    unfinished = folder(repository / "unfinished", cost(2, commit=head))
    plan = Plan(name="s", cases=[Planned(key=c.case.key, study="cost") for c in (cost(2), cost(3))])
    (unfinished / "suite.json").write_text(plan.model_dump_json())
    assert "lacks 1 of the 2 cases" in command("add", unfinished, status=2)
    assert not HISTORY.exists()
    command("add", repository / "0", "--dirty")
    assert file.read(HISTORY, repository).snapshots[0].name == f"{head[:8]}-dirty"


@pytest.mark.parametrize("line", ["{", "[]", '{"schema":1}', "<<<<<<< HEAD"])
def test_a_line_that_is_no_snapshot_is_named(repository: Path, line: str) -> None:
    HISTORY.parent.mkdir(parents=True)
    HISTORY.write_text(f"\n{line}\n")
    assert "line 1 of" in command("show", status=2)
    assert "no row" in command("show", "no_metric", status=2)


def test_lines_of_a_newer_schema_are_left_out(repository: Path) -> None:
    HISTORY.parent.mkdir(parents=True)
    HISTORY.write_text('{"schema":99}\n')
    with pytest.warns(UserWarning, match="newer"):
        assert file.read(HISTORY, repository).snapshots == []


def test_the_committed_history_is_as_its_page_says() -> None:
    """Apart from times, which depend on how quiet the machine was."""
    history = file.read(ROOT / HISTORY, ROOT)
    text = " ".join((ROOT / "docs" / "history.md").read_text().split())
    text = text.partition("## The committed history")[2]
    measured = {snapshot.revision for snapshot in history.snapshots if snapshot.cases}
    assert f"It has {len(measured)} commits" in text
    assert not any(snapshot.dirty for snapshot in history.snapshots)
    for snapshot in history.snapshots:
        assert snapshot.cases or snapshot.name in text
    listed = [trend for trend in trends(history.snapshots) if trend.kind != "time"]
    for change in steps(history, listed):
        assert change.after.snapshot.name in text
        assert change.change.lstrip("−+") in text
    for trend in listed:
        for _, after in trend.cuts:
            assert after.points[0].snapshot.name in text


class Elements(HTMLParser):
    """The elements of a page, and what it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(v) for n, v in attributes if n in ("src", "href")]


def test_the_page_has_every_trend_and_needs_nothing_beside_it(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD").strip()
    names = [git(repository, "rev-parse", f"HEAD~{i}").strip() for i in (3, 0)]
    git(repository, "commit", "-q", "--amend", "-m", "<script>")
    for index, name in enumerate([*names[:1], git(repository, "rev-parse", "HEAD").strip()]):
        records = [cost(2, 100 + index, commit=name), cost(3, 7, commit=name)]
        command("add", folder(repository / f"run{index}", *records))
    assert head not in HISTORY.read_text()
    history = file.read(HISTORY, repository)
    listed = trends(history.snapshots)
    command("page")
    text = (HISTORY.parent / "index.html").read_text()
    assert text == render(history)
    page = Elements()
    page.feed(text)
    assert page.tags.count("svg") == len(listed) > 2
    assert page.tags.count("circle") == sum(len(trend.points) for trend in listed)
    assert page.tags.count("title") - 1 >= page.tags.count("circle")
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert {f"#metric-{trend.name}" for trend in listed} <= {*page.links}
    assert re.search(r'class="step worse"', text)
    assert "&lt;script&gt;" in text
