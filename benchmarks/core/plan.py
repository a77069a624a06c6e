"""The plan of a run: which cases it set out to measure, in which order, and what they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, model_validator
from pydantic_core import from_json

from benchmarks.core.case import of_part
from benchmarks.core.formats import brief, readable
from benchmarks.core.naming import labels
from benchmarks.core.record import Record


class Planned(BaseModel):
    """One case of a plan; ``roles`` say what it stands for in its comparison."""

    key: str
    study: str
    label: str = ""
    roles: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _of_part(cls, fields: Any) -> Any:
        return of_part(fields) if isinstance(fields, Mapping) else fields


class Plan(BaseModel):
    """What ``suite.json`` says: the suite's name and purpose, the suite as read, its cases.

    A case that stands for two points of a comparison is listed twice.
    """

    name: str
    about: str = ""
    suite: dict[str, Any] = {}
    cases: list[Planned] = []


def plan_of(folder: Path, records: Mapping[str, Record]) -> Plan:
    """The plan of a results folder; where it has none, its records under the folder's name.

    Raises ValueError for a ``suite.json`` that is no plan.
    """
    path = folder / "suite.json"
    if not path.is_file():
        return Plan(name=folder.resolve().name, cases=_measured(records))
    try:
        return Plan.model_validate(readable(from_json(path.read_bytes())))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise ValueError(f"{str(path)!r} is not a plan: {where}: {first['msg']}") from error
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not a plan: {brief(error)}") from error


def _measured(records: Mapping[str, Record]) -> list[Planned]:
    named = labels(record.case for record in records.values())
    cases = [
        Planned(
            key=key, study=record.case.study, label=named[record.case.key], roles=record.case.roles
        )
        for key, record in records.items()
    ]
    return sorted(cases, key=lambda case: (case.study, case.label, case.key))
