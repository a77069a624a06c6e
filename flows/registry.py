"""Registries: names of members, found by importing the modules that define them.

One class serves every open set of the project (flows, data sets, studies): a member
registers itself where it is defined, and no list of members is kept anywhere.
"""

import dataclasses
import difflib
import functools
import importlib
import importlib.util
import inspect
import math
import pkgutil
import sys
import threading
import unicodedata
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar, get_type_hints
from weakref import WeakSet

from flows import plugins
from flows.isolation import unchanged
from flows.plugins import FOREIGN, described

T = TypeVar("T")
FEW, CLOSEST = 16, 3  # names that a message lists; of more those that are closest


def choices(name: object, names: Iterable[str], where: str) -> str:
    """What there is in place of an unknown name: all of a few names, or those closest to it.

    ``where`` says what lists all of them.
    """
    items = list(names)
    if len(items) <= FEW:
        return f"choose from: {', '.join(items)}"
    closest = difflib.get_close_matches(str(name), items, CLOSEST, 0.0)
    return f"the closest are {', '.join(closest)} ({where} has all)"


def check_choice(what: str, value: object, names: Iterable[str]) -> None:
    """ValueError with the choices for a value that is none of these names."""
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"unknown {what} {value!r}; choose from: {', '.join(names)}")


