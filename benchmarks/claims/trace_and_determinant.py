"""A trace is much cheaper than a determinant."""

from __future__ import annotations

import pandas as pd

from benchmarks.claims import NotMeasured, Verdict, done, keys, listed, outcome, register, span
from benchmarks.studies.trace import tables as trace
from benchmarks.studies.trace.figures import ERROR

CHEAP = 0.5  # of the determinant's time: at most that is much cheaper
PROBE = "by one probe"
WAYS = {  # of a trace: how it is told, and which works are of it
    "by D products": ("loop", "basis", "jacobian"),
    "in closed form": ("closed_form", trace.NAMES["kept"]),
    PROBE: ("hutchinson",),
}
FORMED = ("trace_of_formed", "determinant_of_formed")


@register(
    "trace-and-determinant",
    page=7,
    item=2,
    slide="Continuous NFs",
    statement="A trace is much cheaper to evaluate than a determinant.",
    criterion="Confirmed where the exact trace of any field, by D products, takes at most "
    f"{CHEAP:g} of the time of its determinant at every D, and so does the closed form and one "
    "probe of Hutchinson's estimate; refuted where none does at any; else conditional. Both are of "
    "one Jacobian that is not there before: who takes the determinant has to form it.",
    studies=("trace",),
    exhibits=("trace-cost",),
)
def judge(frame: pd.DataFrame) -> Verdict:
    """Seconds over those of the determinant, the quickest of each way, at each D and field."""
    rows = done(frame, "trace", "evaluation_seconds")
    known = trace.evaluations(rows)
    known = known[~known["estimate"] | known["fewest"]]
    place = [known["Field"], known["D"]]
    determinant = known["seconds"].where(known["work"] == "determinant")
    known = known.assign(ratio=known["seconds"] / determinant.groupby(place).transform("min"))
    ratios: dict[str, pd.Series] = {}
    for way, works in WAYS.items():
        of = known[known["Work"].isin(works)]
        ratios[way] = of.groupby(["Field", "D"])["ratio"].min().dropna()
    ratios = {way: found for way, found in ratios.items() if len(found)}
    if not ratios:
        raise NotMeasured("traces beside determinants in the study trace")
    told = [f"{span(found, '.2g')} {way}" for way, found in ratios.items()]
    probe = known[known["Work"].isin(WAYS[PROBE])][ERROR]
    error = f" with an error of {span(probe, '.2g')} ‖J‖" if len(probe) else ""
    cheap = [way for way, found in ratios.items() if (found <= CHEAP).all()] or ["none"]
    parts = known[known["work"].isin(FORMED)].pivot_table("seconds", ["Field", "D"], "work")
    formed = ""
    if set(FORMED) <= set(parts):
        share = span(parts[FORMED[0]] / parts[FORMED[1]], ".2g")
        formed = f"; of a Jacobian that is formed already it takes {share}"
    sentence = (
        f"At D = {span(known['D'], 'g')} the trace takes, of the time of the determinant, "
        f"{', '.join(told)}{error}{formed}; {CHEAP:g} at most everywhere: {listed(cheap)}."
    )
    return Verdict(outcome(pd.concat(ratios.values()) <= CHEAP), sentence, keys(rows))
