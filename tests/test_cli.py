"""The command line: usage errors in one line with status 2, and plans."""

from __future__ import annotations

import io
import itertools
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from typer.testing import CliRunner

from benchmarks.cli.app import app
from benchmarks.cli.console import PlainConsole, plain, styled
from benchmarks.core.case import Case
from benchmarks.core.naming import apart, duration, labels
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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "nosuch"], ["nosuch", "smoke"]),
        (["run", "nosuch.toml"], ["nosuch.toml", "does not exist"]),
        (["run", "smoke", "-s", "colour=1"], ["colour", "threads"]),
        (["run", "smoke", "-s", "threads"], ["threads", "key=value"]),
        (["run", "smoke", "-s", "threads=none"], ["threads", "none"]),
        (["run", "smoke", "-s", "cost.speed=1"], ["speed", "batch"]),
        (["run", "smoke", "-s", "density.scoring.row=1"], ["scoring.row", "checked_rows"]),
        (["run", "smoke", "-s", "density.training.shedule=1"], ["shedule", "warmup"]),
        (["run", "smoke", "-s", "density.flows.0.training.shedule=1"], ["shedule", "warmup"]),
        (["run", "smoke", "-s", "studies.9.batch=1"], ["studies.9.batch"]),
        (["run", "smoke", "-s", "studies.0.study=nosuch"], ["nosuch", "density"]),
        (["run", "smoke", "-s", 'density.datasets=["nosuch"]'], ["nosuch", "magic"]),
        (["run", "smoke", "-s", 'nfe.flows=["nosuch"]'], ["nosuch", "realnvp"]),
        (["run", "smoke", "-s", 'density.baselines=["nosuch"]'], ["nosuch", "mixture"]),
        (["run", "smoke", "--device", "nosuch"], ["nosuch"]),
        (["run", "smoke", "--plugin", "nosuch.py"], ["nosuch.py"]),
        (["run", "smoke", "-s", "cost.sizes.hiden=3"], ["hiden", "hidden"]),
        (["run", "smoke", "-s", "seeds=[]"], ["seeds", "at least 1"]),
        (["run", "smoke", "--out", __file__], ["test_cli.py", "cannot be a results folder"]),
        (["run", "complexity", "--study", "costs"], ["'costs'", "cost, nfe, trace", "identities"]),
        (["run", "smoke", "-s", "costs.seconds=2"], ["'costs'", "cost, density", "threads"]),
        (["run", "smoke", "-s", "studies=2", "-s", "cost.batch=2"], ["cost.batch=2"]),
        (["run", "smoke", "--threads", "0"], ["threads", "got 0"]),
        (["status", "nosuch"], ["nosuch", "smoke"]),
        (["status", str(ROOT / "docs")], ["suite.json", f"--out {ROOT / 'docs'}"]),
        (["report", "nosuch"], ["folder", "nosuch"]),
        (["check", "nosuch"], ["nosuch", "realnvp"]),
        (["check", "maf", "-s", "hiden=3"], ["hiden", "hidden"]),
        (["check", "maf", "-s", "hidden"], ["hidden", "key=value"]),
        (["check", "maf", "-s", "dim=3"], ["--dim"]),
        (["check", "maf", "--dim", "3", "--dim", "-2"], ["--dim -2", "1 or more"]),
        (["check", "maf", "planar", "-s", "hidden=4"], ["planar", "hidden"]),
        (["check", "nosuch.py"], ["nosuch.py", "does not exist"]),
        (["check", __file__], ["test_cli.py", "registers no flow"]),
        (["check", "planar", "--dim", "1", "--csv", "/"], ["'/'", "directory"]),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments, expected):
    result = cli.invoke(app, arguments)
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    for text in expected:
        assert text in result.stderr


def test_dry_run_prints_cases_and_budget_and_measures_nothing(tmp_path):
    result = cli.invoke(app, ["run", "smoke", "--dry-run", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert f"{len(suite.read('smoke').cases())} cases" in result.stdout
    assert not (tmp_path / "out").exists()


def test_dry_run_names_the_case_whose_flow_cannot_be_constructed(tmp_path):
    wrong = 'cost.flows=["maf", {flow = "realnvp", options = {context_dim = -1}}]'
    arguments = ["run", "smoke", "--study", "cost", "--dry-run", "-s", wrong]
    result = cli.invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "cost realnvp" in result.stderr
    assert "context_dim" in result.stderr


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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.254, "0.25 s"), (59, "59 s"), (90, "1.5 min"), (5400, "1.5 h")],
)
def test_durations_have_a_unit_of_their_size(seconds, text):
    assert duration(seconds) == text


