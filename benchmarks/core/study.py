"""What studies share: the base class, and what a suite says for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
from pydantic import BaseModel

from benchmarks.core.case import Case, Seeds
from benchmarks.core.exhibit import Folder
from benchmarks.core.formats import brief, readable
from benchmarks.core.metrics import defined
from benchmarks.core.record import Record
from flows.plugins import described
from flows.registry import Registry

registry: Registry[Any] = Registry(
    "study", ("benchmarks.studies",), group="flowgauge.studies", folder_module="study"
)


Arrays = Callable[[Record], Mapping[str, np.ndarray]]  # of a record that was read


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


@dataclass(frozen=True)
class Result:
    """What one case gives; ValueError for a metric that the table of metrics lacks.

    Texts of notes and failure may be a flow's: they are made plain, and cut where they are long.
    """

    metrics: Mapping[str, float | list[float]] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)  #: JSON
    failure: str = ""  #: why there are no metrics
    seconds: float | None = None  #: of its block that the case took, where the study knows

    def __post_init__(self) -> None:
        for name in self.metrics:
            defined(name)
        object.__setattr__(self, "failure", brief(self.failure) if self.failure else "")
        object.__setattr__(self, "notes", readable(dict(self.notes)))

    @classmethod
    def of(cls, error: BaseException) -> Result:
        """The failure that an exception stands for, in one line."""
        text = described(error)
        short = isinstance(error, MemoryError) or "can't allocate memory" in text
        return cls(failure=f"out of memory: {text}" if short else text)


class Skipped(Exception):
    """A case is left out by the rules of its study; the message says by which."""


class Study(Folder):
    """A question, and how it is measured: a folder with a module ``study`` that has a subclass.

    A subclass states ``name`` and ``Options``, the model of its part of a suite; ``cases``; and
    ``result`` of one case, or ``measure`` of cases that are measured together. Settings of its
    cases have the defaults of the options of the same names. Its folder shows records: `Folder`.

    A study of ``parts`` has these, whose options and cases' settings have ``part``, and itself only
    if it states ``Options``.
    """

    name: ClassVar[str]
    Options: ClassVar[type[BaseModel]]
    version: ClassVar[int] = 1  # raised when a change moves what the study computes
    pace: ClassVar[int] = 1  # raised when it moves how fast alone
    uses: ClassVar[tuple[str, ...]] = ("benchmarks.measure",)  # measuring packages of records
    needs_data: ClassVar[bool] = True  # a run is refused where the files of a data set are absent
    interleaved: ClassVar[bool] = False  # whether all of a block are timed in the same rounds
    parts: ClassVar[Mapping[str, Study]] = {}  # unregistered studies by the setting ``part``
    deciding: ClassVar[frozenset[str]] = frozenset()  # settings that serve `resolved` alone

    def __init__(self) -> None:
        super().__init__(type(self).__module__.rpartition(".")[0])

    def part(self, settings: Mapping[str, Any]) -> Study:
        """The part that settings or an entry name, or the study; ValueError for an unknown part."""
        if "part" not in settings and hasattr(self, "Options"):
            return self
        if (name := str(settings.get("part"))) not in self.parts:
            choices = ", ".join(self.parts)
            raise ValueError(f"study {self.name!r} has no part {name!r}; choose from: {choices}")
        return self.parts[name]

    def cases(self, options: Any, common: Common) -> Iterable[Case]:
        """The cases that the options of a suite ask for."""
        raise NotImplementedError(f"study {self.name!r} defines no cases")

    def block(self, case: Case) -> str:
        """What is equal for cases that are measured together: nothing, each case is alone."""
        return case.key

    def resolved(self, case: Case, earlier: Sequence[Record], arrays: Arrays) -> Case:
        """The case as it is measured, by the records of those that it needs, in their order.

        ``arrays`` gives those of a record.
        Raises `Skipped` where it is left out, and ValueError where the records do not allow it.
        """
        return case

    def undecided(self, case: Case) -> bool:
        """Whether options and updates of a case are still to be chosen by `resolved`."""
        return False

    def piece(self, case: Case) -> str:
        """What is equal for cases that one machine measures; empty for a case that any may."""
        return ""

    def budget(self, case: Case) -> float:
        """Seconds that a case is expected to take."""
        return 1.0

    def alone(self, case: Case) -> bool:
        """Whether a time is the point of the case's block, which thus needs the whole machine.

        So it is by default, unless the case's settings have no ``seconds`` to spend on timing.
        """
        return case.device != "meta" and bool(case.settings.get("seconds", True))

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        """Each case's key and result, as it is known."""
        for case in cases:
            try:
                yield case.key, self.result(case)
            except Exception as error:
                yield case.key, Result.of(error)

    def result(self, case: Case) -> Result:
        """What one case gives."""
        raise NotImplementedError(f"study {self.name!r} defines neither result nor measure")


def study_of(case: Case) -> Study:
    """The study that measures a case, or the part of one."""
    study: Study = registry[case.study]
    return study.part(case.settings)


S = TypeVar("S", bound=type[Study])


def register(study: S) -> S:
    """Class decorator: register one instance under the class's ``name``."""
    registry.add(study.name, study(), study.__module__, version=study.version, pace=study.pace)
    return study
