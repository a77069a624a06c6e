"""Interpreters that are started: what passes, whose clock counts, and that none outlives us."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

import peer_processes
from benchmarks.measure import process
from benchmarks.measure.peers import ForeignError, ForeignFlow, Remote
from runs import until

PEER = peer_processes.__name__
TRAP = "raise SystemExit('imported from the working folder')\n"
HELD = """
import ctypes, os

def hold(library):
    print(os.getpid(), flush=True)
    getattr(ctypes, library)(None).sleep(60)  # by PyDLL with the interpreter's lock
"""
PARENT = """
import sys, held_child
from benchmarks.measure.process import Child
Child(prints=True).call(held_child.hold, sys.argv[1])
"""


def flow(module: str = PEER, threads: int = 1, **request: object) -> ForeignFlow:
    return ForeignFlow(module, {"threads": threads, "device": "cpu", "dtype": "float32", **request})


@pytest.fixture
def peer() -> Iterator[ForeignFlow]:
    with flow(threads=3) as child:
        yield child


def test_a_process_imports_nothing_of_its_folder(tmp_path, monkeypatch):
    """Nor does what it starts, as `multiprocessing` does, which knows nothing of our flags."""
    for name in ("signal", "json", "random", "flows", "benchmarks"):
        (tmp_path / f"{name}.py").write_text(TRAP)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    assert process.call(math.sqrt, 9.0, 100) == 3.0
    code = "import multiprocessing as m; m.get_context('spawn').Process(target=print).start()"
    environment = {**os.environ, **process.SAFE}
    subprocess.run([sys.executable, "-P", "-c", code], env=environment, check=True)


def test_a_helper_calls_functions_and_survives_their_faults():
    """A ValueError is raised here; a process that ends is one line, and the next is another."""
    with process.helper() as helper:
        assert helper.call(math.hypot, 3.0, 4.0) == 5.0
        with pytest.raises(ValueError, match=r"^invalid literal for int"):
            helper.call(int, "x")
        with pytest.raises(process.ChildError, match="TypeError: must be real number"):
            helper.call(math.sqrt, "x")
        with pytest.raises(process.ChildEnded, match=r"^ended by SIGABRT$"):
            helper.call(os.abort)
        assert helper.call(math.sqrt, 4.0) == 2.0


def test_a_warm_call_grows_by_what_it_holds_itself():
    grown = process.call(peer_processes.grown_once_warm, 50_000_000, 60)
    assert grown == pytest.approx(50_000_000, rel=0.05)


def test_a_peer_answers_with_arrays_of_its_own_process(peer):
    """Its libraries see threads and precision as they are imported, and none of ours is there."""
    x = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(peer.arrays("echo", x=x)["x"], x)
    facts = peer.arrays("facts")
    assert facts["OMP_NUM_THREADS"] == "3"
    assert (facts["JAX_ENABLE_X64"], facts["JAX_PLATFORMS"]) == ("0", "cpu")
    assert not facts["torch"]
    with flow(dtype="float64") as other:
        assert other.facts["versions"] == {"numpy": np.__version__}
        precise = other.arrays("facts")
    assert precise["JAX_ENABLE_X64"] == "1"
    assert precise["pid"] != facts["pid"]


def test_seconds_are_those_of_the_peers_clock(peer):
    """One a run, without what the pipe takes."""
    start = time.perf_counter()
    seconds = peer.seconds("log_prob", 5)
    elapsed = time.perf_counter() - start
    assert len(seconds) == 5
    assert 0 < sum(seconds) < elapsed
    assert peer.arrays("log_prob")["log_prob"].shape == (2,)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        ("fail", "peer 'peer_processes' cannot 'fail': ZeroDivisionError: division by zero"),
        ("nothing", "peer 'peer_processes' cannot 'nothing': unknown call 'nothing'; "),
        ("exit", "peer 'peer_processes' printed 'the last line' and ended with exit status 3"),
        ("kill", "peer 'peer_processes' ended by SIGKILL"),
        ("wait", "peer 'peer_processes' took longer than 0.5 s"),
    ],
)
def test_a_failure_is_one_line_that_names_peer_and_reason(peer, call, line):
    """An exception leaves the process as it is; else it is gone, and there is another one."""
    before = int(peer.arrays("facts")["pid"])
    with pytest.raises(ForeignError) as caught:
        peer.arrays(call, timeout=0.5 if call == "wait" else 300)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert psutil.pid_exists(before) == (call in ("fail", "nothing"))
    assert (peer.arrays("facts")["pid"] == before) == (call in ("fail", "nothing"))


def test_what_cannot_start_says_so(monkeypatch, tmp_path):
    """A refusal of the model, and a module that is broken."""
    with flow(refuse=True) as child, pytest.raises(ForeignError, match=r"cannot .* refused$"):
        child.seconds("log_prob", 1)
    broken = "import os\nif 'JAX_ENABLE_X64' in os.environ: raise OSError('no')\nPACKAGES = ()\n"
    (tmp_path / "broken_peer.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    failing = pytest.raises(ForeignError, match=r"cannot 'log_prob': OSError: no$")
    with flow("broken_peer") as child, failing:
        Remote(child, "log_prob").seconds(1)


@pytest.mark.parametrize("library", ["CDLL", "PyDLL"] if sys.platform == "linux" else ["CDLL"])
def test_a_process_ends_with_its_parent(tmp_path, library):
    """Even when the parent is killed while it computes, with the interpreter's lock on Linux."""
    (tmp_path / "held_child.py").write_text(HELD)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-c", PARENT, library]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    zombie = psutil.STATUS_ZOMBIE  # it remains one where nobody waits for it
    until(lambda: not child.is_running() or child.status() == zombie, "the child lives on", 20)


def test_copies_that_go_on_forking_end_the_process():
    """Sixteen processes at most, should nothing bound them."""
    code = (
        "import os, signal, sys; from benchmarks.measure.process import bound_forks\n"
        "bound_forks(int(sys.argv[1]), signal.SIGUSR2)\n"
        "[os.fork() for _ in range(4)]\n"
        "os.write(1, b'x')"
    )
    for limit, status in ((100, 0), (5, -signal.SIGUSR2)):
        command = [sys.executable, "-c", code, str(limit)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        assert done.returncode == status
        assert (len(done.stdout) == 16) == (status == 0)
