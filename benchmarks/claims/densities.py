"""Claims on trained densities: leads of one kind of model over another, and modes that are missed.

Claims of leads are tested together, on each data set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import pandas as pd

from benchmarks.analysis import improvement
from benchmarks.analysis.contests import Contest, contests, kinds, trained
from benchmarks.analysis.inference import Standing
from benchmarks.analysis.paired import OPEN, standing
from benchmarks.claims import (
    RULES,
    NotMeasured,
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
from benchmarks.core.naming import STAGE, counted, quoted, series
from benchmarks.evaluation.modes import RARE, THIN

STUDIES = ("density", "frontier")
READS = {"studies": ("frontier",), "also": ("density",), "suite": "frontier"}  # of a plug-in's lead


def scored(frame: pd.DataFrame, *metrics: str) -> pd.DataFrame:
    """The trained densities that have a test likelihood and these metrics.

    They have the likelihood at the end of their training (`improvement.LAST`). On a data set on
    which a search has trained, its models alone: they had equal effort. Raises NotMeasured where
    there is none.
    """
    rows = trained(done(frame, STUDIES, "test_ll", *metrics))
    rows = rows.assign(**{improvement.LAST: improvement.last(rows)})
    if STAGE not in rows:
        return rows
    searched = rows[STAGE].notna()
    sets = rows.loc[searched, "dataset"].unique()
    return rows[(rows["study"] == "frontier") | ~rows["dataset"].isin(sets)]


Select = Callable[[pd.DataFrame], list[Contest]]
Detail = Callable[[Sequence[Contest]], str]
FAMILY: dict[str, Select] = {}  # by claim; all of them are tested together


def register_leads(
    id: str, *, who: str, missing: str, detail: Detail = lambda pairs: "", **claim: Any
) -> Callable[[Select], Select]:
    """Decorator: register a claim of leads by the function that gives its contests.

    The function gets the trained densities (`scored`). ``who`` begins the verdict's sentence, as in
    "The best A leads B", and a ``detail`` of the contests may end it; ``missing`` are the records
    without which there is none. ``claim`` is what `register` takes from a plug-in.
    """

    def decorate(select: Select) -> Select:
        @wraps(select)
        def judge(family: Mapping[str, list[Contest]]) -> Verdict:
            return _judge(family, id, who, missing, detail)

        FAMILY[id] = select
        register(id, prepare=family_of, **{**READS, **claim})(judge)
        return select

    return decorate


def family_of(frame: pd.DataFrame) -> dict[str, list[Contest]]:
    """The contests of all claims of leads on these records, by claim."""
    rows = scored(frame)
    return {name: select(rows) for name, select in FAMILY.items()}


def _judge(
    family: Mapping[str, list[Contest]], claim: str, who: str, missing: str, detail: Detail
) -> Verdict:
    """Judge a claim by its contests.

    p-values are corrected for the contests of all claims of leads on these records. What flows that
    were still improving might turn with twice their updates is open.
    """
    if not (pairs := family[claim]):
        raise NotMeasured(missing)
    every = {_name(pair): pair.comparison for pairs in family.values() for pair in pairs}
    standings = standing(every, level_of("leads"))
    own: list[Standing] = []
    results, turns = [], []
    for pair in pairs:
        kind = standings[_name(pair)]
        names = pair.unsettled_by(kind)
        own.append("open" if names else kind)
        results.append(_result(pair, f"{kind} so far" if names else kind))
        turns += [f"{listed(map(quoted, names))} on {pair.data}"] if names else []
    undecided = f", {own.count('open')} open" if "open" in own else ""
    sentence = (
        f"{who} on {own.count('ahead')} of {counted(len(pairs), 'data set')}{undecided}: "
        f"{', '.join(results)} nats{detail(pairs)}."
    )
    bases = listed(pair.comparison.about for pair in pairs)
    evidence = f"Over {bases}; standings are by Holm over {counted(len(every), 'comparison')}."
    left = [OPEN.get(pair.comparison.basis, "") for pair in pairs]
    left += [f"Twice the updates might turn what is open: {'; '.join(turns)}."] if turns else []
    used = keys(*(side for pair in pairs for side in (pair.one, pair.other)))
    weakness = " ".join(dict.fromkeys(filter(None, left)))
    return Verdict(outcome(ahead(own)), sentence, used, (), evidence, weakness)


def _name(pair: Contest) -> str:
    return "/".join(keys(pair.one, pair.other))


def _result(pair: Contest, how: str) -> str:
    """ "+0.012 [0.003, 0.021] on moons (cnf and glow, ahead)": the lead of the first."""
    one, other = (quoted(side["series"].iloc[0]) for side in (pair.one, pair.other))
    value, half = pair.comparison.estimate.value, pair.comparison.half
    interval = f"[{value - half:.3f}, {value + half:.3f}]" if half == half else "[unknown]"
    how = "one seed" if pair.comparison.basis == "rows" else how
    number = f"{value:+.3f} {interval}".replace("-", "−")
    return f"{number} on {pair.data} ({one} and {other}, {how})"


@register_leads(
    "continuous-powerful",
    who="The best continuous flow leads the best discrete one",
    missing="densities of continuous and of discrete flows on one data set, with validation",
)
def continuous_powerful(rows: pd.DataFrame) -> list[Contest]:
    """The best continuous flow against the best discrete one, on each set."""
    kind = kinds(rows)
    return contests(rows, kind == "continuous", kind == "discrete")


def budgets(pairs: Sequence[Contest]) -> str:
    """What either had: ", with 4,612 against 4,572 to 9,024 parameters"."""
    sides = [pd.concat(own) for own in zip(*((p.one, p.other) for p in pairs), strict=True)]
    known = [f"{_against(sides, 'parameters', ',.0f')} parameters"]
    for metric, unit in (("train_cpu_seconds", "CPU seconds"), ("train_seconds", "seconds")):
        if all(metric in side and side[metric].notna().all() for side in sides):
            known.append(f"{_against(sides, metric, '.3g')} {unit} of training")
            break
    return f", with {' and '.join(known)}"  # a document has no seconds that were not quiet


@register_leads(
    "data-glow-ffjord",
    who="FFJORD leads",
    missing="densities in two dimensions of both ffjord and glow, with validation",
    detail=budgets,
)
def data_glow_ffjord(rows: pd.DataFrame) -> list[Contest]:
    """FFJORD against Glow, on each set of two dimensions."""
    flat = rows[rows["dim"] == 2]
    return contests(flat, *(flat["flow"] == name for name in ("ffjord", "glow")))


def _against(sides: Sequence[pd.DataFrame], metric: str, digits: str) -> str:
    """ "4,612 to 9,104 against 4,572 to 9,024": the range of a metric on each side."""
    return " against ".join(span(side[metric], digits) for side in sides)


@register_leads(
    "useful-instrument",
    who="The best flow leads the best baseline",
    missing="densities of flows and of baselines, with validation, where no mixture is the truth",
)
def useful_instrument(rows: pd.DataFrame) -> list[Contest]:
    """The best flow against the best baseline, on each set whose truth is no baseline's model."""
    names = rows["dataset"].str.replace(r"_\d+$", "", regex=True)
    rows = rows[~names.isin(RULES["useful-instrument"]["mixtures"])]
    baseline = kinds(rows) == "baseline"
    return contests(rows, ~baseline, baseline)


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
    complete = least >= criterion["missed"]
    missed = listed(every.index[~complete]) if (~complete).any() else "none"
    blurred = every["gap_mass"] > criterion["learned"]
    holds = [None if c and b else c for c, b in zip(complete, blurred, strict=True)]
    sentence = (
        f"Of {counted(len(every), 'pair')} of flow and data set trained by likelihood a mode is "
        f"missed with some seed by {missed}. The least visited mode has {least.min():.2f} of its "
        f"due share ({least.idxmin()}); {counted(int((least < THIN).sum()), 'pair')} have a mode "
        f"with less than {THIN:g}. Between modes lie {span(every['gap_mass'], '.1%')} of the "
        f"samples, and {RARE:.0%} of the data; more than {criterion['learned']:.0%} with "
        f"{listed(every.index[blurred]) if blurred.any() else 'none'}."
    )
    return Verdict(outcome(holds), sentence + _beside(others), keys(by_likelihood, others))


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each flow and data set, by name: the least share of any seed, means of the rest."""
    parts = [
        group.assign(name=[f"{flow} on {data}" for flow in series(group)])
        for data, group in rows.groupby("dataset")
    ]
    how = {"least_share": "min", "modes_missed": "mean", "gap_mass": "mean"}
    return pd.concat(parts).groupby(["dataset", "name"]).agg(how).reset_index("dataset")


def _beside(others: pd.DataFrame) -> str:
    """A sentence on trainings by reverse KL; empty without any."""
    if others.empty:
        return ""
    parts = [
        f"{span(group['modes_missed'], '.1f')} modes missed on {name}"
        for name, group in _means(others).groupby("dataset")
    ]
    return f" By reverse KL, on average over seeds, {listed(parts)}."
