"""Reports: what records become, in every format, and what happens to those that fail."""

from __future__ import annotations

import io
import json
import math
import platform
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure as Canvas
from pydantic import BaseModel

from benchmarks import report, store, studies
from benchmarks.case import Case, Seeds
from benchmarks.exhibit import RECORDS, Figure, Table
from benchmarks.fingerprint import fingerprint
from benchmarks.report import cells, latex, markdown, pictures, side, summary
from benchmarks.report.collect import collect
from benchmarks.report.content import Report, Section
from benchmarks.report.numbered import Exhibits
from benchmarks.report.plan import Plan
from benchmarks.report.references import References, spans
from benchmarks.report.stale import stale

AWKWARD = "a & b < c_d % e | f"
PROBE, BROKEN = "report_probe", "report_broken"
MACHINE = {"cpu": "Test CPU <3>", "cores": 2, "memory_bytes": 8 * 2**30, "load": 0.5}
LOADING = {"src", "srcset", "href", "xlink:href", "data", "action", "poster", "background"}
LOADED = re.compile(r"@import|url\((?!#|data:)|fetch\(|XMLHttpRequest|import\(", re.IGNORECASE)


def _lines() -> Canvas:
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
            Figure("lines", "Two lines", "The left one.", _lines, keys),
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


def _record(study: str, seed: int, **changes: Any) -> store.Record:
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
    done = _record(PROBE, 0, metrics={"parameters": store.Values.of("parameters", 7.0)})
    failed = _record(PROBE, 1, status="failed", reason=f"{AWKWARD}\nsecond line")
    missing = _record(PROBE, 2)
    for record in (done, failed):
        store.write(folder, record)
    cases = [{"key": r.key, "study": PROBE, "label": r.case.label} for r in (done, failed, missing)]
    plan = {"name": "trial", "about": "To <try>.", "suite": {"probe": [1, 2]}, "cases": cases}
    (folder / "suite.json").write_text(json.dumps(plan))
    return folder


