"""Studies: one file each, a question with its cases, its measurement and what it shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, JsonValue, PositiveFloat, PositiveInt, model_validator

import flows
from benchmarks.core.case import Case, Seeds, canonical
from benchmarks.core.exhibit import Figure, Table
from flows.budget import width
from flows.registry import Registry


@dataclass(frozen=True)
class Common:
    """What a suite says once for all of its studies."""

    seeds: Sequence[int] = (0,)
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 1

    def case(self, seed: int = 0, **fields: Any) -> Case:
        """A case of these fields on this machine; ``seed`` is that of a repetition."""
        machine = {"device": self.device, "dtype": self.dtype, "threads": self.threads}
        return Case(seeds=Seeds.of(seed), **machine, **fields)  # type: ignore[arg-type]  # the fields are pydantic's to check


class Contender(BaseModel, frozen=True, extra="forbid"):
    """A flow in a comparison; what it leaves out it takes from the study.

    The flow "*" stands for every registered flow that the comparison does not name otherwise,
    except those that ``without`` names or matches ("zuko_*"): that is how a new flow comes into
    every table. In place of the study's ``hidden``, a budget of ``parameters`` decides the width,
    or ``hidden_per_dim``, the c of H = c D.
    """

    flow: str  # of a contender given as a name alone, all that is said
    options: dict[str, JsonValue] = {}
    parameters: PositiveInt | None = None
    hidden_per_dim: PositiveFloat | None = None
    batch: PositiveInt | None = None
    without: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        return {"flow": given} if isinstance(given, str) else given

    @property
    def rules(self) -> dict[str, JsonValue]:
        """What decides the width in place of a number, by name: of a case's settings."""
        rules = {"parameters": self.parameters, "hidden_per_dim": self.hidden_per_dim}
        return {name: value for name, value in rules.items() if value is not None}

    def complete(self, sizes: Mapping[str, int], dim: int) -> dict[str, Any]:
        """The flow's full options at D: its defaults, the study's sizes that it uses, its own."""
        member = flows.members[self.flow]
        if self.hidden_per_dim is not None:
            if "hidden" not in member.uses:
                raise ValueError(f"flow {self.flow!r} has no 'hidden' that hidden_per_dim decides")
            sizes = {**sizes, "hidden": max(1, round(self.hidden_per_dim * dim))}
        chosen = {**member.applicable(sizes), **self.options}
        if self.parameters is not None:
            if "hidden" not in self.options:
                chosen.pop("hidden", None)
            chosen["hidden"] = width(member, dim, self.parameters, chosen)
        return dict(canonical(member.complete(chosen)))


K = TypeVar("K", bound=Contender)


def expanded(contenders: Sequence[K]) -> list[K]:
    """The contenders with "*" replaced by the flows that it stands for."""
    named = {contender.flow for contender in contenders} - {"*"}
    found: list[K] = []
    for contender in contenders:
        if contender.flow == "*":
            left_out = [*named, *contender.without]
            others = [n for n in flows.names() if not any(fnmatch(n, p) for p in left_out)]
            found += [contender.model_copy(update={"flow": name}) for name in others]
        else:
            found.append(contender)
    return found


@dataclass(frozen=True)
class Result:
    """What one case gives: metrics and arrays by name, notes as JSON, or why there are none."""

    metrics: Mapping[str, float | list[float]] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Result:
        """The failure that an exception stands for, in one line."""
        text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        short = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
        return cls(failure=f"out of memory: {text}" if short else text)


class Study(Protocol):
    """A question, and how it is measured.

    ``Options`` is the model of its part of a suite. Cases whose ``block`` is equal are measured
    together, in one call of ``measure``, which yields each case's key and result as it is known;
    ``budget`` estimates a case's seconds. ``tables`` and ``figures`` read records alone.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]  # other studies whose records its tables and figures may use
    timed: ClassVar[bool]  # whether its numbers depend on the machine
    Options: ClassVar[type[BaseModel]]

    def cases(self, options: Any, common: Common) -> Iterable[Case]: ...

    def block(self, case: Case) -> str: ...

    def budget(self, case: Case) -> float: ...

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]: ...

    def tables(self, frame: pd.DataFrame) -> list[Table]: ...

    def figures(self, frame: pd.DataFrame) -> list[Figure]: ...


C = TypeVar("C", bound=type[Any])
registry: Registry[Study] = Registry("study", ("benchmarks.studies",), folder_module="study")


def register(study: C) -> C:
    """Class decorator: register one instance under the class's ``name``."""
    registry.add(study.name, study(), study.__module__)
    return study
