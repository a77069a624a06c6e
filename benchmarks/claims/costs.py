"""Claims on costs: of a trace and a determinant, of an evaluation, of all evaluations."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from benchmarks.analysis import nfe, sizes
from benchmarks.analysis.growth import FIXED, FOLLOWS, ONCE, degrees, growth
from benchmarks.analysis.inference import Estimate, Standing, standings
from benchmarks.analysis.nfe import Total, families, parts_of, totals
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
from benchmarks.core.exhibit import scientific
from benchmarks.core.formats import number
from benchmarks.studies.trace.tables import evaluations

# Of a trace: the estimators.
PROBE = "by one probe"
WAYS = {
    "by D products": ("loop", "basis", "jacobian"),
    "in closed form": ("closed_form",),
    PROBE: ("hutchinson",),
}
FORMED = ("trace_of_formed", "determinant_of_formed")
HIDDEN = "option.hidden"
NO_TRACES = "counts of exact traces against D, at a fixed width and at H = c D"

# Whether NFE do not grow, the claim as an upper bound; and whether they do not fall either.
BOUND: dict[Standing, bool | None] = {"level": True, "behind": True, "ahead": False, "open": None}
TIGHT: dict[Standing, bool | None] = {**BOUND, "behind": False}
LEVEL = level_of("cost-in-total")
FLAT = RULES["cost-in-total"]["flat"]  # slope below which NFE do not depend on D
DEPENDENCES: dict[Standing, str] = {  # on D, by how a slope stands to 0
    "ahead": "grow",
    "behind": "fall",
    "level": "do not depend on D",
    "open": "may or may not depend on D",
}
NAMED = 4  # series that a sentence names


def readings(of_dim: pd.DataFrame, allowed: Mapping[str, int]) -> tuple[list[bool], str]:
    """Whether degrees in D are at most, and are equal to, those of a formula; and the counts.

    ``of_dim`` has the columns "degree" and "width"; ``allowed`` the degree of the formula at a
    "fixed" width and where it "follows" D. A cost that is of no degree meets neither reading.
    """
    formula = of_dim["width"].map({FIXED: allowed["fixed"], FOLLOWS: allowed["follows"]})
    upper, tight = of_dim["degree"] <= formula, of_dim["degree"] == formula
    text = (
        f"as an upper bound the formula holds for {upper.sum()} of {len(of_dim)} series, and it is "
        f"tight for {tight.sum()}"
    )
    return [*upper, *tight], text


@register("trace-and-determinant")
def trace_and_determinant(frame: pd.DataFrame) -> Verdict:
    """Seconds over those of the determinant, the quickest of each way, at each D and field."""
    most = RULES["trace-and-determinant"]["cheap"]  # of the determinant's time
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
        chosen = traces[traces["estimator"].isin(estimators)]
        ratios[way] = chosen.groupby(["field", "dim"])["ratio"].min().dropna()
    ratios = {way: values for way, values in ratios.items() if len(values)}
    if not ratios:
        raise NotMeasured("traces beside determinants in the study trace")
    parts = [f"{span(values, '.2g')} {way}" for way, values in ratios.items()]
    errors = traces.loc[traces["estimator"].isin(WAYS[PROBE]), "error"]
    error = f" with an error of {span(errors, '.2g')} ‖J‖" if len(errors) else ""
    cheap = [way for way, values in ratios.items() if (values <= most).all()] or ["none"]
    formed = known[known["work"].isin(FORMED)]
    formed = formed.pivot_table("evaluation_seconds", ["field", "dim"], "work")
    apart = ""
    if set(FORMED) <= set(formed):
        share = span(formed[FORMED[0]] / formed[FORMED[1]], ".2g")
        apart = f"; of a Jacobian that is already formed it takes {share}"
    sentence = (
        f"At D = {span(known['dim'], 'g')} the trace takes, of the time of the determinant, "
        f"{', '.join(parts)}{error}{apart}; {most:g} at most everywhere: {listed(cheap)}."
    )
    return Verdict(outcome(pd.concat(ratios.values()) <= most), sentence, keys(rows))


@register("cost-of-f")
def cost_of_f(frame: pd.DataFrame) -> Verdict:
    """Degrees in D by what decides the width, and in H."""
    formula = RULES["cost-of-f"]["degrees"].values()
    rows = done(frame, "cost", "field_flops")
    of_dim = degrees(sizes.scans(rows), "field_flops")
    along = sizes.lines(rows).get(HIDDEN, {})
    of_hidden = [growth(group, "field_flops", HIDDEN) for group in along.values()]
    highest = max((g.degree for g in of_hidden if g and g.degree is not None), default=None)
    in_dim = {w: of_dim.loc[of_dim["width"] == w, "degree"].max() for w in (FIXED, FOLLOWS)}
    if highest is None or pd.isna(list(in_dim.values())).any():
        raise NotMeasured("counts of f against D, at a fixed width and at H = c D, and against H")
    depth = max(group["option.depth"].iloc[0] for group in along.values())
    sentence = (
        f"Its FLOPs are of degree {in_dim[FIXED]:g} in D at a fixed width, {in_dim[FOLLOWS]:g} "
        f"where H follows D, and {highest} in H, with {depth:g} hidden layers; O(DH) has "
        f"{', '.join(map(str, formula))}."
    )
    pairs = list(zip([in_dim[FIXED], in_dim[FOLLOWS], highest], formula, strict=True))
    holds = [degree <= allowed for degree, allowed in pairs]
    holds += [degree == allowed for degree, allowed in pairs]
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
    groups = of_dim.groupby("degree", sort=True)["series"].agg(listed)
    parts = [f"{degree} for {series}" for degree, series in reversed(list(groups.items()))]
    once = [
        name
        for name, group in sizes.lines(rows).get("batch", {}).items()
        if (grown := growth(group, "log_prob_determinant_flops", "batch")) and grown.degree == 0
    ]
    paid = f"; {listed(once)} computes its determinant once for a batch" if once else ""
    holds, text = readings(of_dim, RULES["cost-of-flows"]["degrees"])
    sentence = f"log_prob's FLOPs are of degree {'; '.join(parts)}{paid}: {text}."
    return Verdict(outcome(holds), sentence, keys(of_dim))


@register("cost-of-cnf")
def cost_of_cnf(frame: pd.DataFrame) -> Verdict:
    """The degree at a fixed width and where H follows D, for each exact trace and depth."""
    rows = done(frame, "cost", "rate_flops")
    scans = sizes.scans(rows)
    exact = degrees(scans, "rate_flops")
    exact = exact[~exact["stochastic"].astype(bool)]
    if exact.empty:
        raise NotMeasured(NO_TRACES)
    layers = [f" of {d:g} hidden layers" if pd.notna(d) else "" for d in exact["depth"]]
    exact = exact.assign(name=exact["flow"] + layers + " by " + exact["trace"].fillna("its own"))
    by_width = exact.pivot_table("degree", "name", "width", aggfunc="max")
    by_width = by_width.dropna() if {FIXED, FOLLOWS} <= set(by_width) else by_width[:0]
    if by_width.empty:
        raise NotMeasured(NO_TRACES)
    parts = [
        f"{row[FIXED]:g} and {row[FOLLOWS]:g} for {name}"
        for name, row in zip(by_width.index, by_width.to_dict("records"), strict=True)
    ]
    once = degrees(scans, ONCE).groupby("width")["degree"].max()
    paid = (
        f", and {once[FIXED]} and {once[FOLLOWS]} for the products of weights that are computed "
        "once"
        if set(once.index) == {FIXED, FOLLOWS}
        else ""
    )
    judged = exact[exact["name"].isin(by_width.index)]
    formula = RULES["cost-of-cnf"]["degrees"]
    holds, text = readings(judged, formula)
    sentence = (
        "The FLOPs of an evaluation are of degree, at a fixed width and at H = c D, "
        f"{', '.join(parts)}{paid}; the formula has {formula['fixed']} and {formula['follows']}: "
        f"{text}."
    )
    return Verdict(outcome(holds), sentence, keys(judged))


@register("cost-of-ffjord")
def cost_of_ffjord(frame: pd.DataFrame) -> Verdict:
    """Degrees of FFJORD, and its evaluation over that of the field alone."""
    rows = done(frame, "cost", "rate_flops", "field_flops")
    scans = sizes.scans(rows[rows["flow"] == "ffjord"])
    of_dim = degrees(scans, "rate_flops")
    of_dim = of_dim[of_dim["stochastic"].astype(bool)].sort_values("degree")
    if set(of_dim["width"]) != {FIXED, FOLLOWS}:
        raise NotMeasured("counts of FFJORD against D, at a fixed width and at H = c D")
    parts = [
        f"{degree} ({name})"
        for degree, name in zip(of_dim["degree"], of_dim["series"], strict=True)
    ]
    used = scans[scans["series"].isin(of_dim["series"])]
    prices = {unit: _over_field(used, unit) for unit in ("flops", "seconds")}
    prices = {unit: price for unit, price in prices.items() if len(price)}
    times = ""
    if "seconds" in prices:
        dims = prices["seconds"].index.get_level_values("dim").to_series()
        times = f"{span(prices['seconds'], '.2f')} times its seconds at D = {span(dims, 'g')}"
    criterion = RULES["cost-of-ffjord"]
    holds, text = readings(of_dim, criterion["degrees"])
    sentence = (
        f"The FLOPs of an evaluation are of degree {' and '.join(parts)}: {text}. It takes "
        f"{span(prices['flops'], '.2f')} times the FLOPs of f alone at D = {span(used['dim'], 'g')}"
        f", and {times or 'its seconds are not measured'}."
    )
    for price in prices.values():
        holds += (price.groupby("series").max() <= criterion["twice"]).tolist()
    verdict = outcome(holds)
    if verdict == "confirmed" and not times:
        verdict = "undecided"
    return Verdict(verdict, sentence, keys(of_dim))


def _over_field(used: pd.DataFrame, unit: str) -> pd.Series:
    """Cost of field and trace over that of the field alone, by series and D."""
    names = [f"rate_{unit}", f"field_{unit}"]
    if not set(names) <= set(used):
        return pd.Series(dtype=float)
    costs = used.groupby(["series", "dim"])[names].median()
    return (costs[names[0]] / costs[names[1]]).dropna()


@register("cost-in-total")
def cost_in_total(frame: pd.DataFrame) -> Verdict:
    """The slope of each series, at equal fit where that is known, and totals at the largest D."""
    rows = done(frame, "nfe", "nfe_end")
    if not (slopes := _slopes(rows)):
        raise NotMeasured("evaluations after training at three dimensions or more")
    when = "at equal fit" if nfe.fits(rows) else "after training"
    sentence = f"Read {when}, {dependence(slopes)}.{_totals(frame)}"
    holds = (reading[how] for reading in (BOUND, TIGHT) for how in stands(slopes).values())
    return Verdict(outcome(holds), sentence, keys(*families(rows).values()))


def _slopes(rows: pd.DataFrame) -> dict[str, Estimate]:
    """The slope of each series, over all tolerances at equal fit, else after training."""
    if fits := nfe.fits(rows):
        slopes = {fit.name: fit.growth() for fit in fits}
    else:
        slopes = {name: nfe.growth(group, "nfe_end") for name, group in families(rows).items()}
    return {name: slope for name, slope in slopes.items() if slope}


def _totals(frame: pd.DataFrame) -> str:
    """The least total of either kind at the largest common dimension; "" without the cost study."""
    solved, direct = ([t for t in kind if _fixed(t)] for kind in totals(frame))
    if not (solved and direct):
        return ""
    dims = [set.intersection(*(set(t.costs.index) for t in kind)) for kind in (solved, direct)]
    if not (common := set.intersection(*dims)):
        return ""
    dim = max(common)
    ends = [min(kind, key=lambda t: t.costs.loc[dim, "flops"]) for kind in (solved, direct)]
    one, other = (f"{scientific(t.costs.loc[dim, 'flops'])} ({t.name})" for t in ends)
    return (
        f" After training, at D = {dim}, the largest that flows of fixed width share, a density "
        f"takes {one} FLOPs at least, without an ODE {other}."
    )


def _fixed(total: Total) -> bool:
    """Whether the width of a series does not follow D."""
    return bool(total.records.get("setting.hidden_per_dim", pd.Series()).isna().all())


def stands(slopes: Mapping[str, Estimate]) -> dict[str, Standing]:
    """How the slope of ln NFE in ln D of each series stands to 0, by the criterion of the claim."""
    return standings({name: (slope, FLAT) for name, slope in slopes.items()}, LEVEL)


def dependence(slopes: Mapping[str, Estimate]) -> str:
    """For which series NFE grow with D, for which they fall, and for which neither is shown."""
    groups: dict[Standing, dict[str, Estimate]] = {}
    for name, standing in stands(slopes).items():
        groups.setdefault(standing, {})[name] = slopes[name]
    parts = [
        f"{DEPENDENCES[how]} for {_named(groups[how])}" for how in DEPENDENCES if how in groups
    ]
    return f"as powers of D with {1 - LEVEL:.0%} intervals, NFE {', '.join(parts)}"


def _named(slopes: Mapping[str, Estimate]) -> str:
    """Some series by name, each with its slope; more by number and slopes, on what data."""
    parts = []
    if len(slopes) > NAMED:
        values = pd.Series({name: slope.value for name, slope in slopes.items()})
        for data, on_data in values.groupby(lambda name: parts_of(name)[1]):
            low, high = (number(end, ".2f") for end in (on_data.min(), on_data.max()))
            parts.append(f"{len(on_data)} series on {data} ({low} to {high})")
        return " and ".join(parts)
    for name, slope in slopes.items():
        value, low, high = (number(v, ".2f") for v in (slope.value, *slope.interval(LEVEL)))
        parts.append(f"{name} ({value} [{low}, {high}])")
    return " and ".join(parts)
