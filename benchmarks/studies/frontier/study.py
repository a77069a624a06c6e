"""The frontier: what each family reaches with equal effort at equal budgets of seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import datasets
from benchmarks.core.case import Case
from benchmarks.core.record import Record
from benchmarks.core.study import Common, Result, Skipped, register
from benchmarks.datasets.disk import Absent
from benchmarks.evaluation.scoring import score
from benchmarks.studies.frontier.entries import NAME, Entry, FrontierOptions, extended
from benchmarks.studies.trainees import TrainingStudy, entered, fitted
from benchmarks.training.loop import train, update_rates
from benchmarks.training.search import ranked
from benchmarks.training.state import prepared
from flows.budget import trainable

VALIDATIONS = 5  # in the first rung's budget


def _present(dataset: str) -> bool:
    """Whether the files of a data set are there."""
    try:
        datasets.files(dataset)
    except Absent:
        return False
    return True


def _extends(case: Case, finals: Sequence[Record]) -> list[Record]:
    """The finals of a case's family; `Skipped` where the longer budget is for others."""
    scores: dict[str, list[float]] = {}
    for record in finals:
        score = record.metrics["val_ll"].median
        scores.setdefault(str(record.case.settings["label"]), []).append(score)
    rule, label = case.settings["extension"], case.settings["label"]
    named, means = rule["labels"], {name: float(np.mean(own)) for name, own in scores.items()}
    others = {name: mean for name, mean in means.items() if name not in named}
    best = sorted(others, key=lambda name: -others[name])[: rule["best"]]
    if label not in (*named, *best):
        raise Skipped(f"the longer budget is for {', '.join((*named, *best))}: best by validation")
    return [record for record in finals if record.case.settings["label"] == label]


def _every(case: Case, rate: float) -> int:
    """Updates between validations, the same on every rung."""
    return max(1, int(rate * float(case.settings["seconds"])) // VALIDATIONS)


def _chosen(case: Case, best: Case, rates: Sequence[float], training: Mapping[str, Any]) -> Case:
    """A case with the configuration of another, and as many updates as its seconds are.

    Where the likelihood finishes a training, ``decay`` is its share of the seconds; it becomes that
    of the updates.
    """
    settings = {**case.settings, "rates": rates, "configuration": best.settings["configuration"]}
    settings["training"] = {**best.settings["training"], **training}
    seconds, share = float(case.settings["seconds"]), float(case.settings["training"]["decay"])
    if len(rates) > 1:
        updates = [
            max(1, int(r * s * seconds)) for r, s in zip(rates, (1 - share, share), strict=True)
        ]
        settings["training"]["decay"] = updates[1] / sum(updates)
    else:
        updates = [max(1, int(rates[0] * seconds))]
    return case.changed(options=best.options, updates=sum(updates), settings=settings)


def trial(case: Case, data: datasets.Dataset) -> Result:
    """Train a trial, which is judged by its validation alone."""
    flow, settings = prepared(case, data)
    history = train(flow, data, case, settings)
    return Result(history.metrics() | {"parameters": trainable(flow)}, history.arrays())


@register
class Frontier(TrainingStudy):
    """The likelihood of each family's best configuration against what it takes to train.

    On each data set a family has as many trials as any other. Its rates of updates come first,
    alone on the machine: they make of each budget a number of updates. The trials of the first
    rung follow, those of the next for the best by validation, and last, for each budget, the best
    configuration with every seed, which alone looks at test rows.
    """

    name = NAME
    Options = FrontierOptions
    deciding = frozenset({"extension", "place"})

    def cases(self, options: FrontierOptions, common: Common) -> Iterator[Case]:
        """For each data set the baselines, then each family's rates, trials and finals."""
        for name in (*options.datasets, *filter(_present, options.if_present)):
            untimed = options.scoring.model_copy(update={"seconds": 0.0})  # a fit takes minutes
            settings = {"scoring": untimed.model_dump()}
            dim = datasets.dim(name)
            yield from fitted(options.baselines, common, name, dim, settings, study=self.name)
            finals: list[Case] = []
            for entrant in entered(options.flows, name):
                cases = list(Entry(options, common, entrant, name).cases())
                yield from cases
                finals += cases[-len(common.seeds) :]  # of the last rung
            if options.extension:
                yield from extended(finals, options.extension)

    def budget(self, case: Case) -> float:
        """Seconds: those of the updates, and some for validations and scores."""
        score = 8 if case.settings.get("stage", "final") == "final" else 2
        return score + 1.35 * float(case.settings.get("seconds", 0))

    def alone(self, case: Case) -> bool:
        """Whether the case is a rate."""
        return case.settings.get("stage") == "rate"

    def undecided(self, case: Case) -> bool:
        """Whether trials are to choose the configuration of a case."""
        return bool(case.needs) and "configuration" not in case.settings

    def resolved(self, case: Case, earlier: Sequence[Record]) -> Case:
        """The case with a configuration and a number of updates, by earlier rates or trials."""
        done = [record for record in earlier if record.status == "done"]
        if not done:
            raise ValueError(
                f"none of the {len(earlier)} cases that it needs is done; the first: "
                f"{earlier[0].status}, {earlier[0].reason}"
            )
        if case.settings["stage"] == "trial" and "place" not in case.settings:
            rates = list(done[0].metrics["update_rate"].values)
            return _chosen(case, case, rates, {"validate_every": _every(case, rates[0])})
        if "extension" in case.settings:
            done = _extends(case, done)
        order = ranked([record.metrics["val_ll"].median for record in done])
        place = int(case.settings.get("place", 0))
        if place >= len(order):
            raise Skipped(f"{len(order)} of {len(earlier)} trials have a likelihood")
        best = done[order[place]].case
        return _chosen(case, best, best.settings["rates"], {})

    def result(self, case: Case) -> Result:
        """Measure a rate, train a trial, or train and score a baseline or a final."""
        data = datasets.load(str(case.dataset), seed=case.seeds.data)
        stage = case.settings.get("stage", "final")
        if stage == "final":
            return score(case, data)
        if stage == "rate":
            rates = update_rates(case, data, float(case.settings["seconds"]))
            return Result({"update_rate": rates})
        return trial(case, data)
