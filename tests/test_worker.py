"""The processes that measure: whatever a flow does, its block has a reason and nothing stays."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from benchmarks.core.case import Case
from benchmarks.execution import process
from benchmarks.execution.process import Files, Measured, Setup, Worker, measured
from benchmarks.measure.process import MARK
from flows.plugins import load_plugin
from runs import small

FAULTY = Path(__file__).with_name("faulty_flows.py")
LIMIT = 3  # seconds
LATE = f"limit of {LIMIT} s"
REASONS = {  # by what a flow does; empty where its case is done
    "raises": "RuntimeError: diverged on purpose",
    "raises_much": "RuntimeError: xxx",
    "raises_other": "exit status 1",
    "exits": "exit status 3",
    "ends": "exit status 0",
    "dies": "SIGKILL: by itself or from outside",
    "aborts": "SIGABRT",
    "hangs": LATE,
    "stops": LATE,
    "holds": LATE,
    "eats": "memory",
    "babbles": "no result",
    "halves": LATE,
    "hangs_up": "closed its pipe",
    "opens": "exit status 1",
    "crowds": "processes",
    "forsakes": "",
}


@pytest.fixture(scope="module")
def bounded():
    """A worker whose blocks may have few processes, and are not waited for long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "PROCESSES", 20)
        patch.setattr(process, "GRACE", 1.0)
        worker = Worker(Setup(threads=1, device="cpu", memory_share=0.2))
        yield worker
        worker.stop()


def outcomes(worker: Worker, tmp_path: Path, *cases: Case) -> list[Measured]:
    files = {case.key: Files(tmp_path / case.key) for case in cases}
    return [outcome for _, outcome in measured(worker, cases, LIMIT, files)]


def counts(*flows: str) -> list[Case]:
    """Counts of flows in one block."""
    (study,) = small(*flows).studies
    suite = small().model_copy(update={"studies": ({**study, "dims": [2], "seconds": 0},)})
    return suite.cases()


@pytest.mark.parametrize("act", REASONS)
def test_a_block_has_its_reason_and_what_it_has_started_ends(bounded, tmp_path, act) -> None:
    load_plugin(FAULTY)
    (outcome,) = outcomes(bounded, tmp_path, *counts(f"faulty_{act}"))
    assert REASONS[act] in outcome.result.failure
    assert bool(outcome.result.failure) == bool(REASONS[act])
    assert (outcome.status == "timeout") == (REASONS[act] == LATE)
    processes = psutil.process_iter(["pid", "environ"])
    own = [p for p in processes if (p.info["environ"] or {}).get(MARK) == bounded._family]
    assert len(own) <= 1  # the server
    (sound,) = outcomes(bounded, tmp_path, *counts("realnvp"))
    assert not sound.result.failure


@pytest.mark.slow
def test_copies_that_fork_in_every_call_end_with_their_block(bounded, tmp_path) -> None:
    load_plugin(FAULTY)
    (outcome,) = outcomes(bounded, tmp_path, *counts("faulty_swarms"))
    assert "processes" in outcome.result.failure or outcome.status == "timeout"
    (sound,) = outcomes(bounded, tmp_path, *counts("realnvp"))
    assert not sound.result.failure


def test_a_loss_costs_no_other_case_of_the_block(bounded, tmp_path) -> None:
    load_plugin(FAULTY)
    dead, sound = outcomes(bounded, tmp_path, *counts("faulty_dies", "realnvp"))
    assert "SIGKILL" in dead.result.failure
    assert not sound.result.failure


def test_each_block_has_a_process_of_its_own_and_a_server_that_died_is_replaced(
    bounded, tmp_path
) -> None:
    facts = [outcomes(bounded, tmp_path, *counts("realnvp"))[0].facts for _ in range(2)]
    assert facts[0]["block"] != facts[1]["block"]
    assert facts[0]["machine"]["threads"] == 1
    assert bounded._server is not None
    os.kill(bounded._server.pid, 9)
    bounded._server.wait()
    (sound,) = outcomes(bounded, tmp_path, *counts("realnvp"))
    assert not sound.result.failure
