"""Functions, classes and constants of modules, which any code may replace for what runs later."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

OURS = ("flows", "benchmarks")
PACKAGES = (*OURS, "nflows", "torchdiffeq", "torch.nn", "torch.optim", "torch.autograd")
MODULES = (
    *("torch", "torch._tensor", "torch._C", "torch._C._nn", "torch.func", "torch.linalg"),
    *("torch.special", "torch.distributions", "numpy", "numpy.linalg", "math", "time", "random"),
    *("builtins", "copy", "functools", "hashlib", "heapq", "itertools", "json", "operator"),
    *("statistics", "scipy.linalg", "scipy.special", "scipy.stats"),
)
TORCH = str(Path(torch.__file__).parent)
CONSTANTS = (int, float, str, tuple, frozenset)
DESCRIPTORS = (property, staticmethod, classmethod)
TABLES = (dict, list, set)
Members = dict[str, tuple[Any, Any]]  # a value with a function's code or what a table holds


class Content:
    """What a table of a module holds: the very objects, whatever their equality means."""

    def __init__(self, table: Any) -> None:
        self.items = list(table.items() if isinstance(table, dict) else table)
        self._identity = [
            tuple(map(id, item)) if isinstance(table, dict) else id(item) for item in self.items
        ]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Content) and self._identity == other._identity

    __hash__ = None  # type: ignore[assignment]  # compared alone

    def put(self, table: Any) -> None:
        """Let a table hold it again."""
        table.clear()
        if isinstance(table, list):
            table.extend(self.items)
        else:
            table.update(self.items)


class Namespaces:
    """What modules and their classes hold now, by name.

    They are those of this project and of the libraries that flows are made of, so far as they are
    imported. Instances are left out, and tables but those in capitals of this project.
    """

    def __init__(self) -> None:
        self._members = {label: (place, _members(place)) for label, place in _places()}

    def restore(self) -> list[str]:
        """Put back what was replaced, removed or added to a class; its dotted names.

        What torch itself replaces, as it wraps the steps of optimisers, is put back unnamed.
        """
        moved = []
        for label, (place, before) in self._members.items():
            now = _members(place)
            if now == before:  # the very objects, mostly, which are compared first
                continue
            for name in before.keys() | now.keys() if isinstance(place, type) else before:
                if now.get(name) != before.get(name):
                    _put(place, name, before.get(name))
                    _, code = now.get(name, (None, None))
                    file = getattr(code, "co_filename", "")
                    if not file.startswith(TORCH):
                        moved.append(f"{label}.{name}")
        return moved


def _places() -> Iterator[tuple[str, Any]]:
    """Yield modules and their own classes."""
    for label, module in sorted(sys.modules.items()):
        if label in MODULES or f"{label}.".startswith(tuple(f"{p}." for p in PACKAGES)):
            yield label, module
            for name, value in list(vars(module).items()):
                if isinstance(value, type) and value.__module__ == label:
                    yield f"{label}.{name}", value


def _members(place: Any) -> Members:
    """Return the functions and classes of a module or class, and its constants if it is ours."""
    ours = getattr(place, "__module__", place.__name__).partition(".")[0] in OURS
    return {
        name: (
            value,
            Content(value) if isinstance(value, TABLES) else getattr(value, "__code__", None),
        )
        for name, value in list(vars(place).items())
        if callable(value)
        or isinstance(value, DESCRIPTORS)
        or (ours and name.isupper() and isinstance(value, CONSTANTS + TABLES))
    }


def _put(place: Any, name: str, member: tuple[Any, Any] | None) -> None:
    with suppress(AttributeError, TypeError):  # what cannot be put back stays, and is named again
        if member is None:
            delattr(place, name)
            return
        value, inside = member
        if isinstance(inside, Content):
            inside.put(value)
        elif inside is not None:
            value.__code__ = inside
        setattr(place, name, value)
