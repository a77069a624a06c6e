"""The processes that measure: whatever a flow does, nothing stays and no other figure moves."""

import os
from pathlib import Path

import psutil
import pytest

from benchmarks.core.case import Case
from benchmarks.core.metrics import METRICS
from benchmarks.core.study import Result
from benchmarks.core.study import registry as studies
from benchmarks.execution import process
from benchmarks.execution.process import Files, Measured, Setup, Worker, measured
from benchmarks.measure.process import MARK
from flows.plugins import load_plugin
from runs import SCORING, small, trainings

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
WAITED = ("stops", "holds", "halves", "hangs_up")  # seconds on the clock; hangs stands for them


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
    (study,) = small(*flows).studies
    return trainings(seeds=(0,), studies=[{**study, "dims": [2], "seconds": 0}]).cases()


@pytest.mark.parametrize(
    "act",
    [pytest.param(act, marks=[pytest.mark.system] if act in WAITED else []) for act in REASONS],
)
def test_a_block_has_its_reason_and_what_it_has_started_ends(bounded, tmp_path, act):
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
def test_copies_that_fork_in_every_call_end_with_their_block(bounded, tmp_path):
    load_plugin(FAULTY)
    (outcome,) = outcomes(bounded, tmp_path, *counts("faulty_swarms"))
    assert "processes" in outcome.result.failure or outcome.status == "timeout"
    (sound,) = outcomes(bounded, tmp_path, *counts("realnvp"))
    assert not sound.result.failure


def test_each_block_has_a_process_of_its_own_and_a_server_that_died_is_replaced(bounded, tmp_path):
    facts = [outcomes(bounded, tmp_path, *counts("realnvp"))[0].facts for _ in range(2)]
    assert facts[0]["block"] != facts[1]["block"]
    assert facts[0]["machine"]["threads"] == 1
    os.kill(bounded._server.pid, 9)
    bounded._server.wait()
    (sound,) = outcomes(bounded, tmp_path, *counts("realnvp"))
    assert not sound.result.failure


PLUGIN = Path(__file__).with_name("leaky_flows.py")


def results(worker: Worker, folder: Path, *cases: Case) -> list[Result]:
    files = {case.key: Files(folder / case.key) for case in cases}
    return [outcome.result for _, outcome in worker.measure(cases, 100, files)]


def training(flow: str) -> Case:
    """A training of two updates, with all that its scores draw, solve and compare."""
    (study, *_) = trainings().studies
    changes = {"baselines": [], "flows": [flow], "sizes": {"hidden": 8, "layers": 1}}
    scoring = {**SCORING, "seconds": 0, "compared_rows": 20, "grid": 5}
    one = {**study, **changes, "updates": 2, "scoring": scoring}
    (case,) = trainings(seeds=(0,), studies=[one]).cases()
    return case


def figures(result: Result) -> str:
    """All that no clock decides, bit for bit."""
    assert not result.failure
    arrays = {n: a.tobytes() for n, a in result.arrays.items() if "seconds" not in n}
    values = {n: v for n, v in result.metrics.items() if METRICS[n].kind != "time"}
    return repr({**values, **arrays})


@pytest.mark.slow
def test_flows_change_no_figure_of_the_blocks_after_them(worker, tmp_path):
    """Whatever they do; what they have started ends with their block."""
    (_, here), *_ = studies["density"].measure([training("realnvp")])
    before = figures(here)
    with pytest.warns(UserWarning, match="changes default dtype: undone"):
        plugin = load_plugin(PLUGIN)
    assert figures(*results(worker, tmp_path, training("sound"))) == before
    names = [f"leaky_{number}" for number in range(len(plugin.LEAKS))]
    for first in range(0, len(names), 12):
        results(worker, tmp_path, *counts(*names[first : first + 12]))
        assert figures(*results(worker, tmp_path, training("sound"))) == before, first
    naps = [p for p in psutil.process_iter(["cmdline"]) if plugin.NAP in (p.info["cmdline"] or [])]
    assert not naps


def test_settings_that_a_flow_changes_are_undone_within_its_block(worker, tmp_path):
    (alone,) = results(worker, tmp_path, *counts("realnvp"))
    with pytest.warns(UserWarning, match="undone"):
        plugin = load_plugin(PLUGIN)
    names = [name for name in plugin.LEAKS if name in plugin.SETTINGS]
    leaky = [f"leaky_{list(plugin.LEAKS).index(name)}" for name in names]
    *_, last = results(worker, tmp_path, *counts(*leaky, "realnvp"))
    assert figures(last) == figures(alone)
