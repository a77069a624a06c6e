"""The command line: help, completion, printed text; usage errors are one line, status 2."""

import contextlib
import io
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table
from typer.testing import CliRunner

from benchmarks import datasets
from benchmarks.cli.app import app
from benchmarks.cli.console import PlainConsole, styled
from benchmarks.core.formats import plain
from benchmarks.execution import suite
from runs import refused

ROOT = Path(__file__).parent.parent
cli = CliRunner()


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
    printable = "".join(c for c in text if c.isprintable())
    assert plain(printable) == printable


BASELINE = ROOT / "results" / "baseline"
LIBRARY, ROWS = ("check", "--library"), str(ROOT / "results" / "audit.json.gz")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "nosuch"], ["nosuch", "list suites"]),
        (["run", "nosuch.toml"], ["nosuch.toml", "does not exist"]),
        (["run", "smoke", "-s", "colour=1"], ["colour", "threads"]),
        (["run", "smoke", "-s", "threads"], ["threads", "key=value"]),
        (["run", "smoke", "-s", "threads=none"], ["threads", "none"]),
        (["run", "smoke", "-s", "cost.speed=1"], ["speed", "batch"]),
        (["run", "smoke", "-s", "studies.0.study=nosuch"], ["nosuch", "density"]),
        (["run", "smoke", "-s", 'density.datasets=["nosuch"]'], ["nosuch", "list data"]),
        (["run", "smoke", "--device", "nosuch"], ["nosuch"]),
        (["run", "smoke", "--plugin", "nosuch.py"], ["nosuch.py"]),
        (["run", "smoke", "-s", "cost.sizes.hiden=3"], ["hiden", "hidden"]),
        (["run", "smoke", "-s", "seeds=[]"], ["seeds", "at least 1"]),
        (["run", "complexity", "--study", "costs"], ["'costs'", "cost, nfe, trace", "identities"]),
        (["run", "smoke", "--threads", "0"], ["threads", "got 0"]),
        (["run", "smoke", "-s", "threads=1\nname='a'"], ["threads", "whole number"]),
        (["run", "smoke", "--jobs", "9" * 30], ["--jobs", "auto"]),
        (["status", "smoke", "--out", __file__], [Path(__file__).name, "a file"]),
        (["run", "smoke", "-s", "name='../../evil'"], ["'../../evil'", "no /"]),
        (["run", "smoke", "-s", f"threads={'9' * 5000}"], ["threads", "999 …"]),
        (["run", "smoke", "-s", f"density.training.{'a.' * 99}b=1"], ["levels"]),
        (["run", "smoke", "--out", ""], ["'--out'", "empty"]),
        (["run", "smoke", "--out="], ["'smoke'", "empty"]),
        (["run", "sm\udcffke"], ["'sm?ke'", "UTF-8"]),
        (["cost", "ffjrd", "--dim", "2..4"], ["ffjrd", "ffjord"]),
        (["cost", "maf", "--dim", "9" * 400], ["--dim", "2..512"]),
        (["check", "maf", "--dim", "9" * 400], ["--dim", "from 1"]),
        (["cost", "glow", "--dim", "2", "--batch", "0"], ["--batch '0'"]),
        (["cost", "planar", "--dim", "2", "--hidden", "8"], ["planar", "'hidden'"]),
        (["cost", "glow", "--dim", "2", "--hidden-per-dim", "0"], ["a number above 0"]),
        (["choose", "my.csv"], ["'kind'", "--drop kind"]),
        (["claims", "--only", "nothing*"], ["'nothing*'", "no claim"]),
        (["claims", str(ROOT / "docs")], ["docs", "not a results folder"]),
        (["baseline", "update", str(BASELINE), "--target", __file__], [Path(__file__).name]),
        (["status", str(ROOT / "docs")], ["suite.json", f"--out {ROOT / 'docs'}"]),
        (["report", "nosuch"], ["folder", "nosuch"]),
        (["check", "realnpv"], ["realnpv", " realnvp", "list flows"]),
        (["check", "nosuch.toml"], ["nosuch.toml", "flowgauge run"]),
        (["list", "nosuch"], ["nosuch", "suites"]),
        (["check", "maf", "-s", "hiden=3"], ["hiden", "hidden"]),
        (["check", "maf", "-s", "dim=3"], ["--dim"]),
        (["check", "maf", "--dim", "3", "--dim", "-2"], ["--dim '-2'", "from 1"]),
        (["check", "maf", "planar", "-s", "hidden=4"], ["planar", "hidden"]),
        (["check", "nosuch.py"], ["nosuch.py", "does not exist"]),
        (["check", __file__], [Path(__file__).name, "registers no flow"]),
        (["check", "planar", "--dim", "1", "--csv", "/"], ["'/'", "directory"]),
        (["check", "maf", "--quick"], ["--quick needs --library"]),
        ([*LIBRARY, "nonesuch"], ["nonesuch", "zuko"]),
        ([*LIBRARY, "nflows", "--csv", "a.csv"], ["--csv", "--library"]),
        ([*LIBRARY, "nflows", "--against", __file__], [Path(__file__).name, "--json"]),
        ([*LIBRARY, "nflows", "--json", "/no/rows.json"], ["/no"]),
        ([*LIBRARY, "nflows", "--dim", "7", "--against", ROWS], ["no rows of nflows"]),
        (["check", "planar", "--csv", "-"], ["--csv -", "name a file"]),
        (["ab", "HEAD", "--json", "-", "--markdown", "-"], ["one file", "-"]),
        (["compare", ROWS, ROWS, "--json", "-", "--markdown", "-"], ["one file", "-"]),
        (["data", "fetch", "mnist"], ["mnist", "list data"]),
        (["data", "fetch", "bsds300", "--original"], ["bsds300", "miniboone"]),
        (["data", "fetch", "--original", "--from", "x"], ["--from", "--original"]),
        (["data", "fetch", "--from", "nosuch.tar"], ["nosuch.tar", "neither a file nor"]),
        (["data", "fetch", "--from", "http://x/y", "--checksum", "md5:0"], ["md5:0", "sha256"]),
        (["data", "verify", "--data-root", "nosuch"], ["nosuch", "not a folder"]),
        (["data", "info", "magic", "--dequantise"], ["magic", "is not a file"]),
        (["data", "info", "power"], ["power", "--data-root"]),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(90, 2))
    pd.DataFrame(rows, columns=["mass", "flux"]).assign(kind="a").to_csv("my.csv", index=False)
    with datasets.registry.temporary():
        line = refused(*arguments)
    assert all(text in line for text in expected), line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[studies]\nstudy = 'cost'", "suite 's.toml': studies: write [[studies]]"),
        ("studies = ['cost']", "studies.0: write a table"),
        ("threads = 1", "needs a value for 'studies'"),
        ("seeds = 3\nstudies = []", "seeds: write a list, seeds = [3] (got 3)"),
        ("{} datasets = 'moons'", 'datasets: write a list, datasets = ["moons"]'),
        ("{} datasets = [3]", "datasets.0: write a text in quotes (got 3)"),
        ("{} datasets = []\nupdates = 2.5", "updates: write a whole number (got 2.5)"),
        ("{} datasets = []\ntraining = {{ clip = 'a' }}", "training.clip: write a number (got"),
        (
            "{} datasets = []\nparameters = 3\nsizes = {{ hidden = 3 }}",
            "study 'density': sizes.hidden = 3 and parameters = 3 both decide the width",
        ),
    ],
)
def test_a_fault_of_a_suite_names_its_place_and_the_remedy(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(text.format("[[studies]]\nstudy = 'density'\nflows = ['maf']\n"))
    assert message in refused("run", "s.toml", "--dry-run")


STEPS = ["studies", "density", "0", "99", "-1", "²", "", "flows", "training", "clip", "name", "x"]
VALUES = ["5", "inf", "nan", "true", "'x'", "[]", "{}", "[[1]]", "1979-05-27", "9" * 400, "a\nb=1"]


@settings(max_examples=80)
@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=5), st.sampled_from(VALUES))
def test_every_override_is_taken_or_refused_in_words(steps, value) -> None:
    with contextlib.suppress(ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        suite.read("smoke", [f"{'.'.join(steps)}={value}"])
