"""Members from outside: plug-in files, entry points, and packages that are looked up late."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import flows
from benchmarks.execution.tasks import tasks
from flows.plugins import load_plugin
from flows.registry import Registry, needed
from runs import small

PLUGIN = '''
"""A plug-in with one flow."""
import flows
from flows.discrete.nflows_compat import ActNorm

@flows.register("{name}", uses=("layers",))
def scaled(dim, *, layers=1, power=2):
    """Scales columns, and nothing else."""
    return ActNorm(dim)
'''


def _plugin(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_plug_in_file_adds_a_flow(tmp_path: Path) -> None:
    """A file registers a member, which is built and named like every other; once."""
    path = _plugin(tmp_path / "my_flow.py", PLUGIN.format(name="my_flow"))
    module = load_plugin(path)
    assert "my_flow" in flows.names()
    assert flows.members.module_of("my_flow") == module.__name__
    assert flows.members["my_flow"].description == "Scales columns, and nothing else."
    assert flows.build("my_flow", 3, layers=2, power=4).log_prob(torch.zeros(5, 3)).shape == (5,)
    assert load_plugin(str(path)) is module


def test_a_process_needs_the_plug_ins_of_its_members_and_those_without_any(tmp_path: Path) -> None:
    """One flow's file does nothing to another's numbers; a file without members is for all."""
    texts = {"one": PLUGIN.format(name="one_flow"), "two": PLUGIN.format(name="two"), "bare": ""}
    one, two, bare = (_plugin(tmp_path / f"{stem}.py", text) for stem, text in texts.items())
    for path in (one, two, bare):
        load_plugin(path)
    assert [name for name in needed({"realnvp"}) if str(tmp_path) in name] == [str(bare)]
    assert [name for name in needed({"two"}) if str(tmp_path) in name] == [str(two), str(bare)]
    cases = small({"flow": "realnvp"}, {"flow": "one_flow"}, {"flow": "two"}).cases()
    listed = tasks(cases)
    assert len({task.name for task in listed}) == len(listed) == 6
    assert all(len({case.flow for case in task.cases}) == 1 for task in listed)
    assert [task.plugins for task in listed] == sorted(task.plugins for task in listed)


def test_a_plug_in_imports_what_lies_beside_it(tmp_path: Path) -> None:
    """And no module of its folder takes the place of one that is installed."""
    _plugin(tmp_path / "beside_the_plug_in.py", "NAME = 'imports_beside'")
    _plugin(tmp_path / "flows.py", "raise RuntimeError")
    text = "from beside_the_plug_in import NAME\n" + PLUGIN.replace('"{name}"', "NAME")
    load_plugin(_plugin(tmp_path / "imports.py", text))
    assert flows.members.module_of("imports_beside").endswith("imports")
    assert str(tmp_path) not in sys.path  # where new processes look for flows


def test_a_plug_in_cannot_take_a_members_name(tmp_path: Path) -> None:
    """The plug-in is refused, not the member that it imitates."""
    path = _plugin(tmp_path / "fake.py", PLUGIN.format(name="glow"))
    with pytest.raises(ValueError, match=r"'glow' .* already registered by flows\.discrete\.glow"):
        load_plugin(path)
    assert flows.members.module_of("glow") == "flows.discrete.glow"


@pytest.fixture
def registry_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Registry[int]]]:
    """Makes a registry over a package of one module, whose text registers by ``add``."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    target = sys.modules["registry_target"] = types.ModuleType("registry_target")

    def make(text: str, **arguments: Any) -> Registry[int]:
        _plugin(tmp_path / "some_members" / "__init__.py", "")
        _plugin(tmp_path / "some_members" / "one.py", f"from registry_target import add\n{text}\n")
        registry: Registry[int] = Registry("thing", ("some_members",), **arguments)
        target.add = registry.add  # type: ignore[attr-defined]
        return registry

    yield make
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("registry_target", "some_members", "entry"):
            del sys.modules[name]


def test_a_plug_in_is_refused_before_anything_was_looked_up(
    registry_of: Callable[..., Registry[int]],
) -> None:
    """Adding from outside discovers the packages first, so that they keep their names."""
    registry = registry_of("add('one', 1, __name__)")
    with pytest.raises(ValueError, match=r"already registered by some_members\.one"):
        registry.add("one", 2, "some.plugin")
    assert registry["one"] == 1


def test_two_plug_ins_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """A second file of the same name would pass for the first: it is refused."""
    load_plugin(_plugin(tmp_path / "a" / "mine.py", PLUGIN.format(name="mine")))
    with pytest.raises(ValueError, match=r"has the name of .*mine\.py.*rename"):
        load_plugin(_plugin(tmp_path / "b" / "mine.py", PLUGIN.format(name="mine")))


@pytest.mark.parametrize(
    "text", ["def broken(:\n", "import no_such_module_at_all\n", "raise RuntimeError('a\\nb')\n"]
)
def test_a_broken_plug_in_errs_in_one_line(tmp_path: Path, text: str) -> None:
    """The error names the file and its cause in one line, and a mended file is read again."""
    path = _plugin(tmp_path / "broken.py", text)
    with pytest.raises(
        ValueError, match=r"broken\.py' cannot be imported: line 1: \w+Error: "
    ) as caught:
        load_plugin(path)
    assert "\n" not in str(caught.value)
    _plugin(path, PLUGIN.format(name="mended"))
    importlib.invalidate_caches()
    load_plugin(path)
    assert "mended" in flows.names()


@pytest.mark.parametrize("name", ["missing.py", "folder", "flow.txt"])
def test_a_plug_in_is_a_python_file(tmp_path: Path, name: str) -> None:
    """A path that is missing, a folder or another kind of file."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "flow.txt").write_text("")
    with pytest.raises(ValueError, match=r"is not a Python file|missing\.py' does not exist"):
        load_plugin(tmp_path / name)


def test_entry_points_add_members_and_failures_only_warn(
    tmp_path: Path, registry_of: Callable[..., Registry[int]]
) -> None:
    """One distribution's fault is a warning, and the others are loaded."""
    registry = registry_of("", group="test.things")
    _plugin(tmp_path / "entry.py", "from registry_target import add\nadd('theirs', 1, __name__)\n")
    points = "[test.things]\nbad = no_such_module_at_all:member\ngood = entry\n"
    _plugin(tmp_path / "entry-1.dist-info" / "entry_points.txt", points)
    _plugin(tmp_path / "entry-1.dist-info" / "METADATA", "Name: entry\nVersion: 1\n")
    with pytest.warns(UserWarning, match=r"'no_such_module_at_all:member' was left out"):
        assert list(registry) == ["theirs"]
    assert list(registry) == ["theirs"]  # and once only: a second warning would be an error
    assert set(registry.left_out) == {"no_such_module_at_all:member"}
    assert "entry" in needed({"theirs"})
    assert "entry" not in needed({"other"})


def test_a_module_that_cannot_be_imported_is_left_out(
    registry_of: Callable[..., Registry[int]],
) -> None:
    """With one line, and the reason wherever a name is unknown."""
    registry = registry_of("import no_such_module_at_all")
    with pytest.warns(UserWarning, match="left out: ModuleNotFoundError") as warned:
        assert list(registry) == []
    assert len(warned) == 1
    with pytest.raises(ValueError, match="left out: ModuleNotFoundError"):
        registry["any"]
