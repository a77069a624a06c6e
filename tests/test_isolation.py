"""What a flow leaves behind in its process changes no figure of what is measured after it."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from benchmarks.core.case import Case
from benchmarks.core.metrics import METRICS
from benchmarks.core.study import Result
from benchmarks.core.study import registry as studies
from benchmarks.execution.process import Files, Worker
from flows.plugins import load_plugin
from runs import SCORING, small, trainings

PLUGIN = Path(__file__).with_name("leaky_flows.py")


def results(worker: Worker, folder: Path, *cases: Case) -> list[Result]:
    files = {case.key: Files(folder / case.key) for case in cases}
    return [outcome.result for _, outcome in worker.measure(cases, 100, files)]


def counts(*names: str) -> list[Case]:
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


def test_flows_change_no_figure_of_the_blocks_after_them(worker: Worker, tmp_path: Path) -> None:
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


def test_settings_that_a_flow_changes_are_undone_within_its_block(
    worker: Worker, tmp_path: Path
) -> None:
    (alone,) = results(worker, tmp_path, *counts("realnvp"))
    with pytest.warns(UserWarning, match="undone"):
        plugin = load_plugin(PLUGIN)
    names = [name for name in plugin.LEAKS if name in plugin.SETTINGS]
    leaky = [f"leaky_{list(plugin.LEAKS).index(name)}" for name in names]
    *_, last = results(worker, tmp_path, *counts(*leaky, "realnvp"))
    assert figures(last) == figures(alone)
