"""Flows in a comparison: options of their own, rules of width, and what "*" stands for."""

import json
import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from functools import cache
from typing import Any, ClassVar, TypeVar

from pydantic import JsonValue, PositiveFloat, PositiveInt, model_validator

import flows
from benchmarks.core.case import Case, Settings, canonical
from benchmarks.core.study import Common
from flows.budget import width
from flows.registry import Member


class Contender(Settings, frozen=True):
    """A flow in a comparison; what it leaves out it takes from the study.

    The flow "*" stands for every registered flow of this project or of a plug-in that no other
    entry names and ``without`` does not match.
    """

    flow: str
    """Name of the flow, or "*"; a name alone may stand in place of the table."""
    options: Mapping[str, JsonValue] = {}
    """Options of the flow by name, where they differ from its defaults."""
    parameters: PositiveInt | None = None
    """Number of trainable parameters that decides the width, in place of `hidden`."""
    hidden_per_dim: PositiveFloat | None = None
    """Factor c of a width H = c D, in place of `hidden`."""
    batch: PositiveInt | None = None
    """Rows of a batch for this flow; those of the study if left out."""
    without: tuple[str, ...] = ()
    """Names and patterns of flows ("nsf_*"), or of modules ("flows.*"), that "*" leaves out."""

    shared: ClassVar[tuple[str, ...]] = ()  # fields that a plug-in's flow takes from its peers

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"flow": value} if isinstance(value, str) else value

    @property
    def rules(self) -> dict[str, JsonValue]:
        """What decides the width in place of a number, by name: roles of a case."""
        return self.model_dump(include={"parameters", "hidden_per_dim"}, exclude_none=True)

    def complete(self, sizes: Mapping[str, int], dim: int) -> dict[str, Any]:
        """The flow's full options at D: its defaults, the study's sizes that it uses, its own."""
        member = flows.members[self.flow]
        if self.hidden_per_dim is not None:
            if "hidden" not in member.uses:
                raise ValueError(f"flow {self.flow!r} has no 'hidden' that hidden_per_dim decides")
            sizes = {**sizes, "hidden": max(1, round(self.hidden_per_dim * dim))}
        chosen = {**member.applicable(sizes), **self.options}
        if self.parameters is not None:
            if "hidden" not in self.options:
                chosen.pop("hidden", None)
            chosen["hidden"] = _width(member, dim, self.parameters, json.dumps(chosen))
        return dict(canonical(member.complete(chosen)))

    def case(
        self, common: Common, dim: int, sizes: Mapping[str, int], seed: int = 0, **fields: Any
    ) -> Case:
        """The case of the flow at D, of its own batch if it has one; the width's rule is a role."""
        fields |= {"batch": self.batch or fields["batch"], "flow": self.flow, "dim": dim}
        roles = {**fields.pop("roles", {}), **self.rules}
        return common.case(seed, options=self.complete(sizes, dim), roles=roles, **fields)


@cache
def _width(member: Member, dim: int, parameters: int, options: str) -> int:
    """The width of a budget, which is searched once: each trial builds a flow."""
    return width(member, dim, parameters, json.loads(options))


K = TypeVar("K", bound=Contender)


def usable(contender: Contender) -> bool:
    """Whether the contender's package can be used; a line of warning for one that cannot."""
    if fault := flows.members.fault(contender.flow):
        package, _, _ = contender.flow.partition("_")
        warnings.warn(f"flows of {package} are left out: the package {fault}", stacklevel=1)
    return not fault


def expanded(contenders: Sequence[K]) -> list[K]:
    """The contenders that can be used, with "*" replaced by the flows that it stands for.

    A flow of a plug-in among them has the `shared` settings of its first peer that is named with
    some: a flow that solves an ODE if it does, else one that does not.
    """
    peers = [contender.flow for contender in contenders if contender.flow != "*"]
    result: list[K] = []
    for contender in contenders:
        if contender.flow != "*":
            result += [contender] if usable(contender) else []
            continue
        for name in flows.own():
            names, patterns = (name, flows.members.module_of(name)), (*peers, *contender.without)
            if not any(fnmatch(text, pattern) for text in names for pattern in patterns):
                changes = {"flow": name, **_of_peer(name, contenders)}
                result.append(contender.model_copy(update=changes))
    return result


def _of_peer(name: str, contenders: Sequence[Contender]) -> dict[str, Any]:
    """Settings that a plug-in's flow takes from its peer; none of a flow of this project."""
    if flows.members.module_of(name).partition(".")[0] == "flows":
        return {}
    solves = {n: "solver" in flows.members[n].defaults for n in flows.names()}
    peers = [peer for peer in contenders if solves.get(peer.flow) == solves[name]]
    every = ({k: getattr(p, k) for k in p.shared if k in p.model_fields_set} for p in peers)
    return next(filter(None, every), {})
