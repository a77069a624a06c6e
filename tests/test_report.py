"""Reports: the page and its files, what they say of records, several folders in one."""

import json
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import report
from benchmarks.core import store
from benchmarks.core import study as studies
from benchmarks.core.exhibit import RECORDS, Table
from benchmarks.core.frame import Plan, load
from benchmarks.core.record import Record, Standing
from benchmarks.core.study import registry
from benchmarks.report import html, markdown, runs
from benchmarks.report.content import Exhibits, References, Report, Section, collect
from committed import ROOT
from page import Page
from records import folder
from report_probes import AWKWARD, BROKEN, MACHINE, PROBE, TALLY, Broken, Probe, record_of
from runs import flowgauge

pytestmark = pytest.mark.usefixtures("probes")

LOADING = {"src", "srcset", "href", "xlink:href", "data", "action", "poster", "background"}


@pytest.fixture(scope="module")
def text(rendered: Path) -> str:
    return (rendered / "report" / "index.html").read_text()


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_every_format_writes_its_files(rendered):
    root = rendered / "report"
    written = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    content = collect([rendered])
    tables = {f"tables/{table.name}.{s}" for table in content.tables for s in ("csv", "tex")}
    figures = {f"figures/{figure.name}.{s}" for figure in content.figures for s in ("svg", "png")}
    assert written == {"index.html", "report.md", "summary.md", *tables, *figures}
    assert {f"tables/{n}.csv" for n in ("scores", f"{PROBE}-scores", "not-done")} <= tables
    assert (root / "figures/lines.png").read_bytes().startswith(b"\x89PNG")
    ET.fromstring((root / "figures/lines.svg").read_text())


def test_page_loads_nothing_and_holds_everything(text, page):
    targets = [str(v) for _, a in page.elements for name, v in a.items() if name in LOADING]
    assert targets
    assert all(target.startswith(("#", "data:")) for target in targets)
    svgs = page.all("svg")
    assert [svg["aria-label"] for svg in svgs] == ["Two lines", "Two images"]
    assert all(svg["role"] == "img" and svg["viewbox"] for svg in svgs)
    assert {"power 1", "power 2", "pixels & <more>"} <= set(page.texts)
    ids = page.ids
    assert len(ids) == len(set(ids))
    assert {target[1:] for target in targets if target.startswith("#")} <= set(ids)
    references = re.findall(r"url\(#([^)]+)\)", text)
    assert references
    assert set(references) <= set(ids)


def test_page_has_what_was_measured_where_and_foreign_text_as_text(text, page):
    words, failed = "".join(page.texts), record_of(PROBE, 1, status="failed")
    for raw in ("To <try>.", "Is 1 < 2?", AWKWARD, "Test CPU <3>"):
        assert raw in words
        assert raw not in text
    for part in ("8.0 GiB", "2.13.0", "2026-01-02", failed.commit, '"probe": ['):
        assert part in words
    for record in (record_of(PROBE, 0), failed, record_of(PROBE, 2)):
        assert record.key in words


def test_page_is_marked_up_for_readers_and_screen_readers(page):
    assert page.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table")) == 4
    assert all(th.get("scope") in ("row", "col") for th in page.all("th"))
    heads = [th for th in page.all("th") if th["scope"] == "col"]
    assert all(th["aria-sort"] == "none" for th in heads)
    assert len(heads) == len(page.all("button"))


def test_the_same_records_give_the_same_files_whatever_was_there(rendered, results):
    def written(root: Path) -> dict[str, bytes]:
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    for name in ("tables/old.csv", "figures/old.png", ".index.html.host-1073741824-140000000000"):
        path = results / "report" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    report.write(results)
    assert written(results / "report") == written(rendered / "report")


