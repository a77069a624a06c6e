"""Claims on formulas: residual networks, gradients, densities, traces."""

import numpy as np
import pandas as pd
import scipy

from benchmarks.analysis.contests import trained
from benchmarks.analysis.inference import Estimate, standings
from benchmarks.claims import (
    RULES,
    NotMeasured,
    Verdict,
    ahead,
    done,
    keys,
    level_of,
    listed,
    outcome,
    register,
    span,
)
from benchmarks.core.exhibit import described, scientific
from benchmarks.core.metrics import METRICS
from benchmarks.core.naming import counted
from benchmarks.studies.numerics import tables as numerics


def identities(frame: pd.DataFrame, name: str, what: str) -> pd.DataFrame:
    """The done records of an identity; NotMeasured if there are none."""
    rows = numerics.done(done(frame, "numerics"), name)
    if rows.empty:
        raise NotMeasured(f"{what} in the study numerics")
    return rows


@register("residual-network")
def residual_network(frame: pd.DataFrame) -> Verdict:
    """Elements that differ, and the order at the largest number of steps."""
    what = "records of Euler's method"
    equal, falling = (identities(frame, name, what) for name in ("euler", "order"))
    different = int(equal["different_elements"].sum())
    orders = {row["setting.method"]: numerics.convergence(row)[2] for _, row in falling.iterrows()}
    if "euler" not in orders:
        raise NotMeasured("records of Euler's order in the study numerics")
    holds = [different == 0 and abs(orders["euler"] - 1) <= RULES["residual-network"]["within"]]
    bits = "equal bit for bit" if not different else f"different in {different} elements"
    others = ", ".join(f"{m} {order:.2f}" for m, order in orders.items() if m != "euler")
    sentence = (
        f"{counted(len(equal), 'network')} of {span(equal['setting.blocks'], 'g')} blocks are "
        f"{bits} to Euler's method with steps of one, whose error falls with order "
        f"{orders['euler']:.2f}{f' ({others})' if others else ''}."
    )
    return Verdict(outcome(holds), sentence, keys(equal, falling))


@register("adjoint-gradient")
def adjoint_gradient(frame: pd.DataFrame) -> Verdict:
    """Errors by tolerance of the adaptive solver, and the bytes held for the backward pass."""
    rows = numerics.with_solver(trained(done(frame, "numerics", "gradient_error")))
    rows = rows[~rows["fixed"] & (rows["updates"] == rows["updates"].max())]
    rows = rows[rows["dtype"] == rows["dtype"].max()]  # float64 where there is any
    adjoint, backprop = sides = [rows[rows["gradient"] == n] for n in ("adjoint", "backprop")]
    errors, others = (side.groupby("setting")["gradient_error"].median() for side in sides)
    ratios = (errors / others).dropna()  # at the tolerances of both
    if len(ratios) < 2:
        raise NotMeasured(
            "gradients of a trained field by adjoint and by backprop at two tolerances in the "
            "study numerics"
        )
    loose, tight = ratios.index.max(), ratios.index.min()
    saved = METRICS["gradient_bytes"]
    held = [
        f"{span(side['gradient_bytes'] * saved.scale, '.2g')} {saved.display_unit}"
        for side in sides
    ]
    sentence = (
        f"After {rows['updates'].max():,} updates the relative error is "
        f"{scientific(errors[loose])} at a tolerance of {loose:g} and {scientific(errors[tight])} "
        f"at {tight:g} (backprop's {scientific(others[loose])} and {scientific(others[tight])}), "
        f"{span(ratios, '.2g')} times backprop's at {counted(len(ratios), 'tolerance')}; for "
        f"{span(adjoint['nfe_forward'], '.0f')} evaluations the adjoint holds {held[0]}, backprop "
        f"{held[1]}."
    )
    holds = outcome(ratios <= RULES["adjoint-gradient"]["factor"])
    return Verdict(holds, sentence, keys(adjoint, backprop))


