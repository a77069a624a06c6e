"""Revisions of anyone's packages: where they lie, what they declare, and what is timed of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.ab import worker
from benchmarks.ab.checkouts import Revision
from benchmarks.ab.session import RevisionWorker, compare
from benchmarks.ab.subject import OWN, Subject, resolve
from benchmarks.measure.machine import git

PROJECT = """
[project]
dependencies = ["torch"]
[project.entry-points."flowgauge.flows"]
one = "mine.one"
two = "mine.inner.two:register"
other = "mines.three"
"""


def lay(folder: Path, *names: str) -> Path:
    """Empty files in a folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("files", "package", "place"),
    [
        (["mine/__init__.py", "tests/mine/__init__.py"], "mine", "."),
        (["src/mine/__init__.py", "old/lib/mine/__init__.py"], "mine", "src"),
        (["python/mine.py"], "mine", "python"),
        (["src/mine/inner/__init__.py"], "mine.inner", "src"),
        (["src/mines/__init__.py"], "mine", None),
    ],
)
def test_a_package_lies_in_its_least_deep_place(
    tmp_path: Path, files: list[str], package: str, place: str | None
) -> None:
    lay(tmp_path, *files)
    expected = None if place is None else tmp_path / place
    assert Subject(package).source(tmp_path) == expected


def test_a_revision_declares_its_own_modules(tmp_path: Path) -> None:
    lay(tmp_path, "lib/src/mine/__init__.py")
    (tmp_path / "lib" / "pyproject.toml").write_text(PROJECT)
    subject = Subject("mine", root=tmp_path)
    assert subject.task(tmp_path)["modules"] == ["mine.inner.two", "mine.one"]
    assert subject.project(tmp_path)["dependencies"] == ["torch"]
    assert Subject(OWN).task(tmp_path)["modules"] == []
    assert Subject("", "x.py").project(tmp_path) == {}


def test_options_name_a_subject_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "repository"
    lay(root, "inner/flow.py")
    git(root, "init", "-q")
    monkeypatch.chdir(root / "inner")
    assert resolve(None, None) == Subject(OWN, root=root)
    assert resolve(None, Path("flow.py")) == Subject("", "inner/flow.py", root)
    assert resolve("mine.inner", Path("flow.py")).name == (
        "package 'mine.inner' and plug-in 'inner/flow.py'"
    )
    for package, plugin in (("mine/inner", None), ("a..b", None), (None, lay(tmp_path, "x.py"))):
        with pytest.raises(ValueError, match=r"--package|outside of the repository"):
            resolve(package, plugin)


def test_a_revision_without_the_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'v1' has no package 'mine': .*--package"):
        RevisionWorker(Revision("v1", "v1", tmp_path), sys.executable, None, Subject("mine"))


@given(st.sampled_from(["src", "src/mine", ".venv/lib", "absent", "."]))
def test_paths_of_the_tree_have_counterparts_but_those_of_environments(
    tmp_path_factory: pytest.TempPathFactory, inner: str
) -> None:
    """What lies in both trees is the revision's; an environment in the tree is no part of it."""
    folder = tmp_path_factory.mktemp("trees")
    root, checkout = folder / "root", folder / "checkout"
    for tree in (root, checkout):
        lay(tree, "src/mine/__init__.py", ".venv/lib/x.py")
    lay(root, "absent/x.py")
    task = {"root": str(root), "checkout": str(checkout)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "prefix", str(root / ".venv"))
        moved = worker.counterpart(str(root / inner), task)
        assert not worker.counterpart(str(checkout / inner), task)
        assert not worker.counterpart(str(folder), task)
    kept = inner in (".venv/lib", "absent")
    assert moved == ("" if kept else str(checkout / inner) if inner != "." else f"{checkout}/.")


FLOW = """
import flows
from nflows.transforms import LULinear

@flows.register("theirs_{0}", uses=())
def flow(dim):
    "One layer."
    return LULinear(dim)
"""


@pytest.mark.system
def test_a_module_that_cannot_be_imported_is_named_and_the_others_are_timed(tmp_path: Path) -> None:
    """By its file and line; a fault of both revisions is the base's."""
    revisions = []
    for name, code in (("base", FLOW.format("two")), ("new", "\nimport no_such_module")):
        lay(tmp_path / name, "mine/__init__.py", "mine/inner/__init__.py")
        (tmp_path / name / "pyproject.toml").write_text(PROJECT)
        (tmp_path / name / "mine/one.py").write_text(FLOW.format("one"))
        (tmp_path / name / "mine/inner/two.py").write_text(code)
        revisions.append(Revision(name, name, tmp_path / name))
    options = {"seconds": 1.0, "factor": 1e9, "subject": Subject("mine", root=tmp_path / "tree")}
    results = compare(revisions, [sys.executable] * 2, [], **options)
    assert {name: result.exception for name, result in results.items()} == {
        "mine.inner.two": "failed in new",
        "theirs_one/gradient": "",
        "theirs_two/gradient": "vanished",
    }
    assert results["mine.inner.two"].failed
    reason = results["mine.inner.two"].reason
    assert reason.startswith("cannot be imported (mine/inner/two.py, line 2): ModuleNotFoundError")
    both = compare([revisions[1]] * 2, [sys.executable] * 2, [], **options)
    assert not any(result.failed for result in both.values())