def test_an_interrupted_report_leaves_the_page_whole(results, monkeypatch):
    index = report.write(results)
    before = index.read_bytes()

    def interrupted(content: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(html, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        report.write(results)
    assert index.read_bytes() == before


def test_a_report_overwrites_nothing_but_a_report(results, tmp_path):
    (tmp_path / "mine" / "figures").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<title>A page of someone</title>")
    for out in (tmp_path / "mine", tmp_path / "file", tmp_path / "site", results):
        with pytest.raises(ValueError, match=re.escape(str(out))):
            report.write(results, out=out)
    out = tmp_path / "other"
    for _ in range(2):
        assert report.write(results, out=out) == out / "index.html"


def _plan(results: Path, record: Record) -> None:
    store.write(results, record)
    plan = json.loads((results / "suite.json").read_text())
    plan["cases"].append({"key": record.key, "study": record.case.study, "label": "added"})
    (results / "suite.json").write_text(json.dumps(plan))


def test_a_study_that_fails_is_reported_and_loses_nothing_else(results):
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


def test_an_unknown_study_is_shown(results):
    record = record_of("nowhere", 0, metrics={"parameters": 7.0})
    _plan(results, record)
    (*_, section) = collect([results]).sections
    (table,) = section.tables
    assert table.raw.rows_from == ((record.key,),)
    assert "7" in [cell.text for cell in table.grid.rows[0]]


def test_several_versions_of_the_code_are_a_warning_in_the_report(results):
    _plan(results, record_of(PROBE, 3, files={"plugin.py": "e" * 16}))
    store.write(results, record_of(PROBE, 4))
    (section,) = collect([results]).sections
    assert len(section.notes) == 1
    assert runs.read([results])[0].outside == 1


def _stand(monkeypatch: pytest.MonkeyPatch, standing: Standing) -> None:
    """Let the first record of a trial have a standing, and the others be current."""
    first = {record_of(PROBE, 0).key: standing}
    monkeypatch.setattr(runs, "standings", lambda records: first)


def test_a_stale_record_is_counted_noted_and_cited_as_such(results, monkeypatch):
    _stand(monkeypatch, Standing(*["version of x moved from 1 to 2"] * 3))
    (run,) = runs.read([results])
    assert run.counts == {"stale": 1, "failed": 1, "missing": 1}
    content = collect([results])
    (note,) = content.sections[0].notes
    assert "version of x moved from 1 to 2" in note
    key = record_of(PROBE, 0).key
    assert content.references.stale == {key}
    assert content.references.text([key]) != References(content.references.numbers).text([key])


def test_a_record_that_is_stale_in_times_alone_keeps_its_counts(results, monkeypatch):
    """Its times are marked, and it is cited like a current one."""
    times = {"log_prob_seconds": [0.1] * 3, "reference_seconds": [1.0] * 3}
    timed = record_of(PROBE, 0, metrics=times)
    store.write(results, timed)
    assert not runs.read([results])[0].cautions
    _stand(monkeypatch, Standing("", *["pace of x moved from 1 to 2"] * 2))
    (run,) = runs.read([results])
    assert run.counts == {"stale in times": 1, "failed": 1, "missing": 1}
    assert run.cautions == {timed.key: "pace of x moved from 1 to 2"}
    content = collect([results])
    assert not content.references.stale
    assert content.sections[0].tables[0].grid.doubtful


@pytest.mark.parametrize(("rows", "notes"), [(1, 1), (100, 1), (100, 200)])
def test_the_summary_fits_a_comment_and_says_what_it_leaves_out(rows, notes):
    frame = pd.DataFrame({"n": range(rows), "text": ["±" * 30] * rows})
    exhibits, section = Exhibits(), Section("probe", "probe", notes=["Mind <this>." * 99] * notes)
    section.tables.append(exhibits.table(Table("long", "Long", "", frame), "probe"))
    nothing = References({})
    content = Report(Plan(name="trial"), {}, [section], None, {}, None, nothing)
    text = markdown.summary(content)
    assert len(text.encode()) <= markdown.LIMIT
    assert "Mind &lt;this&gt;." in text
    assert text.endswith(f"{markdown.CUT}\n") == (notes > 1)
    if notes == 1:
        left = rows - text.count("±" * 30)
        assert (f"{left} of {rows} rows are left out here." in text) == (left > 0)


@pytest.mark.parametrize("name", ["reference", "speed"])
def test_each_row_of_each_study_says_which_records_it_comes_from(name):
    """Of committed runs; and all of a study's records are somewhere."""
    frame = load(ROOT / name)
    for study, own in frame.groupby("study"):
        every: set[str] = set()
        for table in studies.registry[str(study)].tables(own.reset_index(drop=True)):
            assert RECORDS in table.frame, table.name
            assert all(table.rows_from), table.name
            every |= {key for keys in table.rows_from for key in keys}
        assert every == set(own["key"])


def test_a_study_is_shown_the_records_that_it_reads(tmp_path, monkeypatch):
    """Beside its own, which alone are asked for versions of the code, and without which is none."""
    monkeypatch.setattr(Probe, "reads", (BROKEN,))
    monkeypatch.setattr(Broken, "reads", (), raising=False)
    own, other = record_of(PROBE, 0), record_of(BROKEN, 0, files={"plugin.py": "e"})
    store.write(tmp_path / "both", own)
    store.write(tmp_path / "both", other)
    store.write(tmp_path / "other", other)
    with pytest.warns(UserWarning, match="could not be shown"):
        sections = {s.study: s for s in collect([tmp_path / "both"]).sections}
    assert set(sections[PROBE].tables[0].raw.rows_from) == {(own.key,), (other.key,)}
    assert not sections[PROBE].notes
    with pytest.warns(UserWarning, match="could not be shown"):
        (section,) = collect([tmp_path / "other"]).sections
    assert section.study == BROKEN


def test_records_without_a_plan_or_a_machine_are_enough(tmp_path):
    record = record_of(PROBE, 0)
    record.machine, record.versions, record.commit, record.started = {}, {}, "", ""
    store.write(tmp_path / "bare", record)
    index = report.write(tmp_path / "bare")
    text = "".join(Page(index.read_text()).texts)
    assert "bare" in text
    assert collect([tmp_path / "bare"]).undone is None


def test_a_plan_without_records_shows_what_is_missing(tmp_path):
    (tmp_path / "records").mkdir()
    plan = {"name": "new", "cases": [{"key": "0" * 16, "study": PROBE, "label": "one"}]}
    (tmp_path / "suite.json").write_text(json.dumps(plan))
    assert report.write(tmp_path).is_file()
    content = collect([tmp_path])
    (section,) = content.sections
    assert section.notes
    assert [row[-1].text for row in content.undone.grid.rows] == ["0" * 16]


def _record(flow: str, seconds: float = 1.0, **changes: Any) -> Record:
    times = {"log_prob_seconds": [seconds] * 3, "reference_seconds": [1.0] * 3}
    return record_of(TALLY, case={"flow": flow}, metrics=times | {"test_ll": -seconds}, **changes)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs that share two cases; each has one of its own, the first a failed one."""
    failed = record_of(TALLY, case={"flow": "glow"}, status="failed", reason="it broke")
    before = (_record("maf", 4.0), _record("realnvp", 2.0), failed)
    after = (_record("maf", 3.0), _record("realnvp", 1.0), _record("nice"))
    return folder(tmp_path / "a" / "run", *before), folder(tmp_path / "b" / "run", *after)


def _rows(table: Any) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.grid.rows]


def test_each_series_names_its_run_and_no_value_mixes_two(folders):
    content = collect(folders)
    assert content.plan.name == "a/run vs b/run"
    (section,) = content.sections
    (figure,) = section.figures
    (table,) = section.tables
    likelihoods = {name: value for name, value, _ in _rows(table)}
    assert likelihoods == {
        "glow (a/run)": "–",
        "maf (a/run)": "−4.000",
        "maf (b/run)": "−3.000",
        "nice (b/run)": "−1.000",
        "realnvp (a/run)": "−2.000",
        "realnvp (b/run)": "−1.000",
    }
    pairs = zip(("a/run", "b/run"), folders, strict=True)
    keys = {f"{run}/{path.stem}" for run, folder in pairs for path in store.loose(folder)}
    assert {key for row in table.raw.rows_from for key in row} == keys == set(figure.records)
    assert set(content.references.numbers) == keys
    assert [row[:2] for row in _rows(content.undone)] == [["a/run", TALLY]]


def test_runs_of_different_machines_share_no_table(tmp_path):
    """Two of one machine stand in one, the third in another; so with versions of torch."""
    for change in ({"machine": {**MACHINE, "cpu": "other"}}, {"versions": {"torch": "2.14.1"}}):
        root = tmp_path / next(iter(change))
        paths = [folder(root / name, _record("maf")) for name in "ab"]
        paths.append(folder(root / "c", _record("maf", **change)))
        (section,) = collect(paths).sections
        names = [[row[0] for row in _rows(table)] for table in section.tables]
        assert names == [["maf (a)", "maf (b)"], ["maf (c)"]]
        assert len({table.title for table in section.tables}) == 2
        assert len({table.name for table in section.tables}) == 2


def test_times_of_another_machine_in_a_run_are_left_out_and_noted(tmp_path):
    elsewhere = _record("nice", 9.0, machine={**MACHINE, "cpu": "other"})
    run = folder(tmp_path / "a", _record("maf"), _record("nsf_ar"), elsewhere)
    (section,) = collect([run]).sections
    assert {row[0]: row[1:] for row in _rows(section.tables[0])}["nice"] == ["−9.000", "–"]
    assert any("other" in note for note in section.notes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reference", "truth"])
def test_no_row_of_a_study_mixes_two_runs(name):
    """Of committed records, each taken twice: as many rows for each run as for one alone."""
    alone = load(ROOT / name)
    runs = [alone.assign(run=run, key=f"{run}/" + alone["key"]) for run in ("a", "b")]
    both = pd.concat(runs, ignore_index=True)
    both["run"] = pd.Categorical(both["run"], ["a", "b"])
    for study in alone["study"].unique():
        chosen = [study, *registry[study].reads]
        one, two = (
            registry[study].tables(frame[frame["study"].isin(chosen)].reset_index(drop=True).copy())
            for frame in (alone, both)
        )
        rows = {table.name: len(table.frame) for table in one}
        for table in two:
            sides = [{key[0] for key in keys} for keys in table.rows_from]
            assert all(len(side) == 1 for side in sides), table.name
            assert len(sides) == 2 * rows[table.name], table.name


def test_the_command_writes_beside_the_results_and_never_into_them(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flowgauge("report", *folders)
    index = Path("results/a-run-vs-b-run/report/index.html")
    first = index.read_bytes()
    assert not any((folder / "report").exists() for folder in folders)
    assert report.write(*folders) == index
    assert index.read_bytes() == first


def test_a_folder_given_twice_is_wrong_usage(folders):
    flowgauge("report", folders[0], folders[0] / ".." / "run", status=2)
