"""Claims that one kind of model is ahead of another, on each data set and tested together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Any

import pandas as pd

from benchmarks.analysis.contests import Contest
from benchmarks.analysis.criteria import level_of
from benchmarks.analysis.inference import Standing
from benchmarks.analysis.paired import OPEN, standing
from benchmarks.claims import NotMeasured, Outcome, Verdict, ahead, keys, listed, outcome, register
from benchmarks.claims.examples import densities, searched
from benchmarks.claims.scored import scored
from benchmarks.core.naming import counted, quoted

Select = Callable[[pd.DataFrame], list[Contest]]
Detail = Callable[[Sequence[Contest]], str]
Example = Callable[[], pd.DataFrame]

FAMILY: dict[str, Select] = {}  # by claim; all of them are tested together


def register_leads(
    id: str,
    *,
    who: str,
    missing: str,
    example: tuple[str, str],
    detail: Detail = lambda pairs: "",
    **claim: Any,
) -> Callable[[Select], Select]:
    """Decorator: register a claim of leads by the function that gives its contests.

    The function gets the trained densities (`scored`). ``who`` begins the verdict's sentence, as in
    "The best A leads B", and a ``detail`` of the contests may end it; ``missing`` are the records
    without which there is none; ``example`` names two flows, one of either kind. ``claim`` are
    further attributes of the `Claim`.
    """

    def decorate(select: Select) -> Select:
        @wraps(select)
        def judge(family: Mapping[str, list[Contest]]) -> Verdict:
            return _judge(family, id, who, missing, detail)

        FAMILY[id] = select
        place = {"studies": ("frontier",), "also": ("density",), "suite": "frontier"}
        examples = _examples(*example)
        register(id, examples=examples, prepare=family_of, **{**place, **claim})(judge)
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


def _examples(one: str, other: str) -> list[tuple[Outcome, Example]]:
    """Made-up densities and searches in which the first of two flows leads by so many nats."""

    def lead(nats: float, make: Callable[..., pd.DataFrame] = densities, **how: float) -> Example:
        return partial(make, {one: nats, other: 0.0}, **how)

    return [
        ("confirmed", lead(1.0)),
        ("refuted", lead(-1.0)),
        ("refuted", lead(0.01)),
        ("conditional", lead(1.0, turn=-1.0)),
        ("undecided", lead(1.0, scatter=2.0)),
        ("confirmed", lead(2.0, searched)),  # at the largest budget; the reverse at a smaller one
        ("refuted", lead(-2.0, searched)),
    ]


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
