"""Claims on trained flows: who leads by likelihood, who is first, and which modes are missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import improvement
from benchmarks.analysis.contests import (
    Contest,
    budget_of,
    common_budgets,
    contests,
    efforts_to,
    kinds,
    reached,
    trained,
    within,
)
from benchmarks.analysis.criteria import FEWEST
from benchmarks.analysis.improvement import improving
from benchmarks.analysis.inference import Standing
from benchmarks.analysis.paired import OPEN, by_ranks, standing
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
from benchmarks.core.exhibit import RECORDS
from benchmarks.core.naming import BUDGET, STAGE, counted, named, quoted, series
from benchmarks.evaluation.modes import RARE, THIN


def scored(frame: pd.DataFrame, *metrics: str) -> pd.DataFrame:
    """Return the trained densities with a test likelihood and these metrics, with their `kinds`.

    The column `improvement.LAST` has the likelihood at the end of training. Where a search trained
    on a data set, only its models are kept: they had equal effort. Raises NotMeasured if no row is
    left.
    """
    rows = trained(done(frame, ("density", "frontier", "search"), "test_ll", *metrics))
    rows = rows.assign(**{improvement.LAST: improvement.last(rows), "kind": kinds(rows)})
    if STAGE not in rows:
        return rows
    sets = rows.loc[rows[STAGE].notna(), "dataset"].unique()
    return rows[(rows["study"].isin(["frontier", "search"])) | ~rows["dataset"].isin(sets)]


# ---- leads --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lead:
    """A claim that the best series of one side leads the best of the other on each data set.

    ``one`` and ``other`` are the values of ``column`` on either side, ``where`` chooses rows.
    ``who`` begins the verdict's sentence, and what both spent ends it if ``spent``.
    """

    who: str
    missing: str  # records without which there is no verdict
    column: str
    one: tuple[str, ...]
    other: tuple[str, ...]
    where: Callable[[pd.DataFrame], pd.Series] | None = None
    spent: bool = False


def _no_mixture(rows: pd.DataFrame) -> pd.Series:
    """Mark the rows whose data were not drawn from a mixture, the model of a baseline."""
    names = rows["dataset"].str.replace(r"_\d+$", "", regex=True)
    return ~names.isin(RULES["useful-instrument"]["mixtures"])


LEADS = {  # by claim; all of them are tested together
    "continuous-powerful": Lead(
        "The best continuous flow leads the best discrete one",
        "densities of continuous and of discrete flows on one data set, with validation",
        column="kind",
        one=("continuous",),
        other=("discrete",),
    ),
    "data-glow-ffjord": Lead(
        "FFJORD leads",
        "densities in two dimensions of both ffjord and glow, with validation",
        column="flow",
        one=("ffjord",),
        other=("glow",),
        where=lambda rows: rows["dim"] == 2,
        spent=True,
    ),
    "useful-instrument": Lead(
        "The best flow leads the best baseline",
        "densities of flows and of baselines, with validation, where no mixture is the truth",
        column="kind",
        one=("continuous", "discrete"),
        other=("baseline",),
        where=_no_mixture,
    ),
}


def leads(frame: pd.DataFrame) -> dict[str, list[Contest]]:
    """The contests of all claims of leads on these records, by claim."""
    every, family = scored(frame), {}
    for name, lead in LEADS.items():
        rows = every[lead.where(every)] if lead.where else every
        family[name] = contests(rows, *(rows[lead.column].isin(s) for s in (lead.one, lead.other)))
    return family


def judge_lead(claim: str, family: Mapping[str, Sequence[Contest]]) -> Verdict:
    """Judge a claim by its contests: on each data set by the largest budget with enough splits.

    p-values are corrected for the contests of all claims of leads on these records.
    """
    lead, pairs = LEADS[claim], family[claim]
    if not pairs:
        raise NotMeasured(lead.missing)
    every = {_name(pair): pair.comparison for own in family.values() for pair in own}
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
    ended = [(own, pair.data) for pair in last for own in (pair.one, pair.other)]
    late = [f"{own['series'].iloc[0]} on {data}" for own, data in ended if improving(own)]
    left = [OPEN.get(pair.comparison.basis, "") for pair in last]
    left += [f"Still improving at the end: {'; '.join(late)}."] if late else []
    used = keys(*(side for pair in pairs for side in (pair.one, pair.other)))
    weakness = " ".join(dict.fromkeys(filter(None, left)))
    return Verdict(outcome(holds), sentence, used, (), evidence, weakness, parts)


def _part(pair: Contest, how: Standing | None, ranks: Standing | None) -> Part:
    """A contest as a part, and what signed ranks say where they disagree."""
    words = how or counted(pair.comparison.seeds, "split")
    return Part(
        data=pair.data,
        budget=budget_of(pair.budget, pair.one),
        value=pair.comparison.estimate.value,
        half=pair.comparison.half,
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
    one, other = (quoted(side["series"].iloc[0]) for side in (pair.one, pair.other))
    low, high = part.value - part.half, part.value + part.half
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

DENSITY, SAMPLE, TRAINING = "density", "sample", "training to the likelihood that both reach"
CPU = ("per_1000_cpu_seconds", "sample_cpu_rate")  # of records now
CLOCK = ("per_1000_seconds", "sample_rate")  # of older ones


def timed(frame: pd.DataFrame) -> pd.DataFrame:
    """Trained flows whose densities and samples were timed, with series.

    Times are CPU seconds where there are such, else the seconds of older records.
    """
    metrics = CPU if frame.reindex(columns=[*CPU]).notna().any(axis=None) else CLOCK
    rows = scored(frame, *metrics)
    rows = rows[rows["arrays"].notna() & (rows["updates"] > 0)]
    seconds, rate = (rows[name] for name in metrics)
    rows = pd.concat([rows, pd.DataFrame({DENSITY: seconds, SAMPLE: 1 / rate})], axis=1)
    parts = [named(group) for _, group in rows.groupby("dataset")]
    return pd.concat(parts) if parts else rows.assign(series=[])


def races(rows: pd.DataFrame, column: str, first: str) -> pd.DataFrame:
    """Compare the fastest series of value ``first`` with the fastest of each other value.

    At each budget that both have; training is that at a budget or less. Columns: dataset, other
    (the other value), budget, call, ratio (cost of first / other), splits, and records (keys). NaN
    ratios are left out.
    """
    table = [
        {"dataset": str(data), "other": other, **row}
        for data, group in rows.groupby("dataset")
        for other in sorted({*group[column]} - {first})
        for row in _race(group[group[column] == first], group[group[column] == other])
    ]
    names = ["dataset", "other", "budget", "call", "ratio", "splits", RECORDS]
    return pd.DataFrame(table, columns=names)


def _race(*racing: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The ratios of a race of two sides; of none where a side has no timed flow."""
    for budget in common_budgets(*racing):
        sides = [within(side, budget) for side in racing]
        if any(side.empty for side in sides):
            continue
        one, other = (side.groupby("series")[[DENSITY, SAMPLE]].mean().min() for side in sides)
        costs: dict[str, tuple[float, ...]] = {c: (one[c], other[c]) for c in (DENSITY, SAMPLE)}
        runs = [s[~(s[BUDGET].astype(float) > budget)] if BUDGET in s else s for s in racing]
        costs[TRAINING] = tuple(efforts_to(runs, min(map(reached, runs))))
        if min(costs[TRAINING]) <= 0:  # one begins at the level, and there is no race
            del costs[TRAINING]
        splits = min(side["seed"].nunique() for side in sides)
        row = {"budget": budget_of(budget, sides[0]), "splits": splits}
        for call, (a, b) in costs.items():
            if a / b == a / b:
                yield {**row, "call": call, "ratio": float(a / b), RECORDS: keys(*sides, *runs)}


