"""The explorer: its data against the frame, what it escapes, its commands; and in a browser."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from benchmarks import datasets
from benchmarks.core.case import Case, Seeds
from benchmarks.core.frame import load
from benchmarks.core.metrics import METRICS
from benchmarks.core.record import strict_json
from benchmarks.report import EXPLORER, explore
from browsers import opened
from committed import ROOT
from records import HERE, cost, folder, record
from runs import flowgauge

HOSTILE = "</script><img src=x onerror=window.struck=1><!-- ${window.struck=1} & \u2028"
LEVELS = {"maf": -1.0, HOSTILE: -1.5, "cnf": -9.0, "glow": -1.2}  # test_ll by flow
SEEDS, DIMS = range(5), (2, 4, 8, 16)
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.S)
slow = pytest.mark.slow
POINT = "[aria-label=dot] > *"


def _trained(flow: str, seed: int) -> Any:
    about = {"flow": flow, "dim": 6, "batch": 4, "updates": 90, "dataset": HOSTILE}
    case = Case(study="density", seeds=Seeds.of(seed), **about)
    flops = 1e9 * (1 + list(LEVELS).index(flow))
    metrics = {"test_ll": LEVELS[flow] + seed / 100, "test_ll_se": 0.1, "train_flops": flops}
    notes = {"data": {"split": "random", "rows": {"train": 900, "test": 100}, "about": HOSTILE}}
    return record(case, metrics, notes=notes, commit=HOSTILE, started="2026-01-01T00:00:00")


def _solved(dim: int, width: int) -> Any:
    about = {"flow": "ffjord", "dim": dim, "batch": 4, "updates": 9, "dataset": f"mixture_{dim}"}
    case = Case(study="nfe", options={"hidden": width}, **about)
    return record(case, {"nfe_end": 20 + dim, "nfe_start": 14}, machine={**HERE, "cpu": HOSTILE})


def content_of(path: Path) -> Any:
    """The data of a page, which are strict JSON."""
    (data,) = DATA.findall(path.read_text("utf-8"))
    return strict_json(data)


@pytest.fixture(autouse=True, scope="module")
def _forgotten() -> Iterator[None]:
    """Data sets that records name are forgotten: a name with a slash is that of a file."""
    with datasets.registry.temporary():
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of each view, with text that is not ours."""
    records = [_trained(flow, seed) for flow in LEVELS for seed in SEEDS]
    records += [cost(dim, flops=100.0 * dim**2) for dim in DIMS]
    records += [_solved(dim, width) for dim in DIMS for width in (8, 64)]
    return folder(tmp_path_factory.mktemp("results") / "it's", *records)


@pytest.fixture(scope="module")
def path(results: Path) -> Path:
    return explore(results)


@pytest.fixture(scope="module")
def data(path: Path) -> Any:
    return content_of(path)


def test_the_page_holds_the_values_of_the_frame(results, data):
    frame = load(results).set_index("key")
    assert [view["name"] for view in data["views"]] == ["board", "effort", "cost", "nfe"]
    kinds = {"models": ("mean", 1), "costs": ("median", 4), "evaluations": ("mean", 1)}
    for kind, (way, rows) in kinds.items():
        for point in data["points"][kind]:
            own = frame.loc[point["records"]]
            of = {n: v for n, v in point["values"].items() if n in own and v is not None}
            assert of
            for name, value in of.items():
                per = rows if METRICS.get(name) and METRICS[name].per == "batch" else 1
                assert value == pytest.approx(own[name].agg(way) / per)
    for key, fields in data["records"].items():
        metrics = data["parts"][fields["metrics"]]
        assert metrics == {name: frame.loc[key, name] for name in metrics}


def test_models_are_paired_with_the_best(data):
    points = {point["series"]: point for point in data["points"]["models"]}
    assert points["maf"]["standing"] == "best"
    assert points["cnf"]["standing"] == "behind"
    for flow, level in LEVELS.items():
        assert points[flow]["values"]["behind"] == pytest.approx(LEVELS["maf"] - level)
        assert points[flow]["splits"] == len(SEEDS)
    assert points["cnf"]["halves"]["behind"] < points["cnf"]["halves"]["test_ll"]


def test_text_of_others_stays_within_the_data(path, data):
    text = path.read_text("utf-8")
    assert HOSTILE in {point["series"] for point in data["points"]["models"]}
    assert HOSTILE not in text
    assert "<img" not in text
    assert "default-src 'none'" in text
    for library in ("Observable Plot", "d3", "isoformat", "interval-tree-1d"):
        assert re.search(rf"{library}.{{0,400}}Copyright", text, re.S)  # its licence


