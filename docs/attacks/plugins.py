"""Measure flows that misbehave or leave things behind: `python docs/attacks/plugins.py [KIND]`.

KIND is "misbehaving" or "leaking", a plug-in beside this file; the name of one of its flows may
follow. Each of them is measured, then a training of a sound flow by the same worker. The run has to
end with a record of each, and the figures of the sound flow have to be bit for bit those that it
had before.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from benchmarks.execution.worker import Worker

from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.record import Record
from benchmarks.execution.process import Setup
from benchmarks.execution.run import Asked, run
from benchmarks.execution.suite import Suite
from flows.plugins import load_plugin

LIMIT = 20.0  # seconds that a task may take
SIZES = {"hidden": 8, "layers": 1}
SCORING = {"rows": 50, "checked_rows": 20, "grid": 5, "samples": 50, "compared_rows": 20}


class Silent:
    """A progress that shows nothing."""

    def begin(self, cases: object, kept: int, budget: float) -> None: ...

    def task(self, task: object) -> None: ...

    def case(self, task: object, case: Case, record: Record) -> None: ...

    def waiting(self, reason: str) -> None: ...

    def workers(self, count: int) -> None: ...


def attacked(flow: str) -> Suite:
    """A suite of one count of a flow."""
    study = {"study": "cost", "flows": [flow], "dims": [2], "batch": 4, "seconds": 0}
    return Suite(name="attack", threads=1, time_limit=LIMIT, studies=({**study, "sizes": {}},))


def trained() -> Suite:
    """A suite of a training of the sound flow, with what its scores draw and compare."""
    study = {
        **{"study": "density", "datasets": ["8gaussians"], "baselines": [], "flows": ["sound"]},
        **{"sizes": SIZES, "batch": 16, "updates": 3, "scoring": {**SCORING, "seconds": 0}},
        "training": {"validation_rows": 20},
    }
    return Suite(name="sound", threads=1, time_limit=100.0, studies=(study,))


def figures(record: Record, folder: Path) -> str:
    """All that no clock decides."""
    arrays = store.arrays_of(folder, record)
    plain = {name: a.tobytes() for name, a in arrays.items() if "seconds" not in name}
    values = {n: v.values for n, v in record.metrics.items() if v.kind != "time"}
    return f"{record.status} {record.reason} {sorted(values.items())} {sorted(plain.items())}"


def measured(suite: Suite, folder: Path, worker: Worker) -> Record:
    """The record of a suite's one case."""
    now = run(suite, folder, Silent(), Asked(phase="both"), worker=worker)
    (record,) = (now.records[case.key] for case in now.cases)
    return record


def main(kind: str = "misbehaving", only: str = "") -> None:
    """Measure the flows of a plug-in, and print what became of each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plugin = load_plugin(Path(__file__).with_name(f"{kind}.py"))
    if kind == "leaking":
        named = {f"leaks_{n}": name for n, name in enumerate(plugin.LEAKS)}
    else:
        named = {f"acts_{n}": name for n, name in enumerate(plugin.ACTS)}
        named |= {f"gives_{n}": name for n, name in enumerate(plugin.RESULTS)}
    named = {flow: what for flow, what in named.items() if only in ("", what)}
    worker, wrong = Worker(Setup(threads=1, device="cpu", memory_share=0.3)), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        os.environ["FLOWGAUGE_HOST"] = name  # locks of its own
        before = figures(measured(trained(), Path(name, "before"), worker), Path(name, "before"))
        for flow, what in named.items():
            folders = Path(name, flow), Path(name, f"{flow}-after")
            start = time.monotonic()
            try:
                record = measured(attacked(flow), folders[0], worker)
                after = figures(measured(trained(), folders[1], worker), folders[1])
                outcome = "" if after == before else "WRONG: the next figures differ"
            except BaseException as error:
                outcome = f"WRONG: the run ends: {error!r}"[:300]
            wrong[what] += bool(outcome)
            status = f"{record.status}: {record.reason[:90]}"
            print(f"{what}: {outcome or status} ({time.monotonic() - start:.0f} s)", flush=True)
    worker.stop()
    print(f"| Flows {kind} | {len(named)} | {wrong.total()} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
