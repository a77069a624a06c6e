"""Plug-ins: the files that their records depend on, their commits, settings, marks and ranks."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import flows
from benchmarks.core.naming import STAR, series
from benchmarks.execution.versions import commit_of, plugin_files
from benchmarks.measure.machine import git
from benchmarks.plotting.draw import looks
from benchmarks.studies.contender import expanded
from benchmarks.studies.density.tables import tables as density_tables
from benchmarks.studies.trainees import Trainee
from claim_examples import densities
from flows.plugins import load_plugin

FILES = {
    "plug/mine.py": "import os, torch, beside, far.deep\nfrom importlib import import_module\n"
    'import flows\n\n@flows.register("mine_{0}", uses=())\ndef make(dim):\n    '
    'import_module("late")\n',
    "plug/beside.py": "from sub import thing",
    "plug/sub/__init__.py": "",
    "plug/sub/thing.py": "from . import other",
    "plug/sub/other.py": "",
    "plug/late.py": "",
    "plug/unrelated.py": "",
    "work/far/__init__.py": "from .near import value",
    "work/far/near.py": "value = 1",
    "work/far/deep.py": "from far import near",
    "work/far/unused.py": "",
}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The module of a plug-in's file with helpers beside it and in a folder on the path."""
    for name, text in FILES.items():
        (path := tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("{0}", "flow"))
    for folder in ("plug", "work"):
        monkeypatch.syspath_prepend(tmp_path / folder)
    importlib.invalidate_caches()
    before = set(sys.modules)
    with flows.members.temporary():
        yield load_plugin(tmp_path / "plug" / "mine.py").__name__
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_every_file_of_its_own_counts_and_no_other(plugin: str, tmp_path: Path) -> None:
    """Helpers beside it, in packages, imported late, and under development elsewhere."""
    before = plugin_files(plugin)
    unrelated = {"plug/unrelated.py", "work/far/unused.py"}
    assert len(before) == len(FILES) - len(unrelated)
    for name, text in FILES.items():
        path = tmp_path / name
        path.write_text(text.replace("{0}", "flow") + "\n# changed\n")
        assert (plugin_files(plugin) != before) == (name not in unrelated), name
        path.write_text(text.replace("{0}", "flow"))


def test_a_distribution_is_not_followed_into_others() -> None:
    """As if the library were a plug-in: its files, and none of what it needs."""
    files = plugin_files("nflows.transforms")
    assert {"file nflows/transforms/base.py", "file nflows/utils/torchutils.py"} <= set(files)
    assert all(name.startswith("file nflows/") for name in files)
    assert not plugin_files("flows.flow")


def test_the_packages_that_hold_a_module_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python runs them first, though the module imports nothing of them."""
    for name in ("outer_of_mine/__init__.py", "outer_of_mine/inner/__init__.py"):
        (path := tmp_path / name).parent.mkdir(exist_ok=True)
        path.write_text("")
    (tmp_path / "outer_of_mine" / "inner" / "flow.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("outer_of_mine", "outer_of_mine.inner", "outer_of_mine.inner.flow"):
        monkeypatch.setitem(sys.modules, name, importlib.import_module(name))
    assert len(plugin_files("outer_of_mine.inner.flow")) == 3


def test_a_record_has_the_commit_and_whether_the_tree_was_dirty(
    plugin: str, tmp_path: Path
) -> None:
    assert commit_of(plugin) == {"file": "mine.py", "commit": ""}
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "plug", "work")
    who = ("-c", "user.name=n", "-c", "user.email=e")
    git(tmp_path, *who, "commit", "-qm", "first")
    head = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    (tmp_path / ".gitignore").write_text("__pycache__\n.gitignore\n")
    assert commit_of(plugin)["commit"] == head
    (tmp_path / "work" / "far" / "near.py").write_text("value = 2")
    assert commit_of(plugin)["commit"] == f"{head}-dirty"


def test_it_has_the_settings_of_its_peers(plugin: str) -> None:
    listed = [
        {"flow": "cnf", "updates": 7},
        {"flow": "maf", "options": {"layers": 2}},
        {"flow": "realnvp", "updates": 600, "training": {"learning_rate": 3e-3}},
        {"flow": "*", "updates": 50},
    ]
    trainees = {t.flow: t for t in expanded([Trainee.model_validate(part) for part in listed])}
    mine = trainees["mine_flow"]
    assert mine.updates == 600
    assert mine.training.model_dump(exclude_unset=True) == {"learning_rate": 3e-3}
    assert trainees["glow"].updates == 50


def test_it_is_marked_and_its_rank_is_stated() -> None:
    frame = densities({"maf": 1.0, "mine": 0.5, "glow": 0.0})
    frame = frame.assign(plugin=frame["flow"] == "mine", test_ll_se=0.01)
    assert set(series(frame)) == {"maf", f"{STAR} mine", "glow"}
    for table in density_tables(frame)[1:]:
        if "leads" in table.frame:
            assert f"{STAR} mine is 2 of 3 flows" in table.note
    assert set(series(pd.DataFrame(frame).drop(columns="plugin"))) == {"maf", "mine", "glow"}
    styles = looks(series(frame))
    own = styles.pop(f"{STAR} mine")["color"]
    assert own not in {style["color"] for style in styles.values()}
