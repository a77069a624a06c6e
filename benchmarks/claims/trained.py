"""Claims on trained flows: who leads by likelihood, who is first, and which modes are missed."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import contests, improvement
from benchmarks.analysis.contests import Contest, budget_of, trained
from benchmarks.analysis.criteria import FEWEST, LEVEL
from benchmarks.analysis.improvement import improving
from benchmarks.analysis.inference import Standing
from benchmarks.analysis.paired import OPEN, Comparison, by_ranks, compare, standing
from benchmarks.claims import (
    RULES,
    NotMeasured,
    Part,
    Verdict,
    ahead,
    done,
    keys,
    level_of,
    listed,
    outcome,
    register,
    span,
)
from benchmarks.core.frame import holds
from benchmarks.core.naming import BUDGET, STAGE, counted, named, series
from benchmarks.evaluation.modes import RARE
from benchmarks.studies.modes.tables import OBJECTIVES


def scored(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the trained densities with a test likelihood, with their `kinds`.

    The column `improvement.LAST` has the likelihood at the end of training. Where a search trained
    on a data set, only its models are kept: they had equal effort. Pixels without a logit are left
    out. Raises NotMeasured if no row is left.
    """
    rows = trained(done(frame, ("density", "search"), "test_ll"))
    rows = rows.assign(**{improvement.LAST: improvement.last(rows), "kind": contests.kinds(rows)})
    rows = rows.groupby("dataset").filter(lambda group: not contests.lacks_logit(group))
    if STAGE not in rows:
        return rows
    sets = rows.loc[rows[STAGE].notna(), "dataset"].unique()
    return rows[(rows["study"] == "search") | ~rows["dataset"].isin(sets)]


# ---- leads --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lead:
    """A claim that the best series of one side leads the best of the other on each data set.

    ``sides`` marks the rows of either side, ``where`` chooses rows. ``who`` begins the verdict's
    sentence, and what both spent ends it if ``spent``.
    """

    who: str
    missing: str  # records without which there is no verdict
    sides: Callable[[pd.DataFrame], tuple[pd.Series, pd.Series]]
    where: Callable[[pd.DataFrame], pd.Series] | None = None
    spent: bool = False


MIXTURES = RULES["useful-instrument"]["mixtures"]  # data whose truth is a baseline's model
LEADS = {  # by claim; all of them are tested together
    "continuous-powerful": Lead(
        "The best continuous flow leads the best discrete one",
        "densities of continuous and of discrete flows on one data set, with validation",
        lambda rows: (rows["kind"] == "continuous", rows["kind"] == "discrete"),
    ),
    "data-glow-ffjord": Lead(
        "FFJORD leads",
        "densities in two dimensions of both ffjord and glow, with validation",
        lambda rows: (rows["flow"] == "ffjord", rows["flow"] == "glow"),
        where=lambda rows: rows["dim"] == 2,
        spent=True,
    ),
    "useful-instrument": Lead(
        "The best flow leads the best baseline",
        "densities of flows and of baselines, with validation, where no mixture is the truth",
        lambda rows: (rows["kind"] != "baseline", rows["kind"] == "baseline"),
        where=lambda rows: ~rows["dataset"].str.replace(r"_\d+$", "", regex=True).isin(MIXTURES),
    ),
}


def leads(frame: pd.DataFrame) -> dict[str, list[Contest]]:
    """The contests of all claims of leads on these records, by claim."""
    every, family = scored(frame), {}
    for name, lead in LEADS.items():
        rows = every[lead.where(every)] if lead.where else every
        family[name] = contests.contests(rows, *lead.sides(rows))
    return family


