"""Small suites and a progress for runs of tests, and what is equal for all runs of a suite."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from benchmarks.cli.app import app
from benchmarks.core import store
from benchmarks.core.frame import load
from benchmarks.core.metrics import METRICS
from benchmarks.execution.suite import Suite

SCORING = {
    "rows": 200,
    "checked_rows": 100,
    "compared_rows": 100,
    "grid": 20,
    "samples": 200,
    "seconds": 0.02,
}
PAUSED = Path(__file__).with_name("paused_training.py")
UPDATES = 40
SMALL = {"hidden": 4, "layers": 1}
COST = {"study": "cost", "flows": ["realnvp"], "dims": [2], "batch": 4, "seconds": 0.01}
COST["sizes"] = SMALL
IDENTITY = {"study": "identities", "flows": ["realnvp"], "dims": [2], "sizes": SMALL}
IDENTITY |= {"times": [], "methods": [], "bottlenecks": []}
TRAINING = {
    "study": "density",
    "baselines": [],
    "datasets": ["8gaussians"],
    "flows": [{"flow": "realnvp", "options": {"hidden": 8, "layers": 2}}],
    "batch": 32,
    "updates": UPDATES,
    "training": {"validation_rows": 100},
    "scoring": SCORING | {"compared_rows": 1},
}


class Silent:
    """A progress that keeps what was measured."""

    def __init__(self):
        self.measured = []

    def begin(self, cases, kept, budget, begun):
        self.kept, self.begun = kept, begun

    def task(self, *told):
        pass

    waiting = workers = task

    def case(self, task, case, record):
        self.measured.append(record)


def small(*contenders, **values) -> Suite:
    """A suite of one tiny cost study."""
    study = {**COST, "flows": contenders, "dims": [2, 3]}
    return Suite(name="small", about="for a test", threads=1, studies=[study], **values)


def trainings(**values) -> Suite:
    """A suite of four small trainings, two of a baseline and four small costs."""
    flows = [{"flow": "realnvp"}, {"flow": "cnf", "options": {"hidden": 8}}]
    density = {**TRAINING, "baselines": ["gaussian"], "flows": flows, "sizes": {"layers": 1}}
    density |= {"updates": 8, "scoring": SCORING}
    cost = small({"flow": "realnvp"}, {"flow": "nice"}).studies
    given = {"seeds": (0, 1), "threads": 1, "studies": (density, *cost), **values}
    return Suite(name="mixed", about="for a test", **given)


def figures(folder: Path) -> dict[str, dict[str, object]]:
    """All that does not depend on a clock, by key: metrics, and arrays without seconds."""
    frame = load(folder)
    untimed = [name for name, metric in METRICS.items() if metric.kind != "time"]
    rows = {}
    for _, row in frame.iterrows():
        values = {n: v for n in untimed if isinstance(v := row.get(f"{n}.values"), list)}
        arrays = {n: a for n, a in store.arrays(row).items() if "seconds" not in n}
        rows[row["key"]] = values | {name: array.tobytes() for name, array in arrays.items()}
    return rows


def flowgauge(*arguments: object, status: int | None = 0) -> Result:
    """What a command gives in this process, which ends with a status; any if None."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert status in (None, result.exit_code), result.output
    return result


def refused(*arguments: object) -> str:
    """The one line with which a command refuses its arguments, with status 2."""
    (line,) = flowgauge(*arguments, status=2).stderr.strip().splitlines()
    return line


def started(*arguments: str) -> subprocess.Popen[str]:
    """Python in a process of its own; its output is one stream of text."""
    one = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen([sys.executable, *arguments], **one, text=True)


def toml(*studies: dict[str, Any], **common: Any) -> str:
    """The text of a suite, of one thread unless it is told otherwise."""

    def written(value: Any) -> str:
        if isinstance(value, dict):
            return f"{{ {', '.join(f'{name} = {written(part)}' for name, part in value.items())} }}"
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(written, value))}]"
        return json.dumps(value)

    lines: list[str] = []
    for table in ({"about": "x", "threads": 1, **common}, *studies):
        lines += ["[[studies]]"] * bool(lines)
        lines += [f"{name} = {written(value)}" for name, value in table.items()]
    return "\n".join(lines)


STOPPED = toml(IDENTITY, TRAINING)


def until(
    condition: Callable[[], Any], reason: str | Callable[[], str], seconds: float = 300
) -> Any:
    """Wait until a condition has a true value; fail with a reason where that takes too long."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(reason if isinstance(reason, str) else reason())
        threading.Event().wait(0.02)
    return value
