"""A record: what became of one case, as it stands on disk."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, ValidationError
from pydantic.functional_serializers import PlainSerializer
from pydantic.functional_validators import AfterValidator, BeforeValidator

from benchmarks.core.case import Case, digest, disagreement
from benchmarks.core.formats import LARGE, brief, readable
from benchmarks.core.metrics import METRICS, Metric

SCHEMA = 2
EXACT = ("case", "identity", "metrics")  # fields whose texts are compared, not shown as they are
# fields that the digest covers
SEALED = ("status", "metrics", "arrays", "declared", "files", "notes", "started")
# JSON has none of them; one NaN, with which records are equal as tuples compare
WORDS = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}
Status = Literal["done", "failed", "skipped", "timeout"]


class Declared(NamedTuple):
    """What a member declared of its code, by numbers alone: see `flows.registry.Declared`."""

    version: StrictInt = 1
    pace: StrictInt = 1


class Standing(NamedTuple):
    """Why a record's counts and qualities, and why its times, are stale; empty where current."""

    counts: str = ""
    times: str = ""
    unchecked: str = ""  # what is not there that would decide it; the record counts as current

    @property
    def reason(self) -> str:
        """The reason that weighs more, in one line; empty where all is current."""
        return self.counts or (f"times alone: {self.times}" if self.times else "")


@dataclass(frozen=True)
class Values:
    """The raw values of one metric, with what the table of metrics says of them."""

    name: str
    values: tuple[float, ...]

    @classmethod
    def of(cls, name: str, values: float | Sequence[float]) -> Self:
        """Values of a metric, one or several numbers or `WORDS`; ValueError for anything else."""
        items: Sequence[Any] = values if isinstance(values, list | tuple) else [values]
        for number in items:
            if isinstance(number, str | bool) and number not in WORDS:
                raise ValueError(f"{brief(repr(number))} is not a number")
        try:
            return cls(name, tuple(WORDS[x] if isinstance(x, str) else float(x) for x in items))
        except (TypeError, OverflowError) as error:  # pydantic takes ValueError alone for bad input
            raise ValueError(brief(str(error))) from error

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


def _read(metrics: Any) -> dict[str, Values]:
    """Metrics from JSON: lists of numbers, or of `WORDS` where they are not finite."""
    if not isinstance(metrics, Mapping):
        raise ValueError("metrics are a table of lists of numbers")
    return {
        name: value if isinstance(value, Values) else Values.of(name, value)
        for name, value in metrics.items()
    }


def _written(metrics: Mapping[str, Values]) -> dict[str, list[Any]]:
    """Metrics as JSON, which has no infinity and no NaN."""
    return {
        name: [x if isfinite(x) else str(x) for x in values.values]
        for name, values in metrics.items()
    }


class Record(BaseModel):
    """What became of one case. A reader ignores fields that it does not know."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, ser_json_inf_nan="strings")

    schema_: StrictInt = Field(default=SCHEMA, alias="schema")
    case: Case
    key: str
    identity: dict[str, Any] = {}  #: what the key is made of
    defaults: dict[str, dict[str, Any]] = {}  #: of "options" and "settings", when it was measured
    digest: str = ""  #: of fields in `SEALED`, of records with defaults
    declared: dict[str, Declared] = {}  #: versions and paces of all that the case depends on
    files: dict[str, str] = {}  #: content hashes of plug-ins and data files
    plugins: dict[str, dict[str, str]] = {}  #: of "study", "flow" and "data": file and commit
    status: Status
    reason: Annotated[str, AfterValidator(lambda text: text and brief(text))] = ""
    metrics: Annotated[dict[str, Values], BeforeValidator(_read), PlainSerializer(_written)] = {}
    arrays: dict[str, str] = {}  #: content hash by name; the arrays themselves stand beside
    notes: dict[str, Any] = {}  #: what belongs to the numbers: operators that were not counted
    origin: dict[str, Any] | None = None  #: of earlier releases: facts of all but its times
    machine: dict[str, Any] = {}
    versions: dict[str, str] = {}
    commit: str = ""
    started: str = ""
    seconds: StrictFloat | None = None  #: that the case took
    block: str | None = None  #: equal for cases that were measured together
    shared: dict[str, StrictFloat] | None = None  #: busy cores of other processes; null if unknown

    @property
    def timed(self) -> bool:
        """Whether any of its metrics is a time that is to be compared, not one as it ran."""
        metrics = (values.metric for values in self.metrics.values())
        return any(metric.kind == "time" and metric.better != "neither" for metric in metrics)

    @property
    def fingerprint(self) -> str:
        """Sixteen digits of the versions and files that the record depends on."""
        return digest([self.declared, self.files])[:16]

    def sealed(self) -> Self:
        """The record with its digest; as it is if that is right, or of before there were any."""
        seals = _seals(json.loads(self.model_dump_json(by_alias=True))) if self.defaults else [""]
        return self if self.digest in seals else self.model_copy(update={"digest": seals[0]})


def _seals(fields: Mapping[str, Any]) -> list[str]:
    """The digest of a record's JSON, and that of earlier releases."""
    parts = ({n: fields.get(n) or {} for n in names} for names in (SEALED, ("metrics", "arrays")))
    return [digest(part)[:16] for part in parts]


class Newer(ValueError):
    """A record that a later release has written."""


class Altered(ValueError):
    """A record whose numbers are not those that were measured."""


def parsed(content: bytes | str, key: str) -> Record:
    """The record of a key from JSON.

    ValueError for what is no record of the key, `Newer` for one of a later schema, `Altered` where
    what the digest is of is not as it was.
    """
    try:
        fields = strict_json(content)
    except ValueError as error:
        raise ValueError(f"it is no record: the whole file: {brief(error)}") from error
    written, text = fields, content if isinstance(content, str) else "\n"
    clean = len(text) <= LARGE and "\\" not in text and text.isprintable()  # as `readable` has it
    if isinstance(fields, dict):
        schema = fields.get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise Newer(f"its schema {schema} is newer than {SCHEMA}: update flowgauge")
        if not clean:
            fields = fields | readable({n: p for n, p in fields.items() if n not in EXACT})
    try:
        record = Record.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise ValueError(f"it is no record: {where}: {first['msg']}") from error
    if not clean and readable(fields["case"]) != fields["case"]:
        raise ValueError("it is no record: a name in its case has control characters")
    if record.key != key or digest(record.identity)[:16] != key:
        raise ValueError(f"it is not the record of {key}: its key is {record.key}")
    if name := disagreement(fields["case"], record.identity, record.defaults):
        raise ValueError(f"it is not the record of {key}: its case has another {name}")
    if (record.digest or record.defaults) and record.digest not in _seals(written):
        raise Altered("its numbers are not those that were measured")
    return record


def strict_json(content: bytes | str) -> Any:
    """A JSON value; ValueError for a key twice in an object, a bare NaN, and lists without end."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the key {twice!r} stands twice in one object")
        return fields

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no number of JSON")

    try:
        return json.loads(content, object_pairs_hook=unique, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
