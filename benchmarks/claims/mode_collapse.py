"""Flows trained by maximum likelihood leave out no mode."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis.contests import UPDATES, trained
from benchmarks.claims import NotMeasured, Verdict, done, keys, listed, outcome, register, span
from benchmarks.claims.examples import made_up
from benchmarks.core.naming import counted
from benchmarks.core.series import series
from benchmarks.evaluation.modes import MISSED, RARE, THIN

LEARNED = 0.5  # share of samples in the gaps above which a flow has not learned the modes


def example(share: float, updates: int = 500) -> pd.DataFrame:
    """Trainings of two flows whose least visited mode has this share of its due one."""
    trainings = {
        "flow": ["cnf", "maf"],
        "dataset": "8gaussians",
        "setting.objective": ["likelihood", "reverse_kl"],
        "updates": updates,
        "least_share": share,
        "modes_missed": float(8 * (share < MISSED)),
        "gap_mass": 0.02,
    }
    return made_up("modes", trainings)


@register(
    "mode-collapse",
    page=5,
    slide="Mode Collapse (review)",
    statement="A flow trained by maximum likelihood does not collapse onto some of the modes.",
    criterion=f"On data sets with known modes, after {UPDATES} updates or more: confirmed if "
    f"every mode has at least {MISSED:g} of its due share of the samples, for every flow and "
    "seed; refuted if every flow misses a mode; else conditional. A flow with more than "
    f"{LEARNED:.0%} of its samples in the gaps has not learned the modes and is not judged: a "
    "Gaussian over all modes misses none. Also given: the same flows trained by reverse KL, "
    "and the share of samples between the modes, where the data's density is as low as for "
    f"its rarest {RARE:.0%}.",
    studies=("modes",),
    suite="densities",
    exhibits=("modes", "modes-8gaussians", "modes-25gaussians"),
    examples=[
        ("confirmed", partial(example, 0.9)),
        ("refuted", partial(example, 0.01)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The least share of a mode, and the share of samples between them, by either training."""
    rows = trained(done(frame, "modes", "least_share", "modes_missed", "gap_mass"))
    objective = rows["setting.objective"]
    by_likelihood, others = rows[objective == "likelihood"], rows[objective == "reverse_kl"]
    if by_likelihood.empty:
        raise NotMeasured("trainings by likelihood in the study modes")
    every = _means(by_likelihood)
    learned = every[every["gap_mass"] <= LEARNED]
    if learned.empty:
        raise NotMeasured("trainings by likelihood that have learned the modes in the study modes")
    complete = learned["least_share"] >= MISSED
    missed = listed(learned.index[~complete]) if (~complete).any() else "none"
    sentence = (
        f"Of {counted(len(learned), 'pair')} of flow and data set trained by likelihood that have "
        f"learned the modes ({len(every) - len(learned)} have not), a mode is missed with some "
        f"seed by {missed}. The least visited mode has {learned['least_share'].min():.2f} of its "
        f"due share ({learned['least_share'].idxmin()}); "
        f"{counted(int((learned['least_share'] < THIN).sum()), 'pair')} have a mode with less than "
        f"{THIN:g}. Between modes lie {span(learned['gap_mass'], '.1%')} of the samples, and "
        f"{RARE:.0%} of the data."
    )
    return Verdict(outcome(complete), sentence + _beside(others), keys(by_likelihood, others))


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
