"""What a report says of its records: failed, stale, unplanned, missing, and cited."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import report
from benchmarks.core import store
from benchmarks.core import study as studies
from benchmarks.core.exhibit import RECORDS, Figure, Table
from benchmarks.core.frame import Plan, load
from benchmarks.core.record import Record
from benchmarks.report import markdown, runs
from benchmarks.report.content import Exhibits, References, Report, Section, collect, spans
from benchmarks.report.runs import Standing
from committed import ROOT
from page import Page
from report_probes import BROKEN, PROBE, REFERENCE, SECONDS, Broken, Probe, drawn_lines, record_of

pytestmark = pytest.mark.usefixtures("probes")


def _plan(results: Path, record: Record) -> None:
    """Write a record and add it to the plan."""
    store.write(results, record)
    plan = json.loads((results / "suite.json").read_text())
    plan["cases"].append({"key": record.key, "study": record.case.study, "label": "added"})
    (results / "suite.json").write_text(json.dumps(plan))


def test_a_study_that_fails_is_reported_and_loses_nothing_else(results: Path) -> None:
    _plan(results, record_of(BROKEN, 0))
    with pytest.warns(UserWarning, match=BROKEN) as warned:
        index = report.write(results)
    assert len(warned) == 2
    text = "".join(Page(index.read_text()).texts)
    marked = (results / "report/report.md").read_text()
    assert "KeyError: 'no <column>'" in text
    assert "ZeroDivisionError" in text
    assert "KeyError: 'no &lt;column&gt;'" in marked
    assert (results / "report/figures/good.png").exists()
    assert (results / "report/tables/scores.csv").exists()


def test_a_record_outside_of_the_plan_can_be_cited(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cite = [Figure("far", "Far", "", drawn_lines, ("of another folder",))]
    monkeypatch.setattr(Probe, "figures", lambda self, frame: cite)
    content = collect([results])
    assert content.references.text(["of another folder"]) == "3"
    assert content.records is not None
    assert "of another folder" in [row[1].text for row in content.records.grid.rows]


def test_an_unknown_study_is_shown(results: Path) -> None:
    """As a plain table of its metrics."""
    record = record_of("nowhere", 0, metrics={"parameters": 7.0})
    _plan(results, record)
    (*_, section) = collect([results]).sections
    (table,) = section.tables
    assert table.rows_from == ((record.key,),)
    assert "7" in [cell.text for cell in table.grid.rows[0]]


def test_several_versions_of_the_code_are_a_warning_in_the_report(results: Path) -> None:
    _plan(results, record_of(PROBE, 3, files={"plugin.py": "e" * 16}))
    store.write(results, record_of(PROBE, 4))
    (section,) = collect([results]).sections
    assert len(section.notes) == 1
    assert runs.read([results])[0].outside == 1


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Callable[[Standing], None]:
    """Lets the first record of a trial have a standing, and the others be current."""

    def put(standing: Standing) -> None:
        first = {record_of(PROBE, 0).key: standing}
        monkeypatch.setattr(runs, "standings", lambda folder, records: first)

    return put


def test_a_stale_record_is_counted_noted_and_cited_as_such(
    results: Path, stand: Callable[[Standing], None]
) -> None:
    stand(Standing(*["version of x moved from 1 to 2"] * 3))
    (run,) = runs.read([results])
    assert run.counts == {"stale": 1, "failed": 1, "missing": 1}
    content = collect([results])
    (note,) = content.sections[0].notes
    assert "version of x moved from 1 to 2" in note
    key = record_of(PROBE, 0).key
    assert content.references.stale == {key}
    assert content.references.text([key]) != References(content.references.numbers).text([key])


def test_a_record_that_is_stale_in_times_alone_keeps_its_counts(
    results: Path, stand: Callable[[Standing], None]
) -> None:
    """Its times are marked, and it is cited like a current one."""
    timed = record_of(PROBE, 0, metrics={SECONDS: [0.1] * 3, REFERENCE: [1.0] * 3})
    store.write(results, timed)
    assert not runs.read([results])[0].cautions
    stand(Standing("", *["pace of x moved from 1 to 2"] * 2))
    (run,) = runs.read([results])
    assert run.counts == {"stale in times": 1, "failed": 1, "missing": 1}
    assert run.cautions == {timed.key: "pace of x moved from 1 to 2"}
    content = collect([results])
    assert not content.references.stale
    assert content.sections[0].tables[0].grid.doubtful


@given(st.lists(st.integers(1, 40)))
def test_spans_name_the_numbers_and_no_others(numbers: list[int]) -> None:
    named: list[int] = []
    for part in filter(None, spans(numbers).split(", ")):
        first, _, last = part.partition("–")
        named += range(int(first), int(last or first) + 1)
    assert named == sorted(set(numbers))


@pytest.mark.parametrize(("rows", "notes"), [(1, 1), (100, 1), (100, 200)])
def test_the_summary_fits_a_comment_and_says_what_it_leaves_out(rows: int, notes: int) -> None:
    frame = pd.DataFrame({"n": range(rows), "text": ["±" * 30] * rows})
    exhibits, section = Exhibits(), Section("probe", "probe", notes=["Mind <this>." * 99] * notes)
    section.tables.append(exhibits.table(Table("long", "Long", "", frame), "probe"))
    nothing = References({})
    content = Report(Plan(name="trial"), [], [section], None, [], None, nothing)
    text = markdown.summary(content)
    assert len(text.encode()) <= markdown.LIMIT
    assert "Mind &lt;this&gt;." in text
    assert text.endswith(f"{markdown.CUT}\n") == (notes > 1)
    if notes == 1:
        left = rows - text.count("±" * 30)
        assert (f"{left} of {rows} rows are left out here." in text) == (left > 0)


@pytest.mark.parametrize("name", ["reference", "speed"])
def test_each_row_of_each_study_says_which_records_it_comes_from(name: str) -> None:
    """Of committed runs; and all of a study's records are somewhere."""
    frame = load(ROOT / name)
    for study, own in frame.groupby("study"):
        every: set[str] = set()
        for table in studies.registry[str(study)].tables(own.reset_index(drop=True)):
            assert RECORDS in table.frame, table.name
            assert all(table.rows_from), table.name
            every |= {key for keys in table.rows_from for key in keys}
        assert every == set(own["key"])


