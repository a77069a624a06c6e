"""An estimate of the smaller matrix varies less."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from benchmarks.analysis.criteria import level_of
from benchmarks.analysis.inference import Estimate, standings
from benchmarks.claims import NotMeasured, Verdict, ahead, done, keys, outcome, register, span
from benchmarks.claims.examples import made_up
from benchmarks.studies.numerics import tables as numerics


def example(rmse: float, error: float = 0.01) -> pd.DataFrame:
    """Estimates of an error of one in R^D, and of another in R^H."""
    common = {
        "setting.identity": "estimate",
        "setting.field": ["network", "projection"],
        "dim": 16,
        "option.bottleneck": 4,
        "trace_rmse_se": error,
        "trace_rmse_theory": 1.0,
        "trace_bias": 1.0,
        "cyclic_error": 1e-16,
    }
    return made_up(
        "numerics",
        {**common, "option.trace": {"estimator": "hutchinson"}, "trace_rmse": 1.0},
        {**common, "option.trace": {"estimator": "bottleneck"}, "trace_rmse": rmse},
    )


@register(
    "bottleneck-variance",
    page=8,
    item=3,
    slide="FFJORD extras",
    statement="Estimating the trace of the H × H matrix instead of the D × D one is a useful "
    "trick: the variance of the estimate is smaller.",
    studies=("numerics",),
    suite="complexity",
    exhibits=("identities-estimate",),
    examples=[
        ("confirmed", partial(example, 0.5)),
        ("refuted", partial(example, 2.0)),
        ("undecided", partial(example, 0.9, error=0.1)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The ratio of the variances for each field and noise."""
    rows = numerics.done(done(frame, "numerics"), "estimate")
    if rows.empty or "variance" not in (fields := numerics.estimates(rows)):
        raise NotMeasured("estimates in both spaces in the study numerics")
    fields = fields.dropna(subset=["variance"])
    error = np.hypot(fields["rmse_d_se"], fields["rmse_k_se"])
    gain = fields["rmse_d"] - fields["rmse_k"]
    differences = {  # of spreads, whose errors over thousands of draws are known
        str(place): (Estimate(float(g), float(e), np.inf), 0.0)
        for place, g, e in zip(fields.index, gain, error, strict=True)
    }
    how = list(standings(differences, level_of("bottleneck-variance")).values())
    width = np.where(fields["width"] < fields["dim"], "H < D", "H ≥ D")
    groups = fields.groupby([fields["field"], width, fields["noise"]])["variance"]
    parts = [
        f"× {span(variance.round(3), '.2g')} for a {field} with {wide} and {noise} noise"
        for (field, wide, noise), variance in groups
    ]
    sentence = (
        f"The variance falls for {how.count('ahead')} of {len(fields)} fields and noises: "
        f"{'; '.join(parts)}."
    )
    return Verdict(outcome(ahead(how)), sentence, keys(rows))
