"""Finding members: choices in every refusal, duplicates, plug-in files and entry points."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from nflows.transforms import IdentityTransform
from torch import nn

import flows
from flows.continuous.trace import TRACES, Trace
from flows.member import SIZES
from flows.registry import Registry, load_plugin
from variants import options_of

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


def test_names_are_sorted_and_each_has_a_member() -> None:
    """Every name leads to a member with a description and the module that registered it."""
    names = flows.names()
    assert names == sorted(set(names))
    for name in names:
        member = flows.members[name]
        assert member.name == name
        assert flows.members.module_of(name) in sys.modules
        assert set(member.uses) <= set(member.defaults)


def test_unknown_flow_lists_the_choices() -> None:
    """The error names what was asked for and everything there is."""
    with pytest.raises(ValueError, match="'glwo'") as caught:
        flows.build("glwo", 2)
    for name in flows.names():
        assert name in str(caught.value)


@pytest.mark.parametrize("name", flows.names())
def test_options_are_refused_with_those_that_exist(name: str) -> None:
    """An option that a member lacks, and a size that it does not use."""
    member = flows.members[name]
    with pytest.raises(ValueError, match=f"{name!r}.*'hiden'") as caught:
        flows.build(name, 2, hiden=3)
    assert all(option in str(caught.value) for option in member.defaults)
    for size in SIZES:
        if size not in member.uses:
            with pytest.raises(ValueError, match=f"{name!r}.*{size!r}"):
                flows.build(name, 2, **{size: 1})
            assert size not in member.defaults


@pytest.mark.parametrize("name", flows.names())
@pytest.mark.parametrize("value", [0, -1, 2.0, "3", True, None])
def test_sizes_are_whole_numbers_from_one(name: str, value: Any) -> None:
    """Each size is named with the value that was received."""
    for size in ("dim", *(s for s in flows.members[name].uses if s != "context_dim")):
        sizes = {"dim": 2, size: value}
        with pytest.raises(ValueError, match=f"{name!r}.*{size} .*{value!r}"):
            flows.build(name, **sizes)
    if value != 0 and "context_dim" in flows.members[name].uses:
        with pytest.raises(ValueError, match=f"context_dim .*{value!r}"):
            flows.build(name, 2, context_dim=value)


@pytest.mark.parametrize("name", flows.names())
def test_choices_of_an_option_are_listed(name: str) -> None:
    """An unknown value of an option that has names to choose from."""
    for option, hint, default in options_of(name):
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        choices = TRACES if isinstance(default, Trace) else choices
        if choices:
            with pytest.raises(ValueError, match="'nope'") as caught:
                flows.build(name, 2, **{option: "nope"})
            assert all(choice in str(caught.value) for choice in choices)


def test_defaults_are_filled_in_and_sizes_selected() -> None:
    """``complete`` fills in every option; ``applicable`` drops the sizes that are not used."""
    member = flows.members["dense"]
    assert member.complete({"layers": 7})["layers"] == 7
    assert set(member.complete({})) == set(member.defaults)
    assert member.applicable({"layers": 3, "context_dim": 2}) == {"layers": 3}


def test_register_checks_the_signature() -> None:
    """``uses`` names sizes that the factory takes as keyword arguments."""
    with pytest.raises(TypeError, match=r"'odd'.*\['depth'\].*\['hidden'\]"):

        @flows.register("odd", uses=("hidden", "depth"))
        def _odd(dim: int, *, hidden: int = 3) -> nn.Module:
            raise AssertionError

    with pytest.raises(TypeError, match="width"):

        @flows.register("odd", uses=("width",))
        def _wide(dim: int, *, width: int = 3) -> nn.Module:
            raise AssertionError

    assert "odd" not in flows.names()


def test_a_factory_may_return_a_flow() -> None:
    """A Flow is taken as it is, a Bijection is wrapped with its dimension."""
    flow = flows.Flow(IdentityTransform(), dim=2)

    @flows.register("ready", uses=())
    def _ready(dim: int) -> flows.Flow:
        """A flow that exists."""
        return flow

    assert flows.build("ready", 2) is flow
    assert flows.build("realnvp", 4).dim == 4


def test_duplicates_name_the_earlier_module() -> None:
    """A taken name is refused; the same module may register anew (a reload)."""
    registry: Registry[int] = Registry("thing", ())
    registry.add("one", 1, "first.module")
    registry.add("one", 2, "first.module")
    assert registry["one"] == 2
    with pytest.raises(ValueError, match=r"thing 'one' of second\.module .* by first\.module"):
        registry.add("one", 3, "second.module")
    assert registry["one"] == 2


def test_a_plug_in_file_adds_a_flow(tmp_path: Path) -> None:
    """A file registers a member, which is built and named like every other; once."""
    path = _plugin(tmp_path / "my_flow.py", PLUGIN.format(name="my_flow"))
    module = load_plugin(path)
    assert "my_flow" in flows.names()
    assert flows.members.module_of("my_flow") == module.__name__
    assert flows.members["my_flow"].description == "Scales columns, and nothing else."
    assert flows.build("my_flow", 3, layers=2, power=4).log_prob(torch.zeros(5, 3)).shape == (5,)
    assert load_plugin(str(path)) is module


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


def test_a_member_that_cannot_be_imported_says_so_each_time(
    registry_of: Callable[..., Registry[int]],
) -> None:
    """A failing module of the packages is an error at every look-up, not an unknown name later."""
    registry = registry_of("import no_such_module_at_all")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
            list(registry)


@pytest.mark.parametrize(
    ("module", "remedy"),
    [("flows.discrete.needy", r"'flowgauge\[no_such_package\]'"), ("theirs", "no_such_package")],
)
def test_a_member_without_its_package_is_not_listed_and_says_what_to_install(
    module: str, remedy: str
) -> None:
    """Ours by an extra of this distribution, others' by the package's name."""
    registry: Registry[int] = Registry("flow", ("flows.discrete",))
    registry.add("plain", 1, module)
    registry.add("needy", 2, module, requires="no_such_package")
    assert list(registry) == ["plain"]
    for look in (registry.__getitem__, registry.module_of):
        with pytest.raises(
            ValueError,
            match=f"^flow 'needy' needs the package 'no_such_package', which is not installed: "
            f"pip install {remedy}$",
        ):
            look("needy")
    with pytest.raises(ValueError, match=r"unknown flow 'neddy'; choose from: plain$"):
        registry["neddy"]


def test_a_member_is_there_as_soon_as_its_package_is() -> None:
    """A package that can be found is not imported for it."""
    registry: Registry[int] = Registry("flow", ())
    registry.add("fine", 1, "theirs", requires="wave")
    sys.modules.pop("wave", None)
    assert registry["fine"] == 1
    assert list(registry) == ["fine"]
    assert "wave" not in sys.modules
