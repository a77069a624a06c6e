"""What a flow leaves behind in its process changes no figure of what is measured after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.core.case import Case
from benchmarks.core.metrics import METRICS
from benchmarks.core.study import Result
from benchmarks.core.study import registry as studies
from benchmarks.execution.process import Files, Setup
from benchmarks.execution.worker import Worker
from flows.plugins import load_plugin
from runs import SCORING, small, trainings

PLUGIN = Path(__file__).with_name("leaky_flows.py")
Measuring = Callable[..., list[Result]]


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[Measuring]:
    """Measures cases as one block by the test's one worker."""
    worker = Worker(Setup(threads=1, device="cpu", memory_share=0.8))

    def measure(*cases: Case) -> list[Result]:
        files = {case.key: Files(tmp_path / case.key, tmp_path / "kept") for case in cases}
        return [measured.result for _, measured in worker.measure(cases, 100, files)]

    yield measure
    worker.stop()


def costs(*names: str) -> list[Case]:
    """Calls of flows that are counted together."""
    study = {**small(*names).studies[0], "dims": [2], "sizes": {}, "seconds": 0}
    return trainings(studies=[study]).cases()


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


def test_flows_change_no_figure_of_those_after_them(measured: Measuring, capfd: Any) -> None:
    """Forty-two leaks, then some that only a new process can undo; a training after each few."""
    (_, here), *_ = studies["density"].measure([training("realnvp")])
    before = figures(here)
    with pytest.warns(UserWarning, match="default dtype on import"):
        plugin = load_plugin(PLUGIN)
    assert figures(*measured(training("sound"))) == before
    output, number = "", len(plugin.LEAKS)
    for first in range(0, number + 1, 8):
        measured(*costs(*(f"leaky_{n}" for n in range(first, min(first + 8, number + 1)))))
        assert figures(*measured(training("sound"))) == before, first
        output += capfd.readouterr().err
    naps = [p for p in psutil.process_iter(["cmdline"]) if plugin.NAP in (p.info["cmdline"] or [])]
    assert not naps
    assert {name for name in plugin.LEAKS if name not in output} == plugin.UNNAMED
