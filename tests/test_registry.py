"""Registries: choices in every refusal, duplicates, members that need a package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from nflows.transforms import IdentityTransform
from torch import nn
from torch.distributions import Distribution

import flows
from flows.continuous.trace import TRACES, Trace
from flows.member import SIZES, Member
from flows.registry import Registry
from variants import options_of


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


@pytest.mark.parametrize("name", flows.own())
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


@pytest.mark.parametrize("name", flows.own())
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


@pytest.mark.parametrize("name", flows.own())
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


def test_a_library_is_usable_or_says_in_one_line_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is present, absent, or fails as it is imported."""
    (tmp_path / "broken_library.py").write_text("raise AttributeError('gone\\nfor ever')")
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[int] = Registry("flow", ("flows.discrete",))
    for name, package in (("a", "wave"), ("b", "broken_library"), ("c", "no_such_package")):
        registry.add(name, 1, "flows.discrete.needy", requires=package)
    libraries = {library.name: library for library in registry.libraries()}
    assert [libraries[p].members for p in sorted(libraries)] == [("b",), ("c",), ("a",)]
    faults = {name: library.fault for name, library in libraries.items()}
    assert faults == {
        "wave": "",
        "broken_library": "cannot be imported: AttributeError: gone",
        "no_such_package": "is not installed",
    }
    assert libraries["no_such_package"].remedy == "pip install 'flowgauge[no_such_package]'"
    member = Member("b", lambda dim: None, (), library="broken_library")
    with pytest.raises(ValueError, match=r"'b' needs the package 'broken_library', which .* gone$"):
        member.construct(2, {})


def test_a_library_changes_no_setting_as_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its flows are called in one state, whatever was measured before its import."""
    text = "from torch.distributions import Distribution\nDistribution._validate_args = None\n"
    (tmp_path / "careless_library.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    before = Distribution._validate_args
    Member("c", lambda dim: None, (), library="careless_library").construct(2, {})
    assert "careless_library" in sys.modules
    assert Distribution._validate_args is before
