"""Growth of costs with a size, and the dimension from which on one flow is cheaper than another."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.polynomial.polynomial import polyadd, polyfromroots
from numpy.typing import ArrayLike

from benchmarks.analysis import sizes
from benchmarks.core.exhibit import RECORDS, per_row
from benchmarks.core.metrics import METRICS
from benchmarks.core.naming import width_rules

ONCE = "precomputation_flops"  # of log_prob's FLOPs: computed once for a batch
STOCHASTIC = ("hutchinson", "bottleneck")  # estimators of the trace
FIXED, FOLLOWS = "fixed", "H = c D"  # the width, against the dimension
TAIL = 5  # largest sizes that a polynomial of the larger ones needs: enough for one of degree 3
ALWAYS, NEVER = 0.0, float("inf")  # crossings at all dimensions that were measured, and at none
DEGREES = 3  # of a law of times, at most
POWERS = np.r_[np.linspace(-2.0, -0.1, 77), np.linspace(0.1, 4.0, 157)]  # of a shifted power law
REPETITIONS = 600  # of the bootstrap of a law of times
JUMPS = np.exp(np.linspace(-1.2, 1.2, 49))  # factors by which all sizes from a break on may differ
TIE = 4.0  # difference in BIC, amid the positive evidence of Kass and Raftery (Bayes Factors, 1995)
STRONG = 10.0  # difference in BIC that a break has to make
EXACT = 1e-7  # root mean square of relative errors below which models are not told apart


@dataclass(frozen=True)
class Growth:
    """Growth of a cost with a size: of exact counts a polynomial, of times a `law_of` them."""

    degree: int | None  # of the polynomial, None where no one gives the counts
    exponent: float  # d ln cost / d ln size at the largest size
    largest: float
    interval: tuple[float, float] | None = None  # of the exponent, 95 %, for times
    reached: bool = True  # whether the exponent is the asymptote's, not a lower bound of it
    breaks: tuple[float, ...] = ()  # the size from which on all times differ by a factor, if any


def growth(group: pd.DataFrame, metric: str, by: str = "dim") -> Growth | None:
    """Growth of a metric of a batch with the size ``by``; None below `sizes.FEWEST` sizes.

    FLOPs of log_prob grow with D as a row's do: without those that are spent once for a batch.
    Times have no asymptote where the FLOPs of their call are of a higher degree.
    """
    if by == "dim" and metric.startswith("log_prob_") and ONCE in group:
        rest = group["log_prob_flops"] - group[ONCE].fillna(0)
        group = group.assign(log_prob_flops=rest)
    if METRICS[metric].kind != "time":
        return counts(group, metric, by)
    timed = group[group[metric].notna()] if metric in group else group[:0]
    if timed[by].nunique() < sizes.FEWEST:
        return None
    samples = timed.groupby(by)[f"{metric}.values"].agg(lambda lists: list(itertools.chain(*lists)))
    law = _fitted(tuple(samples.index), tuple(map(tuple, samples)))
    counted = counts(group, metric.replace("_seconds", "_flops"), by)
    steeper = counted is not None and (counted.degree or 0) > (law.degree or 0)
    return replace(law, reached=law.reached and not steeper)


def counts(group: pd.DataFrame, metric: str, by: str = "dim") -> Growth | None:
    """Growth of exact counts of a batch as they are; None below `sizes.FEWEST` sizes."""
    if metric not in group:
        return None
    positive = group[group[metric] > 0].drop_duplicates(by).sort_values(by)  # alike over seeds
    if len(positive) < sizes.FEWEST:
        return None
    x, y = positive[by].astype(int).tolist(), positive[metric].astype(int).tolist()
    if (coefficients := polynomial(x, y)) is None:
        return Growth(None, float(np.log(y[-1] / y[-2]) / np.log(x[-1] / x[-2])), x[-1])
    parts = [float(c * x[-1] ** power) for power, c in enumerate(coefficients)]
    exponent = sum(power * part for power, part in enumerate(parts)) / sum(parts)
    return Growth(len(parts) - 1, exponent, x[-1])


def degrees(scans: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Degrees in D of the series of `sizes.scans` whose counts are polynomials.

    Columns: series, flow, trace (estimator; None for a flow without that option), stochastic,
    depth, width (`FIXED` or `FOLLOWS`; a width that parameters decide is neither, and left out),
    degree and records (keys).
    """
    columns = ["series", "flow", "trace", "stochastic", "depth", "width", "degree", RECORDS]
    rows = []
    for name, group in scans.groupby("series"):
        grown, first = growth(group, metric), group.iloc[0]
        if grown is None or grown.degree is None or pd.notna(first.get("setting.parameters")):
            continue
        option = first.get("option.trace")
        trace = option.get("estimator") if isinstance(option, dict) else option
        trace = trace if isinstance(trace, str) else None
        width = FOLLOWS if pd.notna(first.get("setting.hidden_per_dim")) else FIXED
        depth, keys = first.get("option.depth"), tuple(group["key"])
        about = (str(name), first["flow"], trace, trace in STOCHASTIC, depth, width)
        rows.append((*about, grown.degree, keys))
    return pd.DataFrame(rows, columns=columns)


