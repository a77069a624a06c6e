"""Claims on costs: of a trace and a determinant, of an evaluation, of all evaluations."""

from collections.abc import Callable

import pandas as pd

from benchmarks.analysis import nfe, sizes
from benchmarks.analysis.growth import FIXED, FOLLOWS, NEVER, ONCE, degrees, growth
from benchmarks.analysis.inference import Trend, holm
from benchmarks.claims import (
    RULES,
    NotMeasured,
    Verdict,
    done,
    keys,
    level_of,
    listed,
    outcome,
    register,
    span,
)
from benchmarks.core.formats import number
from benchmarks.studies.trace.tables import evaluations

PROBE = "by one probe"
WAYS = {  # to a trace, by estimator
    "loop": "by D products",
    "basis": "by D products",
    "jacobian": "by D products",
    "closed_form": "in closed form",
    "hutchinson": PROBE,
}
FORMED = ["trace_of_formed", "determinant_of_formed"]


@register("trace-and-determinant")
def trace_and_determinant(frame: pd.DataFrame) -> Verdict:
    """Seconds of the quickest trace of each way over the determinant's, at each D and field."""
    most = RULES["trace-and-determinant"]["cheap"]  # largest ratio at which a trace is cheap
    rows = done(frame, "trace", "evaluation_seconds")
    timed = evaluations(rows)
    timed = timed[~timed["estimate"] | timed["fewest"]]
    place = ["field", "dim"]
    by_work = timed.pivot_table("evaluation_seconds", place, "work", aggfunc="min")
    traces = timed[timed["work"].isin(["trace", "kept"])]
    ways = pd.Categorical(traces["estimator"].map(WAYS), [*dict.fromkeys(WAYS.values())])
    traces = traces.assign(way=ways)
    quickest = traces.groupby([*place, "way"], observed=True)["evaluation_seconds"].min()
    ratios = (quickest / by_work.get("determinant", float("nan"))).dropna()
    if ratios.empty:
        raise NotMeasured("traces beside determinants in the study trace")
    by_way = ratios.groupby("way", observed=True)
    parts = [f"{span(values, '.2g')} {way}" for way, values in by_way]
    errors = traces["error"][traces["way"] == PROBE]
    error = f" with an error of {span(errors, '.2g')} ‖J‖" if len(errors) else ""
    cheap = [str(way) for way, values in by_way if (values <= most).all()]
    formed = by_work.reindex(columns=FORMED).dropna()
    apart = ""
    if len(formed):
        share = span(formed[FORMED[0]] / formed[FORMED[1]], ".2g")
        apart = f"; of a Jacobian that is already formed it takes {share}"
    sentence = (
        f"At D = {span(timed['dim'], 'g')} the trace takes, of the time of the determinant, "
        f"{', '.join(parts)}{error}{apart}; {most:g} at most everywhere: {listed(cheap, 'none')}."
    )
    return Verdict(outcome(ratios <= most), sentence, keys(rows))


def readings(of_dim: pd.DataFrame, claim: str) -> tuple[list[bool], str]:
    """Compare degrees in D with a claim's formula: two flags a series, and a clause with counts.

    ``of_dim`` is that of `degrees`; the formula has a degree at a "fixed" width and one where it
    "follows" D. The first half of the flags says "at most", the second half "equal".
    """
    allowed = RULES[claim]["degrees"]
    formula = of_dim["width"].map({FIXED: allowed["fixed"], FOLLOWS: allowed["follows"]})
    upper, tight = of_dim["degree"] <= formula, of_dim["degree"] == formula
    text = (
        f"as an upper bound the formula holds for {upper.sum()} of {len(of_dim)} series, and it is "
        f"tight for {tight.sum()}"
    )
    return [*upper, *tight], text


@register("cost-of-f")
def cost_of_f(frame: pd.DataFrame) -> Verdict:
    """Degrees in D by what decides the width, and in H."""
    formula = list(RULES["cost-of-f"]["degrees"].values())
    rows = done(frame, "cost", "field_flops")
    of_dim = degrees(sizes.scans(rows), "field_flops")
    along = sizes.lines(rows).get("option.hidden", {})
    of_hidden = [growth(group, "field_flops", "option.hidden") for group in along.values()]
    in_hidden = max((g.degree for g in of_hidden if g and g.degree is not None), default=None)
    in_dim = of_dim.groupby("width")["degree"].max()
    if in_hidden is None or set(in_dim.index) != {FIXED, FOLLOWS}:
        raise NotMeasured("counts of f against D, at a fixed width and at H = c D, and against H")
    highest = [in_dim[FIXED], in_dim[FOLLOWS], in_hidden]
    depth = max(group["option.depth"].iloc[0] for group in along.values())
    sentence = (
        f"Its FLOPs are of degree {highest[0]} in D at a fixed width, {highest[1]} where H follows "
        f"D, and {highest[2]} in H, with {depth:g} hidden layers; O(DH) has "
        f"{', '.join(map(str, formula))}."
    )
    pairs = list(zip(highest, formula, strict=True))
    holds = [a <= b for a, b in pairs] + [a == b for a, b in pairs]
    used = keys(of_dim, *along.values())
    return Verdict(outcome(holds), sentence, keys(rows[rows["key"].isin(used)]))


