"""The search: equal CPU seconds for each family, or a race of families on one table.

Configurations of a family are compared at a constant rate, by validation; the best go on from their
weights (successive halving: Jamieson and Talwalkar, Non-stochastic Best Arm Identification and
Hyperparameter Optimization, 2016, arXiv:1502.07943). In a race families drop out too, by validation
and what it still gains.
"""

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from typing import Any, Literal, Protocol, Self

import numpy as np
import pandas as pd
import torch
from pydantic import Field, JsonValue, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic import model_validator as validator
from torch.distributions import MultivariateNormal

from benchmarks import datasets
from benchmarks.analysis.inference import Estimate, of_rows
from benchmarks.core.case import Case, Settings
from benchmarks.core.record import Record
from benchmarks.core.study import Arrays, Common, Result, Skipped, register
from benchmarks.datasets.disk import Absent
from benchmarks.datasets.tables import is_file
from benchmarks.evaluation.likelihood import no_density
from benchmarks.evaluation.scoring import Scoring, score
from benchmarks.studies.contender import Contender, TrainingStudy, entered, expanded, fitted, sized
from benchmarks.training.baselines import BASELINES, BaselineEntry
from benchmarks.training.loop import train
from benchmarks.training.settings import Training, TrainingPart
from benchmarks.training.state import prepared
from flows import preprocessing
from flows.budget import trainable
from flows.training import TrainingError
from flows.tuning import DECAYED, RATE, WEIGHT_DECAY, batch, tuning

NAME = "search"
PREPROCESSINGS = ("marginal+whiten", "whiten", "radial", "standardize", "clip+whiten")
MAPS = 4  # preprocessings that baselines are fitted after
SURVEYED = 5_000  # rows of a table, to train and to validate, that say which map comes first
LEAD = 1.0  # nats: smaller ones of a Gaussian foretell nothing of a flow
FIRST = 2  # configurations that work for most data, behind the most promising preprocessings
EDGE = 0.15  # share of a range, in its logarithm, that is its edge
NEAR = 2.0  # standard errors within which a family is not behind another
SHORTEST = 0.5  # seconds that a training goes on for, where no time is left


class Space(Settings, frozen=True):
    """What a search may choose; what is left out is that of `flows.tuning`."""

    learning_rate: tuple[PositiveFloat, PositiveFloat] = RATE
    """Lowest and highest learning rate. Choices are even in its logarithm."""
    weight_decay: tuple[NonNegativeFloat, ...] = Field(default=WEIGHT_DECAY, min_length=1)
    """Weight decays of AdamW to choose from."""
    preprocessing: tuple[str, ...] = ()
    """Preprocessings to choose from, the first for the first configuration; by default those that
    suit the data set.
    """
    options: Mapping[str, tuple[JsonValue, ...]] | None = None
    """Values to choose from, in rising order, by the name of an option of the flow."""

    @validator(mode="after")
    def _consistent(self) -> Self:
        low, high = self.learning_rate
        if low > high:
            raise ValueError(f"learning_rate = [{low:g}, {high:g}]: give the lower end first")
        for name in self.preprocessing:
            TrainingPart(preprocessing=name)  # raises for an unknown one
        if empty := [name for name, values in (self.options or {}).items() if not values]:
            raise ValueError(f"option {empty[0]!r} has no values to choose from")
        return self


class Entrant(Contender, frozen=True):
    """A family, what its search may choose from, and its name in tables where that is another."""

    label: str = ""
    """Name of the family in tables; that of the flow if left out."""
    space: Space = Space()
    """Space from which the search chooses configurations."""
    training: TrainingPart = TrainingPart()
    """Settings of the trainings of this family; only those that are given override the study's."""

    @property
    def name(self) -> str:
        """The label, or the flow."""
        return self.label or self.flow


FAMILIES = (  # that a search compares by default, the most promising first
    *map(Entrant.model_validate, ("nsf_ar", "nsf_coupling", "cnf", "maf", "realnvp", "glow")),
    *map(Entrant.model_validate, ("transformer_mixture", "tarflow", "rnode", "ffjord")),
    *map(Entrant.model_validate, ("ot_flow", "flow_matching")),
    Entrant(
        flow="flow_matching",
        label="flow_matching, likelihood",
        training=TrainingPart(finish="likelihood", decay=0.5),
    ),
)