# ---- exact counts -------------------------------------------------------------------------------


def polynomial(x: Sequence[int], y: Sequence[int]) -> list[Fraction] | None:
    """Return the coefficients, from D⁰ up, of the polynomial through exact counts y at sizes x.

    By Lagrange's formula, without statistics; of all sizes, or of the larger ones, `TAIL` or more:
    a factorisation of an H x D matrix has one polynomial where D < H and another where D > H. None
    where no polynomial gives the counts that these sizes can tell from an interpolation.
    """
    pairs = sorted(zip(map(Fraction, x), map(Fraction, y), strict=True))
    for start in range(max(1, len(pairs) - TAIL + 1)):
        tail, coefficients = pairs[start:], np.zeros(1, dtype=object)
        for size, count in tail:
            others: list[Any] = [node for node, _ in tail if node != size]
            share = count / math.prod(size - node for node in others)
            coefficients = polyadd(coefficients, share * polyfromroots(others))  # no leading zeros
        if len(coefficients) < len(tail):
            return list(coefficients)
    return None


# ---- crossings ----------------------------------------------------------------------------------


def crossings(scans: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Where the first of two series costs less a row than the second, by each metric.

    Pairs of one run, of equal batches and of one rule for the width whose log_prob is of different
    degree in D, the lower one first; and all pairs that solve an ODE, and of those with dense: of
    equal degree the one with fewer FLOPs at the largest common D is first. Without a time at some
    D, since it may not be quoted, no crossing of times is known. Columns: cheaper, than, a
    `crossing` for each of the metrics, plain (whether one is cheaper at every D by every metric)
    and records (keys).
    """
    costs = {
        metric: per_row(scans, metric).groupby([scans["dim"], scans["series"]]).median().unstack()
        for metric in metrics
        if metric in scans
    }
    times = [metric for metric in costs if METRICS[metric].kind == "time"]
    series = {str(name): group for name, group in scans.groupby("series")}
    grown = {name: growth(group, "log_prob_flops") for name, group in series.items()}
    degree = {name: counted.degree for name, counted in grown.items() if counted}
    rows: list[dict[str, Any]] = []
    for pair in itertools.combinations(degree, 2):
        one, other = (series[name] for name in pair)
        gap = log_ratio(costs["log_prob_flops"], *pair)
        ranks = [rank for name in pair if (rank := degree[name]) is not None]
        ranked, comparable = len(set(ranks)) == 2, _comparable(one, other)
        if _made(one) != _made(other) or gap.empty or not (ranked or comparable):
            continue
        if ranks[0] > ranks[1] if ranked else gap.iloc[-1] > 0:
            pair = pair[::-1]
        gaps = {metric: log_ratio(cost, *pair) for metric, cost in costs.items()}
        common = _asked(one) & _asked(other)
        if not all(common <= {*gaps[metric].index} for metric in times):
            gaps |= dict.fromkeys(times, gap[:0])
        where = {metric: crossing(gap) for metric, gap in gaps.items()}
        back = [crossing(-gap) for gap in gaps.values()]
        ends = [{end for end in by if not np.isnan(end)} for by in (where.values(), back)]
        plain, keys = any(by <= {ALWAYS} for by in ends), (*one["key"], *other["key"])
        names = {"cheaper": pair[0], "than": pair[1], "plain": plain and not comparable}
        rows.append({**names, **where, RECORDS: keys})
    return pd.DataFrame(rows, columns=["cheaper", "than", *costs, "plain", RECORDS])


def crossing(gap: pd.Series) -> float:
    """Return the D from which on the first is cheaper, at all larger ones that were measured.

    ``gap`` is ln of its cost over the second's, by D; between two it is interpolated on logarithmic
    axes. `ALWAYS` if it is cheaper at every D, `NEVER` if not at the largest, NaN without any.
    """
    if gap.empty:
        return float("nan")
    if gap.iloc[-1] >= 0:
        return NEVER
    dearer = np.flatnonzero(gap >= 0)
    if not len(dearer):
        return ALWAYS
    at = dearer[-1]
    share = gap.iloc[at] / (gap.iloc[at] - gap.iloc[at + 1])
    low, high = gap.index[at : at + 2]
    return float(low * (high / low) ** share)


def log_ratio(costs: pd.DataFrame, one: str, other: str) -> pd.Series:
    """ln of the cost of one column over that of another, in the rows that have both."""
    both = costs[[one, other]].where(costs > 0).dropna()  # a flow without a product has no FLOPs
    return pd.Series(np.log(both[one] / both[other]))


def _made(rows: pd.DataFrame) -> tuple[set[Any], ...]:
    """What two series share that may be compared: the rule for the width, the batches, the run."""
    return set(width_rules(rows)), set(rows["batch"]), set(rows.get("run", ()))


def _comparable(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether both solve an ODE, or one does and the other is the flow dense."""
    solves = ["rate_flops" in s and bool(s["rate_flops"].notna().any()) for s in (one, other)]
    dense = [side["flow"].iloc[0] == "dense" for side in (one, other)]
    return all(solves) or (solves[0] and dense[1]) or (solves[1] and dense[0])


def _asked(rows: pd.DataFrame) -> set[int]:
    """The dimensions at which a series was to be timed."""
    rows = sizes.computed(rows)
    return {*(rows[rows["setting.seconds"] > 0] if "setting.seconds" in rows else rows)["dim"]}


# ---- laws of times -------------------------------------------------------------------------------


def law_of(
    grid: Sequence[float], samples: Sequence[Sequence[float]], repetitions: int = REPETITIONS
) -> Growth:
    """Fit the law of times to the raw samples of each size of the grid.

    It is t(D) = Σ cₖ Dᵏ with cₖ ≥ 0, k up to 3, or a + b Dᵖ where that is clearly better, fitted to
    the medians by relative error; the degree is that with the least BIC, of ties the lowest. The
    asymptote is not ``reached`` where the leading term is less than half, where a constant law
    leaves room for a linear term of half the cost, and where no polynomial fits. Times that differ
    by a common factor from a size on have met another cache, or a library that begins to use
    threads: the law is that of the largest sizes.

    The interval draws anew the raw samples of each size, and, since a drift at a size moves all of
    its samples together, the deviations of the sizes from the law. Which law is the truth of a
    draw, and which is fitted to it, is drawn from all forms and degrees with the weight
    exp(-BIC / 2), so that the choice is uncertain too (Buckland, Burnham and Augustin, Model
    selection: an integral part of inference, 1997).

    Takes four different positive sizes or more, in any order, and positive times.
    """
    order = np.argsort(grid)
    x, times = np.asarray(grid, dtype=float)[order], [np.asarray(samples[i]) for i in order]
    scale = float(np.exp(np.mean([np.log(np.median(t)) for t in times])))
    times = [t / scale for t in times]
    medians = np.array([np.median(t) for t in times])
    start, factor = _break(x, medians)
    regime = np.where(np.arange(len(x)) < start, factor, 1.0)  # the law is that of the largest size
    medians, times = medians * regime, [t * f for t, f in zip(times, regime, strict=True)]
    polynomials, power = _polynomials(x, medians[None]), _powers(x, medians[None])
    polynomial = polynomials.take(polynomials.simplest())
    better = bool(power.bic[0, 0] < polynomial.bic[0] - TIE)
    chosen = power.take(np.zeros(1, dtype=int)) if better else polynomial
    rng = np.random.default_rng(0)
    truths = _drawn(x, np.broadcast_to(medians, (repetitions, len(x))), rng)
    exponents = _drawn(x, _redrawn(times, truths), rng).exponent
    low, high = np.quantile(exponents, [0.025, 0.975])
    degree, exponent = int(polynomial.degree[0]), float(chosen.exponent[0])
    leads = chosen.share[0] >= 0.5 and (degree > 0 or high < 0.5)
    interval = min(float(low), exponent), max(float(high), exponent)
    breaks = (float(x[start]),) if start else ()
    return Growth(degree, exponent, float(x[-1]), interval, bool(not better and leads), breaks)


class _Laws(NamedTuple):
    """Laws that were fitted to B problems: of each problem S of them, or one that was taken.

    The exponent and the ``share`` of the leading term are those at the largest size; ``bic`` is
    infinite where a coefficient would be negative. The degree of a shifted power is 0.
    """

    exponent: np.ndarray  # (S, B)
    predicted: np.ndarray  # (S, B, n)
    parameters: np.ndarray  # (S, B), their number
    bic: np.ndarray  # (S, B)
    share: np.ndarray  # (S, B)
    degree: np.ndarray  # (S, B)

    def take(self, which: np.ndarray) -> Self:
        """The law of this index (B,) of each problem."""
        return type(self)(*(field[which, np.arange(len(which))] for field in self))

    def simplest(self) -> np.ndarray:
        """The index (B,) of the best law of the lowest degree that is as good as any."""
        good = self.bic <= self.bic.min(0) + TIE
        degree = np.where(good, self.degree, DEGREES + 1).min(0)
        return np.asarray(np.where(self.degree == degree, self.bic, np.inf).argmin(0))


def _polynomials(x: np.ndarray, costs: np.ndarray) -> _Laws:
    """Fit costs (B, n) by sums of powers of D, one law for every set of terms but the empty one.

    What is minimised is Σ (model / cost - 1)². The best non-negative fit is the best of the sets
    whose own least squares are positive, so no search is needed.
    """
    powers = np.arange(min(DEGREES, len(x) - 3) + 1)  # that so many sizes can tell apart
    basis = (x[:, None] / x[-1]) ** powers
    rows = basis / costs[:, :, None]
    scale = np.sqrt((rows**2).sum(1, keepdims=True))
    rows = np.divide(rows, scale, out=np.zeros_like(rows), where=scale > 0)
    supports = np.array(list(itertools.product([False, True], repeat=len(powers)))[1:])
    supports = supports[supports.sum(1) < len(x) - 1]
    c = np.zeros((len(supports), len(costs), len(powers)))
    bic = np.full((len(supports), len(costs)), np.inf)
    for index, support in enumerate(supports):
        q, r = np.linalg.qr(rows[:, :, support])
        solvable = np.abs(np.diagonal(r, axis1=1, axis2=2)).min(1) > 1e-12
        r[~solvable] = np.eye(r.shape[-1])
        best = np.linalg.solve(r, q.sum(1)[:, :, None])[:, :, 0]
        residuals = (rows[:, :, support] @ best[:, :, None])[:, :, 0] - 1
        valid = solvable & (best > 0).all(1)
        bic[index, valid] = _criterion((residuals[valid] ** 2).sum(1), len(x), support.sum())
        c[index][:, support] = best / scale[:, 0, support]
    terms, degrees = supports.sum(1), np.array([np.flatnonzero(s).max() for s in supports])
    leading = np.take_along_axis(c, degrees[:, None, None], axis=2)[:, :, 0]
    with np.errstate(divide="ignore", invalid="ignore"):  # of what no problem takes
        exponent, share = (c * powers).sum(2) / c.sum(2), leading / c.sum(2)
    parameters, degree = (np.repeat(of[:, None], len(costs), axis=1) for of in (terms, degrees))
    return _Laws(exponent, c @ basis.T, parameters, bic, share, degree)


def _criterion(squares: np.ndarray, n: int, parameters: ArrayLike) -> np.ndarray:
    """BIC of n relative errors with this sum of squares, up to a constant (Schwarz, 1978).

    Its penalty is raised by n / (n - parameters - 1), as that of AICc is (Hurvich and Tsai,
    Regression and time series model selection in small samples, 1989): else one law in ten of few
    sizes has a term too many. Infinite where they are too many for n.
    """
    spread, k = np.maximum(squares / n, EXACT**2), np.asarray(parameters)
    freedom = n - k - 1
    penalty = np.where(freedom > 0, k * np.log(n) * n / np.maximum(freedom, 1), np.inf)
    return np.asarray(n * np.log(spread) + penalty)


def _powers(x: np.ndarray, costs: np.ndarray) -> _Laws:
    """For each of the costs (B, n) the best shifted power law a + b Dᵖ, a ≥ 0 and b > 0."""
    w, g = 1 / costs, (x / x[-1]) ** POWERS[:, None]
    aa, ab, bb = (w**2).sum(1), g @ (w**2).T, g**2 @ (w**2).T
    to_a, to_b = w.sum(1), g @ w.T
    determinant = np.maximum(aa * bb - ab**2, 1e-12 * aa * bb)  # all weight on one size
    a, b = (to_a * bb - to_b * ab) / determinant, (aa * to_b - ab * to_a) / determinant
    shifted = a > 0
    a, b = np.where(shifted, a, 0.0), np.where(shifted, b, to_b / bb)
    squares = np.maximum(len(x) - a * to_a - b * to_b, 0.0)
    bic = np.where(b > 0, _criterion(squares, len(x), 2 + shifted), np.inf)
    best, problems = bic.argmin(0), np.arange(len(costs))
    a, b = a[best, problems], b[best, problems]
    share = b / (a + b)
    law = _Laws(
        exponent=POWERS[best] * share,
        predicted=a[:, None] + b[:, None] * g[best],
        parameters=2 + (a > 0),  # b, the power, and the shift
        bic=bic[best, problems],
        share=share,
        degree=np.zeros_like(best),
    )
    return _Laws(*(field[None] for field in law))


def _drawn(x: np.ndarray, costs: np.ndarray, rng: np.random.Generator) -> _Laws:
    """Draw a law for each of the costs (B, n) from all laws by their weights."""
    every = zip(_polynomials(x, costs), _powers(x, costs), strict=True)
    laws = _Laws(*(np.concatenate(fields) for fields in every))
    weights = np.cumsum(np.exp((laws.bic.min(0) - laws.bic) / 2), axis=0)
    return laws.take((weights < rng.random(len(costs)) * weights[-1]).sum(0))


def _redrawn(times: Sequence[np.ndarray], truths: _Laws) -> np.ndarray:
    """Medians (B, n) that the same measurement might have given, were the ``truths`` true.

    Each has the deviations of the sizes from its law in another order and with other signs, as
    large as their number and that of the law's parameters leaves uncertain, and those of a size's
    raw samples.
    """
    rng, (count, n) = np.random.default_rng(0), truths.predicted.shape
    medians = np.array([np.median(t) for t in times])
    freedom = np.maximum(1, n - truths.parameters)[:, None]  # degrees of freedom
    residuals = np.log(medians / truths.predicted) * np.sqrt(n / freedom)
    deviations = np.take_along_axis(residuals, rng.integers(n, size=(count, n)), axis=1)
    deviations *= rng.choice([-1, 1], (count, n)) * np.sqrt(freedom / rng.chisquare(freedom))
    for index, t in enumerate(times):
        picks = rng.integers(len(t), size=(count, len(t)))
        deviations[:, index] += np.log(np.median(t[picks], axis=1) / medians[index])
    return np.asarray(truths.predicted * np.exp(deviations))


def _break(x: np.ndarray, medians: np.ndarray) -> tuple[int, float]:
    """The size from which on a common factor makes the polynomial fit far better; 0 for none."""
    n = len(x)
    if n < 7:
        return 0, 1.0
    starts = range(3, n - 2)
    below = np.array([np.where(np.arange(n) < start, 1.0, 0.0) for start in starts])
    factors = np.exp(below[:, None] * np.log(JUMPS)[None, :, None])  # (starts, jumps, n)
    costs = np.concatenate([(medians * factors).reshape(-1, n), medians[None]])
    laws = _polynomials(x, costs)
    *bic, plain = laws.take(laws.simplest()).bic
    best = int(np.argmin(bic))
    if bic[best] + 2 * np.log(n) < plain - STRONG:
        start, jump = divmod(best, len(JUMPS))
        return starts[start], float(JUMPS[jump])
    return 0, 1.0


_fitted = lru_cache(1024)(law_of)  # once for a table and a figure