class Page(HTMLParser):
    """The elements and the text of an HTML page; unclosed or misnested ones are an error."""

    VOID: ClassVar[set[str]] = {"meta", "link"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_every_file_is_there(results: Path) -> None:
    index = report.write(results)
    assert index == results / "report" / "index.html"
    written = {str(p.relative_to(index.parent)) for p in index.parent.rglob("*") if p.is_file()}
    tables = {"scores", f"{PROBE}-scores", "not-done", "records"}
    assert written == {
        "index.html",
        "report.md",
        "summary.md",
        *(f"tables/{name}.{kind}" for name in tables for kind in ("csv", "tex")),
        *(f"figures/{name}.{kind}" for name in ("lines", "image") for kind in ("svg", "png")),
    }
    assert (index.parent / "figures/lines.png").read_bytes().startswith(b"\x89PNG")
    ET.fromstring((index.parent / "figures/lines.svg").read_text())


def test_page_loads_nothing_and_holds_everything(results: Path) -> None:
    text = report.write(results).read_text()
    page = Page(text)
    targets = [str(v) for _, a in page.elements for name, v in a.items() if name in LOADING]
    assert targets
    assert all(target.startswith(("#", "data:")) for target in targets)
    assert LOADED.search(text) is None
    assert re.search("https?:", text) is None
    svgs = page.all("svg")
    assert [svg["aria-label"] for svg in svgs] == ["Two lines", "Two images"]
    assert all(svg["role"] == "img" and svg["viewbox"] for svg in svgs)
    assert {"power 1", "power 2", "pixels & <more>"} <= set(page.texts)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {target[1:] for target in targets if target.startswith("#")} <= set(ids)
    references = re.findall(r"url\(#([^)]+)\)", text)
    assert references
    assert set(references) <= set(ids)


def test_page_escapes_what_it_shows(results: Path) -> None:
    text = report.write(results).read_text()
    shown = "".join(Page(text).texts)
    for raw in ("To <try>.", "Is 1 < 2?", AWKWARD, "Test CPU <3>"):
        assert raw in shown
        assert raw not in text


def test_page_is_marked_up_for_readers_and_screen_readers(results: Path) -> None:
    page = Page(report.write(results).read_text())
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


def test_page_says_what_was_measured_where_and_what_was_not(results: Path) -> None:
    shown = "".join(Page(report.write(results).read_text()).texts)
    for text in (
        "1 done, 1 failed, 1 missing",
        "Test CPU <3>, 2 cores, 8.0 GiB",
        "torch 2.13.0",
        "2026-01-02, 3.0 s of measuring",
        "abc123-dirty",
        "data 0; init 0, 1; noise 0, 1; batches 0, 1",
        '"probe": [',
        _record(PROBE, 0).key,
        _record(PROBE, 2).key,
        f"{AWKWARD}\nsecond line",
        "not measured",
    ):
        assert text in shown


def test_csv_holds_raw_numbers(results: Path) -> None:
    report.write(results)
    back = pd.read_csv(results / "report/tables/scores.csv")
    frame = Probe().tables(store.load(results))[0].frame
    assert list(back.columns) == list(frame.columns)
    assert back["score (nats)"].equals(frame["score (nats)"])
    assert back["flow"].tolist() == frame["flow"].tolist()
    assert back["time (s)"].tolist() == ["0.123456", "failed", "12345.678"]
    assert back[RECORDS].tolist() == [keys[0] for keys in frame[RECORDS]]


def test_markdown_has_the_same_content(results: Path) -> None:
    report.write(results)
    text = (results / "report/report.md").read_text()
    assert "# trial\n\nTo &lt;try&gt;.\n" in text
    assert r"| a &amp; b &lt; c\_d % e \| f | 20,000 | **2.250 ± 0.020** | failed | 2 |" in text
    assert "| first | 1 | 1.50 ± 0.10 | **0.123** | 1 |" in text
    assert "| third | 3 | – | 12,300 | 1 |" in text
    for name in ("lines", "image"):
        assert f"](figures/{name}.png)" in text
    assert "Records 1, 2." in text
    listed = pd.read_csv(results / "report/tables/records.csv")
    assert listed["No."].tolist() == [1, 2]
    assert set(listed["Record"]) == {_record(PROBE, 0).key, _record(PROBE, 1).key}
    assert "1 done, 1 failed, 1 missing" in text
    tables = [block for block in text.split("\n\n") if block.startswith("| ")]
    assert len(tables) == 3
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def test_latex_is_balanced_and_escaped(results: Path) -> None:
    report.write(results)
    for path in sorted((results / "report/tables").glob("*.tex")):
        text = path.read_text()
        body = text.split("\n", 1)[1]  # after the comment
        bare = re.sub(r"\\[&%$#_{}\\]", "", body)
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        assert not re.search(r"[%#<>|~]", bare)
        assert not re.search("_", bare.replace(r"\label{tab:" + path.stem + "}", ""))
        for begin in re.findall(r"\\begin\{(\w+)\}", body):
            assert body.count(f"\\begin{{{begin}}}") == body.count(f"\\end{{{begin}}}") == 1
        rules = [body.index(f"\\{rule}rule") for rule in ("top", "mid", "bottom")]
        assert rules == sorted(rules)
        (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", body)
        rows = [line for line in bare.splitlines() if "&" in line]
        assert {row.count("&") for row in rows} == {len(columns) - 1}
    text = (results / "report/tables/scores.tex").read_text()
    assert r"a \& b \textless{} c\_d \% e \textbar{} f & 20,000" in text
    assert r"\textbf{2.250 $\pm$ 0.020}" in text
    assert r"\caption{Scores. A note: 5 \%.}" in text


def test_latex_goes_over_pages_where_a_table_is_long() -> None:
    """Each row once, headers on each page."""
    frame = pd.DataFrame({"a_b": range(latex.PAGE + 1)})
    text = latex.render(Exhibits().table(Table("long", "Long", "", frame), ""))
    assert "longtable" in text.splitlines()[0]
    assert "tabular" not in text
    lines = text.splitlines()
    assert [line for line in lines if re.match(r"\d", line)] == [rf"{i} \\" for i in frame["a_b"]]
    assert lines.count(r"a\_b \\") == 2
    short = latex.render(Exhibits().table(Table("short", "Short", "", frame[1:]), ""))
    assert "longtable" not in short


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("1.2×10⁻³", r"1.2$\times$10$^{-3}$"),
        ("−1 ± ∞", r"$-$1 $\pm$ $\infty$"),
        ("\\ {x}^~ $#", r"\textbackslash{} \{x\}\textasciicircum{}\textasciitilde{} \$\#"),
        ("λ –", r"$\lambda$ --"),
        ("‖J‖², Jᵀ, xₖ", r"$\Vert$J$\Vert$$^{2}$, J$^{T}$, x$_{k}$"),
        ("Bézier ÷ ☃", r"B\'{e}zier $\div$ (snowman)"),
    ],
)
def test_latex_escapes(text: str, escaped: str) -> None:
    assert latex.escape(text) == escaped


