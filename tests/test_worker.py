"""The handle on a worker: whatever the process does, it is lost with a reason and nothing stays."""

from __future__ import annotations

import sys

import pytest

from benchmarks.core.case import Case
from benchmarks.execution import worker as handle
from benchmarks.execution.process import Setup
from benchmarks.execution.worker import Worker, WorkerLost
from benchmarks.measure import process

PLAYED = """
import os, signal, sys, time
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[1]))
pipe.recv_bytes()
pipe.send({})
pipe.recv_bytes()
"""
SLEEP = "time.sleep(600)"
ACTS = {  # what a process does with its task, and what is said of it
    "garbage": (f'os.write(pipe.fileno(), b"\\0\\0\\0\\4none"); {SLEEP}', "no result"),
    "half a message": (f'os.write(pipe.fileno(), b"\\0\\0\\1\\0half"); {SLEEP}', "limit of 1 s"),
    "another's result": ('pipe.send(("another", None))', "no result of its task"),
    "an end too early": ("pipe.send(None)", "no result of its task"),
    "silence": (SLEEP, "limit of 1 s"),
    "a closed pipe": (f"pipe.close(); {SLEEP}", "closed its pipe"),
    "an exit": ("sys.exit(0)", "exit status 0"),
    "a signal": ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    "a swarm": ("os.kill(os.getpid(), signal.SIGUSR2)", "processes"),
    "children": (f"all(os.fork() for _ in range(9)); {SLEEP}", "processes"),
}


@pytest.mark.parametrize("act", ACTS)
def test_a_worker_is_lost_with_its_reason_and_with_what_it_has_started(
    monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    code, reason = ACTS[act]
    limit = 1 if "limit" in reason else 60
    monkeypatch.setattr(handle, "PROCESSES", 5)
    monkeypatch.setattr(handle, "GRACE", 0.2)
    monkeypatch.setattr(
        process, "command", lambda _, *texts: [sys.executable, "-c", PLAYED + code, *texts]
    )
    marks: list[str] = []
    end_family = handle.end_family
    monkeypatch.setattr(handle, "end_family", lambda mark: (marks.append(mark), end_family(mark)))
    worker = Worker(Setup(threads=1, device="cpu", memory_share=1.0))
    case = Case(study="cost", flow="realnvp", dim=2, batch=4)
    for _ in range(2):  # a loss is not the end
        with pytest.raises(WorkerLost, match=reason) as loss:
            next(worker.measure([case], limit, {}))
        assert loss.value.timed_out == ("limit" in reason)
    assert len(set(marks)) == 2
    assert not any(map(process.family, marks))