def check_whole(least: int = 1, most: float = math.inf, /, **values: object) -> None:
    """ValueError for a value that is no whole number from ``least`` to ``most``."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            end = f" to {most}" * (most < math.inf)
            raise ValueError(f"{name} is a whole number from {least}{end}, got {value!r}")


def check_positive(**values: object) -> None:
    """ValueError for a value that is no positive, finite number."""
    for name, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0 < value < math.inf):  # type: ignore[operator]  # a number
            raise ValueError(f"{name} is a positive, finite number, got {value!r}")


class Declared(NamedTuple):
    """What a member declares of its code: ``version`` rises when what it computes changes.

    ``pace`` rises when only its speed does: operators, threads, memory.
    """

    version: int = 1
    pace: int = 1


@dataclass(frozen=True)
class Library:
    """A package with the members that need it, whether or not it can be used.

    ``fault`` is one line that says why it cannot, empty if it can; ``remedy`` the command that
    installs it.
    """

    name: str
    members: tuple[str, ...]
    version: str | None  # None if it is not installed
    fault: str
    remedy: str


def installed(package: str) -> bool:
    """Whether a package can be found; it is not imported."""
    return importlib.util.find_spec(package) is not None


def import_fault(package: str) -> str:
    """Import a package; return why it cannot be imported, in one line, or an empty text.

    Changes of settings of torch or of the process are undone.
    """
    if package in sys.modules:
        return ""
    if not installed(package):
        return "is not installed"
    try:
        with _importing, warnings.catch_warnings(action="ignore"), unchanged(package):
            importlib.import_module(package)
    except FOREIGN as error:
        return f"cannot be imported: {described(error)}"
    return ""


def version_of(package: str) -> str | None:
    """The version of an installed package, "unknown" without metadata; None if it is absent."""
    if not installed(package):
        return None
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True)
class _Entry(Generic[T]):
    """A member as registered: by which module, and the package that it needs."""

    member: T
    module: str
    requires: str | None
    declared: Declared
    plugin: str  # that was being imported; empty for this project's own

    @property
    def usable(self) -> bool:
        """Whether the package can be found; a member that needs none is always usable."""
        return self.requires is None or installed(self.requires)


class Registry(Generic[T]):
    """Members of one kind by name, discovered on first use.

    ``packages`` are dotted names; every module in them is imported once, and ``folder_module`` of
    every folder in them. ``group`` is an entry-point group through which other distributions add
    members.
    """

    def __init__(
        self,
        kind: str,
        packages: tuple[str, ...],
        group: str | None = None,
        folder_module: str = "",
    ) -> None:
        self.kind, self.packages, self.group = kind, packages, group
        self.folder_module = folder_module
        self._members: dict[str, _Entry[T]] = {}
        self._discovered = False
        self.left_out: dict[str, str] = {}  # why, for each module and plug-in that cannot be loaded
        _registries.add(self)

    def add(
        self,
        name: str,
        member: T,
        module: str,
        requires: str | None = None,
        *,
        version: int = 1,
        pace: int = 1,
    ) -> None:
        """Register a member; ValueError for a name of another module, or with control characters.

        ``requires`` names a package without which the member is not listed, and refused;
        ``version`` and ``pace`` are those of `Declared`.
        """
        declared = Declared(version, pace)
        check_whole(**{f"{self.kind} {name!r}: {k}": v for k, v in declared._asdict().items()})
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            raise ValueError(
                f"{self.kind} {name!r} of {module} has control characters in its name: rename it"
            )
        if not self._holds(module):
            self._discover()  # so that a plug-in that takes a member's name is the one refused
        if name in self._members and self._members[name].module != module:
            holder = self._members[name].module
            raise ValueError(f"{self.kind} {name!r} of {module} is already registered by {holder}")
        plugin = "" if self._holds(module) else plugins.importing()
        self._members[name] = _Entry(member, module, requires, declared, plugin)

    def __getitem__(self, name: str) -> T:
        return self._entry(name).member

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(name for name, entry in self._members.items() if entry.usable))

    def __contains__(self, name: object) -> bool:
        """Whether there is such a member, and the package that it needs."""
        self._discover()
        return name in self._members and self._members[str(name)].usable

    def declared(self, name: str) -> Declared:
        """Version and pace that the member declares; ValueError for an unknown name."""
        return self._entry(name).declared

    def libraries(self) -> list[Library]:
        """The packages that members need, in order, each imported if it is installed."""
        self._discover()
        libraries = []
        for package in sorted({e.requires for e in self._members.values() if e.requires}):
            names = sorted(n for n, e in self._members.items() if e.requires == package)
            state = version_of(package), import_fault(package)
            remedy = self._remedy(self._members[names[0]])
            libraries.append(Library(package, tuple(names), *state, remedy))
        return libraries

    def fault(self, name: str) -> str:
        """Import the package of a member; return why it cannot be used, in one line, or nothing."""
        self._discover()
        entry = self._members.get(name)
        if entry is None or entry.requires is None:
            return ""
        fault = import_fault(entry.requires)
        return fault if entry.usable else f"{fault}: {self._remedy(entry)}"

    def module_of(self, name: str) -> str:
        """Dotted name of the module that registered the member."""
        return self._entry(name).module

    @contextmanager
    def temporary(self) -> Iterator[None]:
        """Forget at the end the members that are registered and the plug-ins loaded within."""
        self._discover()
        members, files = dict(self._members), {*plugins.loaded}
        try:
            yield
        finally:
            self._members = members
            for name in plugins.loaded.keys() - files:
                del sys.modules[name], plugins.loaded[name]

    def _holds(self, module: str) -> bool:
        """Whether a module lies in one of the packages."""
        return any(f"{module}.".startswith(f"{package}.") for package in self.packages)

    def _entry(self, name: str) -> _Entry[T]:
        self._discover()
        if name not in self._members:
            kinds = f"{self.kind}s".replace("ys", "ies").partition(" ")[0]
            more = "; or load the file that registers it (--plugin FILE)" * bool(self.group)
            absent = "".join(f"; {name} was left out: {f}" for name, f in self.left_out.items())
            hint = choices(name, self, f"flowgauge list {kinds}")
            raise ValueError(f"unknown {self.kind} {name!r}; {hint}{more}{absent}")
        entry = self._members[name]
        if not entry.usable:
            raise ValueError(
                f"{self.kind} {name!r} needs the package {entry.requires!r}, which "
                f"{self.fault(name)}"
            )
        return entry

    def _remedy(self, entry: _Entry[T]) -> str:
        extra = f"'flowgauge[{entry.requires}]'"
        return f"pip install {extra if self._holds(entry.module) else entry.requires}"

    def _discover(self) -> None:
        with _importing:
            if not self._discovered:
                self._discovered = True  # first, since what is imported may look members up
                self._import_members()

    def _import_members(self) -> None:
        for package in self.packages:
            path = importlib.import_module(package).__path__
            names = [module.name for module in pkgutil.iter_modules(path, package + ".")]
            if self.folder_module:
                files = [p for root in path for p in Path(root).glob(f"*/{self.folder_module}.py")]
                folders = sorted(file.parent.name for file in files)
                names += [f"{package}.{folder}.{self.folder_module}" for folder in folders]
            for name in names:
                self._load(f"module {name!r}", name, partial(importlib.import_module, name))
        for point in entry_points(group=self.group) if self.group else ():
            load = partial(plugins.load_entry_point, point)
            self._load(f"plug-in {point.value!r}", point.value, load)

    def _load(self, label: str, name: str, load: Callable[[], object]) -> None:
        """Import members; a file that cannot be imported is left out, with one line."""
        try:
            load()
        except FOREIGN as error:
            fault = self.left_out[name] = described(error)
            warnings.warn(f"{label} was left out: {fault}", stacklevel=3)


_importing = threading.RLock()  # also where filters of warnings change, which all threads share
_registries: WeakSet[Registry[Any]] = WeakSet()


def needed(names: Collection[str] | None = None) -> tuple[str, ...]:
    """The plug-ins that a process needs for members of these names, or for all members.

    They register one of them, or nothing at all: what those change is meant for all.
    """
    entries = [item for registry in _registries for item in registry._members.items()]
    needs = {e.plugin for name, e in entries if names is None or name in names} - {""}
    others, files = {e.plugin for _, e in entries} - needs, plugins.loaded_files()
    return (*(file for file in files if file not in others), *sorted(needs - {*files}))


class Group:
    """Base of a frozen dataclass of options, which a factory takes as one argument."""


@dataclass(frozen=True)
class Sizes(Group):
    """The sizes of a flow: width and depth of its networks, layers, columns of its context."""

    hidden: int = 64
    depth: int = 2
    layers: int = 5
    context_dim: int = 0

    @property
    def widths(self) -> list[int]:
        """The width of each hidden layer of a network."""
        return [self.hidden] * self.depth


SIZES = tuple(field.name for field in dataclasses.fields(Sizes))


def flat(factory: Callable[..., Any], uses: tuple[str, ...]) -> Callable[..., Any]:
    """A factory with arguments that default to a `Group` replaced by the members of the group.

    They are keyword options with the values of that default, without sizes beyond ``uses``.
    """
    signature, parameters = inspect.signature(factory), []
    members: dict[str, dict[str, Any]] = {}
    for name, parameter in signature.parameters.items():
        if not isinstance(group := parameter.default, Group):
            parameters.append(parameter)
            continue
        members[name] = {m: v for m, v in vars(group).items() if m in uses or m not in SIZES}
        hints = get_type_hints(type(group))
        for m, value in members[name].items():
            parameters.append(parameter.replace(name=m, default=value, annotation=hints[m]))

    @functools.wraps(factory)
    def flattened(dim: int, **options: Any) -> Any:
        for name, values in members.items():
            chosen = {member: options.pop(member) for member in values if member in options}
            options[name] = dataclasses.replace(signature.parameters[name].default, **chosen)
        return factory(dim, **options)

    flattened.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return flattened if members else factory


@dataclass(frozen=True)
class Member:
    """A registered flow: its factory, and the sizes that it takes.

    ``library`` is the package that the flow comes from, None for this one and for plug-ins.
    """

    name: str
    factory: Callable[..., Any]
    uses: tuple[str, ...]
    library: str | None = None

    @property
    def description(self) -> str:
        """First line of the factory's docstring."""
        return (inspect.getdoc(self.factory) or "").partition("\n")[0]

    @cached_property
    def defaults(self) -> Mapping[str, Any]:
        """Every option with its default value, without sizes that the member does not use."""
        parameters = inspect.signature(self.factory).parameters.values()
        values = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        return {k: v for k, v in values.items() if k not in SIZES or k in self.uses}

    @property
    def undeclared(self) -> tuple[str, ...]:
        """Sizes that the factory takes and `uses` leaves out, so that they cannot be given."""
        taken = inspect.signature(self.factory).parameters
        return tuple(size for size in SIZES if size in taken and size not in self.uses)

    def complete(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """``options`` with the defaults filled in; ValueError for one that the member refuses.

        An option whose default is a `Described` (a Solver, a Trace) is converted to its type.
        """
        defaults = self.defaults
        for option in options:
            if option not in defaults:
                reason = "does not use" if option in SIZES else "has no option"
                hint = " (name it in `uses`)" if option in self.undeclared else ""
                remedy = choices(option, defaults, "flowgauge list flows")
                raise ValueError(f"flow {self.name!r} {reason} {option!r}{hint}; {remedy}")
        of = {name: getattr(type(default), "of", None) for name, default in defaults.items()}
        chosen = {k: convert(v) if (convert := of[k]) else v for k, v in options.items()}
        return {**defaults, **chosen}

    def applicable(self, sizes: Mapping[str, Any]) -> dict[str, Any]:
        """The part of ``sizes`` that the member uses: for grids shared by many families."""
        return {k: v for k, v in sizes.items() if k in self.uses}

    def construct(self, dim: int, options: Mapping[str, Any]) -> Any:
        """Call the factory with D and options; ValueError for an invalid size."""
        complete = self.complete(options)
        sizes = {"dim": dim, **{k: complete[k] for k in SIZES if k in complete}}
        for size, value in sizes.items():
            check_whole(int(size != "context_dim"), **{f"flow {self.name!r}: {size}": value})
        if self.library is None:
            return self.factory(dim, **complete)
        if fault := import_fault(self.library):
            raise ValueError(
                f"flow {self.name!r} needs the package {self.library!r}, which {fault}"
            )
        with _importing, warnings.catch_warnings(action="ignore"):  # notices about itself
            return self.factory(dim, **complete)


class Described:
    """Mixin of a frozen dataclass of options: conversion from and to values of TOML and JSON."""

    @classmethod
    def of(cls, value: Self | str | Mapping[str, Any]) -> Self:
        """From itself, a mapping of its fields, or the value of the first of them.

        Raises TypeError for another value, ValueError for an unknown field.
        """
        if isinstance(value, cls):
            return value
        kind, fields = cls.__name__, dataclasses.fields(cls)  # type: ignore[arg-type]  # a subclass
        names = [field.name for field in fields]
        if not isinstance(value, str | Mapping):
            raise TypeError(f"expected a {kind}, its {names[0]} or a mapping, got {value!r}")
        values: dict[str, Any] = {names[0]: value} if isinstance(value, str) else dict(value)
        if unknown := [name for name in values if name not in names]:
            raise ValueError(f"a {kind} has no {unknown[0]!r}; it has: {', '.join(names)}")
        return cls(**values)

    def plain(self) -> Any:
        """The canonical JSON value: a mapping of all fields, which `of` reads."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]  # a subclass
