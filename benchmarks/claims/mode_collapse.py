"""Flows trained by maximum likelihood leave out no mode."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis import criteria
from benchmarks.analysis.contests import trained
from benchmarks.claims import NotMeasured, Verdict, done, keys, listed, outcome, register, span
from benchmarks.claims.examples import made_up
from benchmarks.core.naming import counted, series
from benchmarks.evaluation.modes import RARE, THIN

CRITERION = criteria.of("mode-collapse")


def example(share: float, updates: int = 500) -> pd.DataFrame:
    """Trainings of two flows whose least visited mode has this share of its due one."""
    trainings = {
        "flow": ["cnf", "maf"],
        "dataset": "8gaussians",
        "setting.objective": ["likelihood", "reverse_kl"],
        "updates": updates,
        "least_share": share,
        "modes_missed": float(8 * (share < CRITERION["missed"])),
        "gap_mass": 0.02,
    }
    return made_up("modes", trainings)


@register(
    "mode-collapse",
    page=5,
    slide="Mode Collapse (review)",
    statement="A flow trained by maximum likelihood does not collapse onto some of the modes.",
    studies=("modes",),
    suite="frontier",
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
    least = every["least_share"]
    complete = least >= CRITERION["missed"]
    missed = listed(every.index[~complete]) if (~complete).any() else "none"
    blurred = every["gap_mass"] > CRITERION["learned"]
    holds = [None if c and b else c for c, b in zip(complete, blurred, strict=True)]
    sentence = (
        f"Of {counted(len(every), 'pair')} of flow and data set trained by likelihood a mode is "
        f"missed with some seed by {missed}. The least visited mode has {least.min():.2f} of its "
        f"due share ({least.idxmin()}); {counted(int((least < THIN).sum()), 'pair')} have a mode "
        f"with less than {THIN:g}. Between modes lie {span(every['gap_mass'], '.1%')} of the "
        f"samples, and {RARE:.0%} of the data; more than {CRITERION['learned']:.0%} with "
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
