"""What a report says of its records: failed, stale, unplanned, missing, and cited."""

from __future__ import annotations

import io
import json
import platform
import re
from pathlib import Path

import pandas as pd
import pytest
from benchmarks.execution.fingerprint import fingerprint
from benchmarks.report.stale import stale
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import report
from benchmarks.core import store
from benchmarks.core import study as studies
from benchmarks.core.case import Case
from benchmarks.core.exhibit import RECORDS, Figure, Table
from benchmarks.core.frame import load
from benchmarks.core.plan import Plan
from benchmarks.report import pictures, side, summary
from benchmarks.report.collect import collect
from benchmarks.report.content import Report, Section
from benchmarks.report.numbered import Exhibits
from benchmarks.report.references import References, spans
from page import Page
from report_probes import BROKEN, PROBE, Broken, Probe, drawn_lines, record_of
from report_probes import registered as registered
from report_probes import results as results


def _plan(results: Path, record: store.Record) -> None:
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
    shown = "".join(Page(index.read_text()).texts)
    marked = (results / "report/report.md").read_text()
    assert f"Study '{BROKEN}': its tables could not be shown: KeyError: 'no <column>'" in shown
    assert f"Study '{BROKEN}': figure 'bad' could not be shown: ZeroDivisionError" in shown
    assert "its tables could not be shown: KeyError: 'no &lt;column&gt;'" in marked
    assert (results / "report/figures/good.png").exists()
    assert (results / "report/tables/scores.csv").exists()


