"""The trace of the D × D Jacobian is that of the H × H product."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis import criteria
from benchmarks.claims import NotMeasured, Verdict, done, keys, register
from benchmarks.claims.examples import made_up
from benchmarks.core.exhibit import scientific
from benchmarks.studies.numerics import tables as numerics

CRITERION = criteria.of("bottleneck-trace")


def example(difference: float) -> pd.DataFrame:
    """Traces that differ by so much of the Jacobian's norm."""
    fields = {"setting.identity": "estimate", "dim": [16, 64], "option.bottleneck": 4}
    return made_up("numerics", {**fields, "cyclic_error": difference})


@register(
    "bottleneck-trace",
    page=8,
    item=2,
    slide="FFJORD extras",
    statement="For f = g(h(z)) with h in R^H, the trace of the D × D Jacobian equals that of the "
    "H × H product of its factors in reverse order.",
    studies=("numerics",),
    suite="complexity",
    exhibits=("identities-estimate",),
    examples=[
        ("confirmed", partial(example, 1e-16)),
        ("refuted", partial(example, 1e-3)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The largest difference over all fields and rows."""
    rows = numerics.done(done(frame, "numerics"), "estimate")
    if rows.empty:
        raise NotMeasured("traces of fields with a bottleneck in the study numerics")
    largest = rows["cyclic_error"].max()
    pairs = rows[["dim", "option.bottleneck"]].drop_duplicates().itertuples(index=False)
    sentence = (
        f"They differ by {scientific(largest)} ‖∂f/∂z‖ at most, for (D, H) = "
        f"{', '.join(f'({d:g}, {h:g})' for d, h in pairs)}."
    )
    return Verdict(
        "confirmed" if largest <= CRITERION["rounding"] else "refuted", sentence, keys(rows)
    )
