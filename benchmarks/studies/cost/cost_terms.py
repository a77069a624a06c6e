"""What the time of log_prob is made of: terms in N, D, H, depth and layers, with coefficients."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import cost_model, sizes
from benchmarks.core.exhibit import RECORDS, Table

SIZES = ["dim", *sizes.AXES]
NANO = 1e9
LEAST = 1e-9  # of a term's largest value, for those that are zero: a model takes positive ones


def table(done: pd.DataFrame) -> Table:
    """A row for each term of each flow that was timed at enough points over two sizes or more."""
    timed = sizes.timed(done)
    timed = timed[timed["log_prob_seconds"].notna()] if "log_prob_seconds" in timed else timed[:0]
    rows: list[dict[str, Any]] = []
    for name, group in timed.groupby(pd.Series(sizes.flows(timed), timed.index, dtype=object)):
        rows += _rows(str(name), group)
    note = (
        "The seconds of log_prob of a batch as a sum of terms, fitted by relative error; shown are "
        "those that it takes, with 95 % intervals, and what each contributes at the most costly "
        "point. K is L, or the evaluations of an ODE's field. Candidates: 1 and K for calls, "
        "N (D + ℓ H) K for elements, N D H K and N (ℓ−1) H² K for networks; for one that is taken "
        "D times, as by a loop or for a Jacobian, D K and D times those. Where a flow has them "
        "also N D² K for linear layers, D³ K for determinants of weights and N D³ K for those of "
        "Jacobians, and D H² L for what a solve precomputes. Of terms that the points cannot tell "
        "apart the first is taken. Error: the root mean square of the relative errors."
    )
    return Table(
        "cost-model",
        "Cost model",
        note,
        pd.DataFrame(rows),
        dict.fromkeys(("Coefficient (ns)", "from (ns)", "to (ns)"), ".3g")
        | {"Share": ".0%", "Error": ".0%"},
    )


def _rows(name: str, group: pd.DataFrame) -> list[dict[str, Any]]:
    columns = [size for size in SIZES if size in group]
    points = group.groupby(columns, dropna=False)["log_prob_seconds.values"]
    samples = points.agg(lambda lists: list(chain(*lists)))
    first = group.drop_duplicates(columns).sort_values(columns)
    if first[columns].nunique().max() == len(first):  # one size decides all others
        return []
    terms = candidates(first)
    if len(first) < len(terms) + 2:
        return []
    model = cost_model.fit({term: list(values) for term, values in terms.items()}, list(samples))
    return [
        {
            "Flow": name,
            "Term": term,
            "Coefficient (ns)": coefficient * NANO,
            "from (ns)": model.intervals[term][0] * NANO,
            "to (ns)": model.intervals[term][1] * NANO,
            "Share": model.shares[term],
            "Error": model.error,
            "Points": len(first),
            RECORDS: tuple(group["key"]),
        }
        for term, coefficient in model.coefficients.items()
    ]


def candidates(points: pd.DataFrame) -> dict[str, np.ndarray]:
    """The terms that a flow may be made of, and that differ at these points: their values there.

    What a flow does is read off its counts: whether it takes its network D times, has linear
    layers, or determinants.
    """
    zero = pd.Series(0.0, points.index)
    n, d = points["batch"], points["dim"].astype(float)
    h, depth = (points.get(f"option.{size}", zero).fillna(0.0) for size in ("hidden", "depth"))
    layers = points.get("option.layers", zero).fillna(1.0).clip(lower=1.0)
    field, rate, once, linear, lu = (
        points.get(f"{part}_flops", zero).fillna(0.0)
        for part in ("field", "rate", "precomputation", "linear", "log_prob_determinant")
    )
    k = points["log_prob_nfe"] if (rate > 0).all() else layers
    jacobian = (lu > 0).any() and (lu >= n * layers * d**3 / 3)[lu > 0].all()
    repeated = jacobian or ((rate > 0) & (rate > field * d / 2)).all()
    times, per = (d, " D") if repeated else (zero + 1, "")
    deep = (depth - 1).clip(lower=0.0) * h**2
    beyond = (depth - 2).clip(lower=0.0) * bool((once > 0).any())  # the closed form's two layers
    terms = {
        "1": zero + 1,
        "K": k,
        "D K": d * k * repeated,
        f"N{per} (D + ℓ H) K": n * times * (d + depth * h) * k,
        "N D² H K" if repeated else "N D H K": n * times * d * h * k,
        f"N{per} (ℓ−1) H² K": n * times * deep * k,
        "N D² K": n * d**2 * k * (linear > 0),
        "D³ K": d**3 * k * (lu > 0) * (not jacobian),
        "N D³ K": n * d**3 * k * jacobian,
        "D H² L": d * h**2 * layers * (once > 0),
        "(ℓ>2) K": k * (beyond > 0),
        "N D (ℓ−2) H² K": n * d * beyond * h**2 * k,
    }
    different: dict[str, np.ndarray] = {}
    for name, values in terms.items():
        term = np.maximum(values.to_numpy(dtype=float), LEAST * values.max())
        if values.max() > 0 and not any(_same(term, other) for other in different.values()):
            different[name] = term
    return different


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether one is the other but for a factor."""
    return bool(np.allclose(one / other, one[0] / other[0], rtol=1e-6))