def test_a_study_is_shown_the_records_that_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside its own, which alone are asked for versions of the code, and without which is none."""
    monkeypatch.setattr(Probe, "reads", (BROKEN,))
    monkeypatch.setattr(Broken, "reads", (), raising=False)
    own, other = record_of(PROBE, 0), record_of(BROKEN, 0, files={"plugin.py": "e"})
    store.write(tmp_path / "both", own)
    store.write(tmp_path / "both", other)
    store.write(tmp_path / "other", other)
    with pytest.warns(UserWarning, match="could not be shown"):
        sections = {s.study: s for s in collect([tmp_path / "both"]).sections}
    assert set(sections[PROBE].tables[0].rows_from) == {(own.key,), (other.key,)}
    assert not sections[PROBE].notes
    with pytest.warns(UserWarning, match="could not be shown"):
        (section,) = collect([tmp_path / "other"]).sections
    assert section.study == BROKEN


def test_records_without_a_plan_or_a_machine_are_enough(tmp_path: Path) -> None:
    record = record_of(PROBE, 0)
    record.machine, record.versions, record.commit, record.started = {}, {}, "", ""
    store.write(tmp_path / "bare", record)
    index = report.write(tmp_path / "bare")
    text = "".join(Page(index.read_text()).texts)
    assert "bare" in text
    assert collect([tmp_path / "bare"]).undone is None


def test_a_plan_without_records_shows_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    plan = {"name": "new", "cases": [{"key": "0" * 16, "study": PROBE, "label": "one"}]}
    (tmp_path / "suite.json").write_text(json.dumps(plan))
    assert report.write(tmp_path).is_file()
    content = collect([tmp_path])
    (section,) = content.sections
    assert section.notes
    assert content.undone is not None
    assert [row[-1].text for row in content.undone.grid.rows] == ["0" * 16]


def test_what_is_no_results_folder_or_no_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a results folder"):
        report.write(tmp_path)
    (tmp_path / "records").mkdir()
    (tmp_path / "suite.json").write_text('{"about": 3}')
    with pytest.raises(ValueError, match=r"suite\.json' is not a plan: name"):
        report.write(tmp_path)