def judge_lead(claim: str, family: Mapping[str, Sequence[Contest]]) -> Verdict:
    """Judge a claim by its contests: on each data set by the largest budget with enough splits.

    p-values are corrected for the contests of all claims of leads on these records.
    """
    lead, pairs = LEADS[claim], family[claim]
    if not pairs:
        raise NotMeasured(lead.missing)
    every = {_name(pair): pair.comparison for group in family.values() for pair in group}
    every = {name: compared for name, compared in every.items() if compared.seeds >= FEWEST}
    stands, ranks = (how(every, level_of("leads")) for how in (standing, by_ranks))
    parts = tuple(_part(p, stands.get(_name(p)), ranks.get(_name(p))) for p in pairs)
    both = [*zip(pairs, parts, strict=True)]
    final = [*{pair.data: (pair, part) for pair, part in both if part.judged}.values()] or both
    last, holds = [pair for pair, _ in final], [part.holds for _, part in final]
    budgets = listed(part.budget for _, part in final)
    sentence = (
        f"{lead.who} on {holds.count(True)} of {counted(len(final), 'data set')}"
        f"{f' at {budgets}' if budgets else ''}: {', '.join(_result(*each) for each in final)} nats"
        f"{_spent(last) if lead.spent else ''}."
    )
    bases = listed(pair.comparison.about for pair in last)
    ranked = sum(not np.isnan(compared.ranks.error) for compared in every.values())
    evidence = f"Over {bases}; by Holm over {len(every)} comparisons, {ranked} with ranks of rows."
    ended = [(cases, pair.data) for pair in last for cases in (pair.one, pair.other)]
    late = [f"{cases['series'].iloc[0]} on {data}" for cases, data in ended if improving(cases)]
    doubts = [OPEN.get(pair.comparison.basis, "") for pair in last]
    doubts += [f"Still improving at the end: {'; '.join(late)}."] if late else []
    used = keys(*(side for pair in pairs for side in (pair.one, pair.other)))
    weakness = " ".join(dict.fromkeys(filter(None, doubts)))
    return Verdict(outcome(holds), sentence, used, evidence, weakness, parts)


def _part(pair: Contest, how: Standing | None, ranks: Standing | None) -> Part:
    """A contest as a part, and what signed ranks say where they disagree."""
    words = how or counted(pair.comparison.seeds, "split")
    return Part(
        data=pair.data,
        budget=budget_of(pair.budget, pair.one),
        value=pair.comparison.estimate.value,
        interval=pair.comparison.estimate.interval(LEVEL),
        how=f"{words}; by signed ranks {ranks}" if ranks else words,
        holds=ahead([how or "open"])[0],
        splits=pair.comparison.seeds,
    )


def _judge_of(judge: Callable[[str, Any], Verdict], what: str) -> Callable[[Any], Verdict]:
    return lambda evidence: judge(what, evidence)


for claim_of_lead in LEADS:
    register(claim_of_lead, prepare=leads)(_judge_of(judge_lead, claim_of_lead))


def _name(pair: Contest) -> str:
    return "/".join(keys(pair.one, pair.other))


def _result(pair: Contest, part: Part) -> str:
    """ "+0.012 [0.003, 0.021] on moons (cnf and glow, ahead)": the lead of the first."""
    names = (str(side["series"].iloc[0]) for side in (pair.one, pair.other))
    one, other = (f'"{name}"' if "," in name else name for name in names)
    low, high = part.interval
    interval = "(no interval)" if np.isnan(low) else f"[{low:.3f}, {high:.3f}]"
    number = f"{part.value:+.3f} {interval}".replace("-", "−")
    return f"{number} on {part.data} ({one} and {other}, {part.how})"


def _spent(pairs: Sequence[Contest]) -> str:
    """What either side had: ", with 4,612 against 4,572 to 9,024 parameters"."""
    sides = [pd.concat([p.one for p in pairs]), pd.concat([p.other for p in pairs])]
    parts: list[str] = []
    for metric, digits, unit in (
        ("parameters", ",.0f", "parameters"),
        ("train_cpu_seconds", ".3g", "CPU seconds of training"),
        ("train_seconds", ".3g", "seconds of training"),
    ):
        if len(parts) < 2 and all(metric in side and side[metric].notna().all() for side in sides):
            parts.append(f"{' against '.join(span(s[metric], digits) for s in sides)} {unit}")
    return f", with {' and '.join(parts)}"


# ---- races --------------------------------------------------------------------------------------

USES = (DENSITY, SAMPLE) = "density", "sample"
TRAINING = "training to the likelihood that both reach"
CPU = ("per_1000_cpu_seconds", "sample_cpu_rate")  # of records now
CLOCK = ("per_1000_seconds", "sample_rate")  # of older ones


