"""Densities: test log-likelihood by the exact trace, and what it cost to get there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import pandas as pd
from pydantic import BaseModel, JsonValue, PositiveFloat, PositiveInt

import flows
from benchmarks import datasets
from benchmarks.baselines import BASELINES
from benchmarks.case import Case, Seeds, canonical
from benchmarks.exhibit import Figure, Table
from benchmarks.pictures import density_pictures, validation_curves
from benchmarks.scoring import Scoring, score_baseline, score_flow
from benchmarks.studies import Common, Result, register
from benchmarks.train import Training


class Contender(BaseModel, frozen=True, extra="forbid"):
    """A flow and its training; what it leaves out it takes from the study."""

    flow: str
    options: dict[str, JsonValue] = {}
    updates: PositiveInt | None = None
    batch: PositiveInt | None = None


class Options(BaseModel, frozen=True, extra="forbid"):
    """The density study's part of a suite."""

    flows: tuple[Contender, ...]
    datasets: tuple[str, ...]
    baselines: tuple[str, ...] = tuple(BASELINES)
    sizes: dict[str, PositiveInt] = {}
    batch: PositiveInt = 256
    updates: PositiveInt = 1000
    seconds: PositiveFloat = 10.0  # that a training is expected to take: for the plan alone
    training: Training = Training()
    scoring: Scoring = Scoring()


@register
class Density:
    """How good the densities are that each family learns, and at what cost."""

    name: ClassVar[str] = "density"
    question: ClassVar[str] = "How good are the densities, and what did they cost?"
    timed: ClassVar[bool] = True
    Options = Options

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def cases(self, options: Options, common: Common) -> Iterator[Case]:
        """For each data set the baselines, then a case for each flow and seed."""
        shared = {"device": common.device, "dtype": common.dtype, "threads": common.threads}
        for name in options.datasets:
            about = {"dataset": name, "dim": datasets.load(name).dim, "study": self.name}
            scoring = {"scoring": options.scoring.model_dump()}
            for baseline in options.baselines:
                if baseline not in BASELINES:
                    known = ", ".join(BASELINES)
                    raise ValueError(f"unknown baseline {baseline!r}; choose from: {known}")
                yield Case(flow=baseline, batch=options.batch, settings=scoring, **about, **shared)
            for contender in options.flows:
                member = flows.registry[contender.flow]
                chosen = {**member.applicable(options.sizes), **contender.options}
                for seed in common.seeds:
                    case = Case(
                        flow=contender.flow,
                        options=canonical(member.complete(chosen)),
                        batch=contender.batch or options.batch,
                        updates=contender.updates or options.updates,
                        seeds=Seeds.of(seed),
                        settings={**scoring, "training": options.training.model_dump()},
                        **about,
                        **shared,
                    )
                    self._seconds[case.key] = options.seconds
                    yield case

    def block(self, case: Case) -> str:
        """Each case alone."""
        return case.key

    def budget(self, case: Case) -> float:
        """Seconds: what the suite expects of a training, and its scoring."""
        return 4 + self._seconds.get(case.key, 0)

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        """Fit or train, then score on the test set."""
        for case in cases:
            data = datasets.load(str(case.dataset), seed=case.seeds.data)
            score = score_baseline if case.flow in BASELINES else score_flow
            yield case.key, score(case, data)

    def tables(self, frame: pd.DataFrame) -> list[Table]:
        """One table a data set: likelihood, and what it cost."""
        return [_table(str(name), group) for name, group in frame.groupby("dataset", sort=False)]

    def figures(self, frame: pd.DataFrame) -> list[Figure]:
        """Pictures of the two-dimensional densities, and validation against seconds."""
        done = frame[(frame["status"] == "done") & frame["arrays"].notna()]
        return [*density_pictures(done), *validation_curves(done)]


# header: metric, factor, format
COLUMNS = {
    "Test LL (nats)": ("test_ll", 1, ".3f"),
    "Gap to entropy (nats)": ("gap", 1, ".3f"),
    "Parameters": ("parameters", 1, ",.0f"),
    "Training (s)": ("train_seconds", 1, ".1f"),
    "log_prob of 1,000 (ms)": ("per_1000_seconds", 1e3, ".3g"),
    "Samples per second": ("sample_rate", 1, ".3g"),
    "NFE an update": ("train_nfe", 1, ".1f"),
    "NFE test": ("test_nfe", 1, ".0f"),
    "LL moved (nats)": ("ll_shift", 1, ".1e"),
}


def _table(name: str, group: pd.DataFrame) -> Table:
    """Rows by likelihood; several seeds of a flow become their mean with a standard error."""
    rows = []
    for flow, seeds in group.groupby("flow", sort=False):
        done = seeds[seeds["status"] == "done"]
        row: dict[str, object] = {"Model": str(flow), "Seeds": len(done)}
        for header, (metric, factor, _) in COLUMNS.items():
            if done.empty:
                row[header] = str(seeds["status"].iloc[0]) if metric == "test_ll" else None
            elif metric in done and done[metric].notna().any():
                row[header] = done[metric].mean() * factor
        if len(done) > 1:
            row["± (seeds)"] = done["test_ll"].std() / len(done) ** 0.5
        if len(done):
            row["± (test set)"] = done["test_ll_se"].mean()
        rows.append(row)
    rows.sort(key=lambda row: -v if isinstance(v := row.get("Test LL (nats)"), float) else 0)
    shown = pd.DataFrame(rows).dropna(axis=1, how="all")
    data = datasets.load(name)
    error = "± (seeds)" if "± (seeds)" in shown else "± (test set)"
    floor = f" Entropy: {data.entropy:.4f} nats." if data.entropy is not None else ""
    errors_note = (
        "± is the standard error over seeds"
        if error == "± (seeds)"
        else "One seed: ± is the standard error over the test set"
    )
    note = (
        f"{data.about}{floor} {errors_note}. Every flow's test log-likelihood is that of its "
        "exact trace, in float64, at a tolerance at least as tight as in training; LL moved is by "
        "how much a tenfold tighter one changed it. NFE an update counts forward and backward."
    )
    return Table(
        f"density-{name}",
        f"{name} ({data.dim}-D, {data.units})",
        note,
        shown,
        {h: spec for h, (_, _, spec) in COLUMNS.items() if h in shown} | {error: ".3f"},
        {"Test LL (nats)": error} if error in shown else {},
        {"Test LL (nats)": "higher"},
        tuple(group["key"]),
    )
