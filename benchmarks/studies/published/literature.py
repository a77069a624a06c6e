"""The papers' figures, `benchmarks/published.toml`: each with its error, source and caveats."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Literal, Self, get_args

from pydantic import PositiveFloat, PositiveInt, model_validator

from benchmarks.core.case import Settings

Set = Literal["power", "gas", "hepmass", "miniboone", "bsds300"]
SETS: tuple[str, ...] = get_args(Set)


class Paper(Settings, frozen=True):
    """What a row was published in, and the table that it stands in."""

    title: str
    year: PositiveInt
    arxiv: str
    where: str

    def __str__(self) -> str:
        return f"{self.title}, {self.year}, arXiv:{self.arxiv}, {self.where}"


class Row(Settings, frozen=True):
    """A model's test log-likelihoods, nats, by data set; their errors, and what these are.

    ``flow`` is the member that it is set beside, ``protocol`` the one by which it was trained.
    """

    model: str
    source: str
    flow: str | None = None
    protocol: str | None = None
    certainty: Literal["seen", "second-hand"]
    error_is: str = ""
    caveats: tuple[str, ...] = ()
    values: dict[Set, float]
    errors: Mapping[str, PositiveFloat] = {}

    @model_validator(mode="after")
    def _errors_are_of_values(self) -> Self:
        if self.errors.keys() - self.values.keys() or bool(self.errors) != bool(self.error_is):
            raise ValueError(
                f"row {self.model!r}: errors are of its values, and error_is says what"
            )
        return self


class Figures(Settings, frozen=True):
    """All rows, and the papers that they name."""

    sources: dict[str, Paper]
    rows: tuple[Row, ...]

    @model_validator(mode="after")
    def _sources_are_there(self) -> Self:
        if lost := {row.source for row in self.rows} - self.sources.keys():
            raise ValueError(f"no source {lost.pop()!r}; there are: {', '.join(self.sources)}")
        return self

    def beside(self, flow: str, protocol: str | None) -> Row | None:
        """The row that a flow trained by a protocol is set beside, if there is one.

        One that was trained by that protocol, or else one without a protocol of ours.
        """
        rows = [row for row in self.rows if row.flow == flow]
        wanted = [row for row in rows if row.protocol == protocol]
        return next(iter(wanted or [row for row in rows if row.protocol is None]), None)


@cache
def figures() -> Figures:
    """The figures that come with the project."""
    text = (resources.files("benchmarks") / "published.toml").read_text("utf-8")
    return Figures.model_validate(tomllib.loads(text))