@register("change-of-variables")
def change_of_variables(frame: pd.DataFrame) -> Verdict:
    """Errors against their bounds, flow by flow."""
    rows = identities(frame, "density", "densities among the records")
    wrong = ~(rows["ladj_error"] <= rows["ladj_bound"])
    mass = ""
    if "mass_error" in rows and rows["mass_error"].notna().any():
        wrong |= rows["mass_error"] > rows["mass_bound"]
        mass = f", and integrate to one within {scientific(rows['mass_error'].max())}"
    beyond = f"; not within these errors: {listed(rows['flow'][wrong])}" if wrong.any() else ""
    sentence = (
        f"The log-determinants of {counted(rows['flow'].nunique(), 'flow')} at D = "
        f"{span(rows['dim'], 'g')} are those of their dense Jacobians within "
        f"{scientific(rows['ladj_error'].max())} nats{mass}{beyond}."
    )
    return Verdict(outcome([not beyond]), sentence, keys(rows))


@register("rate-of-change")
def rate_of_change(frame: pd.DataFrame) -> Verdict:
    """The differences with the most steps, and their order."""
    rows = identities(frame, "rate", "rates of log p among the records")
    fields = [numerics.convergence(row) for _, row in rows.iterrows()]
    if any(len(steps) < 2 for steps, _, _ in fields):
        raise NotMeasured("rates of log p at two numbers of steps in the study numerics")
    ends, orders = [errors[-1] for _, errors, _ in fields], [order for _, _, order in fields]
    rule = RULES["rate-of-change"]
    holds = [max(ends) <= rule["largest"] and min(orders) >= rule["order"]]
    sentence = (
        f"In {len(fields)} fields the two differ by {scientific(max(ends))} of the trace at most "
        f"with {max(fields[0][0])} steps, and the difference falls with order "
        f"{span(orders, '.2f')}."
    )
    return Verdict(outcome(holds), sentence, keys(rows))


@register("hutchinson")
def hutchinson(frame: pd.DataFrame) -> Verdict:
    """The largest deviations of means and spreads, in standard errors."""
    rows = identities(frame, "estimate", "estimates of traces")
    rows = rows[described(rows["option.trace"], estimator="exact")["estimator"] == "hutchinson"]
    if rows.empty:
        raise NotMeasured("estimates of traces in the study numerics")
    means, spreads = int(rows["batch"].sum()), len(rows)
    share = level_of("hutchinson") / 2  # of means, and of spreads; each has two sides
    allowed = scipy.stats.norm.isf(share / 2 / np.array([means, spreads]))
    bias = rows["trace_bias"].max()
    spread = ((rows["trace_rmse"] - rows["trace_rmse_theory"]).abs() / rows["trace_rmse_se"]).max()
    holds = [bias <= allowed[0] and spread <= allowed[1]]
    sentence = (
        f"The means of {span(rows['setting.draws'], ',.0f')} estimates of {means} rows deviate "
        f"from their traces by {bias:.1f} standard errors at most, where chance allows "
        f"{allowed[0]:.1f}, and their spreads from the closed formula by {spread:.1f}, where "
        f"chance allows {allowed[1]:.1f}; the error of one probe is "
        f"{span(rows['trace_rmse'], '.2f')} ‖∂f/∂z‖."
    )
    return Verdict(outcome(holds), sentence, keys(rows))


@register("bottleneck-trace")
def bottleneck_trace(frame: pd.DataFrame) -> Verdict:
    """The largest difference over all fields and rows."""
    rows = identities(frame, "estimate", "traces of fields with a bottleneck")
    largest = rows["cyclic_error"].max()
    pairs = rows[["dim", "option.bottleneck"]].drop_duplicates().itertuples(index=False)
    sentence = (
        f"They differ by {scientific(largest)} ‖∂f/∂z‖ at most, for (D, H) = "
        f"{', '.join(f'({d:g}, {h:g})' for d, h in pairs)}."
    )
    holds = [largest <= RULES["bottleneck-trace"]["rounding"]]
    return Verdict(outcome(holds), sentence, keys(rows))


@register("bottleneck-variance")
def bottleneck_variance(frame: pd.DataFrame) -> Verdict:
    """The ratio of the variances for each field and noise."""
    rows = identities(frame, "estimate", "estimates of traces")
    if "variance" not in (fields := numerics.estimates(rows)):
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
