"""Hutchinson's estimate of the trace is unbiased."""

from __future__ import annotations

from functools import partial

import pandas as pd
import scipy

from benchmarks.analysis import criteria
from benchmarks.claims import NotMeasured, Verdict, done, keys, register, span
from benchmarks.claims.examples import made_up
from benchmarks.core.exhibit import described
from benchmarks.studies.numerics import tables as numerics

LEVEL = criteria.level_of("hutchinson")


def example(bias: float = 2.0, spread: float = 1.0) -> pd.DataFrame:
    """Estimates with this largest z of a mean, and this spread over that of theory."""
    fields = {
        "setting.identity": "estimate",
        "setting.draws": 4000,
        "option.trace": [
            {"estimator": "hutchinson", "noise": n} for n in ("gaussian", "rademacher")
        ],
        "trace_bias": bias,
        "trace_rmse": spread,
        "trace_rmse_theory": 1.0,
        "trace_rmse_se": 0.01,
    }
    return made_up("numerics", fields)


@register(
    "hutchinson",
    page=8,
    item=1,
    slide="FFJORD extras",
    statement="The trace of A is the expectation of εᵀAε: one product with the Jacobian "
    "estimates it without bias.",
    studies=("numerics",),
    suite="complexity",
    exhibits=("identities-estimate",),
    examples=[
        ("confirmed", example),
        ("refuted", partial(example, bias=9.0)),
        ("refuted", partial(example, spread=2.0)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The largest deviations of means and spreads, in standard errors."""
    rows = numerics.done(done(frame, "numerics"), "estimate")
    traces = rows.get("option.trace", pd.Series(dtype=object))
    rows = rows[described(traces, estimator="exact")["estimator"].eq("hutchinson")]
    if rows.empty:
        raise NotMeasured("estimates of traces in the study numerics")
    means, spreads = int(rows["batch"].sum()), len(rows)
    allowed = [float(scipy.stats.norm.isf(LEVEL / 2 / n)) for n in (means, spreads)]
    bias = rows["trace_bias"].max()
    spread = ((rows["trace_rmse"] - rows["trace_rmse_theory"]).abs() / rows["trace_rmse_se"]).max()
    holds = bias <= allowed[0] and spread <= allowed[1]
    sentence = (
        f"The means of {span(rows['setting.draws'], ',.0f')} estimates of {means} rows deviate "
        f"from their traces by {bias:.1f} standard errors at most, where chance allows "
        f"{allowed[0]:.1f}, and their spreads from the closed formula by {spread:.1f}, where "
        f"chance allows {allowed[1]:.1f}; the error of one probe is "
        f"{span(rows['trace_rmse'], '.2f')} ‖∂f/∂z‖."
    )
    return Verdict("confirmed" if holds else "refuted", sentence, keys(rows))