def _raced(table: pd.DataFrame) -> tuple[tuple[Part, ...], pd.DataFrame]:
    """Ratios of seconds as parts, and those that decide: of each race the largest judged budget."""
    parts = []
    for row in table.to_dict("records"):
        what, ratio = "{dataset} beside {other}, {call}".format_map(row), row["ratio"]
        how = "first" if ratio < 1 else "not first"
        parts.append(Part(what, row["budget"], ratio, np.nan, how, ratio < 1, row["splits"]))
    final = table[[part.judged for part in parts]]
    return tuple(parts), final.groupby(["dataset", "other", "call"]).tail(1)


FASTER = {"training": TRAINING, "density": DENSITY, "sampling": SAMPLE}  # by ending of a claim


def of_kinds(frame: pd.DataFrame) -> pd.DataFrame:
    """Races of continuous flows against discrete ones."""
    rows = timed(frame)
    return races(rows[rows["kind"] != "baseline"], "kind", "continuous")


def judge_faster(call: str, table: pd.DataFrame) -> Verdict:
    """Ratios of seconds of a call on each data set, or to the likelihood that both kinds reach."""
    table = table[table["call"] == call]
    if table.empty:
        raise NotMeasured(f"timed flows, continuous and discrete, on one data set: a {call}")
    parts, final = _raced(table)
    first = final["ratio"] < 1
    ratios = (final if len(final) else table)["ratio"]
    sentence = (
        f"For a {call} the quickest continuous flow takes {span(ratios)} times the seconds of the "
        f"quickest discrete one; it is first on {first.sum()} of {len(final)} data sets."
    )
    return Verdict(outcome(first), sentence, keys(table), parts=parts)


