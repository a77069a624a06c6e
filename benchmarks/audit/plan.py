"""What an audit judges: the installed libraries, their families, and at which sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.audit.scripts import terms
from flows import members
from flows.packages import Library

SIZES = {"hidden": 16, "depth": 2, "layers": 2}  # small, so that faults of a layer stand out
DTYPES = ("float64", "float32")
PARAMETERS = ("initial", "moved")
DIMS, LARGE = (2, 3, 10), 64  # the large one where the one before was quick


@dataclass(frozen=True)
class Scope:
    """Which tasks an audit has; ``limit`` is that of one judgement, in seconds."""

    dims: tuple[int, ...] = (*DIMS, LARGE)
    dtypes: tuple[str, ...] = DTYPES
    parameters: tuple[str, ...] = PARAMETERS
    limit: float = 16.0

    def has(self, task: Mapping[str, Any]) -> bool:
        """Whether a task, or a row of one, is within it."""
        return (
            task["dim"] in self.dims
            and task["dtype"] in self.dtypes
            and task["parameters"] in self.parameters
        )


FULL = Scope()
QUICK = Scope((2, 3), ("float64",), ("moved",))


def libraries(names: Sequence[str] = ()) -> list[Library]:
    """The libraries of these names, or all; they may be absent. ValueError for an unknown one."""
    import benchmarks.audit.nflows_families  # noqa: F401  # registers them

    known = {library.name: library for library in members.libraries()}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown library {unknown[0]!r}; choose from: {', '.join(known)}")
    return [known[name] for name in names or known]


def options(library: str, family: str) -> dict[str, Any]:
    """The sizes at which a family is judged."""
    return {**members[family].applicable(SIZES), **terms(library, family)["sizes"]}


def complete(library: str, family: str) -> dict[str, Any]:
    """All its options at those sizes."""
    return members[family].complete(options(library, family))