def timed(frame: pd.DataFrame) -> pd.DataFrame:
    """Trained flows with the seconds of a density and of a sample, as far as timed, and series.

    Times are CPU seconds where there are such, else the seconds of older records.
    """
    rows = scored(frame)
    rows = rows[(rows["updates"] > 0) & holds(rows, improvement.CURVE)]
    metrics = CPU if rows.reindex(columns=[*CPU]).notna().any(axis=None) else CLOCK
    seconds, rate = (rows.get(name, pd.Series(np.nan, rows.index)) for name in metrics)
    rows = pd.concat([rows, pd.DataFrame({DENSITY: seconds, SAMPLE: 1 / rate})], axis=1)
    parts = [named(group) for _, group in rows.groupby("dataset")]
    return pd.concat(parts) if parts else rows.assign(series=[])


@dataclass(frozen=True)
class Race:
    """What a call takes of the fastest series of two sides, on a data set at a budget: seconds.

    Of a training CPU seconds, or FLOPs of older records.
    """

    data: str
    first: str  # the values of either side
    other: str
    budget: str
    call: str
    seconds: Comparison  # their logarithms, the other's less the first's
    records: tuple[str, ...]


def races(rows: pd.DataFrame, column: str, first: str) -> list[Race]:
    """Compare the fastest series of value ``first`` with the fastest of each other value.

    At each budget that both have, the least first; training is that at a budget or less.
    """
    return [
        Race(str(data), first, str(other), *fields)
        for data, group in rows.groupby("dataset")
        for other in sorted({*group[column]} - {first})
        for fields in _race(group[group[column] == first], group[group[column] == other])
    ]


def _race(*racing: pd.DataFrame) -> Iterator[tuple[str, str, Comparison, tuple[str, ...]]]:
    """Budget, call, comparison and records of the races of two sides."""
    for budget in contests.common_budgets(*racing):
        sides = [contests.within(side, budget) for side in racing]
        if any(side.empty for side in sides):
            continue
        runs = [s[~(s[BUDGET].astype(float) > budget)] if BUDGET in s else s for s in racing]
        calls = {call: [side.assign(cost=side[call]) for side in sides] for call in USES}
        calls[TRAINING] = contests.efforts(runs)
        for call, costs in calls.items():
            one, other = map(_fastest, costs)
            # of none a side was not timed, and at 0 it begins at the level
            if len(one) and len(other) and min(one["cost"].min(), other["cost"].min()) > 0:
                seconds = replace(compare(other, one, "log"), margin=0.0)
                yield budget_of(budget, sides[0]), call, seconds, keys(*sides, *runs)


def _fastest(side: pd.DataFrame) -> pd.DataFrame:
    """The cases of the series with the least mean cost, a row a seed, with the logarithm."""
    seeds = side.dropna(subset="cost")
    if len(seeds):
        seeds = seeds[seeds["series"] == seeds.groupby("series")["cost"].mean().idxmin()]
    return seeds.assign(log=np.log(seeds["cost"].where(seeds["cost"] > 0)))


FASTER = {"training": TRAINING, "density": DENSITY, "sampling": SAMPLE}  # by ending of a claim
RACED: dict[str, tuple[str, ...]] = {  # calls by claim
    **{f"continuous-faster-{ending}": (call,) for ending, call in FASTER.items()},
    "ffjord-fastest": (*USES, TRAINING),
}


def of_kinds(frame: pd.DataFrame) -> list[Race]:
    """Races of continuous flows against discrete ones."""
    rows = timed(frame)
    return races(rows[rows["kind"] != "baseline"], "kind", "continuous")


def of_ffjord(frame: pd.DataFrame) -> list[Race]:
    """Races of FFJORD against every other continuous flow whose training has its cost too."""
    rows = timed(frame)
    every = races(rows[rows["kind"] == "continuous"], "flow", "ffjord")
    trained_ones = {(race.data, race.other) for race in every if race.call == TRAINING}
    return [race for race in every if (race.data, race.other) in trained_ones]


