"""Reports in CSV, Markdown and LaTeX, and how a cell is written."""

import math
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import report
from benchmarks.core import formats
from benchmarks.core.exhibit import RECORDS, Column, Table
from benchmarks.core.frame import load
from benchmarks.report import cells, latex
from benchmarks.report.content import Exhibits
from report_probes import PROBE, Probe, record_of


def test_csv_holds_raw_numbers(rendered: Path) -> None:
    back = pd.read_csv(rendered / "report/tables/scores.csv")
    frame = Probe().tables(load(rendered))[0].frame
    assert list(back.columns) == list(frame.columns)
    assert back["score"].equals(frame["score"])
    assert back["flow"].tolist() == frame["flow"].tolist()
    assert back["time"].tolist() == ["0.123456", "failed", "12345.678"]
    assert back[RECORDS].tolist() == [keys[0] for keys in frame[RECORDS]]


@given(st.text(max_size=9) | st.sampled_from(["=1+1", "@x", "-2+3", "+A1", "\t=1", "-1.5", "-"]))
def test_no_cell_of_a_csv_is_a_formula(text: str) -> None:
    cell = formats.cell(text)
    assert cell.removeprefix("'" * (cell != formats.plain(text))) == formats.plain(text)
    if cell[:1] in "=+-@\t\r" and cell:
        float(cell)


def test_markdown_has_the_same_content(rendered: Path) -> None:
    text = (rendered / "report/report.md").read_text()
    assert "# trial\n\nTo &lt;try&gt;.\n" in text
    assert r"| a &amp; b &lt; c\_d % e \| f | 20,000 | **2.250 ± 0.020** | failed | 2 |" in text
    assert "| first | 1 | 1.50 ± 0.10 | **0.123** | 1 |" in text
    assert "| third | 3 | – | 12,300 | 1 |" in text
    for name in ("lines", "image"):
        assert f"](figures/{name}.png)" in text
    listed = pd.read_csv(rendered / "report/tables/records.csv")
    assert listed["No."].tolist() == [1, 2]
    assert set(listed["Record"]) == {record_of(PROBE, 0).key, record_of(PROBE, 1).key}
    tables = [block for block in text.split("\n\n") if block.startswith("| ")]
    assert re.findall(r"Table (\d+)\.", text) == [str(n + 1) for n in range(len(tables))]
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def test_latex_goes_over_pages_where_a_table_is_long() -> None:
    """Each row once, headers on each page."""
    frame = pd.DataFrame({"a_b": range(latex.PAGE + 1)})
    text = latex.latex(Exhibits().table(Table("long", "Long", "", frame), ""))
    assert "longtable" in text.splitlines()[0]
    assert "tabular" not in text
    lines = text.splitlines()
    assert [line for line in lines if re.match(r"\d", line)] == [rf"{i} \\" for i in frame["a_b"]]
    assert lines.count(r"a\_b \\") == 2
    short = latex.latex(Exhibits().table(Table("short", "Short", "", frame[1:]), ""))
    assert "longtable" not in short


@given(st.text())
def test_latex_is_ascii_and_balanced_whatever_the_text(text: str) -> None:
    escaped = latex.escape(text)
    assert escaped.isascii()
    assert escaped.isprintable()
    bare = re.sub(r"\\[&%$#_{}]", "", escaped)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[&%#~]|(?<!\$)[_^]", re.sub(r"\\[\^~]", "", bare))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not on the PATH")
def test_latex_compiles(rendered: Path, tmp_path: Path) -> None:
    """Also over pages; and every character that the project's own words have."""
    root = Path(report.__file__).parent.parent
    own = {c for path in root.rglob("*.py") for c in path.read_text() if not c.isascii()}
    texts = [path.read_text() for path in sorted((rendered / "report/tables").glob("*.tex"))]
    long = Table("long", "Long", "", pd.DataFrame({"n": range(100), "t": "_"}))
    texts.append(latex.latex(Exhibits().table(long, "")))
    texts += [latex.escape(f"{c}, a{c}b. ") for c in sorted(own)]
    head = r"\documentclass{article}\usepackage{booktabs, longtable}\begin{document}"
    (tmp_path / "all.tex").write_text("\n".join([head, *texts, r"\end{document}"]))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.123456, ".3g", "0.123"), (1234.5, ".3g", "1230"), (123456.0, ".3g", "123,000"),
        (1.234e-7, ".3g", "1.23×10⁻⁷"), (0.0, ".1e", "0"), (-2.0, ".1f", "−2.0"),
        (-0.001, ".1f", "0.0"), (12.0, ",d", "12"), (math.nan, ".3g", "–"),
        (-math.inf, ".3g", "−∞"),
    ],
)  # fmt: skip
def test_numbers(value: float, digits: str, text: str) -> None:
    assert formats.number(value, digits) == text


@pytest.mark.parametrize(
    ("value", "error", "digits", "text"),
    [
        (12.3456, 0.0567, ".3g", "12.346 ± 0.057"),
        (12.3456, 0.0996, ".3g", "12.35 ± 0.10"),
        (123456.0, 789.0, ".3g", "123,460 ± 790"),
        (3e-9, 1e-10, ".3g", "3×10⁻⁹ ± 1×10⁻¹⁰"),
        (2.0, 0.0, ".3g", "2 ± 0"),
        (2.0, 0.25, "+.2f", "+2.00 ± 0.25"),
        (2.5, math.nan, ".3g", "2.5"),
        (math.nan, 0.1, ".3g", "–"),
    ],
)
def test_numbers_with_their_errors(value: float, error: float, digits: str, text: str) -> None:
    assert formats.with_error(value, error, digits) == text


def test_columns_without_digits_and_other_cells() -> None:
    frame = pd.DataFrame(
        {
            "whole": [1.0, math.nan, 3.0],
            "mixed": [0.5, None, "timeout"],
            "flag": [True, False, None],
            "close": [1.2341, 1.2342, 1.0],
            "close.leads": [False, True, False],
        }
    )
    rendered = cells.grid(Table("t", "", "", frame, {}))
    texts = [[cell.text for cell in row] for row in rendered.rows]
    assert texts[0] == ["1", "0.5", "yes", "1.23"]
    assert texts[1] == ["–", "–", "no", "1.23"]
    assert texts[2] == ["3", "timeout", "–", "1"]
    assert rendered.numeric == (True, True, False, True)
    assert not any(cell.best for row in rendered.rows for cell in row)  # no reader could see why


def test_times_that_are_not_to_be_quoted_are_marked() -> None:
    """Alone among others, in the header where all of a column are; and no other number is."""
    keys = [("a",), ("b",), ("c", "d")]
    frame = pd.DataFrame({"time": [1.0, "failed", 3.0], "count": [1, 2, 3], RECORDS: keys})
    columns = {"time": Column.of("log_prob_seconds"), "count": Column.of("parameters")}
    table = Table("t", "", "", frame, columns=columns)
    grids = [cells.grid(table, doubted) for doubted in ([], ["d", "b"], ["a", "c"])]
    plain, one, every = ([[cell.text for cell in row] for row in grid.rows] for grid in grids)
    assert [grid.doubtful for grid in grids] == [False, True, True]
    assert (one[:2], one[2][1], every) == (plain[:2], plain[2][1], plain)
    assert one[2][0] != plain[2][0]
    headers, same, marked = (grid.headers for grid in grids)
    assert same == headers
    assert [a != b for a, b in zip(marked, headers, strict=True)] == [True, False]
    assert [row[0].value for row in grids[1].rows] == [row[0].value for row in grids[0].rows]
