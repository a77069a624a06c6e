"""The adjoint's gradient is the gradient."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis.contests import UPDATES, trained
from benchmarks.claims import NotMeasured, Verdict, done, keys, listed, outcome, register, span
from benchmarks.claims.examples import made_up
from benchmarks.core.exhibit import scientific
from benchmarks.core.metrics import METRICS
from benchmarks.studies.gradients.tables import with_solver

EQUAL = 1e-4  # relative error of a gradient that is called right


def example(error: float) -> pd.DataFrame:
    """Gradients of a trained field with this relative error."""
    solvers = [
        {"method": "dopri5", "step_size": None, "rtol": rtol, "gradient": gradient}
        for rtol in (1e-3, 1e-6)
        for gradient in ("adjoint", "backprop")
    ]
    metrics = {"gradient_error": error, "gradient_bytes": 1e6, "nfe_forward": 50.0}
    return made_up("gradients", {"updates": 500, "option.solver": solvers, **metrics})


@register(
    "adjoint-gradient",
    page=4,
    slide="Continuous Backprop",
    statement="The adjoint ODE gives the gradient of the loss.",
    criterion=f"Confirmed if its relative error is at most {EQUAL:g} at every tolerance of the "
    "solver, against a float64 gradient at a tight tolerance, for the field with the most "
    f"training updates ({UPDATES} or more); refuted if at none; else conditional on the "
    "tolerance. The gradient by backpropagation through the same steps is given for "
    "comparison.",
    studies=("gradients",),
    suite="complexity",
    exhibits=("gradients", "gradients-at-error"),
    examples=[
        ("confirmed", partial(example, 1e-9)),
        ("refuted", partial(example, 0.1)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """Errors by tolerance of the adaptive solver, and the bytes held for the backward pass."""
    rows = with_solver(trained(done(frame, "gradients", "gradient_error")))
    rows = rows[~rows["fixed"] & (rows["updates"] == rows["updates"].max())]
    rows = rows[rows["dtype"] == rows["dtype"].max()]  # float64 where there is any
    kinds = {name: rows[rows["gradient"] == name] for name in ("adjoint", "backprop")}
    if any(kind["setting"].nunique() < 2 for kind in kinds.values()):
        raise NotMeasured(
            "gradients of a trained field by adjoint and by backprop at two tolerances in the "
            "study gradients"
        )
    errors = {
        name: kind.groupby("setting")["gradient_error"].median() for name, kind in kinds.items()
    }
    adjoint = errors["adjoint"]
    ends = [adjoint.index.max(), adjoint.index.min()]
    texts = {name: [scientific(own[end]) for end in ends] for name, own in errors.items()}
    settings_within = [f"{setting:g}" for setting, error in adjoint.items() if error <= EQUAL]
    within = f", within {EQUAL:g} at {listed(settings_within)}" if settings_within else ""
    saved = METRICS["gradient_bytes"]
    held = {
        name: f"{span(kind['gradient_bytes'] * saved.scale, '.2g')} {saved.display_unit}"
        for name, kind in kinds.items()
    }
    sentence = (
        f"After {rows['updates'].max():,} updates the relative error is {texts['adjoint'][0]} at a "
        f"tolerance of {ends[0]:g} and {texts['adjoint'][1]} at {ends[1]:g}{within} (backprop's "
        f"{' and '.join(texts['backprop'])}); for {span(kinds['adjoint']['nfe_forward'], '.0f')} "
        f"evaluations the adjoint holds {held['adjoint']}, backprop {held['backprop']}."
    )
    return Verdict(outcome(adjoint <= EQUAL), sentence, keys(*kinds.values()))
