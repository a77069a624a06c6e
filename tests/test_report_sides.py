"""Several results folders in one report: which cases are the same, what became of their numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure as Canvas
from typer.testing import CliRunner

from benchmarks import report
from benchmarks.cli.app import app
from benchmarks.core import store
from benchmarks.core import study as studies
from benchmarks.core.case import Case, Seeds
from benchmarks.core.exhibit import RECORDS, Figure, Table
from benchmarks.core.metrics import METRICS
from benchmarks.report import match, ratios, stacked, together
from report_probes import Probe

TALLY = "report_tally"
SECONDS, FLOPS, LL, REFERENCE = "log_prob_seconds", "log_prob_flops", "test_ll", "reference_seconds"


def _drawn() -> Canvas:
    canvas = Canvas(figsize=(3, 2))
    canvas.subplots().plot([1, 2], [3, 4])
    return canvas


class Tally(Probe):
    """A study with a row for each flow, slowest first, and a figure."""

    name: ClassVar[str] = TALLY
    question: ClassVar[str] = "How many?"

    def tables(self, frame: pd.DataFrame) -> list[Table]:
        rows = [
            {"Flow": flow, "Seconds": group[SECONDS].sum(), RECORDS: tuple(group["key"])}
            for flow, group in frame.groupby("flow")
        ]
        ordered = pd.DataFrame(rows).sort_values("Seconds", ascending=False)
        return [Table("tally", "Tally", "By flow.", ordered)]

    def figures(self, frame: pd.DataFrame) -> list[Figure]:
        return [Figure("tally", "Tally drawn", "", _drawn, tuple(frame["key"]))]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """The study, for one test."""
    list(studies.registry)
    studies.registry.add(TALLY, Tally(), __name__)  # type: ignore[arg-type]  # a stand-in
    yield
    del studies.registry._members[TALLY]


def _case(flow: str = "realnvp", dim: int = 2, **fields: Any) -> Case:
    return Case(study=TALLY, flow=flow, dim=dim, batch=4, **fields)


def _record(case: Case, status: store.Status = "done", **metrics: float) -> store.Record:
    return store.Record(
        case=case,
        key=case.key,
        fingerprint="f" * 16,
        status=status,
        reason="" if status == "done" else "it broke",
        metrics={name: store.Values.of(name, value) for name, value in metrics.items()},
        machine={"cpu": f"Test CPU for {case.device}"},
        versions={"torch": "2.13.0"},
    )


def _folder(path: Path, *records: store.Record) -> Path:
    for record in records:
        store.write(path, record)
    return path


def _metrics(seconds: float = 1.0, flops: float = 8.0, reference: float = 1.0) -> dict[str, float]:
    return {SECONDS: seconds, FLOPS: flops, REFERENCE: reference}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """On the CPU and on a GPU, whose order of rows is another; each has a case of its own."""
    maf, nvp, glow, nice = (_case(flow) for flow in ("maf", "realnvp", "glow", "nice"))
    moved = [case.model_copy(update={"device": "cuda", "threads": 2}) for case in (maf, nvp, nice)]
    before = [_record(maf, **_metrics(4.0)), _record(nvp, **_metrics(2.0)), _record(glow, "failed")]
    after = [
        _record(moved[0], **_metrics(0.5, reference=0.5)),
        _record(moved[1], **_metrics(1.0, 9.0, 0.5)),
        _record(moved[2], **_metrics()),
    ]
    return _folder(tmp_path / "cpu" / "run", *before), _folder(tmp_path / "gpu" / "run", *after)


def test_sides_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    assert match.labels([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    runs = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "c"]
    assert match.labels(runs) == ["a/run", "b/run", "c"]
    with pytest.raises(ValueError, match="given twice"):
        match.labels([tmp_path / "a", tmp_path / "b" / ".." / "a"])


def test_a_case_is_the_same_wherever_it_is_measured() -> None:
    """Unless a side has it at several places: then it is the one at the same place."""
    cpu, two = _case(), _case(threads=2)
    gpu, counted = _case(device="cuda"), _case(device="meta")
    budget = _case(settings={"seconds": 3.0})
    other, seed = _case(dim=3), _case(seeds=Seeds.of(1))
    alike = match.identities([[cpu], [gpu], [two], [budget]])
    assert len({identity for (identity,) in alike}) == 1
    ((one, more), (same,)) = match.identities([[cpu, two], [gpu]])
    assert len({one, more, same}) == 3
    ((one, more), (same, twice)) = match.identities([[cpu, two], [two, cpu]])
    assert (one, more) == (twice, same)
    assert len({i for (i,) in match.identities([[cpu], [other], [seed], [counted]])}) == 4


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9))
def test_changes_lead_from_one_value_to_the_other(before: float, after: float) -> None:
    """By a factor, or by a difference of what is in nats."""
    case = _case()
    for metric in (FLOPS, LL):
        records = {s: _record(case, **{metric: v}) for s, v in (("a", before), ("b", after))}
        change = ratios.Shared("", {}, records).change("a", "b", metric)
        assert change is not None
        reached = before + change if METRICS[metric].unit == "nats" else before * change
        assert math.isclose(reached, after, rel_tol=1e-9, abs_tol=1e-7)
        assert ratios.Shared("", {}, records).change("a", "c", metric) is None


def test_what_is_nought_changes_by_no_ratio_but_infinity() -> None:
    records = {s: _record(_case(), **{FLOPS: v}) for s, v in (("a", 0.0), ("b", 3.0), ("c", 0.0))}
    shared = ratios.Shared("", {}, records)
    assert shared.change("a", "b", FLOPS) == math.inf
    assert shared.change("a", "c", FLOPS) == 1.0


def test_a_report_of_two_sides(folders: tuple[Path, Path], tmp_path: Path) -> None:
    shown = together.collect(folders)
    assert shown.plan.name == "cpu/run vs gpu/run"
    (section,) = shown.sections
    titles = ["What changed", "Exact counts that differ", "Times and other values that differ"]
    assert [table.title for table in section.changes] == titles
    assert [table.title for table in section.tables] == ["Tally"]
    over, counts, values, tally = (
        [[cell.text for cell in row] for row in table.grid.rows]
        for table in (*section.changes, *section.tables)
    )
    told = {row[0]: row[1:] for row in over}
    assert told[FLOPS][:6] == ["gpu/run ÷ cpu/run", "2", "1", "1.062", "1", "1.125"]
    assert told[SECONDS][:6] == ["gpu/run ÷ cpu/run", "2", "0", "0.3125", "0.125", "0.5"]
    assert "0.625" in told[SECONDS]  # by each side's workload
    assert counts == [["realnvp D=2", FLOPS, "FLOP", "8", "9", "1.125"]]
    assert ["maf D=2", SECONDS, "s", "4", "0.5", "0.125", "0.25"] in values
    assert [row[:3] for row in tally] == [
        ["maf", "cpu/run", "4"],
        ["maf", "gpu/run", "0.5"],
        ["realnvp", "cpu/run", "2"],
        ["realnvp", "gpu/run", "1"],
        ["glow", "cpu/run", "0"],
        ["nice", "gpu/run", "1"],
    ]
    assert shown.undone is not None
    rows = {row[1].text: [cell.text for cell in row[2:]] for row in shown.undone.grid.rows}
    assert rows == {"glow D=2": ["failed: it broke", "–"], "nice D=2": ["–", "done"]}
    facts = {fact.term: fact.lines for fact in shown.header}
    assert facts["Machine"] == ("cpu/run: Test CPU for cpu", "gpu/run: Test CPU for cuda")
    assert facts["Software"] == ("torch 2.13.0",)  # what is the same is said once
    ((one, other),) = section.plates
    assert (one.side, other.side) == ("cpu/run", "gpu/run")


def test_three_sides_are_compared_with_the_first(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """A case that one of them lacks is compared where it is; of three values one may differ."""
    third = _folder(tmp_path / "third", _record(_case("maf"), **_metrics(2.0)))
    (section,) = together.collect([*folders, third]).sections
    over, counts, values = (
        [[cell.text for cell in row] for row in table.grid.rows] for table in section.changes
    )
    told = {row[1]: row[2:] for row in over if row[0] == SECONDS}
    assert told["third ÷ cpu/run"][:3] == ["1", "0", "0.5"]
    assert told["gpu/run ÷ cpu/run"][:2] == ["2", "0"]
    assert counts == [["realnvp D=2", FLOPS, "FLOP", "8", "9", "–", "1.125", "–"]]
    (maf,) = (row for row in values if row[:2] == ["maf D=2", SECONDS])
    assert maf[3:6] == ["4", "0.5", "2"]


def test_every_row_of_two_sides_says_which_records_it_comes_from(
    folders: tuple[Path, Path],
) -> None:
    shown = together.collect(folders)
    every = {f"cpu/run/{p.stem}" for p in (folders[0] / "records").glob("*.json")}
    every |= {f"gpu/run/{p.stem}" for p in (folders[1] / "records").glob("*.json")}
    assert set(shown.references.numbers) == every
    for table in (*shown.sections[0].changes, *shown.sections[0].tables):
        assert all(keys and set(keys) <= every for keys in table.rows_from)
    assert shown.records is not None
    assert len(shown.records.grid.rows) == len(every)


def test_stacked_rows_pair_by_their_cases_and_then_by_their_place() -> None:
    """Columns that one side lacks are empty; notes that differ are told apart."""
    same = {"a/1": "x", "a/2": "y", "b/1": "y", "b/2": "x"}
    one = pd.DataFrame({"F": ["p", "p", "q"], "n": [1, 2, 3], RECORDS: [("a/1",)] * 2 + [("a/2",)]})
    two = pd.DataFrame({"F": ["q", "p", "p"], "m": [4, 5, 6], RECORDS: [("b/1",)] + [("b/2",)] * 2})
    tables = {"a": Table("t", "T", "A.", one), "b": Table("t", "T", "B.", two)}
    raw, cells = stacked.stack(tables, same)
    assert cells.headers == ("F", stacked.SIDE, "n", "m")
    assert [[cell.text for cell in row] for row in cells.rows] == [
        ["p", "a", "1", "–"],
        ["p", "b", "–", "5"],
        ["p", "a", "2", "–"],
        ["p", "b", "–", "6"],
        ["q", "a", "3", "–"],
        ["q", "b", "–", "4"],
    ]
    assert raw.note == "a: A. b: B."
    assert [keys[0][0] for keys in raw.rows_from] == ["a", "b"] * 3


def test_a_stacked_row_goes_with_the_one_that_shares_most_of_its_cases() -> None:
    """But leaves the row of the very same cases to the one that has them; below half, alone."""
    rows = {
        "a": ["123", "12", "789"],
        "b": ["1234", "12", "9", "89"],
    }
    tables = {
        side: Table("t", "", "", pd.DataFrame({"F": of, RECORDS: [tuple(row) for row in of]}))
        for side, of in rows.items()
    }
    _, cells = stacked.stack(tables, {digit: digit for digit in "123456789"})
    assert [cell.text for row in cells.rows for cell in row[:1]] == [
        *("123", "1234", "12", "12", "789", "89", "9")
    ]


def test_the_command_writes_beside_the_results_and_never_into_them(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["report", *map(str, folders)])
    assert done.exit_code == 0, done.output
    root = tmp_path / "results" / "cpu-run-vs-gpu-run" / "report"
    assert {p.name for p in root.iterdir()} >= {"index.html", "report.md", "summary.md"}
    assert not any((folder / "report").exists() for folder in folders)
    first = (root / "index.html").read_bytes()
    assert report.write(*folders) == Path("results/cpu-run-vs-gpu-run/report/index.html")
    assert (root / "index.html").read_bytes() == first


def test_a_report_overwrites_nothing_but_a_report(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "mine" / "figures").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "mine", tmp_path / "file", folders[0]):
        done = CliRunner().invoke(app, ["report", *map(str, folders), "--out", str(out)])
        assert done.exit_code == 2
        assert str(out) in done.stderr
    out = tmp_path / "other"
    assert report.write(folders[0], out=out) == out / "index.html"
    assert report.write(*folders, out=out) == out / "index.html"