class Rung(Settings, frozen=True):
    """A budget of each training, and what goes on to it from the rung before."""

    seconds: PositiveFloat
    """CPU seconds of a training, or its updates, with those of earlier rungs."""
    configurations: PositiveInt = 1
    """Configurations of a family that get them."""
    families: NonNegativeInt | None = None
    """Families that get them, the best by validation; by default all. At the last rung of a race
    those within two standard errors of the last of them do too.
    """
    labels: tuple[str, ...] = ()
    """Names of families that get them beside those."""
    seeds: NonNegativeInt | None = None
    """Number of the suite's seeds, the smallest, for finals; by default all. With 0 it has none."""

    @property
    def rule(self) -> dict[str, Any]:
        """Which families get it: settings of a case."""
        return self.model_dump(include={"families", "labels"}, mode="json")


TRIALS = Rung(seconds=10, configurations=6, seeds=0), Rung(seconds=30, configurations=3, seeds=0)


class SearchOptions(Settings, frozen=True):
    """The part of a suite that the study of the search reads."""

    datasets: tuple[str, ...]
    """Data sets, by their names or files."""
    flows: tuple[Entrant, ...] = ()
    """Families that are compared; by default `FAMILIES`."""
    if_present: tuple[str, ...] = ()
    """Further data sets, which are left out where their files are absent."""
    baselines: tuple[BaselineEntry, ...] | None = None
    """Baselines that are fitted beside the flows; by default all that there are, each after the
    preprocessings that suit the data set.
    """
    sizes: Mapping[str, PositiveInt] = {}
    """Sizes of the networks by name, which the search then leaves as they are."""
    batch: PositiveInt | None = None
    """Rows of a batch; by default as many as suit the number of training rows."""
    unit: Literal["cpu_seconds", "updates"] = "cpu_seconds"
    """What a training spends: CPU seconds, or updates, which are equal on every machine."""
    training: Training = Training(schedule="course", decay=0.4, warmup=20, optimizer="adamw")
    """Settings of all trainings, but for what the search chooses."""
    rungs: tuple[Rung, ...] = Field(default=(*TRIALS, Rung(seconds=60)), min_length=1)
    """Budgets in rising order; by default 120 seconds of search, and 60 for each final."""
    race: bool = False
    """Whether families drop out: then the last rung alone is scored, of trainings that went on."""
    scoring: Scoring = Scoring(continuation=0)
    """Settings of the scores."""
    minutes: PositiveFloat | None = None
    """Minutes of a race, as they were asked for."""
    left_out: tuple[str, ...] = ()
    """Families that there was no time for."""

    @validator(mode="after")
    def _rising(self) -> Self:
        budgets = [rung.seconds for rung in self.rungs]
        if budgets != sorted(set(budgets)):
            raise ValueError(f"budgets have to rise from rung to rung, got {budgets}")
        counts = [rung.configurations for rung in self.rungs]
        if counts != sorted(counts, reverse=True):
            raise ValueError(f"each rung takes some of the one before, got {counts} configurations")
        if self.rungs[-1].seeds == 0:
            raise ValueError("seeds = 0: the last rung has to have finals")
        if self.training.schedule != "course":
            raise ValueError(
                f"schedule {self.training.schedule!r} has no budget of a search: leave it out"
            )
        names = [entrant.name for entrant in expanded(self.flows or FAMILIES)]
        for place, rung in enumerate(self.rungs):
            if unknown := [label for label in rung.labels if label not in names]:
                raise ValueError(f"labels = {unknown}; choose from: {', '.join(names)}")
            some = rung.families is not None
            scored = place > 0 and self.rungs[place - 1].seeds != 0
            if not self.race and some and (not scored or rung.configurations > 1):
                raise ValueError(
                    f"families = {rung.families} at {rung.seconds:g}: after a rung with finals, "
                    "and with one configuration, some families go on"
                )
            if (self.race or rung.labels) and not some:
                raise ValueError(f"the rung of {rung.seconds:g} has to give families")
        return self


