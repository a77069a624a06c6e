"""Claims on tasks of a shared folder: one owner, takeover of the dead, owners that lost theirs."""

from __future__ import annotations

import os
import threading
import time

import pytest
from benchmarks.execution.claims import CLAIMS, Claims, alive
from typer.testing import CliRunner

from benchmarks.cli.app import app
from benchmarks.core import store
from benchmarks.execution import suite
from records import record_of

cli = CliRunner()


@pytest.fixture
def runs(tmp_path):
    """Two runs on one folder."""
    return Claims(tmp_path), Claims(tmp_path)


def kill(claims, name, seconds=1000.0):
    """Let a claim look as if its owner had not touched it for so long."""
    path = claims.folder / name / "token"
    touched = path.stat().st_mtime - seconds
    os.utime(path, (touched, touched))


def test_one_run_holds_a_task_until_it_lets_go(runs, tmp_path):
    first, second = runs
    assert first.take("a")
    assert not second.take("a")
    assert not first.take("a")
    assert second.others() == ["a"]
    assert alive(tmp_path)
    first.release("a")
    assert second.take("a")
    assert not first.holds("a")


def test_a_dead_claim_is_taken_over_and_its_owner_finds_out(runs):
    first, second = runs
    assert first.take("a")
    kill(first, "a")
    assert second.take("a")
    assert second.holds("a")
    assert not first.holds("a")
    first.release("a")  # not its own any more
    assert second.holds("a")


def test_a_claim_without_a_token_is_as_old_as_its_folder(runs):
    first, second = runs
    (first.folder / "a" / "litter").mkdir(parents=True)
    assert not second.take("a")
    os.utime(first.folder / "a", (0, 0))
    assert second.take("a")


def test_a_claim_is_kept_alive_while_its_run_lives(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWGAUGE_CLAIM_SECONDS", "0.3")
    with Claims(tmp_path) as first:
        assert first.take("a")
        path = tmp_path / CLAIMS / "a" / "token"
        touched = path.stat().st_mtime_ns
        deadline = time.monotonic() + 60
        while path.stat().st_mtime_ns == touched and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        assert path.stat().st_mtime_ns > touched
        assert not Claims(tmp_path).take("a")
    assert not (tmp_path / CLAIMS).exists()


def test_many_takers_of_a_dead_claim_have_one_winner(tmp_path):
    owner = Claims(tmp_path)
    for name in map(str, range(20)):
        owner.take(name)
        kill(owner, name)
        takers = [Claims(tmp_path) for _ in range(8)]
        start = threading.Barrier(len(takers))

        def take(claims, name=name, start=start):
            start.wait()
            claims.take(name)

        threads = [threading.Thread(target=take, args=(claims,)) for claims in takers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(claims.holds(name) for claims in takers) == 1


def test_a_number_of_seconds_that_is_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWGAUGE_CLAIM_SECONDS", "soon")
    with pytest.raises(ValueError, match="FLOWGAUGE_CLAIM_SECONDS"):
        Claims(tmp_path)


def test_the_last_run_on_a_folder_draws_the_report(tmp_path):
    """And a run that has nothing to measure, and nothing to show, ends well."""
    text = 'about = "x"\n[[studies]]\nstudy = "cost"\nflows = ["realnvp"]\ndims = [2]\n'
    file, out = tmp_path / "one.toml", tmp_path / "out"
    file.write_text(text)
    command = ["run", str(file), "--out", str(out), "--phase", "beside"]
    result = cli.invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "nothing to report" in result.stdout
    (case,) = suite.read(str(file)).cases()
    store.write(out, record_of(case, status="failed", reason="on purpose"))
    other = Claims(out)
    assert other.take("run-other")
    assert "the last run" in cli.invoke(app, command).stdout
    assert not (out / "report").exists()
    other.release("run-other")
    assert "report: " in cli.invoke(app, command).stdout
    assert (out / "report" / "index.html").is_file()
