"""The command line: its help, dry runs and printed text."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from typer.testing import CliRunner

from benchmarks.cli.app import PANELS, app
from benchmarks.cli.console import PlainConsole, styled
from benchmarks.core.formats import plain
from benchmarks.execution import suite

ROOT = Path(__file__).parent.parent
cli = CliRunner()


def test_help_does_not_import_torch():
    code = (
        "import sys\n"
        "from benchmarks.cli.app import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fourteen_commands_stand_in_four_panels():
    result = cli.invoke(app, ["--help"])
    listed = [command for commands in PANELS.values() for command in commands]
    assert len(listed) == 14
    assert all(panel in result.stdout for panel in PANELS)
    assert all(f"│ {command} " in result.stdout for command in listed)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flowgauge ba", {"baseline"}),
        ("flowgauge '' ba", {"baseline"}),
        ("flowgauge baseline ", {"update", "check"}),
        ("flowgauge run lad", {"ladder"}),
        ("flowgauge check nsf", {"nsf_ar", "nsf_coupling"}),
        ("flowgauge data info 8g", {"8gaussians"}),
    ],
)
def test_a_line_is_completed_whatever_it_has_so_far(line, expected):
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    asked = {"_FLOWGAUGE_COMPLETE": "complete_bash", **words}
    done = cli.invoke(app, [], prog_name="flowgauge", env=asked)
    assert set(done.stdout.split()) == expected


def test_dry_run_prints_cases_and_budget_and_measures_nothing(tmp_path):
    result = cli.invoke(app, ["run", "smoke", "--dry-run", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert f"{len(suite.read('smoke').cases())} cases" in result.stdout
    assert not (tmp_path / "out").exists()


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])))
def test_printed_text_is_neither_markup_nor_terminal_escapes(text):
    """Whatever is printed comes out as it is, but for control characters."""
    hostile = f"\x1b[31m[bold]{text}[/nosuch] :warning: \x1b]0;title\x07"
    output = io.StringIO()
    console = PlainConsole(file=output, force_terminal=True, color_system=None, width=10**6)
    table = Table(hostile)
    table.add_row(hostile)
    for renderable in (hostile, table, styled(hostile, "red")):
        console.print(renderable)
    assert "\x1b" not in output.getvalue()
    assert output.getvalue().count("[/nosuch] :warning:") == 4
    assert plain(plain(hostile)) == plain(hostile)
    printable = "".join(c for c in text if c.isprintable())
    assert plain(printable) == printable
