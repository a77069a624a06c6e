"""A trace is much cheaper than a determinant."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis import criteria
from benchmarks.claims import NotMeasured, Verdict, done, keys, listed, outcome, register, span
from benchmarks.claims.examples import made_up
from benchmarks.studies.trace.tables import evaluations

CHEAP = criteria.of("trace-and-determinant")["cheap"]  # of the determinant's time
PROBE = "by one probe"
WAYS = {  # of a trace: the estimators
    "by D products": ("loop", "basis", "jacobian"),
    "in closed form": ("closed_form",),
    PROBE: ("hutchinson",),
}
FORMED = ("trace_of_formed", "determinant_of_formed")


def example(determinant: float, loop: float = 1.0) -> pd.DataFrame:
    """Traces of a field that take a second, but for the loop, and the seconds of a determinant."""
    common = {"dim": [8, 64], "evaluation_flops": 1.0, "evaluation_seconds": 1.0}
    common |= {"evaluation_seconds.values": lambda row: (row["evaluation_seconds"],)}
    no_trace = {"option.trace": {"estimator": "loop"}}
    return made_up(
        "trace",
        {**common, "setting.work": "field", **no_trace},
        *(
            {
                **common,
                "setting.work": "trace",
                "option.trace": {"estimator": name},
                "evaluation_seconds": seconds,
                "trace_error": 1e-7,
            }
            for name, seconds in (("loop", loop), ("closed_form", 1.0))
        ),
        {
            **common,
            "setting.work": "trace",
            "option.trace": [{"estimator": "hutchinson", "probes": n} for n in (1, 2)],
            "trace_rmse": 0.1,
            "trace_rmse_se": 0.01,
        },
        {**common, "setting.work": "determinant", **no_trace, "evaluation_seconds": determinant},
    )


@register(
    "trace-and-determinant",
    page=7,
    item=2,
    slide="Continuous NFs",
    statement="A trace is much cheaper to evaluate than a determinant.",
    studies=("trace",),
    suite="complexity",
    exhibits=("trace-cost",),
    examples=[
        ("confirmed", partial(example, 10.0)),
        ("refuted", partial(example, 0.1)),
        ("conditional", partial(example, 10.0, loop=100.0)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """Seconds over those of the determinant, the quickest of each way, at each D and field."""
    rows = done(frame, "trace", "evaluation_seconds")
    known = evaluations(rows)
    known = known[~known["estimate"] | known["fewest"]]
    place = [known["field"], known["dim"]]
    determinant = known["evaluation_seconds"].where(known["work"] == "determinant")
    quickest = determinant.groupby(place).transform("min")
    traces = known.assign(ratio=known["evaluation_seconds"] / quickest)
    traces = traces[traces["work"].isin(["trace", "kept"])]
    ratios: dict[str, pd.Series] = {}
    for way, estimators in WAYS.items():
        of = traces[traces["estimator"].isin(estimators)]
        ratios[way] = of.groupby(["field", "dim"])["ratio"].min().dropna()
    ratios = {way: values for way, values in ratios.items() if len(values)}
    if not ratios:
        raise NotMeasured("traces beside determinants in the study trace")
    parts = [f"{span(values, '.2g')} {way}" for way, values in ratios.items()]
    errors = traces.loc[traces["estimator"].isin(WAYS[PROBE]), "error"]
    error = f" with an error of {span(errors, '.2g')} ‖J‖" if len(errors) else ""
    cheap = [way for way, values in ratios.items() if (values <= CHEAP).all()] or ["none"]
    formed = known[known["work"].isin(FORMED)]
    formed = formed.pivot_table("evaluation_seconds", ["field", "dim"], "work")
    apart = ""
    if set(FORMED) <= set(formed):
        share = span(formed[FORMED[0]] / formed[FORMED[1]], ".2g")
        apart = f"; of a Jacobian that is already formed it takes {share}"
    sentence = (
        f"At D = {span(known['dim'], 'g')} the trace takes, of the time of the determinant, "
        f"{', '.join(parts)}{error}{apart}; {CHEAP:g} at most everywhere: {listed(cheap)}."
    )
    return Verdict(outcome(pd.concat(ratios.values()) <= CHEAP), sentence, keys(rows))