def judge_race(claim: str, every: Sequence[Race]) -> Verdict:
    """Judge a claim by its races, tested together: of each the largest budget with enough splits.

    Its sentence has the ratios of seconds, or of the FLOPs of older trainings.
    """
    raced = [race for race in every if race.call in RACED[claim]]
    if not raced:
        raise NotMeasured(f"trained flows of both sides on one data set: {listed(RACED[claim])}")
    judged = {str(n): race.seconds for n, race in enumerate(raced) if race.seconds.seeds >= FEWEST}
    stands = standing(judged, level_of(claim))
    parts = tuple(_race_part(race, stands.get(str(n), "open")) for n, race in enumerate(raced))
    both = [*zip(raced, parts, strict=True)]
    final = [*{part.data: (race, part) for race, part in both if part.judged}.values()]
    holds = [part.holds for _, part in final]
    ratios: dict[str, list[float]] = {}
    for race, part in final or both:
        ratios.setdefault(race.other, []).append(part.value)
    words = [f"{span(values)} times what {other} takes" for other, values in sorted(ratios.items())]
    sentence = (
        f"For a {listed(RACED[claim])} the quickest {raced[0].first} takes {listed(words)}; it is "
        f"first in {holds.count(True)} of {counted(len(final), 'comparison')}, behind in "
        f"{holds.count(False)}."
    )
    used = tuple(dict.fromkeys(chain(*(race.records for race in raced))))
    return Verdict(outcome(holds), sentence, used, parts=parts)


def _race_part(race: Race, how: Standing) -> Part:
    low, high = (-end for end in race.seconds.estimate.interval(LEVEL)[::-1])
    return Part(
        data=f"{race.data} beside {race.other}, {race.call}",
        budget=race.budget,
        value=math.exp(-race.seconds.estimate.value),
        interval=(math.exp(low), math.exp(high)),
        how={"ahead": "first", "behind": "not first"}.get(how, how),
        holds=ahead([how])[0],
        splits=race.seconds.seeds,
        ratio=True,
    )


for claim_of_race in RACED:
    prepare = of_ffjord if claim_of_race == "ffjord-fastest" else of_kinds
    register(claim_of_race, prepare=prepare)(_judge_of(judge_race, claim_of_race))


@register("mode-collapse")
def mode_collapse(frame: pd.DataFrame) -> Verdict:
    """The least mass in a mode, and the share of samples between modes, by each objective."""
    criterion = RULES["mode-collapse"]
    rows = trained(done(frame, "modes", "least_mass", "modes_missed", "gap_mass"))
    by_likelihood = rows[rows["setting.objective"] == "likelihood"]
    others = rows.drop(index=by_likelihood.index)
    if by_likelihood.empty:
        raise NotMeasured("trainings by likelihood in the study modes")
    every = _means(by_likelihood)
    least, due = every["least_mass"], criterion["due"]
    missed, full = every["modes_missed"] > 0, least >= due
    holds = [None if f == m else f for f, m in zip(full, missed, strict=True)]
    failed = frame[(frame["study"] == "modes") & frame["status"].isin(["failed", "timeout"])]
    failed = failed[failed["setting.objective"] == "likelihood"]  # its seed decides nothing
    holds += [None] * len(failed.groupby(["dataset", "flow"]))
    sentence = (
        f"Trained by likelihood, {int(full.sum())} of {counted(len(every), 'pair')} of flow and "
        f"data set have at least {due:g} of the due mass in each mode with every seed; the least "
        f"is {least.min():.2f}, of {least.idxmin()}. A mode has less than a tenth of its due "
        f"samples for {listed(every.index[missed], 'none')}. Between modes lie "
        f"{span(every['gap_mass'], '.1%')} of the samples, and {RARE:.0%} of the data."
    )
    for name, group in others.groupby("setting.objective"):
        lost = span(_means(group)["modes_missed"], ".1f")
        sentence += f" By {OBJECTIVES[str(name)]} {lost} modes are missed, on average over seeds."
    return Verdict(outcome(holds), sentence, keys(by_likelihood, others))


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each flow and data set, by name: the least mass of any seed, means of the rest."""
    parts = [
        group.assign(name=[f"{flow} on {data}" for flow in series(group)])
        for data, group in rows.groupby("dataset")
    ]
    how = {"least_mass": "min", "modes_missed": "mean", "gap_mass": "mean"}
    return pd.concat(parts).groupby(["dataset", "name"]).agg(how).reset_index("dataset")
