"""Studies that show all that a study can, or fail, and results folders of their records."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from matplotlib.figure import Figure as Canvas
from pydantic import BaseModel

import records
from benchmarks.core import study as studies
from benchmarks.core.case import Case, Seeds
from benchmarks.core.exhibit import RECORDS, Column, Figure, Table
from benchmarks.core.naming import series
from benchmarks.core.record import Record
from benchmarks.core.study import Study

AWKWARD = "a & b < c_d % e | f"
MACHINE = {"cpu": "Test CPU <3>", "cores": 2, "memory_bytes": 8 * 2**30, "load": 0.5}
QUIET = {"other_cores": 0.0, "stolen_cores": 0.0}
SECONDS, LL = "log_prob_seconds", "test_ll"


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


class Probe(Study):
    """A study that shows everything a study can show."""

    name: ClassVar[str] = "report_probe"
    question: ClassVar[str] = "Is 1 < 2?"
    Options: ClassVar[type[BaseModel]] = BaseModel

    def tables(self, frame: pd.DataFrame) -> list[Table]:
        cells = {
            "flow": ["first", AWKWARD, "third"],
            "size": [1, 20_000, 3],
            "score": [1.5, 2.25, math.nan],
            "se": [0.1, 0.02, math.nan],
            "time": [0.123456, "failed", 12345.678],
            "score.leads": [False, True, False],
            "time.leads": [True, False, False],
            RECORDS: [(key,) for key in islice(cycle(frame["key"]), 3)],
        }
        rows = pd.DataFrame(cells)
        columns = {
            "score": Column(label="score", unit="nats", error="se"),
            "time": Column(label="time", unit="s", kind="time"),
        }
        bare = rows.drop(columns=["se", "score.leads", "time.leads"])
        rounded = {"time": Column(unit="s", digits=".1f")}
        return [
            Table("scores", "Scores", "A note: 5 %.", rows, columns=columns),
            Table("scores", "More scores", "", bare, columns=rounded),
        ]

    def figures(self, frame: pd.DataFrame) -> list[Figure]:
        keys = tuple(frame["key"])
        return [
            Figure("lines", "Two lines", "The left one.", drawn_lines, keys),
            Figure("image", "Two images", "", _image, keys),
        ]


class Broken(Probe):
    """A study that cannot make its tables, nor one of its figures."""

    name: ClassVar[str] = "report_broken"

    def tables(self, frame: pd.DataFrame) -> list[Table]:
        raise KeyError("no <column>")

    def figures(self, frame: pd.DataFrame) -> list[Figure]:
        return [Figure("bad", "Bad", "", lambda: 1 / 0), Figure("good", "Good", "", _image)]


class Tally(Probe):
    """A study with a row for each series, and a figure."""

    name: ClassVar[str] = "report_tally"

    def tables(self, frame: pd.DataFrame) -> list[Table]:
        rows = [
            {"flow": flow, "likelihood": group[LL].mean(), "time": group[SECONDS].mean(),
             RECORDS: tuple(group["key"])}
            for flow, group in frame.assign(series=series(frame)).groupby("series")
        ]  # fmt: skip
        columns = {"time": Column.of(SECONDS), "likelihood": Column.of(LL)}
        return [Table("tally", "Tally", "By flow.", pd.DataFrame(rows), columns=columns)]

    def figures(self, frame: pd.DataFrame) -> list[Figure]:
        return [Figure("tally", "Tally drawn", "", drawn_lines, tuple(frame["key"]))]


PROBE, BROKEN, TALLY = Probe.name, Broken.name, Tally.name


@contextmanager
def probes() -> Iterator[None]:
    with studies.registry.temporary():
        for study in (Probe(), Broken(), Tally()):
            studies.registry.add(study.name, study, __name__)
        yield


def record_of(study: str, seed: int = 0, **changes: Any) -> Record:
    """A record of a study; ``changes`` are fields of the record or, in ``case``, of the case."""
    fields: dict[str, Any] = {"flow": "realnvp", "dim": 2, "batch": 4, "seeds": Seeds.of(seed)}
    case = Case(study=study, **{**fields, **changes.pop("case", {})})
    about: dict[str, Any] = {"machine": MACHINE, "versions": {"torch": "2.13.0", "numpy": "2.4"}}
    about |= {"commit": "abc123-dirty", "started": "2026-01-02T03:04:05+00:00"}
    about |= {"seconds": 1.5, "shared": QUIET}
    return records.record_of(case, changes.pop("metrics", None), **{**about, **changes})


def write_trial(folder: Path) -> Path:
    """A folder with a record done, one failed, and one case that was not reached."""
    done = record_of(PROBE, 0, metrics={"parameters": 7.0})
    failed = record_of(PROBE, 1, status="failed", reason=AWKWARD)
    missing = record_of(PROBE, 2)
    records.folder(folder, done, failed)
    cases = [{"key": r.key, "study": PROBE, "label": r.case.label} for r in (done, failed, missing)]
    plan = {"name": "trial", "about": "To <try>.", "suite": {"probe": [1, 2]}, "cases": cases}
    (folder / "suite.json").write_text(json.dumps(plan))
    return folder
