"""A record: what became of one case, as it stands on disk."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
)
from pydantic_core import from_json

from benchmarks.core.case import Case, digest
from benchmarks.core.formats import brief, readable
from benchmarks.core.metrics import METRICS, Better, Kind, Metric
from flows.registry import Declared

SCHEMA = 2
EXACT = ("case", "identity", "metrics")  # fields whose texts are compared, not shown as they are
Status = Literal["done", "failed", "skipped", "timeout"]


@dataclass(frozen=True)
class Values:
    """The raw values of one metric, with what the table of metrics says of them."""

    name: str
    values: tuple[float, ...]

    @classmethod
    def of(cls, name: str, values: float | Sequence[float]) -> Values:
        """Values of a metric, one or several."""
        return cls(name, _floats(values))

    @property
    def metric(self) -> Metric:
        """The metric's definition; one that the table lacks is shown and never judged."""
        return METRICS.get(self.name) or Metric(self.name, "", "neither", "quality")

    @property
    def median(self) -> float:
        """The median of the values; NaN of none."""
        if len(self.values) == 1:  # as most metrics have, and NumPy takes longer
            return self.values[0]
        return float(np.median(self.values)) if self.values else float("nan")

    @property
    def unit(self) -> str:
        """The unit of the values."""
        return self.metric.unit

    @property
    def better(self) -> Better:
        """Which direction is better."""
        return self.metric.better

    @property
    def kind(self) -> Kind:
        """How the values may be compared."""
        return self.metric.kind


def _read(metrics: Any) -> dict[str, Values]:
    """Metrics from JSON: numbers, or as text where they are not finite."""
    if not isinstance(metrics, Mapping):
        raise ValueError("metrics are a table of lists of numbers")
    return {
        name: value if isinstance(value, Values) else Values(name, _floats(value))
        for name, value in metrics.items()
    }


def _line(reason: str) -> str:
    return brief(reason) if reason else ""


def _floats(value: Any) -> tuple[float, ...]:
    listed = value if isinstance(value, list | tuple) else [value]
    try:
        return tuple(float(number) for number in listed)
    except (TypeError, OverflowError) as error:  # pydantic takes ValueError alone for bad input
        raise ValueError(brief(str(error))) from error


def _written(metrics: Mapping[str, Values]) -> dict[str, list[Any]]:
    """Metrics as JSON, which has no infinity and no NaN."""
    finite = float("inf")
    return {
        name: [x if abs(x) < finite else str(x) for x in values.values]
        for name, values in metrics.items()
    }


class Record(BaseModel):
    """What became of one case.

    ``identity`` is what the key is made of. ``declared`` are the versions and paces of all that the
    case depends on, ``files`` the content hashes of plug-ins and data files. ``block`` is equal for
    cases that were measured together. ``shared`` says what ran on the machine beside the block
    (average busy cores of other processes; null where that is not known). ``seconds`` are those
    that the case took. Times of a case that was measured beside others come later (``pending``);
    the machine and all below it are then those of the times, and ``origin`` has those of the rest.
    A reader ignores fields that it does not know.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True, ser_json_inf_nan="strings")

    schema_: int = Field(default=SCHEMA, alias="schema")
    case: Case
    key: str
    identity: dict[str, Any] = {}
    declared: dict[str, Declared] = {}
    files: dict[str, str] = {}
    plugins: dict[str, dict[str, str]] = {}  # of "flow" and "data": file and commit
    status: Status
    reason: Annotated[str, AfterValidator(_line)] = ""
    metrics: Annotated[dict[str, Values], BeforeValidator(_read), PlainSerializer(_written)] = {}
    arrays: dict[str, str] = {}  # content hash by name; the arrays themselves stand beside
    notes: dict[str, Any] = {}  # what belongs to the numbers and is none: operators not counted
    pending: bool = False  # times are still to be measured
    origin: dict[str, Any] | None = None
    machine: dict[str, Any] = {}
    versions: dict[str, str] = {}
    commit: str = ""
    started: str = ""
    seconds: float | None = None
    block: str | None = None
    shared: dict[str, float] | None = None

    @property
    def timed(self) -> bool:
        """Whether any of its metrics is a time that is to be compared, not one as it ran."""
        times = (values for values in self.metrics.values() if values.kind == "time")
        return any(values.better != "neither" for values in times)

    @property
    def fingerprint(self) -> str:
        """Sixteen digits of the versions and files that the record depends on."""
        return digest([self.declared, self.files])[:16]

    def without(self, names: Collection[str]) -> Record:
        """The record without its arrays of these names."""
        kept = {name: value for name, value in self.arrays.items() if name not in names}
        return self.model_copy(update={"arrays": kept})

    def json_bytes(self) -> bytes:
        """The record as it is written."""
        return self.model_dump_json(by_alias=True, indent=1).encode()


class Newer(ValueError):
    """A record that a later release has written."""


def parsed(content: bytes | str, key: str) -> Record:
    """The record of a key from JSON; ValueError where it is none, `Newer` for a later schema."""
    try:
        fields = from_json(content)
    except ValueError as error:
        raise ValueError(f"it is no record: the whole file: {brief(error)}") from error
    if isinstance(fields, dict):
        _check_schema(fields.get("schema"))
        fields |= {name: readable(part) for name, part in fields.items() if name not in EXACT}
    try:
        record = Record.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise ValueError(f"it is no record: {where}: {first['msg']}") from error
    if readable(fields["case"]) != fields["case"]:
        raise ValueError("it is no record: a name in its case has control characters")
    if record.key != key or digest(record.identity)[:16] != key:
        raise ValueError(f"it is not the record of {key}: its key is {record.key}")
    return record


def _check_schema(schema: Any) -> None:
    if isinstance(schema, int) and schema > SCHEMA:
        raise Newer(f"its schema {schema} is newer than {SCHEMA}: update flowgauge")
