"""The literature's figures, and the study that sets ours beside them."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import protocols
from benchmarks.core.frame import load
from benchmarks.core.study import Result, registry
from benchmarks.datasets.disk import Absent
from benchmarks.datasets.maf import PUBLISHED
from benchmarks.execution import suite
from benchmarks.execution.versions import data_files
from benchmarks.studies.published.tables import figures
from records import write_result

STUDY = registry["published"]
SCORING = ["published.scoring.rows=20", "published.scoring.checked_rows=5"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of data files, with nothing kept of another one."""
    monkeypatch.setenv("FLOWGAUGE_DATA", str(tmp_path))
    return tmp_path


def absent(name: str) -> bool:
    try:
        return not data_files(name)
    except Absent:
        return True


def test_every_figure_has_a_source_and_a_protocol_that_exists():
    for row in figures().rows:
        assert set(row.values) == set(PUBLISHED)
        assert row.protocol is None or row.protocol in protocols.names()
        if row.flow and row.protocol:
            for name in row.values:
                assert protocols.read(row.protocol).of(row.flow, name).batch
            assert figures().beside(row.flow, row.protocol) == row
    gaussian = figures().beside("gaussian", None)
    assert dict(gaussian.values) == {name: row.gaussian for name, row in PUBLISHED.items()}
    assert figures().beside("iaf", "nsf") is None


def test_paper_can_be_planned_without_any_data(root):
    """And each case of an absent set fails with the remedy, until its files come."""
    cases = suite.read("paper").cases()
    assert {case.dataset for case in cases} == set(PUBLISHED)
    for case in cases:
        if case.updates:
            rule = protocols.read(case.roles["by"]).of(case.flow, str(case.dataset))
            assert (case.batch, case.updates) == (rule.batch, rule.updates)
    assert all(absent(name) for name in PUBLISHED)
    for name in PUBLISHED:
        case, *_ = (c for c in cases if c.dataset == name and c.flow == "gaussian")
        (_, result), *_ = STUDY.measure([case])
        assert f"flowgauge data fetch {name}" in result.failure
    _miniboone(root)
    assert [name for name in PUBLISHED if not absent(name)] == ["miniboone"]


def _miniboone(root: Path) -> None:
    (root / "miniboone").mkdir(exist_ok=True)
    np.save(root / "miniboone/data.npy", np.random.default_rng(0).standard_normal((200, 43)))


def test_our_figures_stand_beside_the_papers(root):
    """With the data and the settings that differ said; what is absent says so."""
    _miniboone(root)
    overrides = ["published.updates=2", "seeds=[0]", 'published.datasets=["miniboone", "gas"]']
    cases = suite.read("paper", overrides + SCORING).cases()
    cases = [case for case in cases if case.flow in ("gaussian", "glow", "nsf_coupling")]
    for case in cases:
        ((_, result),) = STUDY.measure([case])
        write_result(root, case, result)
    beside, unlike, everything = STUDY.tables(load(root))
    rows = beside.frame.set_index(["dataset", "model"])
    words = unlike.frame.set_index(["dataset", "model"])["unlike"]
    row = rows.loc["miniboone", "nsf_coupling"]
    assert row["published_ll"] == -9.67
    assert row["difference"] == pytest.approx(row["test_ll"] + 9.67)
    assert row["comparable"] == "no: other data"
    note = words["miniboone", "nsf_coupling"]
    for text in ("NOT the published set", "updates at most 2, there 250,000", "no dropout"):
        assert text in note
    assert "batch" not in note  # it is the protocol's
    assert rows.loc["gas", "glow"]["test_ll"] == "absent"
    assert "flowgauge data fetch gas" in words["gas", "glow"]
    assert len(everything.frame) == len(figures().rows)
    assert {key for keys in beside.rows_from for key in keys} == {case.key for case in cases}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, "as far as settings go"), ({"batch": 7}, "no: trained otherwise")],
)
def test_two_figures_are_comparable_where_nothing_is_known_to_differ(tmp_path, changes, expected):
    cases = suite.read("paper", ["seeds=[0]", 'published.datasets=["power"]']).cases()
    (case,) = (case.changed(**changes) for case in cases if case.flow == "ffjord")
    notes = {"data_differs": ""}
    write_result(tmp_path, case, Result({"test_ll": 0.4, "test_ll_se": 0.1}, notes=notes))
    beside = STUDY.tables(load(tmp_path))[0]
    assert list(beside.frame["comparable"]) == [expected]
