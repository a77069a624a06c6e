"""Protocols: TOML files that say how flows were trained elsewhere, or are to be trained here.

A protocol is a list of rules, each for some flows and data sets; of those that apply, a later one
goes before an earlier one. What a suite says itself goes before all of them.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any, Self

from pydantic import BaseModel, JsonValue, PositiveInt, ValidationError
from pydantic import model_validator as validator

from benchmarks.training.settings import Training


class Source(BaseModel, frozen=True, extra="forbid"):
    """Where something was published, and where in it the figures stand."""

    title: str
    year: PositiveInt
    arxiv: str = ""
    where: str

    def __str__(self) -> str:
        arxiv = f", arXiv:{self.arxiv}" if self.arxiv else ""
        return f"{self.title}, {self.year}{arxiv}, {self.where}"


class Rule(BaseModel, frozen=True, extra="forbid"):
    """What holds for these flows on these data sets, "*" for all; what it leaves out is not said.

    ``ours`` names what the source does not say and we chose; ``differences`` are those between the
    source and this project that no setting can mend.
    """

    flows: tuple[str, ...] = ("*",)
    datasets: tuple[str, ...] = ("*",)
    options: dict[str, JsonValue] = {}
    batch: PositiveInt | None = None
    updates: PositiveInt | None = None
    training: dict[str, JsonValue] = {}
    ours: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()

    def holds(self, flow: str, dataset: str) -> bool:
        """Whether it is for this flow on this data set."""
        pairs = (flow, self.flows), (dataset, self.datasets)
        return all(name in chosen or "*" in chosen for name, chosen in pairs)

    def under(self, later: Rule) -> Rule:
        """Both, the later one before this one."""
        return Rule(
            flows=later.flows,
            datasets=later.datasets,
            options={**self.options, **later.options},
            batch=later.batch or self.batch,
            updates=later.updates or self.updates,
            training={**self.training, **later.training},
            ours=self.ours + later.ours,
            differences=self.differences + later.differences,
        )


class Protocol(BaseModel, frozen=True, extra="forbid"):
    """A protocol as read."""

    name: str
    about: str
    version: PositiveInt = 1  # raised when a rule changes
    source: Source | None = None  # of one that is not our own
    rules: tuple[Rule, ...]

    @validator(mode="after")
    def _trainable(self) -> Self:
        for flow in {flow for rule in self.rules for flow in rule.flows}:
            for dataset in {name for rule in self.rules for name in rule.datasets}:
                if found := [rule for rule in self.rules if rule.holds(flow, dataset)]:
                    Training.model_validate(_merged(found).training)
        return self

    def of(self, flow: str, dataset: str) -> Rule:
        """All that it says of a flow on a data set.

        ValueError, naming what it has, where it says nothing of one or the other.
        """
        found = [rule for rule in self.rules if rule.holds(flow, dataset)]
        if not found:
            for_flow = {name for rule in self.rules for name in rule.datasets if flow in rule.flows}
            for_all = {name for rule in self.rules for name in rule.datasets if "*" in rule.flows}
            known = {name for rule in self.rules for name in rule.flows} - {"*"}
            there = for_flow | for_all
            remedy = f"data sets: {', '.join(sorted(there))}"
            remedy = remedy if there else f"flows: {', '.join(sorted(known))}"
            raise ValueError(
                f"protocol {self.name!r} says nothing of flow {flow!r} on {dataset!r}; it has the "
                f"{remedy}"
            )
        return _merged(found)


def _merged(rules: list[Rule]) -> Rule:
    whole = Rule()
    for rule in rules:
        whole = whole.under(rule)
    return whole


def names() -> list[str]:
    """Names of the protocols."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


@cache
def read(name: str) -> Protocol:
    """A protocol by name; ValueError for one that does not exist."""
    if name not in names():
        raise ValueError(f"unknown protocol {name!r}; choose from: {', '.join(names())}")
    return parsed(name, (resources.files(__name__) / f"{name}.toml").read_text("utf-8"))


def parsed(name: str, text: str) -> Protocol:
    """The protocol in a text of TOML; ValueError, naming the key, for one that is none."""
    try:
        values: dict[str, Any] = {"name": name, **tomllib.loads(text)}
        return Protocol.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"])) or "a rule"
        raise ValueError(f"protocol {name!r}: {key}: {fault['msg']}") from error
