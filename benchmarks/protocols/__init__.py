"""Protocols: TOML files with the training options of papers, or of our own.

A protocol is a list of rules, each for some flows and data sets. Of the rules that apply, later
ones override earlier ones; a suite overrides all of them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache, reduce
from importlib import resources
from typing import Any

from pydantic import JsonValue, PositiveInt, ValidationError

from benchmarks.core.case import Settings


class Source(Settings, frozen=True):
    """A publication, and the place of the figures in it."""

    title: str
    year: PositiveInt
    arxiv: str = ""
    where: str

    def __str__(self) -> str:
        arxiv = f", arXiv:{self.arxiv}" if self.arxiv else ""
        return f"{self.title}, {self.year}{arxiv}, {self.where}"


class Rule(Settings, frozen=True):
    """Options for some flows on some data sets, "*" for all of them.

    ``ours`` names options that the source leaves open and we chose; ``differences`` between the
    source and this project are those that no option can remove.
    """

    flows: tuple[str, ...] = ("*",)
    datasets: tuple[str, ...] = ("*",)
    options: Mapping[str, JsonValue] = {}
    batch: PositiveInt | None = None
    updates: PositiveInt | None = None
    training: Mapping[str, JsonValue] = {}
    ours: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()

    def holds(self, flow: str, dataset: str) -> bool:
        """Return whether the rule applies to a flow on a data set."""
        pairs = (flow, self.flows), (dataset, self.datasets)
        return all(name in chosen or "*" in chosen for name, chosen in pairs)

    def under(self, later: Rule) -> Rule:
        """Merge with a later rule, which overrides this one."""
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


class Protocol(Settings, frozen=True):
    """A protocol as read."""

    name: str
    about: str
    version: PositiveInt = 1  # raised when a rule changes
    source: Source | None = None  # None: our own
    rules: tuple[Rule, ...]

    def of(self, flow: str, dataset: str) -> Rule:
        """Merge all rules for a flow on a data set.

        Raises ValueError, with the choices, if there are none.
        """
        rules = [rule for rule in self.rules if rule.holds(flow, dataset)]
        if not rules:
            of_flow = (rule for rule in self.rules if {flow, "*"} & set(rule.flows))
            covered = {name for rule in of_flow for name in rule.datasets}
            flows = {name for rule in self.rules for name in rule.flows} - {"*"}
            kind, choices = ("data sets", covered) if covered else ("flows", flows)
            raise ValueError(
                f"protocol {self.name!r} has no rule for flow {flow!r} on {dataset!r}; it has the "
                f"{kind}: {', '.join(sorted(choices))}"
            )
        return reduce(Rule.under, rules, Rule())


def names() -> list[str]:
    """Return the names of all protocols."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


@cache
def read(name: str) -> Protocol:
    """Read a protocol by name; ValueError for an unknown one."""
    if name not in names():
        raise ValueError(f"unknown protocol {name!r}; choose from: {', '.join(names())}")
    return parsed(name, (resources.files(__name__) / f"{name}.toml").read_text("utf-8"))


def parsed(name: str, text: str) -> Protocol:
    """Parse a protocol from TOML; ValueError, with the key, for an invalid one."""
    try:
        values: dict[str, Any] = {"name": name, **tomllib.loads(text)}
        return Protocol.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"])) or "a rule"
        raise ValueError(f"protocol {name!r}: {key}: {fault['msg']}") from error