def test_a_plan_tells_seconds():
    """Of each case, and of all."""
    few = ["-s", 'identities.flows=["maf"]', "-s", "identities.bottlenecks=[[4, 2]]"]
    result = cli.invoke(app, ["run", "complexity", "--study", "identities", "--dry-run", *few])
    assert re.fullmatch(r"\d+ cases, about \d+ s", result.stdout.splitlines()[-1])
    assert "0.5 s" in result.stdout


@cache
def _cases(name):
    return suite.read(name).cases()


def test_studies_of_a_suite_have_its_cases():
    """With the same keys, in the same order, whichever of them are named."""
    whole = suite.read("complexity")
    for names in (["identities"], ["trace", "nfe"]):
        cases = [case.key for case in _cases("complexity") if case.study in names]
        assert [case.key for case in whole.only(names).cases()] == cases


def test_a_results_folder_stands_for_the_suite_that_was_run_there(tmp_path):
    """Its plan is asked, and the folder itself for its records."""
    folder = tmp_path / "mine"
    shutil.copytree(ROOT / "results" / "truth", folder, ignore=shutil.ignore_patterns("report"))
    plan = json.loads((folder / "suite.json").read_text())
    plan["suite"]["seeds"] = [0, 7]
    (folder / "suite.json").write_text(json.dumps(plan))
    assert suite.read(str(folder)).seeds == (0, 7)
    cases = suite.read(str(folder)).cases()
    new = [case.key for case in cases if case.seeds.init == 7]
    result = cli.invoke(app, ["status", str(folder), "--json", "-"])
    assert result.exit_code == 1
    groups = json.loads(result.stdout)
    assert [entry["key"] for entry in groups["missing"]] == new != []
    assert len(groups["done"]) + len(groups["stale"]) == len(cases) - len(new)
    (folder / "suite.json").write_text("[]")
    assert "is not a plan" in cli.invoke(app, ["status", str(folder)]).stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[studies]\nstudy = 'cost'", "suite 's.toml': studies: write [[studies]]"),
        ("studies = ['cost']", "studies.0: write a table"),
        ("threads = 1", "needs a value for 'studies'"),
        ("seeds = 3\nstudies = []", "seeds: write a list, seeds = [3] (got 3)"),
        (
            "{} datasets = 'moons'",
            "study 'density': datasets: write a list, datasets = [\"moons\"]",
        ),
        ("{} datasets = 3", "datasets: write a list, datasets = [3] (got 3)"),
        ("{} datasets = [3]", "datasets.0: write a text in quotes (got 3)"),
        ("{} datasets = []\nsizes = 3", "sizes: write a table"),
        ("{} datasets = []\nsizes = {{ hiden = 3 }}", "has no size 'hiden'; choose from: hidden"),
        ("{} datasets = []\nupdates = 2.5", "updates: write a whole number (got 2.5)"),
        ("{} datasets = []\ntraining = {{ clip = 'a' }}", "training.clip: write a number (got"),
        (
            "{} datasets = []\nparameters = 3\nsizes = {{ hidden = 3 }}",
            "study 'density': sizes.hidden = 3 and parameters = 3 both decide the width",
        ),
        (
            "[[studies]]\nstudy = 'cost'\nflows = []\ndims = 2",
            "study 'cost': dims: write a list, dims = [2] (got 2)",
        ),
        (
            "[[studies]]\nstudy = 'cost'\nflows = []\ndims = [2]\nbatch = 'a'",
            "batch: write a whole number",
        ),
    ],
)
def test_a_fault_of_a_suite_names_its_place_and_the_remedy(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(text.format("[[studies]]\nstudy = 'density'\nflows = ['maf']\n"))
    result = cli.invoke(app, ["run", "s.toml", "--dry-run"])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_long_value_is_cut(tmp_path):
    (tmp_path / "s.toml").write_text(f"threads = {list(range(99))}\nstudies = []")
    result = cli.invoke(app, ["run", str(tmp_path / "s.toml")])
    assert result.stderr.endswith(" …)\n")
    assert "[0, 1, 2" in result.stderr


@pytest.mark.parametrize("name", suite.names())
def test_every_suite_expands_to_distinct_cases(name):
    """And a person can tell them apart, by labels that say no more than that takes."""
    cases = _cases(name)
    assert len({case.key for case in cases}) == len(cases) > 0
    names = labels(cases)
    assert len(set(names.values())) == len(cases)
    for case in cases:
        assert names[case.key].startswith(case.label)


def test_equal_labels_say_what_differs():
    """A nested option by its last name; what only one of them has, too."""
    rows = [("glow", {"linear": "lu", "solver": {"rtol": 1e-5}}), ("glow", {"linear": "naive"})]
    assert apart(rows) == ["glow linear=lu rtol=1e-05", "glow linear=naive"]
    assert apart([("glow", {"a": 1}), ("maf", {"a": 2}), ("glow", {"a": 1})]) == [
        "glow",
        "maf",
        "glow",
    ]


def test_overrides_reach_every_part_of_a_suite():
    overrides = ["threads=1", "seeds=[3, 4]", "cost.batch=7", "density.training.clip=2.0"]
    chosen = suite.read("smoke", overrides)
    assert (chosen.threads, chosen.seeds) == (1, (3, 4))
    cases = chosen.cases()
    assert {case.batch for case in cases if case.study == "cost"} == {7}
    trained = [case for case in cases if case.study == "density" and case.updates]
    assert {case.settings["training"]["clip"] for case in trained} == {2.0}


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 3}, {"flow": "glow"}, {"batch": 9}, {"updates": 1}, {"threads": 2},
        {"options": {"hidden": 8}}, {"settings": {"x": 1}}, {"dtype": "float64"},
        {"device": "cuda"}, {"dataset": "magic"}, {"protocol": "0"}, {"seeds": {"noise": 1}},
    ],
)  # fmt: skip
def test_whatever_can_change_a_number_changes_the_key(change):
    case = {"study": "cost", "flow": "realnvp", "dim": 2, "batch": 4, "options": {"hidden": 4}}
    assert Case(**case).key != Case(**{**case, **change}).key
    assert Case(**case).key == Case(**dict(reversed(case.items()))).key


