"""Claims that one kind of model is ahead of another, on each data set and tested together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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

    p-values are corrected for the contests of all claims of leads on these records.
    """
    rows = scored(frame)
    family = {name: select(rows) for name, select in FAMILY.items()}
    if not (pairs := family[claim]):
        raise NotMeasured(missing)
    every = {_name(pair): pair.comparison for pairs in family.values() for pair in pairs}
    standings = standing(every, level_of("leads"))
    own = [standings[_name(pair)] for pair in pairs]
    sentence = (
        f"{who} on {own.count('ahead')} of {counted(len(pairs), 'data set')}: "
        f"{_listed(pairs, own)} nats."
    )
    bases = listed(pair.comparison.about for pair in pairs)
    evidence = f"Over {bases}; {counted(len(every), 'comparison')} tested together."
    left = dict.fromkeys(OPEN.get(pair.comparison.basis, "") for pair in pairs)
    used = keys(*(side for pair in pairs for side in (pair.one, pair.other)))
    return Verdict(of_standings(own), sentence, used, (), evidence, " ".join(filter(None, left)))


def _name(pair: Contest) -> str:
    return "/".join(keys(pair.one, pair.other))


def _listed(pairs: Sequence[Contest], standings: Sequence[Standing]) -> str:
    """ "+0.012 [0.003, 0.021] on moons (cnf and glow, ahead)": the lead of the first in each."""
    parts = []
    for pair, kind in zip(pairs, standings, strict=True):
        one, other = (side["series"].iloc[0] for side in (pair.one, pair.other))
        value, half = pair.comparison.estimate.value, pair.comparison.half
        interval = f"[{value - half:.3f}, {value + half:.3f}]" if half == half else "[unknown]"
        how = "one seed" if pair.comparison.basis == "rows" else kind
        number = f"{value:+.3f} {interval}".replace("-", "−")
        parts.append(f"{number} on {pair.data} ({one} and {other}, {how})")
    return ", ".join(parts)
