"""Flows in a comparison: options, widths, what "*" stands for; cases of those that are trained.

Training options are resolved in this order: flow over study over protocol over defaults.
"""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import cache
from typing import Any, ClassVar, Self, TypeVar

from pydantic import JsonValue, PositiveFloat, PositiveInt, ValidationError
from pydantic import model_validator as validator

import flows
from benchmarks import datasets, protocols
from benchmarks.core.case import Case, Settings, canonical
from benchmarks.core.study import Common, Study
from benchmarks.training.baselines import BaselineEntry
from benchmarks.training.settings import Training, TrainingPart
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

    @validator(mode="before")
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


# ---- trainings ----------------------------------------------------------------------------------


class TrainingStudy(Study):
    """A study of trainings, which may run beside others."""

    uses = ("benchmarks.measure", "benchmarks.training", "benchmarks.evaluation")

    def alone(self, case: Case) -> bool:
        """Whether the clock ends the training."""
        return bool(case.settings.get("training", {}).get("time_limit"))


class Trainee(Contender, frozen=True):
    """A contender with training options of its own."""

    shared: ClassVar[tuple[str, ...]] = ("updates", "training", "batch", "protocol")
    updates: PositiveInt | None = None
    """Updates of this flow; those of the study if left out."""
    training: TrainingPart = TrainingPart()
    """Settings of this flow's training; only those that are given override the study's."""
    protocol: str | None = None
    """Protocol of this flow, in place of the study's."""


class Trainees(Settings, frozen=True):
    """Options of a study that trains flows on data sets."""

    flows: tuple[Trainee, ...]
    """Flows that are trained."""
    datasets: tuple[str, ...]
    """Data sets, by their names or files."""
    sizes: Mapping[str, PositiveInt] = {}
    """Sizes of the networks by name (`hidden`, `depth`, `layers`), for flows that use them."""
    parameters: PositiveInt | None = None
    """Number of trainable parameters that decides the width of flows without one of their own."""
    batch: PositiveInt = 256
    """Rows of a batch."""
    updates: PositiveInt = 1000
    """Updates of each training."""
    training: Training = Training()
    """Settings of the trainings."""
    protocol: str | None = None
    """Protocol, by its name, whose rules give what the suite leaves out."""

    @validator(mode="after")
    def _one_width(self) -> Self:
        if self.parameters and "hidden" in self.sizes:
            raise ValueError(
                f"sizes.hidden = {self.sizes['hidden']} and parameters = {self.parameters} both "
                "decide the width: give one of them"
            )
        return self

    def repeated(
        self,
        common: Common,
        dataset: str,
        settings: Mapping[str, Any],
        fixed: Mapping[str, JsonValue] = {},
        **fields: Any,
    ) -> Iterator[Case]:
        """Yield a case for each flow and seed on a data set.

        ``fixed`` are settings of the training that override all others. Raises ValueError if a
        protocol has no rule for a flow on the data set, if training options contradict each other,
        or if rows are to be fresh and the data set has no distribution.
        """
        for contender in entered(self.flows, dataset):
            trainee, training = self.resolve(contender, dataset, fixed)
            if training.fresh:
                training.source(datasets.load(dataset))  # raises if there is none
            fields |= {"batch": self.batch, "updates": trainee.updates or self.updates}
            fields["settings"] = {**settings, "training": training.model_dump()}
            dim, sizes = datasets.dim(dataset), sized(self.sizes, dataset)
            for seed in common.seeds:
                yield trainee.case(common, dim, sizes, seed, dataset=dataset, **fields)

    def resolve(
        self, trainee: Trainee, dataset: str, fixed: Mapping[str, JsonValue] = {}
    ) -> tuple[Trainee, Training]:
        """Resolve a flow's options, batch, updates and training on a data set; see `repeated`."""
        member = flows.members[trainee.flow]
        decided = "hidden" in trainee.options or trainee.rules
        if self.parameters and not decided and "hidden" in member.uses:
            trainee = trainee.model_copy(update={"parameters": self.parameters})
        training, changes = self.training.model_dump(), {}
        if name := trainee.protocol or self.protocol:
            rule = protocols.read(name).of(trainee.flow, dataset)
            training |= {**rule.training, **self.training.model_dump(exclude_unset=True)}
            options = {**rule.options, **member.applicable(self.sizes), **trainee.options}
            if trainee.rules and "hidden" not in trainee.options:
                options.pop("hidden", None)
            changes["options"] = options
            for size in ("batch", "updates"):
                nearer = self if size in self.model_fields_set else rule
                changes[size] = getattr(trainee, size) or getattr(nearer, size)
        training |= {**trainee.training.model_dump(exclude_unset=True), **fixed}
        try:
            return trainee.model_copy(update=changes), Training.model_validate(training)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ValueError(f"training of flow {trainee.flow!r}: {reason}") from error


def entered(contenders: Sequence[K], dataset: str) -> list[K]:
    """Expand flows for a data set: those that take a context, of a conditional one.

    A flow that is named and takes none is left out with a line of warning.
    """
    every = expanded(contenders)
    if not datasets.context_dim(dataset):
        return every
    unfit = {one.flow for one in every if "context_dim" not in flows.members[one.flow].uses}
    for name in sorted(unfit.intersection(contender.flow for contender in contenders)):
        what = f"flow {name!r} is left out on {dataset}: it takes no context"
        warnings.warn(what, stacklevel=1)
    return [one for one in every if one.flow not in unfit]


def sized(sizes: Mapping[str, int], dataset: str) -> dict[str, int]:
    """Sizes of flows on a data set, with the width of its context if it is conditional."""
    context = datasets.context_dim(dataset)
    return {**sizes, "context_dim": context} if context else dict(sizes)


def fitted(
    baselines: Sequence[BaselineEntry],
    common: Common,
    dataset: str,
    settings: Mapping[str, Any],
    **fields: Any,
) -> Iterator[Case]:
    """Yield a case for each baseline and seed on a data set."""
    for entry in baselines:
        fields |= {"flow": entry.flow, "dim": datasets.dim(dataset), "dataset": dataset}
        fields |= {"batch": 1, "settings": {**settings, **entry.settings}}
        yield from (common.case(seed, **fields) for seed in common.seeds)