def test_check_prints_a_table_for_each_flow_and_dimension_and_writes_its_figures(tmp_path):
    file = tmp_path / "figures.csv"
    arguments = ["planar", "realnvp", "--dim", "1", "--dim", "2", "-s", "layers=2"]
    result = cli.invoke(app, ["check", *arguments, "--csv", str(file)])
    assert result.exit_code == 0
    assert "planar, D = 2: passed" in result.stdout
    assert "a coupling needs" in result.stdout  # why it cannot be built at D = 1
    assert "2 flows at 2 dimensions: all passed" in result.stdout
    rows = pd.read_csv(file)
    assert set(zip(rows["flow"], rows["dim"], strict=True)) == set(
        itertools.product(("planar", "realnvp"), (1, 2))
    )
    assert set(rows["status"]) == {"pass", "not applicable"}
    passed = rows[rows["status"] == "pass"]
    assert (passed["figure"] <= passed["bound"]).all()


PLAIN = """
import torch

import flows


class Turned(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(dim))
        self.rotation = torch.eye(dim)  # no buffer: it stays in float32

    def forward(self, x, context=None):
        return (x * self.scale.exp()) @ self.rotation, self.scale.sum().expand(len(x))

    def inverse(self, z, context=None):
        return (z @ self.rotation.T) * (-self.scale).exp(), -self.scale.sum().expand(len(z))


@flows.register("turned", uses=())
def turned(dim):
    \"\"\"A matrix that is a plain attribute.\"\"\"
    return Turned(dim)
"""


def test_a_fault_of_many_rows_is_printed_once(tmp_path):
    (tmp_path / "turned.py").write_text(PLAIN)
    result = cli.invoke(app, ["check", str(tmp_path / "turned.py"), "--dim", "2"])
    assert result.exit_code == 1
    lines = [line for line in result.stdout.splitlines() if "same dtype" in line]
    assert len(lines) == 1
    assert re.search(r"^  [a-z -]+ and \d+ more: RuntimeError", lines[0])


BROKEN = """
import flows
from nflows.transforms import LULinear


class Wrong(LULinear):
    def forward(self, inputs, context=None):
        z, ladj = super().forward(inputs, context)
        return z, ladj + 0.01


@flows.register("wrong_constant", uses=())
def wrong(dim):
    \"\"\"A log-determinant that is off by a constant.\"\"\"
    return Wrong(dim)
"""


@pytest.mark.filterwarnings("ignore:.*triangular_solve is deprecated")
def test_check_of_a_file_judges_what_it_registers(tmp_path):
    file = tmp_path / "wrong_flow.py"
    file.write_text(BROKEN)
    result = cli.invoke(app, ["check", str(file), "--dim", "2"])
    assert result.exit_code == 1
    assert "wrong_constant, D = 2: FAILED" in result.stdout
    failed = [line for line in result.stdout.splitlines() if line.rstrip().endswith("fail")]
    assert any(line.startswith(" log-determinant ") for line in failed)
    assert "failed: wrong_constant at D = 2" in result.stdout
