"""The change of variables gives the density."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.claims import NotMeasured, Verdict, done, keys, listed, register, span
from benchmarks.claims.examples import made_up
from benchmarks.core.exhibit import scientific
from benchmarks.core.naming import counted
from benchmarks.studies.numerics import tables as numerics


def example(error: float = 1e-12, mass: float = 1e-3) -> pd.DataFrame:
    """Flows of which one has these errors of its log-determinant, nats, and of its mass."""
    common = {"setting.identity": "density", "dim": [2, 5], "ladj_bound": 1e-9}
    flat = {"mass_bound": lambda row: 1e-2 if row["dim"] == 2 else None}
    right = {"ladj_error": 1e-12, "mass_error": lambda row: 1e-3 if row["dim"] == 2 else None}
    wrong = {"ladj_error": error, "mass_error": lambda row: mass if row["dim"] == 2 else None}
    return made_up(
        "numerics",
        {**common, **flat, "flow": ["cnf", "maf"], **right},
        {**common, **flat, "flow": "glow", **wrong},
    )


@register(
    "change-of-variables",
    page=6,
    slide="Normalizing Flows",
    statement="A flow's log-density is the log-density of the noise plus the log-determinant of "
    "its Jacobian.",
    studies=("numerics",),
    suite="complexity",
    exhibits=("identities-density",),
    examples=[
        ("confirmed", example),
        ("refuted", partial(example, error=0.5)),
        ("refuted", partial(example, mass=0.5)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """Errors against their bounds, flow by flow."""
    rows = numerics.done(done(frame, "numerics"), "density")
    if rows.empty:
        raise NotMeasured("densities among the records of the study numerics")
    wrong = ~(rows["ladj_error"] <= rows["ladj_bound"])
    mass = ""
    if "mass_error" in rows and rows["mass_error"].notna().any():
        wrong |= rows["mass_error"] > rows["mass_bound"]
        mass = f", and integrate to one within {scientific(rows['mass_error'].max())}"
    flows = rows["flow"].nunique()
    sentence = (
        f"The log-determinants of {counted(flows, 'flow')} at D = {span(rows['dim'], 'g')} are "
        f"those of their dense Jacobians within {scientific(rows['ladj_error'].max())} nats{mass}"
        + (f"; not within these errors: {listed(rows['flow'][wrong])}." if wrong.any() else ".")
    )
    return Verdict("refuted" if wrong.any() else "confirmed", sentence, keys(rows))
