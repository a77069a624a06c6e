"""Frozen descriptions that are given as themselves, by the name of their kind, or as a mapping."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self


class Described:
    """Of a frozen dataclass: made of what a caller, or a TOML file, may give."""

    @classmethod
    def of(cls, value: Self | str | Mapping[str, Any]) -> Self:
        """From itself, a mapping of its fields, or the value of the first of them.

        Raises TypeError for anything else, ValueError for a field that there is not.
        """
        if isinstance(value, cls):
            return value
        kind, fields = cls.__name__, dataclasses.fields(cls)  # type: ignore[arg-type]  # a subclass
        known = [field.name for field in fields]
        if not isinstance(value, str | Mapping):
            raise TypeError(f"expected a {kind}, its {known[0]} or a mapping, got {value!r}")
        given: dict[str, Any] = {known[0]: value} if isinstance(value, str) else dict(value)
        if unknown := [name for name in given if name not in known]:
            raise ValueError(f"a {kind} has no {unknown[0]!r}; it has: {', '.join(known)}")
        return cls(**given)

    def plain(self) -> Any:
        """The one JSON value that stands for it: a mapping of all fields; `of` reads it."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]  # a subclass
