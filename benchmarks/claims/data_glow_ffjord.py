"""FFJORD's densities are nearer to the data than Glow's."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis.contests import UPDATES, contests, trained
from benchmarks.analysis.paired import ERRORS
from benchmarks.claims import NotMeasured, Verdict, done, keys, leads, of_leads, register, span
from benchmarks.claims.examples import densities


def example(lead: float) -> pd.DataFrame:
    """Densities of which the first of both kinds leads by so many nats."""
    return densities({"ffjord": lead, "glow": 0.0})


@register(
    "data-glow-ffjord",
    page=10,
    slide="FFJORD Performance: Density estimation",
    statement="On two-dimensional data FFJORD's density is closer to the data than Glow's.",
    criterion="By test log-likelihood, for FFJORD by the exact trace: confirmed if it leads by "
    f"{ERRORS:g} standard errors on every two-dimensional data set; refuted if it trails by "
    "as many on every one; else conditional on the data: a tie decides nothing. Both are "
    f"trained for {UPDATES} updates or more; parameters and seconds are not matched.",
    studies=("density",),
    suite="densities",
    exhibits=("density", "picture-8gaussians", "picture-checkerboard"),
    examples=[
        ("confirmed", partial(example, 1.0)),
        ("refuted", partial(example, -1.0)),
        ("conditional", partial(example, 0.0)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The lead of one over the other on each set, with its error."""
    rows = trained(done(frame, "density", "test_ll"))
    flat = rows[rows["dim"] == 2]
    sides = [flat["flow"] == name for name in ("ffjord", "glow")]
    pairs = contests(flat, *sides)
    if not pairs:
        raise NotMeasured("densities in two dimensions of both ffjord and glow")
    ones, others = (pd.concat([getattr(c, side) for c in pairs]) for side in ("one", "other"))
    budgets = [_against(ones, others, "parameters", ",.0f")]
    known = [side.get("train_seconds", pd.Series(dtype=float)).notna() for side in (ones, others)]
    if all(len(side) and side.all() for side in known):  # a document has none that were not quiet
        budgets.append(f"{_against(ones, others, 'train_seconds', '.3g')} of training")
    sentence = f"FFJORD leads by {leads(pairs)}, with {' and '.join(budgets)}."
    outcome = of_leads([(contest.lead, contest.error) for contest in pairs], ERRORS)
    return Verdict(outcome, sentence, keys(ones, others))


def _against(ones: pd.DataFrame, others: pd.DataFrame, metric: str, digits: str) -> str:
    """ "4,612 to 9,104 against 4,572 to 9,024 parameters": the range of a metric on each side."""
    ranges = [span(side[metric], digits) for side in (ones, others)]
    return f"{' against '.join(ranges)} {metric.rpartition('_')[2]}"