@given(st.text())
def test_latex_is_ascii_and_balanced_whatever_the_text(text: str) -> None:
    escaped = latex.escape(text)
    assert escaped.isascii()
    assert escaped.isprintable()
    bare = re.sub(r"\\[&%$#_{}]", "", escaped)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[&%#~]|(?<!\$)[_^]", re.sub(r"\\[\^~]", "", bare))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not on the PATH")
def test_latex_compiles(results: Path, tmp_path: Path) -> None:
    """Also over pages; and every character that the project's own words have."""
    report.write(results)
    root = Path(report.__file__).parent.parent
    own = {c for path in root.rglob("*.py") for c in path.read_text() if not c.isascii()}
    texts = [path.read_text() for path in sorted((results / "report/tables").glob("*.tex"))]
    long = Exhibits().table(
        Table("long", "Long", "", pd.DataFrame({"n": range(100), "t": "_"})), ""
    )
    texts += [latex.render(long), *(latex.escape(f"{c}, a{c}b. ") for c in sorted(own))]
    head = r"\documentclass{article}\usepackage{booktabs, longtable}\begin{document}"
    (tmp_path / "all.tex").write_text("\n".join([head, *texts, r"\end{document}"]))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


def test_markdown_escapes() -> None:
    assert markdown.escape("*a* `b` [c](d) $x$\ne") == r"\*a\* \`b\` \[c\](d) \$x\$<br>e"


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.123456, ".3g", "0.123"),
        (1234.5, ".3g", "1230"),
        (123456.0, ".3g", "123,000"),
        (1.5e9, ".3g", "1.5×10⁹"),
        (1.234e-7, ".3g", "1.23×10⁻⁷"),
        (0.0, ".1e", "0"),
        (-2.0, ".1f", "−2.0"),
        (-0.001, ".1f", "0.0"),
        (12.0, ",d", "12"),
        (math.nan, ".3g", "–"),
        (-math.inf, ".3g", "−∞"),
    ],
)
def test_numbers(value: float, digits: str, text: str) -> None:
    assert cells.number(value, digits) == text


@pytest.mark.parametrize(
    ("value", "error", "digits", "text"),
    [
        (12.3456, 0.0567, ".3g", "12.346 ± 0.057"),
        (12.3456, 0.0996, ".3g", "12.35 ± 0.10"),
        (12.3456, 0.0567, ".1f", "12.3 ± 0.1"),
        (123456.0, 789.0, ".3g", "123,460 ± 790"),
        (3e-9, 1e-10, ".3g", "3×10⁻⁹ ± 1×10⁻¹⁰"),
        (2.0, 0.0, ".3g", "2 ± 0"),
        (2.5, math.nan, ".3g", "2.5"),
        (math.nan, 0.1, ".3g", "–"),
    ],
)
def test_numbers_with_their_errors(value: float, error: float, digits: str, text: str) -> None:
    assert cells.with_error(value, error, digits) == text


