"""The adjoint's gradient is the gradient."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis import criteria
from benchmarks.analysis.contests import trained
from benchmarks.claims import NotMeasured, Verdict, done, keys, outcome, register, span
from benchmarks.claims.examples import made_up
from benchmarks.core.exhibit import scientific
from benchmarks.core.metrics import METRICS
from benchmarks.core.naming import counted
from benchmarks.studies.numerics.tables import with_solver

CRITERION = criteria.of("adjoint-gradient")


def example(ratio: float) -> pd.DataFrame:
    """Gradients of a trained field, the adjoint's with so many times backprop's error."""
    solvers = [
        {"method": "dopri5", "step_size": None, "rtol": rtol, "gradient": gradient}
        for rtol in (1e-3, 1e-6)
        for gradient in ("adjoint", "backprop")
    ]
    metrics = {
        "gradient_error": lambda row: (
            1e-4 * (ratio if row["option.solver"]["gradient"] == "adjoint" else 1.0)
        ),
        "gradient_bytes": 1e6,
        "nfe_forward": 50.0,
    }
    return made_up("numerics", {"updates": 500, "option.solver": solvers, **metrics})


@register(
    "adjoint-gradient",
    page=4,
    slide="Continuous Backprop",
    statement="The adjoint ODE gives the gradient of the loss.",
    studies=("numerics",),
    suite="complexity",
    exhibits=("gradients", "gradients-at-error"),
    examples=[
        ("confirmed", partial(example, 1.0)),
        ("refuted", partial(example, 10.0)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """Errors by tolerance of the adaptive solver, and the bytes held for the backward pass."""
    rows = with_solver(trained(done(frame, "numerics", "gradient_error")))
    rows = rows[~rows["fixed"] & (rows["updates"] == rows["updates"].max())]
    rows = rows[rows["dtype"] == rows["dtype"].max()]  # float64 where there is any
    kinds = {name: rows[rows["gradient"] == name] for name in ("adjoint", "backprop")}
    if any(kind["setting"].nunique() < 2 for kind in kinds.values()):
        raise NotMeasured(
            "gradients of a trained field by adjoint and by backprop at two tolerances in the "
            "study numerics"
        )
    errors = {
        name: kind.groupby("setting")["gradient_error"].median() for name, kind in kinds.items()
    }
    adjoint = errors["adjoint"]
    ends = [adjoint.index.max(), adjoint.index.min()]
    texts = {name: [scientific(own[end]) for end in ends] for name, own in errors.items()}
    ratios = (adjoint / errors["backprop"]).dropna()
    saved = METRICS["gradient_bytes"]
    held = {
        name: f"{span(kind['gradient_bytes'] * saved.scale, '.2g')} {saved.display_unit}"
        for name, kind in kinds.items()
    }
    sentence = (
        f"After {rows['updates'].max():,} updates the relative error is {texts['adjoint'][0]} at a "
        f"tolerance of {ends[0]:g} and {texts['adjoint'][1]} at {ends[1]:g} (backprop's "
        f"{' and '.join(texts['backprop'])}), {span(ratios, '.2g')} times backprop's at "
        f"{counted(len(ratios), 'tolerance')}; for {span(kinds['adjoint']['nfe_forward'], '.0f')} "
        f"evaluations the adjoint holds {held['adjoint']}, backprop {held['backprop']}."
    )
    return Verdict(outcome(ratios <= CRITERION["factor"]), sentence, keys(*kinds.values()))
