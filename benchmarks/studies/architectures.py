"""Architectures that several libraries have: a member of each, and what tells them apart."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self

import pandas as pd
from pydantic import PositiveInt, model_validator

from benchmarks.core.case import Settings
from benchmarks.core.exhibit import RECORDS, Column, Table
from benchmarks.measure.foreign import peers
from benchmarks.measure.foreign.process import lacking
from benchmarks.studies.contender import Contender, usable
from flows.budget import WITHIN

TRAITS = {
    "normalisation": "Normalisation",
    "mixing": "Between layers",
    "map": "Map",
    "network": "Network",
}
NOTE = (
    "Members of a group have as many layers, hidden layers of their networks and, within "
    f"{WITHIN:.0%}, trainable parameters. What else differs is each library's own way to build the "
    "architecture. s: the scale of an affine map, u: what its network gives."
)


@cache
def architectures() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Members by name, by the name of their architecture; the first of each is the reference."""
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text())


class GroupMember(Contender, frozen=True):
    """A flow of a library: a member, or the counterpart of a flow of ours by a peer."""

    by: str = ""
    """Peer that has the counterpart of `flow`, in a process of its own; a member if left out."""
    label: str = ""
    """Name in tables; that of the flow, after the peer's, if left out."""

    @property
    def name(self) -> str:
        """The name in tables."""
        return self.label or (f"{self.by}_{self.flow}" if self.by else self.flow)

    def usable(self) -> bool:
        """Whether its packages can be used; one line of warning where they cannot."""
        fault = lacking(peers.peer(self.by)) if self.by else ""
        if fault:
            warnings.warn(f"flows of {self.by} are left out: it {fault}", stacklevel=1)
        return not fault and usable(self)


class Group(Settings, frozen=True):
    """Flows of one architecture; what it leaves out it takes from the study."""

    name: str
    """Name of the group: of an architecture, whose members it then has. It alone may stand in
    place of the table.
    """
    members: tuple[GroupMember, ...]
    """Flows that are compared; ratios and differences are those to the first."""
    parameters: PositiveInt | None = None
    """Number of trainable parameters of all of them; that of the study if left out."""
    updates: PositiveInt | None = None
    """Updates of each of them; those of the study if left out."""
    same_weights: bool = False
    """Whether all get the initial weights of the first, which then have to have the same shapes."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        given = {"name": given} if isinstance(given, str) else given
        if not isinstance(given, Mapping) or "members" in given or "name" not in given:
            return given
        if (name := given["name"]) not in (known := architectures()):
            choices = ", ".join(known)
            raise ValueError(f"unknown architecture {name!r}; give members or one of: {choices}")
        fields = GroupMember.model_fields
        members = [
            {"flow": member, **{k: v for k, v in row.items() if k in fields}}
            for member, row in known[name].items()
        ]
        return {**given, "members": members}

    @model_validator(mode="after")
    def _apart(self) -> Self:
        names = [member.name for member in self.members]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"group {self.name!r} has two members {twice[0]!r}: give each a label")
        return self

    def cases(
        self, sizes: Mapping[str, int], parameters: int, dim: int
    ) -> Iterator[tuple[GroupMember, dict[str, Any]]]:
        """Each member that can be used, and the fields of its cases at D.

        Raises ValueError where no width has so many ``parameters``, or the group's own.
        """
        size = self.parameters or parameters
        for place, entry in enumerate(self.members):
            if not entry.usable():
                continue
            budgeted = entry.model_copy(update={"parameters": size})
            settings: dict[str, Any] = {"group": self.name, "member": entry.name}
            settings |= {"parameters": size} | ({"by": entry.by} if entry.by else {})
            yield (
                entry,
                {
                    "flow": entry.flow,
                    "dim": dim,
                    "options": budgeted.complete(sizes, dim),
                    "settings": settings,
                    "roles": {"place": place},
                },
            )


class Groups(Settings, frozen=True):
    """What a study of groups takes from a suite in any case."""

    groups: tuple[Group, ...]
    """Flows that are compared, an architecture a group."""
    sizes: Mapping[str, PositiveInt] = {}
    """Sizes of the networks by name (`hidden`, `depth`, `layers`), for flows that use them."""


def differences(frame: pd.DataFrame) -> list[Table]:
    """The table of what tells the members of records apart; none where nothing is known."""
    rows = []
    for (group, member), own in frame.groupby(["setting.group", "setting.member"], sort=False):
        if traits := architectures().get(str(group), {}).get(str(member)):
            row = {"group": group, "member": member, RECORDS: tuple(own["key"])}
            rows.append(row | {name: traits[name] for name in TRAITS})
    columns = {"group": Column("Group"), "member": Column("Member")}
    columns |= {name: Column(header) for name, header in TRAITS.items()}
    table = Table("architectures", "Differences in architecture", NOTE, pd.DataFrame(rows), columns)
    return [table] if rows else []