@cache
def _facts(dataset: str) -> tuple[int, tuple[str, ...]]:
    """Rows to train on, and the preprocessings that suit. Raises Absent."""
    data = datasets.load(dataset)
    support = torch.empty(2, 0) if data.support is None else data.support[:, : data.dim]
    lower, upper = support.isfinite()
    bounded = {"logit": lower & upper, "log": lower & ~upper}
    steps = [step for step, columns in bounded.items() if columns.any()]
    maps = (f"{step}+{name}" for name in PREPROCESSINGS[:2] for step in steps)
    usual = tuple(dict.fromkeys((*data.suits, *maps, *PREPROCESSINGS)))
    first = _leading(data, usual) if is_file(dataset) and not data.context_dim else ()
    return len(data.train), tuple(dict.fromkeys((*first, *usual)))


def _leading(data: datasets.Dataset, maps: Sequence[str]) -> tuple[str, ...]:
    """The preprocessing behind which a Gaussian of a table leads by `LEAD`; none without one.

    The lead is over the first of the maps, nats of validation rows, and beyond their noise.
    """
    train, held = data.train[:SURVEYED], data.val[:SURVEYED]
    scores: dict[str, torch.Tensor] = {}
    for name in maps:
        with suppress(ValueError, RuntimeError):  # of a spread that is missing
            first = preprocessing.fit(name, train, data.support)
            rows, (z, ladj) = first(train)[0], first(held)
            normal = MultivariateNormal(rows.mean(0), rows.T.cov().reshape(data.dim, data.dim))
            scores[name] = normal.log_prob(z) + ladj
    if maps[0] not in scores:
        return tuple(scores)
    best = max(scores, key=lambda name: scores[name].mean().round(decimals=3))
    lead = of_rows(scores[best] - scores[maps[0]])
    return (best,) if lead.value > max(LEAD, NEAR * lead.error) else ()


def _known(dataset: str) -> tuple[int, tuple[str, ...]] | None:
    """The `_facts`; None where files are absent, which may be there later."""
    with suppress(Absent):
        return _facts(dataset)
    return None


def preprocessings(dataset: str) -> tuple[str, ...]:
    """Return the preprocessings that suit a data set, the most promising first.

    Columns with two bounds have a logit, those with a lower one a logarithm. A drawn or
    named data set says what suits it; of a file a Gaussian finds out, where its lead is large.
    """
    return facts[1] if (facts := _known(dataset)) else PREPROCESSINGS


def baselines(dataset: str, **options: Any) -> list[BaselineEntry]:
    """Return every baseline after each of the `MAPS` preprocessings that suit a data set most.

    And in any case a Gaussian of the whitened data, whose likelihood a gap is counted from.
    ``options`` are those of a baseline that searches.
    """
    maps = preprocessings(dataset)[:MAPS]
    plain = [] if "whiten" in maps else [BaselineEntry(flow="gaussian")]
    return plain + [
        BaselineEntry(flow=name, preprocessing=first, **(options if method.bounded else {}))
        for first in maps
        for name, method in BASELINES.items()
    ]


@dataclass(frozen=True)
class Configuration:
    """One choice of a space: settings of the training, options, and which lie at an edge."""

    number: int
    training: Mapping[str, Any]
    options: Mapping[str, Any]
    edges: tuple[str, ...]