@pytest.mark.parametrize(
    ("values", "errors", "better", "winner"),
    [
        ([1.0, 2.0, 3.0], None, "higher", 2),
        ([1.0, 2.0, 3.0], None, "lower", 0),
        ([3.0, math.nan, 3.0], None, "higher", None),  # a tie
        ([math.nan, 2.0], None, "higher", None),  # nothing to beat
        ([1.0, 2.0], [0.6, 0.8], "higher", None),  # the combined error is exactly the lead
        ([1.0, 2.0], [0.6, 0.7], "higher", 1),
        ([1.0, 2.0], [0.6, 0.7], "lower", 0),
        ([1.0, 2.0], [0.1, math.nan], "higher", None),  # an error that should be known and is not
        ([0.0, 1.0, 2.0], [9.0, 0.1, 0.1], "higher", 2),  # only the runner-up counts
    ],
)
def test_best_beats_the_runner_up_by_more_than_the_error(
    values: list[float], errors: list[float] | None, better: str, winner: int | None
) -> None:
    assert cells.best(values, errors, better) == winner


def test_columns_without_digits_and_other_cells() -> None:
    frame = pd.DataFrame(
        {
            "whole": [1.0, math.nan, 3.0],
            "mixed": [0.5, None, "timeout"],
            "flag": [True, False, None],
            "close": [1.2341, 1.2342, 1.0],
        }
    )
    shown = cells.grid(Table("t", "", "", frame, best={"close": "higher"}))
    texts = [[cell.text for cell in row] for row in shown.rows]
    assert texts[0] == ["1", "0.5", "yes", "1.23"]
    assert texts[1] == ["–", "–", "no", "1.23"]
    assert texts[2] == ["3", "timeout", "–", "1"]
    assert shown.numeric == (True, True, False, True)
    assert not any(cell.best for row in shown.rows for cell in row)  # no reader could see why


def test_the_same_records_give_the_same_bytes(results: Path) -> None:
    def written() -> dict[str, bytes]:
        root = report.write(results).parent
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    assert written() == written()


def test_files_of_an_earlier_report_go(results: Path) -> None:
    for name in ("tables/old.csv", "figures/old.png", ".index.html.99"):
        path = results / "report" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    report.write(results)
    assert not [p for p in (results / "report").rglob("*") if "old" in p.name or "99" in p.name]


def test_an_interrupted_report_leaves_the_page_whole(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = report.write(results)
    before = index.read_bytes()

    def interrupted(shown: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(report.html, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        report.write(results)
    assert index.read_bytes() == before


def _plan(results: Path, record: store.Record) -> None:
    """Write a record and add it to the plan."""
    store.write(results, record)
    plan = json.loads((results / "suite.json").read_text())
    plan["cases"].append({"key": record.key, "study": record.case.study, "label": "added"})
    (results / "suite.json").write_text(json.dumps(plan))


def test_a_study_that_fails_is_reported_and_loses_nothing_else(results: Path) -> None:
    _plan(results, _record(BROKEN, 0))
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
    cite = [Figure("far", "Far", "", _lines, ("of another folder",))]
    monkeypatch.setattr(Probe, "figures", lambda self, frame: cite)
    shown = "".join(Page(report.write(results).read_text()).texts)
    assert "Records 3." in shown
    assert "of another folder" in shown


def test_an_unknown_study_is_reported(results: Path) -> None:
    _plan(results, _record("nowhere", 0))
    with pytest.warns(UserWarning, match="unknown study 'nowhere'"):
        index = report.write(results)
    assert "unknown study 'nowhere'" in index.read_text().replace("&#39;", "'")


def test_several_versions_of_the_code_are_a_warning_in_the_report(results: Path) -> None:
    _plan(results, _record(PROBE, 3, fingerprint="e" * 64))
    store.write(results, _record(PROBE, 4))
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
    record = _record(PROBE, 0).model_copy(update={"case": case, "machine": there})
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
    monkeypatch.setattr(side, "stale", lambda record: record.key == _record(PROBE, 0).key)
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
    frame = store.load(Path(__file__).parent.parent / "results" / name)
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
    own, other = _record(PROBE, 0), _record(BROKEN, 0, fingerprint="e" * 64)
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
    record = _record(PROBE, 0)
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
    _lines().savefig(buffer, format="svg")
    ids = [
        set(re.findall(r'id="([^"]+)"', pictures.embed(buffer.getvalue(), prefix, "a")[0]))
        for prefix in ("one", "two")
    ]
    assert ids[0]
    assert not ids[0] & ids[1]
