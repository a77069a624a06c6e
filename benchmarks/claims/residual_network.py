"""A residual network is an Euler step of an ODE."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis import criteria
from benchmarks.claims import NotMeasured, Verdict, done, keys, register, span
from benchmarks.claims.examples import made_up
from benchmarks.core.naming import counted
from benchmarks.studies.numerics import tables as numerics

CRITERION = criteria.of("residual-network")


def example(different: int = 0, order: float = 1.0) -> pd.DataFrame:
    """Networks with so many different elements, and this order of Euler's method."""
    falling = {"setting.identity": "order", "setting.steps": (8, 16), "dim": 5}
    return made_up(
        "numerics",
        {
            "setting.identity": "euler",
            "setting.blocks": [1, 64],
            "different_elements": float(different),
        },
        *(
            {
                **falling,
                "setting.method": method,
                "solver_error.values": (0.1, 0.1 * 2**-own),
                "convergence_order.values": (own,),
            }
            for method, own in (("euler", order), ("rk4", 4.0))
        ),
    )


@register(
    "residual-network",
    page=3,
    slide="Neural ODE",
    statement="A residual network z + f_t(z) is Euler's method for dz/dt = f(z, t), step by step.",
    studies=("numerics",),
    suite="complexity",
    exhibits=("identities-order", "identities-euler"),
    examples=[
        ("confirmed", example),
        ("refuted", partial(example, different=3)),
        ("refuted", partial(example, order=2.0)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """Elements that differ, and the order at the largest number of steps."""
    rows = done(frame, "numerics")
    equal, falling = (numerics.done(rows, name) for name in ("euler", "order"))
    if equal.empty or falling.empty:
        raise NotMeasured("records of Euler's method in the study numerics")
    different, total = int(equal["different_elements"].sum()), len(equal)
    orders = {row["setting.method"]: numerics.convergence(row)[2] for _, row in falling.iterrows()}
    if "euler" not in orders:
        raise NotMeasured("records of Euler's order in the study numerics")
    holds = different == 0 and abs(orders["euler"] - 1) <= CRITERION["within"]
    bits = "equal bit for bit" if not different else f"different in {different} elements"
    others = ", ".join(f"{m} {order:.2f}" for m, order in orders.items() if m != "euler")
    sentence = (
        f"{counted(total, 'network')} of {span(equal['setting.blocks'], 'g')} blocks are {bits} "
        "to Euler's method with steps of one, whose error falls with order "
        f"{orders['euler']:.2f}{f' ({others})' if others else ''}."
    )
    return Verdict("confirmed" if holds else "refuted", sentence, keys(equal, falling))
