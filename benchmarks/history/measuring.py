"""Snapshots of commits that are measured now, each by its own code."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import tomllib
from pathlib import Path

from benchmarks.ab.checkouts import TIMED, Revision, checkouts
from benchmarks.ab.environments import interpreter
from benchmarks.core import store
from benchmarks.core.formats import brief
from benchmarks.history.snapshot import Snapshot, blank, of_folder
from benchmarks.measure.child import SAFE
from benchmarks.measure.machine import git

PROJECT = "flowgauge"
CODE = (*TIMED, "benchmarks")  # the paths of a revision that a run needs


def commits(refs: list[str], repository: Path) -> list[str]:
    """The commits of refs, and of ranges A..B from the first one on.

    ValueError for no commit, and in the repository of another project.
    """
    _refuse_others(repository)
    listed: list[str] = []
    for ref in refs:
        how = ("--reverse",) if ".." in ref else ("--max-count=1",)
        listed += git(repository, "rev-list", *how, "--end-of-options", ref, "--").split()
    return list(dict.fromkeys(listed))


def _refuse_others(repository: Path) -> None:
    """ValueError unless the head of a repository declares the project flowgauge."""
    try:
        project = tomllib.loads(git(repository, "show", "HEAD:./pyproject.toml")).get("project", {})
    except ValueError:  # none, or no TOML
        project = {}
    if project.get("name") != PROJECT:
        raise ValueError(
            f"the history measures {PROJECT}'s own commits, and {str(repository.resolve())!r} is "
            "no checkout of it; `flowgauge ab --package` compares two commits of another library"
        )


def measure(commit: str, suite: Path, repository: Path, *, limit: float) -> Snapshot:
    """Measure a suite's file by the code of a commit; the snapshot has the reason if that fails.

    The commit is laid out in a temporary worktree, and runs in the present environment if that has
    what it declares, else in one of its own. ``limit`` is in seconds.
    """
    with (
        tempfile.TemporaryDirectory(prefix="flowgauge-") as scratch,
        checkouts(commit, paths=CODE) as (revision,),
    ):
        folder = Path(scratch) / suite.stem
        try:
            _run(revision, interpreter(revision), suite, folder, limit)
            return of_folder(folder, repository)
        except ValueError as error:
            return blank(commit, repository, suite=suite.stem, reason=brief(error))


def _run(revision: Revision, python: str, suite: Path, folder: Path, limit: float) -> None:
    """Run a suite by a revision's code; ValueError where it is not carried out."""
    variables = {**os.environ, **SAFE, "PYTHONPATH": str(revision.path)}
    command = [python, "-P", "-m", "benchmarks", "run", str(suite), "--out", str(folder)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=revision.path,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its workers end with it
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            raise ValueError(f"its run did not end within {limit:.0f} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines() or ["no output"]
    if not store.is_folder(folder):
        raise ValueError(f"its run ended with status {code}: {lines[-1]}")