for ending, call_of_claim in FASTER.items():
    register(f"continuous-faster-{ending}", prepare=of_kinds)(
        _judge_of(judge_faster, call_of_claim)
    )


@register("ffjord-fastest", prepare=timed)
def ffjord_fastest(rows: pd.DataFrame) -> Verdict:
    """FFJORD's seconds over those of each other continuous flow, on each data set."""
    table = races(rows[rows["kind"] == "continuous"], "flow", "ffjord")
    raced = table[table["call"] == TRAINING].set_index(["dataset", "other"]).index
    table = table[pd.MultiIndex.from_frame(table[["dataset", "other"]]).isin(raced)]
    if table.empty:
        raise NotMeasured(
            "timed densities of ffjord and of another continuous flow on one data set, with "
            "seconds of their trainings"
        )
    parts, final = _raced(table)
    words = [
        f"{span(beside['ratio'], '.2g')} beside {flow}"
        for flow, beside in (final if len(final) else table).groupby("other")
    ]
    sentence = (
        "FFJORD takes, of the other's seconds of a density, of a sample and of the training to the "
        f"likelihood that both reach, {listed(words)}."
    )
    return Verdict(outcome(final["ratio"] < 1), sentence, keys(table), parts=parts)


# ---- modes --------------------------------------------------------------------------------------


@register("mode-collapse")
def mode_collapse(frame: pd.DataFrame) -> Verdict:
    """The least share of a mode, and the share of samples between them, by either training."""
    criterion = RULES["mode-collapse"]
    rows = trained(done(frame, "modes", "least_share", "modes_missed", "gap_mass"))
    objective = rows["setting.objective"]
    by_likelihood, others = rows[objective == "likelihood"], rows[objective == "reverse_kl"]
    if by_likelihood.empty:
        raise NotMeasured("trainings by likelihood in the study modes")
    every = _means(by_likelihood)
    least = every["least_share"]
    missed, blurred = least < criterion["missed"], every["gap_mass"] > criterion["learned"]
    holds = [None if b and not m else not m for m, b in zip(missed, blurred, strict=True)]
    sentence = (
        f"Of {counted(len(every), 'pair')} of flow and data set trained by likelihood a mode is "
        f"missed with some seed by {listed(every.index[missed], 'none')}. The least visited mode "
        f"has {least.min():.2f} of its due share ({least.idxmin()}); "
        f"{counted(int((least < THIN).sum()), 'pair')} have a mode with less than {THIN:g}. "
        f"Between modes lie {span(every['gap_mass'], '.1%')} of the samples, and {RARE:.0%} of "
        f"the data; more than {criterion['learned']:.0%} with "
        f"{listed(every.index[blurred], 'none')}."
    )
    if len(others):
        parts = [
            f"{span(group['modes_missed'], '.1f')} modes missed on {name}"
            for name, group in _means(others).groupby("dataset")
        ]
        sentence += f" By reverse KL, on average over seeds, {listed(parts)}."
    return Verdict(outcome(holds), sentence, keys(by_likelihood, others))


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each flow and data set, by name: the least share of any seed, means of the rest."""
    parts = [
        group.assign(name=[f"{flow} on {data}" for flow in series(group)])
        for data, group in rows.groupby("dataset")
    ]
    how = {"least_share": "min", "modes_missed": "mean", "gap_mass": "mean"}
    return pd.concat(parts).groupby(["dataset", "name"]).agg(how).reset_index("dataset")
