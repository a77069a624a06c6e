"""Along a trajectory log p falls by the trace of the Jacobian."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis import criteria
from benchmarks.claims import NotMeasured, Verdict, done, keys, register, span
from benchmarks.claims.examples import made_up
from benchmarks.core.exhibit import scientific
from benchmarks.studies.numerics import tables as numerics

CRITERION = criteria.of("rate-of-change")


def example(order: float) -> pd.DataFrame:
    """Differences that fall with this order as the steps are doubled."""
    fields = {
        "setting.identity": "rate",
        "option.time": ["concat", "concatsquash"],
        "setting.steps": (32, 64),
        "rate_error.values": (1e-4, 1e-4 * 2**-order),
        "convergence_order.values": (order,),
    }
    return made_up("numerics", fields)


@register(
    "rate-of-change",
    page=7,
    slide="Continuous NFs",
    statement="Along a trajectory d log p/dt = −tr ∂f/∂z.",
    studies=("numerics",),
    suite="complexity",
    exhibits=("identities-rate",),
    examples=[
        ("confirmed", partial(example, 4.0)),
        ("refuted", partial(example, 0.0)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The differences with the most steps, and their order."""
    rows = numerics.done(done(frame, "numerics"), "rate")
    fields = [numerics.convergence(row) for _, row in rows.iterrows()]
    if not fields or any(len(steps) < 2 for steps, _, _ in fields):
        raise NotMeasured("rates of log p at two numbers of steps in the study numerics")
    left, orders = [errors[-1] for _, errors, _ in fields], [order for _, _, order in fields]
    holds = max(left) <= CRITERION["largest"] and min(orders) >= CRITERION["order"]
    sentence = (
        f"In {len(fields)} fields the two differ by {scientific(max(left))} of the trace at most "
        f"with {max(fields[0][0])} steps, and the difference falls with order "
        f"{span(orders, '.2f')}."
    )
    return Verdict("confirmed" if holds else "refuted", sentence, keys(rows))
