"""Registries: names of members, found by importing the modules that define them.

One class serves every open set of the project (flows, data sets, studies): a member
registers itself where it is defined, and no list of members is kept anywhere.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
import traceback
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
FOREIGN = (Exception, SystemExit)  # what code of others may raise and must not end a command by
LONGEST = 500  # characters of a message that are kept


def described(error: BaseException) -> str:
    """The type of an error and the first line of its message, cut where it is long."""
    try:
        text = str(error)[:LONGEST].strip()
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no message'}"


class Declared(NamedTuple):
    """What a member declares of its code, for records to outlive what changes no figure.

    ``version`` is raised when what it computes changes, ``pace`` when how fast it does: operators,
    threads, memory.
    """

    version: int = 1
    pace: int = 1


@dataclass(frozen=True)
class _Entry(Generic[T]):
    """A member as registered: by which module, and the package that it cannot do without."""

    member: T
    module: str
    requires: str | None
    declared: Declared

    @property
    def usable(self) -> bool:
        """Whether the package can be found; a member that needs none is always usable."""
        return self.requires is None or importlib.util.find_spec(self.requires) is not None


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
        """Register a member; ValueError for a name that another module holds, or no line of text.

        ``requires`` names a package without which the member is not listed, and refused;
        ``version`` and ``pace`` are those of `Declared`.
        """
        declared = Declared(version, pace)
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in declared):
            raise ValueError(
                f"{self.kind} {name!r} declares version {version!r} and pace {pace!r}: "
                "both are whole numbers from 1"
            )
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            raise ValueError(
                f"{self.kind} {name!r} of {module} has control characters in its name: rename it"
            )
        if not self._holds(module):
            self._discover()  # so that a plug-in that takes a member's name is the one refused
        if name in self._members and self._members[name].module != module:
            holder = self._members[name].module
            raise ValueError(f"{self.kind} {name!r} of {module} is already registered by {holder}")
        self._members[name] = _Entry(member, module, requires, declared)

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

    def package_of(self, name: str) -> str | None:
        """The package that the member needs beside this one's own, if any."""
        return self._entry(name).requires

    def module_of(self, name: str) -> str:
        """Dotted name of the module that registered the member."""
        return self._entry(name).module

    @contextmanager
    def temporary(self) -> Iterator[None]:
        """Forget at the end the members that are registered and the plug-ins loaded within."""
        self._discover()
        members, modules = dict(self._members), set(sys.modules)
        try:
            yield
        finally:
            self._members = members
            for name in set(sys.modules) - modules:
                if name.startswith(PLUGIN):
                    del sys.modules[name]

    def _holds(self, module: str) -> bool:
        """Whether a module lies in one of the packages."""
        return any(f"{module}.".startswith(f"{package}.") for package in self.packages)

    def _entry(self, name: str) -> _Entry[T]:
        self._discover()
        if name not in self._members:
            choices = ", ".join(self)
            more = ", or load the file that registers it (--plugin FILE)" if self.group else ""
            raise ValueError(f"unknown {self.kind} {name!r}; choose from: {choices}{more}")
        entry = self._members[name]
        if not entry.usable:
            package = entry.requires
            remedy = f"'flowgauge[{package}]'" if self._holds(entry.module) else package
            raise ValueError(
                f"{self.kind} {name!r} needs the package {package!r}, which is not installed: "
                f"pip install {remedy}"
            )
        return entry

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True  # first, since the modules imported below may look members up
        try:
            for package in self.packages:
                path = importlib.import_module(package).__path__
                for module in pkgutil.iter_modules(path, package + "."):
                    importlib.import_module(module.name)
                for folder in self._folders(path):
                    importlib.import_module(f"{package}.{folder}.{self.folder_module}")
        except BaseException:
            self._discovered = False  # or the next look-up would hide the cause
            raise
        for point in entry_points(group=self.group) if self.group else ():
            try:
                point.load()
            except FOREIGN as error:  # another distribution's fault must not stop this one
                fault = described(error)
                warnings.warn(f"plug-in {point.value!r} was left out: {fault}", stacklevel=2)

    def _folders(self, path: Iterable[str]) -> list[str]:
        """Names of the folders under ``path`` that have the ``folder_module``."""
        if not self.folder_module:
            return []
        modules = (p for root in path for p in Path(root).glob(f"*/{self.folder_module}.py"))
        return sorted(module.parent.name for module in modules)


PLUGIN = "flowgauge_plugin_"  # how the module of a plug-in's file is named, before the file's stem


def load_plugin(path: str | Path) -> ModuleType:
    """Import a Python file that registers members; ValueError where it is missing or broken."""
    path = Path(path).resolve()
    name = f"{PLUGIN}{path.stem}"
    if name in sys.modules and sys.modules[name].__file__ == str(path):
        return sys.modules[name]
    if path.suffix != ".py" or not path.is_file():
        fault = "is not a Python file" if path.exists() else "does not exist"
        raise ValueError(f"plug-in {str(path)!r} {fault}")
    if name in sys.modules:
        raise ValueError(
            f"plug-in {str(path)!r} has the name of {sys.modules[name].__file__!r}: rename one"
        )
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"plug-in {str(path)!r} cannot be imported")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except FOREIGN as error:
        del sys.modules[name]
        fault = f"SyntaxError: {error.msg}" if isinstance(error, SyntaxError) else described(error)
        raise ValueError(
            f"plug-in {str(path)!r} cannot be imported: {_where(error, path)}{fault}"
        ) from error
    return module


def loaded_plugins() -> list[str]:
    """Paths of the plug-ins that this process has loaded, for another process to load."""
    modules = [module for name, module in sys.modules.items() if name.startswith(PLUGIN)]
    return [str(module.__file__) for module in modules]


def _where(error: BaseException, path: Path) -> str:
    """The line of a plug-in that an error came from."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
    return f"line {line}: " if line else ""
