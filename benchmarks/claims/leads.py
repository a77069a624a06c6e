"""Claims that one kind of model is ahead of another, on each data set and tested together."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from benchmarks.analysis.contests import Contest
from benchmarks.analysis.criteria import level_of
from benchmarks.analysis.inference import Standing
from benchmarks.analysis.paired import OPEN, standing
from benchmarks.claims import NotMeasured, Verdict, keys, listed, of_standings
from benchmarks.claims.scored import scored
from benchmarks.core.naming import counted

Select = Callable[[pd.DataFrame], list[Contest]]

FAMILY: dict[str, Select] = {}  # by claim; all of them are tested together


def contests_of(claim: str) -> Callable[[Select], Select]:
    """Decorator: a function of trained densities that gives the contests of a claim."""

    def add(select: Select) -> Select:
        FAMILY[claim] = select
        return select

    return add


def judge_leads(frame: pd.DataFrame, claim: str, who: str, missing: str) -> Verdict:
    """Judge a claim by its contests; ``who`` begins the sentence: "The best A leads B".

    p-values are corrected for the contests of all claims of leads on these records. What flows that
    were still improving might turn with twice their updates is open.
    """
    rows = scored(frame)
    family = {name: select(rows) for name, select in FAMILY.items()}
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
        turns += [f"{listed(names)} on {pair.data}"] if names else []
    undecided = f", {own.count('open')} open" if "open" in own else ""
    sentence = (
        f"{who} on {own.count('ahead')} of {counted(len(pairs), 'data set')}{undecided}: "
        f"{', '.join(results)} nats."
    )
    bases = listed(pair.comparison.about for pair in pairs)
    evidence = f"Over {bases}; standings are by Holm over {counted(len(every), 'comparison')}."
    left = [OPEN.get(pair.comparison.basis, "") for pair in pairs]
    left += [f"Twice the updates might turn what is open: {'; '.join(turns)}."] if turns else []
    used = keys(*(side for pair in pairs for side in (pair.one, pair.other)))
    weakness = " ".join(dict.fromkeys(filter(None, left)))
    return Verdict(of_standings(own), sentence, used, (), evidence, weakness)


def _name(pair: Contest) -> str:
    return "/".join(keys(pair.one, pair.other))


def _result(pair: Contest, how: str) -> str:
    """ "+0.012 [0.003, 0.021] on moons (cnf and glow, ahead)": the lead of the first."""
    one, other = (side["series"].iloc[0] for side in (pair.one, pair.other))
    value, half = pair.comparison.estimate.value, pair.comparison.half
    interval = f"[{value - half:.3f}, {value + half:.3f}]" if half == half else "[unknown]"
    how = "one seed" if pair.comparison.basis == "rows" else how
    number = f"{value:+.3f} {interval}".replace("-", "−")
    return f"{number} on {pair.data} ({one} and {other}, {how})"