def test_a_record_outside_of_the_plan_can_be_cited(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cite = [Figure("far", "Far", "", drawn_lines, ("of another folder",))]
    monkeypatch.setattr(Probe, "figures", lambda self, frame: cite)
    shown = "".join(Page(report.write(results).read_text()).texts)
    assert "Records 3." in shown
    assert "of another folder" in shown


def test_an_unknown_study_is_reported(results: Path) -> None:
    _plan(results, record_of("nowhere", 0))
    with pytest.warns(UserWarning, match="unknown study 'nowhere'"):
        index = report.write(results)
    assert "unknown study 'nowhere'" in index.read_text().replace("&#39;", "'")


def test_several_versions_of_the_code_are_a_warning_in_the_report(results: Path) -> None:
    _plan(results, record_of(PROBE, 3, fingerprint="e" * 64))
    store.write(results, record_of(PROBE, 4))
    shown = "".join(Page(report.write(results).read_text()).texts)
    assert f"Study '{PROBE}': measured by more than one version of the code (2)" in shown
    assert f"{PROBE}: 2 versions of the code" in shown
    assert "3, and 1 outside of the plan, not shown" in shown


def test_a_record_is_stale_where_its_code_has_changed(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the machine and the versions; and not where that cannot be told."""
    case = Case(study="cost", flow="realnvp", dim=2, batch=4)
    there = {"cpu": "Elsewhere", "cores": 3, "system": "Minix vax"}
    there["python"] = platform.python_version()
    record = record_of(PROBE, 0).model_copy(update={"case": case, "machine": there})
    record.fingerprint = fingerprint(case, record.versions, "Elsewhere/3/Minix")
    assert not stale(record)
    assert stale(record.model_copy(update={"fingerprint": "0" * 16}))
    for change in (
        {"machine": {}},
        {"machine": {**there, "python": "2.7.18"}},
        {"case": case.model_copy(update={"flow": "of_a_plug_in"})},
        {"case": case.model_copy(update={"study": "of_another_time"})},
    ):
        assert not stale(record.model_copy(update={"fingerprint": "0" * 16, **change}))
    monkeypatch.setattr(side, "stale", lambda record: record.key == record_of(PROBE, 0).key)
    index = report.write(results)
    shown = "".join(Page(index.read_text()).texts)
    assert "0 done, 1 stale, 1 failed, 1 missing" in shown
    assert f"Study '{PROBE}': 1 of 2 records are stale" in shown
    assert side.CHANGED in shown
    marked = (index.parent / "report.md").read_text()
    assert "| third | 3 | – | 12,300 | 1, stale |" in marked
    assert "Records 1, 2, 1 stale." in marked


@given(st.lists(st.integers(1, 40)))
def test_spans_name_the_numbers_and_no_others(numbers: list[int]) -> None:
    named: list[int] = []
    for part in filter(None, spans(numbers).split(", ")):
        first, _, last = part.partition("–")
        named += range(int(first), int(last or first) + 1)
    assert named == sorted(set(numbers))


@pytest.mark.parametrize("rows", [1, 100, 5000])
def test_the_summary_fits_a_comment_and_says_what_it_leaves_out(rows: int) -> None:
    """As many rows as fit, of every table alike; titles and notes before all rows."""
    frame = pd.DataFrame({"n": range(rows), "text": ["±" * 30] * rows})
    exhibits, section = Exhibits(), Section("probe", "probe", notes=["Mind <this>."])
    tables = [Table("long", "Long", "", frame), Table("short", "Short", "", frame[:3])]
    section.tables += [exhibits.table(table, "probe") for table in tables]
    nothing = References({})
    shown = Report(Plan(name="trial"), [], [section], None, [], None, nothing)
    text = summary.render(shown)
    assert len(text.encode()) <= summary.LIMIT
    assert "Mind &lt;this&gt;." in text
    assert "Table 2. Short" in text
    kept = text.count("±" * 30) - min(3, rows)
    assert (f"{rows - kept} of {rows} rows are left out here." in text) == (kept < rows)
    assert kept == rows or len(text.encode()) > 0.95 * summary.LIMIT


def test_a_summary_without_room_for_its_notes_ends_early() -> None:
    section = Section("probe", "probe", notes=["é" * 900] * 100)
    text = summary.render(Report(Plan(name="t"), [], [section], None, [], None, References({})))
    assert len(text.encode()) <= summary.LIMIT
    assert text.endswith(f"{summary.CUT}\n")


@pytest.mark.parametrize("name", ["reference", "libraries"])
def test_each_row_of_each_study_says_which_records_it_comes_from(name: str) -> None:
    """Of committed runs; and all of a study's records are somewhere."""
    frame = load(Path(__file__).parent.parent / "results" / name)
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
    own, other = record_of(PROBE, 0), record_of(BROKEN, 0, fingerprint="e" * 64)
    store.write(tmp_path / "both", own)
    store.write(tmp_path / "both", other)
    store.write(tmp_path / "other", other)
    with pytest.warns(UserWarning, match="could not be shown"):
        sections = {s.study: s for s in collect(tmp_path / "both").sections}
    assert set(sections[PROBE].tables[0].rows_from) == {(own.key,), (other.key,)}
    assert not sections[PROBE].notes
    with pytest.warns(UserWarning, match="could not be shown"):
        (section,) = collect(tmp_path / "other").sections
    assert section.study == BROKEN


def test_records_without_a_plan_or_a_machine_are_enough(tmp_path: Path) -> None:
    record = record_of(PROBE, 0)
    record.machine, record.versions, record.commit, record.started = {}, {}, "", ""
    store.write(tmp_path / "bare", record)
    index = report.write(tmp_path / "bare")
    shown = "".join(Page(index.read_text()).texts)
    assert "bare · flowgauge" in shown
    assert "not recorded" in shown
    assert "Every case has a result." in shown


def test_a_plan_without_records_shows_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    plan = {"name": "new", "cases": [{"key": "0" * 16, "study": PROBE, "label": "one"}]}
    (tmp_path / "suite.json").write_text(json.dumps(plan))
    shown = "".join(Page(report.write(tmp_path).read_text()).texts)
    assert "0 done, 0 failed, 1 missing" in shown
    assert "no case has been measured yet" in shown


def test_what_is_no_results_folder_or_no_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a results folder"):
        report.write(tmp_path)
    (tmp_path / "records").mkdir()
    (tmp_path / "suite.json").write_text('{"about": 3}')
    with pytest.raises(ValueError, match=r"suite\.json' is not a plan: name"):
        report.write(tmp_path)


def test_two_figures_alike_share_no_id() -> None:
    buffer = io.BytesIO()
    drawn_lines().savefig(buffer, format="svg")
    ids = [
        set(re.findall(r'id="([^"]+)"', pictures.embed(buffer.getvalue(), prefix, "a")[0]))
        for prefix in ("one", "two")
    ]
    assert ids[0]
    assert not ids[0] & ids[1]