@register("cost-of-flows")
def cost_of_flows(frame: pd.DataFrame) -> Verdict:
    """Degrees in D of the flows without an ODE; whether determinants are taken once a batch."""
    rows = done(frame, "cost", "log_prob_flops")
    rows = rows[rows["log_prob_nfe"] == 0] if "log_prob_nfe" in rows else rows[:0]
    of_dim = degrees(sizes.scans(rows), "log_prob_flops")
    if "dense" not in set(of_dim.loc[of_dim["width"] == FIXED, "flow"]):
        raise NotMeasured("counts of discrete flows, dense among them, at enough dimensions")
    groups = of_dim.groupby("degree")["series"].agg(listed)[::-1]
    parts = [f"{degree} for {series}" for degree, series in groups.items()]
    batches = sizes.lines(rows).get("batch", {})
    laws = {n: growth(g, "log_prob_determinant_flops", "batch") for n, g in batches.items()}
    once = [name for name, law in laws.items() if law is not None and law.degree == 0]
    paid = f"; {listed(once)} computes its determinant once for a batch" if once else ""
    holds, text = readings(of_dim, "cost-of-flows")
    sentence = f"log_prob's FLOPs are of degree {'; '.join(parts)}{paid}: {text}."
    return Verdict(outcome(holds), sentence, keys(of_dim))


@register("cost-of-cnf")
def cost_of_cnf(frame: pd.DataFrame) -> Verdict:
    """The degree at a fixed width and where H follows D, for each exact trace and depth."""
    scans = sizes.scans(done(frame, "cost", "rate_flops"))
    exact = degrees(scans, "rate_flops")
    exact = exact[~exact["stochastic"].astype(bool)]
    words = " of {:g} hidden layers".format
    layers = exact["depth"].map(words, na_action="ignore").fillna("").astype(str)
    exact = exact.assign(name=exact["flow"] + layers + " by " + exact["trace"].fillna("its own"))
    by_width = exact.pivot_table("degree", "name", "width", aggfunc="max")
    by_width = by_width.reindex(columns=[FIXED, FOLLOWS]).dropna()
    if by_width.empty:
        raise NotMeasured("counts of exact traces against D, at a fixed width and at H = c D")
    parts = [f"{one:g} and {other:g} for {name}" for name, one, other in by_width.itertuples()]
    once = degrees(scans, ONCE).groupby("width")["degree"].max()
    paid = ""
    if set(once.index) == {FIXED, FOLLOWS}:
        pair = f"{once[FIXED]} and {once[FOLLOWS]}"
        paid = f", and {pair} for the products of weights that are computed once"
    exact = exact[exact["name"].isin(by_width.index)]
    holds, text = readings(exact, "cost-of-cnf")
    formula = " and ".join(map(str, RULES["cost-of-cnf"]["degrees"].values()))
    sentence = (
        "The FLOPs of an evaluation are of degree, at a fixed width and at H = c D, "
        f"{', '.join(parts)}{paid}; the formula has {formula}: {text}."
    )
    return Verdict(outcome(holds), sentence, keys(exact))


@register("cost-of-ffjord")
def cost_of_ffjord(frame: pd.DataFrame) -> Verdict:
    """Degrees of FFJORD, and its evaluation over that of the field alone."""
    rows = done(frame, "cost", "rate_flops", "field_flops")
    scans = sizes.scans(rows[rows["flow"] == "ffjord"])
    of_dim = degrees(scans, "rate_flops")
    of_dim = of_dim[of_dim["stochastic"].astype(bool)].sort_values("degree")
    if set(of_dim["width"]) != {FIXED, FOLLOWS}:
        raise NotMeasured("counts of FFJORD against D, at a fixed width and at H = c D")
    parts = [f"{row.degree} ({row.series})" for row in of_dim.itertuples()]
    used = scans[scans["series"].isin(of_dim["series"])]
    holds, text = readings(of_dim, "cost-of-ffjord")
    spans = {}
    for unit, what in (("flops", "the FLOPs of f alone"), ("seconds", "its seconds")):
        over = [f"{part}_{unit}" for part in ("rate", "field")]
        costs = used.reindex(columns=["series", "dim", *over]).groupby(["series", "dim"]).median()
        ratios = (costs[over[0]] / costs[over[1]]).dropna()
        holds += [*(ratios.groupby("series").max() <= RULES["cost-of-ffjord"]["twice"])]
        if len(ratios):
            dims = span(ratios.index.unique("dim"), "g")
            spans[unit] = f"{span(ratios, '.2f')} times {what} at D = {dims}"
    sentence = (
        f"The FLOPs of an evaluation are of degree {' and '.join(parts)}: {text}. It takes "
        f"{spans['flops']}, and {spans.get('seconds', 'its seconds are not measured')}."
    )
    verdict = outcome(holds)
    if verdict == "confirmed" and "seconds" not in spans:
        verdict = "undecided"
    return Verdict(verdict, sentence, keys(of_dim))