def configurations(entrant: Entrant, dim: int, dataset: str, count: int) -> list[Configuration]:
    """Choose configurations of a family: what works for most data, then points of its own.

    The first `FIRST` differ in preprocessing alone. The points are those of a scrambled Halton
    sequence, equal for a name.
    """
    from scipy.stats import qmc  # which takes a second

    space, advice = entrant.space, tuning(entrant.flow, dim)
    lists = dict(advice.options if space.options is None else space.options)
    lists = {name: values for name, values in lists.items() if name not in entrant.options}
    maps, (low, high) = space.preprocessing or preprocessings(dataset), space.learning_rate
    working = {name: values[len(values) // 2] for name, values in lists.items()}
    working |= {n: value for n, value in advice.working.items() if value in lists.get(n, ())}
    decay = DECAYED if DECAYED in space.weight_decay else space.weight_decay[0]
    rate = min(max(advice.rate, low), high)
    chosen = [(rate, decay, first_map, working) for first_map in maps[: min(FIRST, count)]]
    seed, every = zlib.crc32(entrant.name.encode()), (space.weight_decay, maps, *lists.values())
    points = qmc.Halton(1 + len(every), rng=seed).random(count - len(chosen))
    for place, *shares in points.tolist():
        picks = (some[int(share * len(some))] for some, share in zip(every, shares, strict=True))
        decay, first_map, *values = picks
        rate = float(f"{low * (high / low) ** place:.3g}")
        chosen.append((rate, decay, first_map, dict(zip(lists, values, strict=True))))
    result = []
    for number, (rate, decay, first_map, options) in enumerate(chosen):
        levels = ((name, v) for name, v in sorted(lists.items()) if len(v) > 2)
        edges = [name for name, values in levels if options[name] in (values[0], values[-1])]
        place = math.log(rate / low) / (math.log(high / low) or 1)
        edges += ["lr"] if min(place, 1 - place) < EDGE else []
        settings = {"learning_rate": rate, "weight_decay": decay, "preprocessing": first_map}
        result.append(Configuration(number, settings, options, tuple(edges)))
    return result


@dataclass
class Entry:
    """The cases of one family on one data set."""

    options: SearchOptions
    common: Common
    entrant: Entrant
    dataset: str

    def __post_init__(self) -> None:
        self.dim = datasets.dim(self.dataset)
        self.sizes = sized(self.options.sizes, self.dataset)
        rows, _ = _known(self.dataset) or (10**6, ())  # a plan needs no files
        self.rows = self.entrant.batch or self.options.batch or batch(rows)

    def first(self) -> list[Case]:
        rung, sizes = self.options.rungs[0], {**self.entrant.options, **self.sizes}
        entrant = self.entrant.model_copy(update={"options": sizes})
        chosen = configurations(entrant, self.dim, self.dataset, rung.configurations)
        return [self.case("trial", rung, chosen=one) for one in chosen]

    def further(
        self, stage: str, rung: Rung, count: int, needs: Sequence[str], **rule: Any
    ) -> list[Case]:
        """So many cases of a later rung: of the best configurations of the cases that it needs."""
        return [self.case(stage, rung, needs=needs, place=n, **rule) for n in range(count)]

    def case(
        self,
        stage: str,
        rung: Rung,
        seed: int | None = None,
        chosen: Configuration | None = None,
        needs: Sequence[str] = (),
        **settings: Any,
    ) -> Case:
        """A case of a stage; without a configuration its options are those of the entrant."""
        options, common = self.options, self.common
        fixed = tuning(self.entrant.flow, self.dim).fixed
        values = {**fixed, **self.entrant.options, **(chosen.options if chosen else {})}
        training = options.training.model_dump()
        training |= self.entrant.training.model_dump(exclude_unset=True)
        training |= chosen.training if chosen else {}
        training |= {"decay": 0.0} if stage == "trial" else {}
        training |= {"cpu_seconds": rung.seconds} if options.unit == "cpu_seconds" else {}
        lacking = set() if chosen else {"learning_rate", "weight_decay", "preprocessing"}
        training = Training.model_validate(training).model_dump(exclude=lacking)
        settings |= {"stage": stage, "label": self.entrant.name, "seconds": rung.seconds}
        settings |= {"training": training}
        if chosen:
            settings |= {"configuration": chosen.number, "edges": chosen.edges}
        if stage == "final":
            settings["scoring"] = options.scoring.model_dump()
        roles = {"minutes", "left_out"} if stage == "final" else set()
        fields: dict[str, Any] = {"study": NAME, "dataset": self.dataset, "batch": self.rows}
        fields |= {"settings": settings, "needs": tuple(needs)}
        fields["updates"] = 1 if options.unit == "cpu_seconds" else math.ceil(rung.seconds)
        fields["roles"] = options.model_dump(include=roles, exclude_defaults=True, mode="json")
        seed = common.seeds[0] if seed is None else seed
        entrant = self.entrant.model_copy(update={"options": values})
        return entrant.case(common, self.dim, self.sizes, seed, **fields)


def in_turn(families: Sequence[Sequence[Case]]) -> Iterator[Case]:
    """Cases of families one by one, so that what a machine does meanwhile meets all alike."""
    for cases in zip_longest(*families):
        yield from filter(None, cases)


def keys(cases: Sequence[Sequence[Case]]) -> tuple[str, ...]:
    return tuple(case.key for family in cases for case in family)


def equal_effort(entries: Sequence[Entry], options: SearchOptions) -> Iterator[Case]:
    """Trials and finals of each rung; the best of a family's trials go on, and are scored.

    At a rung of one configuration there is nothing to try: its finals alone are trained.
    """
    trials, finals = [entry.first() for entry in entries], list[list[Case]]()
    for rung in options.rungs:
        if finals and rung.configurations > 1:
            trials = [
                entry.further("trial", rung, min(rung.configurations, len(family)), keys([family]))
                for entry, family in zip(entries, trials, strict=True)
            ]
        if not finals or rung.configurations > 1:
            yield from in_turn(trials)
        rule = {} if rung.families is None else rung.rule
        needs = [keys(finals) if rule else keys([family]) for family in trials]
        finals = [
            [
                entry.case("final", rung, seed, needs=need, **rule)
                for seed in sorted(entry.common.seeds)[: rung.seeds]
            ]
            for entry, need in zip(entries, needs, strict=True)
        ]
        yield from in_turn(finals)


def race(entries: Sequence[Entry], options: SearchOptions) -> Iterator[Case]:
    """Trials of all families, of which some go on from rung to rung, and the finals of the last."""
    trials = [entry.first() for entry in entries]
    for rung in options.rungs[1:]:
        yield from in_turn(trials)
        needs, count = keys(trials), rung.configurations
        stage = "final" if rung is options.rungs[-1] else "trial"
        rule = {**rung.rule, "most": count}
        trials = [entry.further(stage, rung, count, needs, **rule) for entry in entries]
    yield from in_turn(trials)


@dataclass
class Standing:
    """Where the families of a race stand after a rung: their trials by `promise`, the best first.

    ``kept`` are the families that go on, the best first, ``lag`` is how far a family is behind the
    best, nats, with its error over the validation rows, and ``later`` how far by promise.
    """

    trials: dict[str, list[Record]]
    kept: list[str]
    lag: dict[str, Estimate]
    later: dict[str, float]

    @classmethod
    def of(cls, earlier: Sequence[Record], arrays: Arrays, case: Case) -> Self:
        """Judge the records of a rung, from which some families go on to that of a case.

        To a final those within two standard errors of the last of these go on as well.
        """
        done, budget = ranked(earlier), float(case.settings["seconds"])
        hopes = {record.key: promise(record, arrays, budget) for record in done}
        trials: dict[str, list[Record]] = {}
        for record in sorted(done, key=lambda record: -hopes[record.key]):
            trials.setdefault(str(record.case.settings["label"]), []).append(record)
        firsts = {name: family[0] for name, family in trials.items()}
        rows = {n: arrays(r)["validation_log_prob"].astype(float) for n, r in firsts.items()}
        best, kept = next(iter(firsts)), going_on([*firsts], case)
        lag = {name: of_rows(rows[best] - row) for name, row in rows.items()}
        later = {n: hopes[firsts[best].key] - hopes[first.key] for n, first in firsts.items()}
        if kept and case.settings["stage"] == "final":
            last = kept[-1]
            kept += [
                name
                for name in firsts
                if name not in kept
                and later[name] - later[last] <= NEAR * of_rows(rows[last] - rows[name]).error
            ]
        return cls(trials, kept, lag, later)


def going_on(names: Sequence[str], case: Case) -> list[str]:
    """Families, of ``names`` with the best first, that go on to the rung of a case."""
    labels, count = case.settings["labels"], int(case.settings["families"])
    others = [name for name in names if name not in labels]
    return [name for name in names if name in {*labels, *others[:count]}]


def _by_mean(finals: Sequence[Record]) -> list[str]:
    """Families by the mean validation likelihood of their finals, the best first.

    Those that lack finals come last: their means are of other splits.
    """
    labels = [str(record.case.settings["label"]) for record in finals]
    scores = pd.Series([_validated(record) for record in finals]).groupby(labels)
    order = scores.agg(["count", "mean"]).sort_values(["count", "mean"], ascending=False)
    return [str(label) for label in order.index]


def promise(trial: Record, arrays: Arrays, budget: float) -> float:
    """Validation likelihood that a trial comes to within a budget, nats, if it goes on as it does.

    What is left to gain is taken to fall as one over the updates: each time that they double, a
    trial gains half of what it gained in their last half. Domhan et al., Speeding up Automatic
    Hyperparameter Optimization of Deep Neural Networks by Extrapolation of Learning Curves, 2015,
    fit more parameters.
    """
    curve = arrays(trial)
    finite = np.isfinite(curve["validation_ll"])
    updates, scores = (curve[name][finite] for name in ("validated", "validation_ll"))
    if len(scores) < 2:
        return _validated(trial)
    best = np.maximum.accumulate(scores)
    gain = float(best[-1] - np.interp(updates[-1] / 2, updates, best))
    return _validated(trial) + gain * max(0.0, 1 - _spent(trial) / budget)


def ranked(trials: Sequence[Record]) -> list[Record]:
    """Order the trials that are done, and have a finite one, by falling validation likelihood."""
    done = [t for t in trials if t.status == "done" and math.isfinite(_validated(t))]
    return sorted(done, key=lambda trial: -_validated(trial))


def _spent(trial: Record) -> float:
    """What a trial has spent: updates, or busy seconds of a GPU, or CPU seconds."""
    seconds = trial.case.settings["training"]["cpu_seconds"]
    names = ("train_busy_seconds", "train_cpu_seconds") if seconds else ("train_updates",)
    name = next(name for name in names if name in trial.metrics)
    return trial.metrics[name].median


def _validated(trial: Record) -> float:
    return trial.metrics["val_ll"].median if "val_ll" in trial.metrics else -math.inf


class Purse(Protocol):
    """What shares the time of a race among the trainings of its rungs."""

    jobs: int

    def seconds(self, nominal: float, share: float, trainings: int) -> tuple[float, float]:
        """CPU and clock seconds of each of so many trainings, of a share of what is left."""


@register
class Search(TrainingStudy):
    """The likelihood of each family's best configuration against what it takes to train.

    With equal effort a family has as many trials as any other, each with as many CPU seconds; for
    each budget the best configuration is trained with every seed, and alone looks at test rows. In
    a race families drop out after each rung, and what is left of the time is for the others.
    """

    name = NAME
    Options = SearchOptions
    deciding = frozenset({"place", "families", "labels", "most"})
    purse: Purse | None = None  # of the race that this process makes

    def cases(self, options: SearchOptions, common: Common) -> Iterator[Case]:
        """For each data set the baselines, then the trials and finals of all families in turn."""
        for name in (*options.datasets, *filter(_known, options.if_present)):
            untimed = options.scoring.model_copy(update={"seconds": 0.0})  # a fit takes minutes
            validated = options.training.model_dump(include={"validation_rows"})
            settings = {"scoring": untimed.model_dump(), "training": validated}
            fits = baselines(name) if options.baselines is None else options.baselines
            yield from fitted(fits, common, name, settings, study=self.name)
            families = entered(options.flows or FAMILIES, name)
            entries = [Entry(options, common, one, name) for one in families]
            yield from (race if options.race else equal_effort)(entries, options)

    def budget(self, case: Case) -> float:
        """Seconds: those of the updates, and some for validations and scores."""
        seconds = float(case.settings.get("training", {}).get("cpu_seconds", 0.0))
        score = 8 if case.settings.get("stage", "final") == "final" else 2
        return score + 1.2 * seconds if seconds else 0.5 + 0.02 * case.updates

    def alone(self, case: Case) -> bool:
        """No case needs the machine to itself: CPU seconds are counted."""
        return False

    def undecided(self, case: Case) -> bool:
        """Whether trials are to choose the configuration of a case."""
        return bool(case.needs) and "configuration" not in case.settings

    def piece(self, case: Case) -> str:
        """All families of one data set are measured on one machine."""
        return str(case.dataset)

    def resolved(self, case: Case, earlier: Sequence[Record], arrays: Arrays) -> Case:
        """The case with a configuration and what it spends, by earlier trials."""
        if not (done := ranked(earlier)):
            nothing = f"none of the {len(earlier)} cases that it needs has a likelihood"
            first = f"{earlier[0].status}, {earlier[0].reason}"
            cause = first.rpartition("; the first: ")[2]  # of a case that needs others: theirs
            raise ValueError(f"{nothing}; the first: {cause}")
        place, label = int(case.settings.get("place", 0)), case.settings["label"]
        if "most" in case.settings:
            return self._in_race(case, earlier, arrays)
        if "families" in case.settings and label not in (some := going_on(_by_mean(done), case)):
            raise Skipped(f"the budget is for {', '.join(some)}: best by validation")
        trials = [record for record in done if record.case.settings["label"] == label]
        if place >= len(trials):
            raise Skipped(f"{len(trials)} of {len(earlier)} trials have a likelihood")
        return _chosen(case, trials[place].case)

    def _in_race(self, case: Case, earlier: Sequence[Record], arrays: Arrays) -> Case:
        """A case of a family that goes on; `Skipped` for one that has dropped out."""
        settings, final = case.settings, case.settings["stage"] == "final"
        standing = Standing.of(earlier, arrays, case)
        label, place = str(settings["label"]), int(settings["place"])
        if label not in standing.trials:
            reasons = [r.reason for r in earlier if r.case.settings["label"] == label]
            raise Skipped(reasons[0] if reasons else f"{label} has no trial")
        if label not in standing.kept:
            best, lag = next(iter(standing.trials)), standing.lag[label]
            spent = standing.trials[label][0].metrics["train_cpu_seconds"].median
            side = f"{'behind' if lag.value >= 0 else 'ahead of'} {best} in validation"
            raise Skipped(
                f"dropped out after {spent:.1f} CPU s of its best trial, {abs(lag.value):.2f} ± "
                f"{lag.error:.2f} nats {side}, and {standing.later[label]:.2f} behind if both go "
                "on as they do"
            )
        most = int(settings["most"])
        least = 1 if final else (most + 1) // 2
        of_family = {name: min(least, len(standing.trials[name])) for name in standing.kept}
        spare = -sum(of_family.values()) % (self.purse.jobs if self.purse else 1)
        for name in standing.kept:  # further configurations, of the best families first
            more = min(spare, most - of_family[name], len(standing.trials[name]) - of_family[name])
            of_family[name] += more
            spare -= more
        if place >= of_family[label]:
            raise Skipped(f"of {label} {of_family[label]} configurations go on")
        before = standing.trials[label][place]
        spent, seconds = _spent(before), float(settings["seconds"])
        training, own = dict(settings["training"]), {}
        if self.purse is not None:
            part = 1.0 if final else 1 / 5  # the first rung has spent a sixth
            own["share"], limit = self.purse.seconds(seconds, part, sum(of_family.values()))
            seconds = spent + max(own["share"], SHORTEST)
            training["time_limit"] = max(limit, SHORTEST)
        if final:  # so that it goes on from the weights that there are
            training["decay"] = min(training["decay"], 0.999 * (1 - spent / seconds))
        updates = case.updates if training["cpu_seconds"] else math.ceil(seconds)
        training |= {"cpu_seconds": seconds} if training["cpu_seconds"] else {}
        settings = {**settings, **own, "seconds": seconds, "training": training}
        return _chosen(case.changed(settings=settings, updates=updates), before.case)

    def result(self, case: Case) -> Result:
        data = datasets.load(str(case.dataset), seed=case.seeds.data)
        if case.settings.get("stage", "final") == "final":
            return score(case, data)
        flow, settings = prepared(case, data)
        rows = data.train.to(case.device)
        diverged = None
        try:
            history = train(flow, data, case, settings)
        except TrainingError as error:
            diverged = error
        if fault := no_density(flow, rows):  # which may be why it diverged
            return Result(failure=fault)
        if diverged:
            raise diverged
        metrics = history.metrics() | {"parameters": trainable(flow)}
        return Result(metrics, history.arrays(), {"course": history.course})


def _chosen(case: Case, best: Case) -> Case:
    length = ("decay", "cpu_seconds", "time_limit")
    training = best.settings["training"] | {n: case.settings["training"][n] for n in length}
    chosen = {name: best.settings[name] for name in ("configuration", "edges")}
    settings = {**case.settings, **chosen, "training": training}
    return case.changed(options=best.options, settings=settings)
