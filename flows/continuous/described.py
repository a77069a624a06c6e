"""Frozen dataclasses that are given as instances, as mappings, or by their first field."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self


class Described:
    """Mixin of a frozen dataclass: conversion from and to values that TOML and JSON hold."""

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
