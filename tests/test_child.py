"""Processes that are started: none imports from its folder, and none outlives what started it."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import psutil
import pytest

from benchmarks.measure import child, fresh, machine, resources
from benchmarks.measure.machine import git

TRAP = "raise SystemExit('imported from the working folder')\n"
PARENT = """
import subprocess, sys
from benchmarks.measure import child
line = child.lifeline()
held = subprocess.Popen(child.command("held_child:hold", str(line)), pass_fds=[line])
held.wait()
"""
HELD = """
import ctypes
from benchmarks.measure.child import end_with_parent

def hold(lifeline):
    end_with_parent(int(lifeline))
    print("holds", flush=True)
    ctypes.PyDLL(None).sleep(60)  # with the interpreter's lock
"""


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder has modules of the names of Python's and of ours."""
    for name in ("signal", "json", "random", "flows", "benchmarks"):
        (tmp_path / f"{name}.py").write_text(TRAP)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("trap")
def test_a_fresh_process_imports_nothing_of_its_folder() -> None:
    assert fresh.call(math.sqrt, 9.0, 100) == 3.0


@pytest.mark.usefixtures("trap")
def test_what_a_process_starts_imports_nothing_of_its_folder_either() -> None:
    """As `multiprocessing` does, which knows nothing of the flags that its parent was given."""
    code = "import multiprocessing as m; m.get_context('spawn').Process(target=print).start()"
    environment = {**os.environ, **child.SAFE}
    subprocess.run([sys.executable, "-P", "-c", code], env=environment, check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a lock that is held is waited for")
def test_a_process_that_holds_the_interpreter_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "held_child.py").write_text(HELD)
    search = os.pathsep.join([str(tmp_path), *sys.path])
    command, environment = [sys.executable, "-c", PARENT], {**os.environ, "PYTHONPATH": search}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "holds\n"
        (held,) = psutil.Process(parent.pid).children()
        parent.kill()
    _ended([held])


def test_copies_that_go_on_forking_end_the_process() -> None:
    """Sixteen processes at most, should nothing bound them."""
    code = (
        "import os, signal, sys; from benchmarks.measure.child import bound_forks\n"
        "bound_forks(int(sys.argv[1]), signal.SIGUSR2)\n"
        "[os.fork() for _ in range(4)]\n"
        "os.write(1, b'x')"
    )
    for limit, status in ((100, 0), (5, -signal.SIGUSR2)):
        command = [sys.executable, "-c", code, str(limit)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        assert done.returncode == status
        assert (len(done.stdout) == 16) == (status == 0)


def test_a_family_ends_with_what_has_left_its_session() -> None:
    mark = uuid.uuid4().hex
    command, environment = "setsid sleep 600 & echo; sleep 600", {**os.environ, child.MARK: mark}
    with subprocess.Popen(["sh", "-c", command], env=environment, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        family = [psutil.Process(shell.pid), *psutil.Process(shell.pid).children(recursive=True)]
        child.end_family(mark)
    assert len(family) >= 2
    _ended(family)


def _ended(processes: list[psutil.Process]) -> None:
    """A process that nobody waits for remains a zombie."""
    _, alive = psutil.wait_procs(
        [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE], timeout=10
    )
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize(("place", "tracked"), [("", True), ("", False), ("venv", True)])
def test_a_commit_is_that_of_the_packages_own_repository(
    place: str, tracked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of a repository that it is installed into, whether tracked or not."""
    file = tmp_path / place / "benchmarks" / "measure" / "machine.py"
    file.parent.mkdir(parents=True)
    shutil.copy(machine.__file__, file)
    git(tmp_path, "init", "-q")
    if tracked:
        git(tmp_path, "add", str(file))
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    git(tmp_path, *who, "commit", "-q", "--allow-empty", "-m", "first")
    monkeypatch.setattr(machine, "__file__", str(file))
    own = git(tmp_path, "rev-parse", "--short=12", "HEAD") if tracked and not place else ""
    assert machine.commit.__wrapped__() == own
    if own:
        file.write_text("changed")
        assert machine.commit.__wrapped__() == f"{own}-dirty"


def test_the_kernels_kills_for_memory_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vmstat").write_text("pgfault 12\noom_kill 3\noom_killer 5\n")
    monkeypatch.setattr(resources, "KILLED", tmp_path / "vmstat")
    assert resources.killed_for_memory() == 3
    monkeypatch.setattr(resources, "KILLED", tmp_path / "absent")
    assert resources.killed_for_memory() == 0
