"""Processes of other libraries: what passes through the pipe, whose clock counts, how they end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Pipe
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import peer_processes
from benchmarks.core.case import Case
from benchmarks.measure.clock import interleave
from benchmarks.measure.foreign import peers, wire
from benchmarks.measure.foreign.flow import ForeignFlow
from benchmarks.measure.foreign.peers import width
from benchmarks.measure.foreign.process import Foreign, ForeignError, Remote

PEER = peer_processes.__name__
LIMIT = 20.0  # seconds within which a process ends


@pytest.fixture
def peer() -> Iterator[Foreign]:
    with Foreign(PEER, threads=3) as process:
        process.call("build")
        yield process


@given(
    st.dictionaries(
        st.text(max_size=5),
        arrays.arrays(
            st.sampled_from(["<f4", "<f8", "<i8", "|b1", ">f4"]),
            arrays.array_shapes(min_dims=0, min_side=0, max_side=4),
        ),
        max_size=3,
    )
)
def test_arrays_pass_bit_for_bit(sent: dict[str, np.ndarray]) -> None:
    """Of any type and shape, strided ones too, beside a header of JSON."""
    sent = {name: array.T for name, array in sent.items()}
    here, there = Pipe()
    with here, there:
        wire.send(here, {"call": "é"}, sent)
        header, received = wire.receive(there)
    assert header == {"call": "é"}
    assert list(received) == list(sent)
    for name, array in sent.items():
        assert (received[name].dtype, received[name].shape) == (array.dtype, array.shape)
        assert received[name].tobytes() == array.tobytes()


def test_a_peer_answers_with_arrays_of_its_own_process(peer: Foreign) -> None:
    """Its libraries see threads and precision as they are imported, and none of ours is there."""
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(peer.call("echo", arrays={"x": x}).arrays["x"], x)
    facts = peer.call("facts").arrays
    assert facts["OMP_NUM_THREADS"] == "3"
    assert (facts["JAX_ENABLE_X64"], facts["JAX_PLATFORMS"]) == ("0", "cpu")
    assert not facts["torch"]
    assert peer.versions["numpy"] == np.__version__
    with Foreign(PEER, threads=1, dtype="float64") as other:
        other.call("build")
        precise = other.call("facts").arrays
    assert precise["JAX_ENABLE_X64"] == "1"
    assert precise["pid"] != facts["pid"]


def test_seconds_are_those_of_the_peers_clock(peer: Foreign) -> None:
    """One a run, without what the pipe takes; arrays come where they are wanted."""
    start = time.perf_counter()
    reply = peer.call("log_prob", repeat=5, fetch=False)
    elapsed = time.perf_counter() - start
    assert len(reply.seconds) == 5
    assert 0 < sum(reply.seconds) < elapsed
    assert reply.arrays == {}
    assert peer.call("log_prob").arrays["log_prob"].shape == (2,)


def test_works_with_a_clock_of_their_own_are_timed_by_it() -> None:
    """Unrecorded calls at the beginning of a turn are in no sample."""

    class Counted:
        calls = 0

        def seconds(self, calls: int) -> list[float]:
            values = [float(place) for place in range(calls)]
            self.calls += calls
            return values

    work = Counted()
    samples = interleave({"own": work, "here": lambda: None}, seconds=1e-9, warm=2)
    assert min(samples["own"]) == 2.0
    assert len(samples["own"]) < work.calls
    assert min(samples["here"]) > 0


@pytest.mark.parametrize(
    ("call", "line"),
    [
        ("fail", "peer 'peer_processes' cannot 'fail': ZeroDivisionError: division by zero"),
        ("nothing", "peer 'peer_processes' cannot 'nothing': ValueError: unknown call 'nothing'; "),
        ("exit", "peer 'peer_processes' ended with exit status 3: the last line of all"),
        ("kill", "peer 'peer_processes' ended by SIGKILL: no message"),
        ("wait", "peer 'peer_processes' took longer than 0.5 s to 'wait'"),
    ],
)
def test_a_failure_is_one_line_that_names_peer_and_reason(
    peer: Foreign, call: str, line: str
) -> None:
    """An exception leaves the process as it is; after its end each call says that it has ended."""
    with pytest.raises(ForeignError) as caught:
        peer.call(call, timeout=0.5 if call == "wait" else None)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    if call in ("fail", "nothing"):
        assert len(peer.call("log_prob").seconds) == 1
    else:
        with pytest.raises(ForeignError, match="ended"):
            peer.call("log_prob")


def test_what_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A refusal of the model, a missing package with its remedy, a module that is broken."""
    with Foreign(PEER, threads=1) as process, pytest.raises(ForeignError, match=r"refused$"):
        process.call("build", {"refuse": True})
    monkeypatch.setattr(peer_processes, "PACKAGES", ("no_such_package",))
    with pytest.raises(ForeignError, match=r"pip install 'flowgauge\[peers\]'$"):
        Foreign(PEER, threads=1)
    broken = "import os\nif 'JAX_ENABLE_X64' in os.environ: raise OSError('no')\nPACKAGES = ()\n"
    (tmp_path / "broken_peer.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ForeignError, match=r"cannot 'start': OSError: no$"):
        Foreign("broken_peer", threads=1)


def test_a_process_ends_with_its_parent() -> None:
    """Even when the parent is killed while it computes."""
    script = (
        "import sys; sys.path[:] = sys.argv[1:]\n"
        "from benchmarks.measure.foreign.process import Foreign\n"
        f"peer = Foreign({PEER!r}, threads=1); peer.call('build')\n"
        "print(int(peer.call('facts').arrays['pid']), flush=True)\n"
        "peer.call('wait')"
    )
    command = [sys.executable, "-c", script, *sys.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    assert not psutil.wait_procs([child], timeout=LIMIT)[1]


def test_a_closed_process_is_gone(peer: Foreign) -> None:
    child = psutil.Process(int(peer.call("facts").arrays["pid"]))
    peer.close()
    assert not child.is_running()
    with pytest.raises(ForeignError, match="was closed"):
        Remote(peer, "log_prob").seconds(1)


@given(st.integers(1, 5000), st.integers(1, 40), st.integers(0, 100))
def test_the_width_of_a_peer_is_the_nearest(parameters: int, rate: int, offset: int) -> None:
    """Against a search through all widths, of a count that rises with the square."""

    def count(size: int) -> int:
        return size * size + rate * size + offset

    errors = [abs(count(size) - parameters) for size in range(1, 100)]
    assert abs(count(width(count, parameters)) - parameters) == min(errors)


def test_a_foreign_flow_is_fitted_sampled_and_asked_as_a_member(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Losses fall to the Gaussian's entropy; compiling is apart; float64 has the same weights."""
    monkeypatch.setattr(peers, "peer", lambda _: peer_processes)
    x = (2 * np.random.default_rng(0).standard_normal((500, 3))).astype("float32")
    case = Case(study="libraries", flow="realnvp", dim=3, batch=500)
    with ExitStack() as stack:
        flow = ForeignFlow.start(stack, "gauss", case, x, parameters=1)
        fitted = flow.fit(x, np.tile(np.arange(500), (20, 1)), np.full(20, 0.5))
        assert fitted.compiling == 2.0
        assert fitted.loss[-1] < fitted.loss[0]
        entropy = 3 * (np.log(2 * np.pi * (x**2).mean()) + 1) / 2
        assert -flow.log_prob(x).mean() == pytest.approx(entropy, rel=1e-5)
        assert flow.sample(7).shape == (7, 3)
        (precise,) = flow.precise("log_prob")
        assert precise["log_prob"].dtype == np.float64
        np.testing.assert_allclose(flow.log_prob(x), precise["log_prob"], rtol=1e-5)
        assert flow.count()[0] == {"parameters": 1}
        assert set(flow.first()) == {f"{n}_compile_seconds" for n in ("log_prob", "step", "sample")}
