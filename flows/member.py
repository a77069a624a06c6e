"""A flow as registered: its factory, its options and their checks."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from flows.packages import import_fault

SIZES = ("hidden", "depth", "layers", "context_dim")


@dataclass(frozen=True)
class Member:
    """A registered flow: its factory, the sizes it takes and the library that it is of.

    ``library`` is the package whose flow it is behind this interface, None for no other's.
    """

    name: str
    factory: Callable[..., Any]
    uses: tuple[str, ...]
    library: str | None = None

    @property
    def description(self) -> str:
        """First line of the factory's docstring."""
        return (inspect.getdoc(self.factory) or "").partition("\n")[0]

    @property
    def defaults(self) -> dict[str, Any]:
        """Every option with its default value; the sizes that the member does not use are not."""
        parameters = inspect.signature(self.factory).parameters.values()
        own = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        return {k: v for k, v in own.items() if k not in SIZES or k in self.uses}

    @property
    def undeclared(self) -> tuple[str, ...]:
        """Sizes that the factory takes and `uses` leaves out, so that they cannot be given."""
        taken = inspect.signature(self.factory).parameters
        return tuple(size for size in SIZES if size in taken and size not in self.uses)

    def complete(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """``options`` with the defaults filled in; ValueError for one that the member refuses.

        An option whose default has a type with a constructor ``of`` (`Solver`, `Trace`) is brought
        to that type, so that two ways to write one value are one.
        """
        defaults = self.defaults
        for option in options:
            if option not in defaults:
                reason = "does not use" if option in SIZES else "has no option"
                hint = " (name it in `uses`)" if option in self.undeclared else ""
                raise ValueError(
                    f"flow {self.name!r} {reason} {option!r}{hint}; it takes: {', '.join(defaults)}"
                )
        of = {name: getattr(type(default), "of", None) for name, default in defaults.items()}
        chosen = {k: convert(v) if (convert := of[k]) else v for k, v in options.items()}
        return {**defaults, **chosen}

    def applicable(self, sizes: Mapping[str, Any]) -> dict[str, Any]:
        """The part of ``sizes`` that the member uses: for grids shared by many families."""
        return {k: v for k, v in sizes.items() if k in self.uses}

    def construct(self, dim: int, options: Mapping[str, Any]) -> Any:
        """What the factory makes of D and options; ValueError for a size that is none."""
        complete = self.complete(options)
        sizes = {"dim": dim, **{k: complete[k] for k in SIZES if k in complete}}
        for size, value in sizes.items():
            least = int(size != "context_dim")
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(
                    f"flow {self.name!r} needs {size} to be a whole number from {least}, "
                    f"got {value!r}"
                )
        if self.library is not None and (fault := import_fault(self.library)):
            raise ValueError(
                f"flow {self.name!r} needs the package {self.library!r}, which {fault}"
            )
        with warnings.catch_warnings():
            if self.library is not None:  # whose notices about itself are not ours
                warnings.simplefilter("ignore")
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