LEVEL = level_of("cost-in-total")
FLAT = RULES["cost-in-total"]["flat"]  # slope below which NFE do not depend on D
SLOPES: dict[str, Callable[[Trend], float]] = {  # what may be shown of NFE: p-value of its contrary
    "do not depend on D": lambda slope: max(slope.p_least(FLAT), slope.p_most(-FLAT)),
    "do not grow": lambda slope: slope.p_least(FLAT),
    "grow": lambda slope: slope.p_most(0.0),
    "fall": lambda slope: slope.p_least(0.0),
}


@register("cost-in-total")
def cost_in_total(frame: pd.DataFrame) -> Verdict:
    """Slopes pooled over the series of each kind of data; from which D on an ODE costs less."""
    rows = done(frame, "nfe", "nfe_end")
    pools = {nfe.parts_of(fit.name): fit.growth() for fit in nfe.pooled(nfe.fits(rows))}
    trends = {names: slope for names, slope in pools.items() if slope}
    slopes = {data: slope for (name, data), slope in trends.items() if name == nfe.ALL}
    if not slopes:
        raise NotMeasured("evaluations at equal fit at three dimensions or more")
    p_values = {how: holm([p(slope) for slope in slopes.values()]) for how, p in SLOPES.items()}
    parts, holds = [], list[bool | None]()
    for (data, slope), *p in zip(slopes.items(), *p_values.values(), strict=True):
        flat, bounded, grows, falls = significant = [value < LEVEL for value in p]
        holds += [True if bounded else False if grows else None]
        holds += [True if flat else False if grows or falls else None]
        how = [words for words, holding in zip(SLOPES, significant, strict=True) if holding]
        parts.append(f"{[*how, 'may or may not grow'][0]} on {data} ({_interval(slope)})")
    free = [f"{_interval(s)} on {data}" for (name, data), s in trends.items() if name != nfe.ALL]
    beside = f"; of {', '.join(nfe.FREE)} alone {listed(free)}" if free else ""
    total, used = _totals(frame)
    sentence = (
        f"Read at equal fit and pooled over series, as powers of D with {1 - LEVEL:.0%} intervals, "
        f"NFE {listed(parts)}{beside}.{total}"
    )
    return Verdict(outcome(holds), sentence, (*keys(rows), *used), cited=total)


def _interval(slope: Trend) -> str:
    value, low, high = (number(v, ".2f") for v in (slope.value, *slope.interval(LEVEL)))
    return f"{value} [{low}, {high}]"


def _totals(frame: pd.DataFrame) -> tuple[str, tuple[str, ...]]:
    """From which D on FFJORD costs less than each flow without an ODE; "" without both studies."""
    solved, direct = nfe.totals(frame)
    totals = [total for total in solved if total.name.startswith("ffjord")]
    if not totals:
        return "", ()
    first, *_, last = totals[0].once.index
    ranges = [f" ({span(t.evaluations, '.0f')} on {t.data})" if t.data else "" for t in totals]
    at = [f"{t.evaluations[1]:.0f}{words}" for t, words in zip(totals, ranges, strict=True)]
    where = {other.name: [total.crossings(other)[1] for total in totals] for other in direct}
    never = [name for name, dims in where.items() if min(dims) == NEVER]
    parts = [
        f"{', '.join(number(max(dim, first), '.0f') for dim in dims)} than {name}"
        for name, dims in where.items()
        if name not in never
    ]
    sentence = (
        f" At {listed(at)} evaluations FFJORD's density takes fewer FLOPs from D = "
        f"{'; '.join(parts)}; than {listed(never, 'any')} at no D up to {last}."
    )
    return sentence, tuple(key for total in (totals[0], *direct) for key in total.keys)
