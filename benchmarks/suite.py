"""Suites: TOML files that say what is measured; expanded into cases."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError

from benchmarks.case import Case
from benchmarks.datasets import own
from benchmarks.studies import Common, registry
from benchmarks.training.settings import Training
from flows.registry import SIZES


class Suite(BaseModel, frozen=True, extra="forbid"):
    """A suite as read: what it shares, and its studies in order, each a table of options."""

    name: str
    about: str
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"
    threads: PositiveInt = 2
    time_limit: PositiveFloat = 300.0  # seconds that one block may take
    memory_share: PositiveFloat = 0.8  # of the machine's memory that the worker may take
    studies: tuple[dict[str, Any], ...]

    def cases(self) -> list[Case]:
        """All cases in order, each once; ValueError where the suite names what does not exist."""
        common = Common(self.seeds, self.device, self.dtype, self.threads)
        found: dict[str, Case] = {}
        for entry in self.studies:
            options = dict(entry)
            if unknown := set(options.get("sizes", ())) - set(SIZES):
                known = ", ".join(SIZES)
                raise ValueError(
                    f"suite {self.name!r} has no size {unknown.pop()!r}; choose from: {known}"
                )
            for name in options.get("datasets", ()):
                own.admit(str(name))
            study = registry[options.pop("study", "")]
            where = f"suite {self.name!r}, study {study.name!r}"
            model = _validated(study.Options, options, where)
            try:
                found |= {case.key: case for case in study.cases(model, common)}
            except ValidationError as error:  # of what is said of one flow's training alone
                raise _fault(Training, error, f"{where}, training of a flow") from error
        return list(found.values())

    def on(self, datasets: Sequence[str]) -> Suite:
        """The suite on these data sets, names or files, instead of its own.

        ValueError where none of its studies takes data.
        """
        if not any("datasets" in entry for entry in self.studies):
            raise ValueError(f"suite {self.name!r} has no study that takes data sets")
        changed = {"datasets": list(datasets)}
        studies = tuple(e | changed if "datasets" in e else e for e in self.studies)
        return self.model_copy(update={"studies": studies})


def names() -> list[str]:
    """Names of the suites that come with the project."""
    files = resources.files("benchmarks.suites").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def read(name: str, overrides: Sequence[str] = ()) -> Suite:
    """A suite by name or by the path of a TOML file, with ``key=value`` overrides applied.

    ``threads=1`` changes a value of the suite, ``cost.batch=32`` one of every entry of a study,
    ``studies.0.batch=32`` one of the first entry. Raises ValueError for what does not exist.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ValueError(f"suite file {name!r} does not exist")
        text = path.read_text()
    elif name in names():
        text = (resources.files("benchmarks.suites") / f"{name}.toml").read_text()
    else:
        known = ", ".join(names())
        raise ValueError(f"unknown suite {name!r}; choose from: {known}, or a path to a .toml file")
    try:
        values: dict[str, Any] = {"name": path.stem, **tomllib.loads(text)}
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"suite {name!r} is not valid TOML: {error}") from error
    for said in overrides:
        override(values, said)
    suite: Suite = _validated(Suite, values, f"suite {name!r}")
    return suite


def override(values: dict[str, Any], said: str) -> None:
    """Apply one ``key=value`` to nested values, in place; ValueError where it does not fit."""
    key, equals, text = said.partition("=")
    if not equals or not key:
        raise ValueError(f"cannot read {said!r}: write key=value, as in threads=1")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    first, *rest = key.split(".")
    entries = [e for e in values.get("studies", ()) if e.get("study") == first]
    for target, steps in [(e, rest) for e in entries] or [(values, [first, *rest])]:
        if not steps:
            raise ValueError(f"cannot set study {first!r} as a whole: name one of its values")
        *way, last = steps
        for step in way:
            target = _descend(target, step, key)
        target[int(last) if isinstance(target, list) and last.isdigit() else last] = value


def _descend(target: Any, step: str, key: str) -> Any:
    if isinstance(target, list) and step.isdigit() and int(step) < len(target):
        return target[int(step)]
    if isinstance(target, dict) and isinstance(target.get(step, {}), dict | list):
        return target.setdefault(step, {})
    choices = list(range(len(target))) if isinstance(target, list) else list(target)
    raise ValueError(f"cannot set {key!r}: no {step!r} there; choose from: {choices}")


def _validated(model: type[BaseModel], values: Mapping[str, Any], where: str) -> Any:
    """The model of the values; the first fault as a ValueError of one line."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _fault(model, error, where) from error


def _fault(model: type[BaseModel], error: ValidationError, where: str) -> ValueError:
    """The first fault that was found in the values of a model, in one line."""
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = ", ".join(_within(model, fault["loc"]).model_fields)
        return ValueError(f"{where} has no key {key!r}; choose from: {known}")
    got = json.dumps(fault["input"], default=str)[:60]
    return ValueError(f"{where}: {key}: {fault['msg']} (got {got})")


def _within(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel]:
    """The model that has, or lacks, the last key of a location in another one."""
    for step in location[:-1]:
        field = model.model_fields.get(str(step))
        for kind in (field.annotation, *get_args(field.annotation)) if field else ():
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model


def blocks(cases: Sequence[Case]) -> Iterator[list[Case]]:
    """Cases that have to be measured together, in the order of their first one."""
    grouped: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        grouped.setdefault((case.study, registry[case.study].block(case)), []).append(case)
    yield from grouped.values()