def test_the_command_of_a_record_measures_its_case(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT.parent)
    content = content_of(explore("results/evaluations", out=tmp_path))
    for kind in ("costs", "evaluations"):
        (key, *_) = content["points"][kind][0]["records"]
        program, *words = shlex.split(content["parts"][content["records"][key]["again"]])
        assert program == "flowgauge"
        assert key in flowgauge(*words, "--dry-run").output
    flowgauge(*(("0" * 16 if word == key else word) for word in words), "--dry-run", status=2)


def test_an_explorer_is_written_where_a_report_may_be(results, tmp_path):
    for _ in range(2):  # into a new folder, and again
        flowgauge("report", results, "--explorer", "--out", tmp_path / "new")
    assert [p.name for p in (tmp_path / "new").iterdir()] == [EXPLORER]
    flowgauge("report", results, "--explorer", "--out", tmp_path, status=2)  # beside other files
    only = folder(tmp_path / "only", record(Case(study="probe", flow="maf", dim=2, batch=1), {}))
    flowgauge("report", only, "--explorer", "--out", tmp_path / "none", status=2)  # nothing to show
    assert not (tmp_path / "none").exists()


@pytest.fixture(params=(390, 1400))
def page(request: pytest.FixtureRequest, chromium: Browser, path: Path) -> Iterator[Page]:
    """The page without a network, which has no fault and takes nothing but its file."""
    faults: list[object] = []
    with opened(chromium, path, request.param) as page:
        page.context.set_offline(True)
        page.on("pageerror", lambda error: faults.append(error))
        page.on("console", lambda message: faults.append(message.text))
        page.on("request", lambda request: faults.append(request.url))
        page.reload()
        yield page
        assert page.evaluate("window.struck") is None
        assert faults == [path.as_uri()]


@slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_view_fits_and_names_its_points(page, data, scheme):
    page.emulate_media(color_scheme=scheme)
    for view in data["views"]:
        page.click(f"nav button[name={view['name']}]")
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        names = page.locator(POINT).evaluate_all("dots => dots.map(dot => dot.ariaLabel)")
        assert len(names) == page.locator("tbody tr").count() > 1
        assert all(data["metrics"][view["x"][0]]["label"] in name for name in names)
        assert page.locator("#title").inner_text().startswith(view["title"])


@slow
def test_the_address_restores_what_was_shown(page, chromium, path):
    page.click("nav button[name=effort]")
    page.select_option("select[name=y]", "behind")
    page.uncheck("#families input[name=glow]")
    page.locator("tbody button").nth(1).click()
    text = page.locator("body").inner_text()
    assert "glow" not in page.locator("tbody").inner_text()
    with opened(chromium, path, page.viewport_size["width"]) as other:
        other.goto(page.url)
        assert other.locator("body").inner_text() == text
        assert other.locator("[name=y]").input_value() == "behind"
    page.go_back()
    assert page.locator("#panel").is_hidden()
    page.evaluate("location.hash = 'view=none&data=none&x=constructor&key=__proto__&off=,'")
    page.locator("nav [aria-current=page][name=board]").wait_for()


@slow
def test_keys_lead_to_a_record_and_its_command(page):
    page.click("nav button[name=cost]")
    for _ in range(9):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.role") == "button":
            break
    page.keyboard.press("ArrowRight")
    name = page.evaluate("document.activeElement.ariaLabel")
    assert page.locator("#readout").inner_text() == name
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "panel"
    assert name in page.locator("#panel").inner_text()
    assert strict_json(page.locator("#fields").inner_text())["case"]["dim"] == DIMS[1]
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.ariaLabel") == name


@slow
def test_the_command_can_be_copied(chromium, tmp_path):
    (tmp_path / "of").symlink_to(ROOT / "evaluations")
    with opened(chromium, explore(tmp_path / "of", out=tmp_path / "page"), 1400) as page:
        page.locator("tbody button").first.click()
        page.click("text=Copy")
        assert page.locator("[role=status]").inner_text().strip() == "Copied"
        page.evaluate("document.body.append(document.createElement('textarea'))")
        page.focus("textarea")
        page.keyboard.press("Control+V")
        assert page.locator("textarea").input_value() == page.locator("#panel code").inner_text()
