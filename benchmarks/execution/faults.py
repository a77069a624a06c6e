"""What is wrong with the values of a suite, in one line and in the words of TOML."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

LONGEST = 60  # characters of a value that are shown
DEEPEST, LARGEST = 32, 2**63 - 1  # levels of a table, and of its whole numbers, as TOML has them
UNIONS = ("constrained-", "tuple[")  # how pydantic's locations name the kinds that a value may have
TABLE, WHOLE = "a table, { key = value }", "a whole number"
KINDS = {  # by pydantic's names of the faults
    "tuple_type": "a list",
    "dict_type": TABLE,
    "model_type": TABLE,
    "string_type": "a text in quotes",
    "int_type": WHOLE,
    "int_parsing": WHOLE,
    "int_from_float": WHOLE,
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}


def validated(model: type[BaseModel], values: Mapping[str, Any], where: str) -> Any:
    """The model of the values; the first fault as a ValueError of one line."""
    check(values, where)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise first(model, error, where) from error


def check(values: Mapping[str, Any], where: str) -> None:
    """ValueError for values that JSON and 64 bits do not hold, or that are nested without end."""
    left: list[tuple[tuple[str, ...], Any]] = [((), values)]
    while left:
        location, value = left.pop()
        fault = ""
        if isinstance(value, Mapping | list | tuple):
            steps = value.items() if isinstance(value, Mapping) else enumerate(value)
            left += [((*location, str(step)), inner) for step, inner in steps]
            fault = f"write at most {DEEPEST} levels" if len(location) > DEEPEST else ""
        elif isinstance(value, float) and not math.isfinite(value):
            fault = "write a finite number"
        elif isinstance(value, int) and abs(value) > LARGEST:
            fault = f"write {WHOLE} of 64 bits"
        if fault:
            raise ValueError(f"{where}: {'.'.join(location[:6])}: {fault} (got {_shown(value)})")


def first(model: type[BaseModel], error: ValidationError, where: str) -> ValueError:
    """The first fault that was found in the values of a model."""
    fault = error.errors()[0]
    location = [str(part) for part in fault["loc"] if not str(part).startswith(UNIONS)]
    key, given = ".".join(location), fault["input"]
    if fault["type"] == "extra_forbidden":
        known = ", ".join(_within(model, fault["loc"]).model_fields)
        return ValueError(f"{where} has no key {key!r}; choose from: {known}")
    if fault["type"] == "missing":
        return ValueError(f"{where} needs a value for {key!r}")
    if fault["type"] == "value_error":  # of a validator of ours, which says what it was given
        return ValueError(f"{where}: {key}{': ' * bool(key)}{fault['ctx']['error']}")
    wanted = f"write {KINDS[fault['type']]}" if fault["type"] in KINDS else fault["msg"]
    if fault["type"] == "tuple_type" and isinstance(given, dict) and key == "studies":
        wanted = "write [[studies]], in two pairs of brackets, before each study"
    elif fault["type"] == "tuple_type" and not isinstance(given, dict):
        wanted += f", {location[-1]} = [{_shown(given)}]"
    return ValueError(f"{where}: {key}: {wanted} (got {_shown(given)})")


def _shown(given: Any) -> str:
    """A value as TOML has it, cut where it is long; of a table that it is one."""
    if isinstance(given, dict):
        return "a table"
    text = json.dumps(given, default=str, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()} …"


def _within(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel]:
    """The model that has, or lacks, the last key of a location in another one."""
    for step in location[:-1]:
        field = model.model_fields.get(str(step))
        for kind in (field.annotation, *get_args(field.annotation)) if field else ():
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model
