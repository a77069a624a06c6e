"""Studies that show all that a study can, or fail, and a results folder of their records."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas
from pydantic import BaseModel

from benchmarks.core import store
from benchmarks.core import study as studies
from benchmarks.core.case import Case, Seeds
from benchmarks.core.exhibit import RECORDS, Figure, Table

AWKWARD = "a & b < c_d % e | f"
PROBE, BROKEN = "report_probe", "report_broken"
MACHINE = {"cpu": "Test CPU <3>", "cores": 2, "memory_bytes": 8 * 2**30, "load": 0.5}


def drawn_lines() -> Canvas:
    canvas = Canvas(figsize=(6, 3))
    axes = canvas.subplots()
    for power in (1, 2):
        axes.loglog([1, 10, 100], [1, 10**power, 100**power], label=f"power {power}")
    axes.legend()
    return canvas


def _image() -> Canvas:
    canvas = Canvas(figsize=(4, 2))
    for axes in canvas.subplots(1, 2):
        axes.imshow([[0, 1], [2, 3]])
        axes.set_title("pixels & <more>")
    return canvas


class Probe:
    """A study that shows everything a study can show."""

    name: ClassVar[str] = PROBE
    question: ClassVar[str] = "Is 1 < 2?"
    reads: ClassVar[tuple[str, ...]] = ()
    timed: ClassVar[bool] = False
    Options: ClassVar[type[BaseModel]] = BaseModel

    def tables(self, frame: pd.DataFrame) -> list[Table]:
        rows = pd.DataFrame(
            {
                "flow": ["first", AWKWARD, "third"],
                "size": [1, 20_000, 3],
                "score (nats)": [1.5, 2.25, math.nan],
                "se": [0.1, 0.02, math.nan],
                "time (s)": [0.123456, "failed", 12345.678],
                RECORDS: [(key,) for key in islice(cycle(frame["key"]), 3)],
            }
        )
        best, errors = {"score (nats)": "higher", "time (s)": "lower"}, {"score (nats)": "se"}
        return [
            Table("scores", "Scores", "A note: 5 %.", rows, {}, errors, best),
            Table("scores", "More scores", "", rows, {"time (s)": ".1f"}),
        ]

    def figures(self, frame: pd.DataFrame) -> list[Figure]:
        keys = tuple(frame["key"])
        return [
            Figure("lines", "Two lines", "The left one.", drawn_lines, keys),
            Figure("image", "Two images", "", _image, keys),
        ]


class Broken(Probe):
    """A study that cannot make its tables, nor one of its figures."""

    name: ClassVar[str] = BROKEN

    def tables(self, frame: pd.DataFrame) -> list[Table]:
        raise KeyError("no <column>")

    def figures(self, frame: pd.DataFrame) -> list[Figure]:
        return [Figure("bad", "Bad", "", lambda: 1 / 0), Figure("good", "Good", "", _image)]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """The fake studies, for one test."""
    list(studies.registry)  # discovered before members are taken away again
    for study in (Probe(), Broken()):
        studies.registry.add(study.name, study, __name__)  # type: ignore[arg-type]  # a stand-in
    yield
    for name in (PROBE, BROKEN):
        del studies.registry._members[name]


def record_of(study: str, seed: int, **changes: Any) -> store.Record:
    case = Case(study=study, flow="realnvp", dim=2, batch=4, seeds=Seeds.of(seed))
    given: dict[str, Any] = {"fingerprint": "f" * 64, "status": "done", **changes}
    return store.Record(
        case=case,
        key=case.key,
        machine=MACHINE,
        versions={"torch": "2.13.0", "numpy": "2.4"},
        commit="abc123-dirty",
        started="2026-01-02T03:04:05+00:00",
        seconds=1.5,
        **given,
    )


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with a record done, one failed, and one case that was not reached."""
    folder = tmp_path / "trial"
    done = record_of(PROBE, 0, metrics={"parameters": store.Values.of("parameters", 7.0)})
    failed = record_of(PROBE, 1, status="failed", reason=f"{AWKWARD}\nsecond line")
    missing = record_of(PROBE, 2)
    for record in (done, failed):
        store.write(folder, record)
    cases = [{"key": r.key, "study": PROBE, "label": r.case.label} for r in (done, failed, missing)]
    plan = {"name": "trial", "about": "To <try>.", "suite": {"probe": [1, 2]}, "cases": cases}
    (folder / "suite.json").write_text(json.dumps(plan))
    return folder
