"""What a density costs with the measured NFE: flows with an ODE beside those without one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.analysis import sizes
from benchmarks.analysis.crossings import crossing
from benchmarks.analysis.scaling_law import tail_polynomial
from benchmarks.core.exhibit import RECORDS, Figure, Table, scientific
from benchmarks.plotting import draw
from benchmarks.studies.nfe.growth import families

TITLE = "What a density costs with the measured NFE"
WHERE = "Where a flow with an ODE costs less"
MEANING = (
    "FLOPs of log_prob per row. Flows with an ODE are those of this study after training, each by "
    "its own solver and trace at the number of evaluations that it then takes. The others are "
    "those of the cost study with their L layers: the polynomial in D that their exact counts are "
    "of or, where D is below the sizes that it holds for and where there is none, an interpolation "
    "between the counts on logarithmic axes. "
    "What is computed once for a batch is shared by its rows. "
)
TOTALS = (
    "In parentheses the evaluations, both a mean over seeds. N: rows of the call. H: the width; "
    "compare flows of equal H, or those whose H grows with D with each other."
)
DRAWN = (
    "Solid: flows with an ODE, a faint point for each seed and a line through their means. Dashed: "
    "flows without one."
)
CROSSINGS = (
    "The D from which on the flow with an ODE (column) takes fewer FLOPs per row than the one "
    "without (row), at all larger D that were measured; interpolated between two of them on "
    f'logarithmic axes. Both as in "{TITLE}".'
)


class Total(NamedTuple):
    """A series: its records, and by D its "flops" per row and "nfe", 0 without an ODE."""

    name: str
    records: pd.DataFrame
    costs: pd.DataFrame


def tables(frame: pd.DataFrame) -> list[Table]:
    """Of records of both studies: the totals, and where one falls below another."""
    solved, direct = series(frame)
    if not (solved and direct):
        return []
    columns = ["Flow", "N", "H", "L", *(f"D = {dim}" for dim in _dims(solved)), RECORDS]
    totals = pd.DataFrame([_row(total) for total in (*solved, *direct)], columns=columns)
    crossings = pd.DataFrame(
        {"Flow": plain.name}
        | {total.name: crossing(_gap(total, plain)) for total in solved}
        | {RECORDS: _keys([plain], solved)}
        for plain in direct
    )
    return [
        Table("nfe-totals", TITLE, MEANING + TOTALS, totals),
        Table("nfe-totals-crossings", WHERE, CROSSINGS, crossings),
    ]


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Total FLOPs per row against D."""
    solved, direct = series(frame)
    if not (solved and direct):
        return []
    picture, keys = partial(_picture, solved, direct), _keys(solved, direct)
    return [Figure("nfe-totals", TITLE, MEANING + DRAWN, picture, keys)]


def series(frame: pd.DataFrame) -> tuple[list[Total], list[Total]]:
    """The series with an ODE, and those without one; old records have none of either."""
    if not {"solve_nfe", "log_prob_flops"} <= set(frame):
        return [], []
    nfe = frame[(frame["study"] == "nfe") & frame["solve_flops"].notna()]
    cost = frame[(frame["study"] == "cost") & (frame["status"] == "done")]
    solved = [Total(name, group, _means(group)) for name, group in families(nfe).items()]
    return solved, list(_direct(cost[cost["log_prob_nfe"] == 0], _dims(solved)))


def _means(group: pd.DataFrame) -> pd.DataFrame:
    means = group.groupby("dim")[["solve_flops", "solve_nfe"]].mean()
    return means.set_axis(["flops", "nfe"], axis="columns")


def _direct(cost: pd.DataFrame, dims: Sequence[int]) -> Iterator[Total]:
    """The series at those of ``dims`` that their counts tell of, and beyond by a polynomial."""
    along = sizes.scans(cost[cost["log_prob_flops"] > 0])
    for name, group in along.groupby("series") if len(along) else ():
        known = group.drop_duplicates("dim")  # seeds have equal counts
        x, counts = known["dim"].tolist(), known["log_prob_flops"].tolist()
        outside = {"left": np.nan, "right": np.nan}
        flops = np.exp(np.interp(np.log(dims), np.log(x), np.log(counts), **outside))
        with suppress(ValueError):  # of no polynomial
            start, c = tail_polynomial(x, [int(count) for count in counts])
            exact = [float(sum(a * d**k for k, a in enumerate(c))) for d in dims]
            flops = np.where(np.asarray(dims) < start, flops, exact)
        flops /= known["batch"].iloc[0]
        costs = pd.DataFrame({"flops": flops, "nfe": 0.0}, index=list(dims)).dropna()
        if len(costs):
            yield Total(str(name), group, costs)


def _dims(totals: Sequence[Total]) -> list[int]:
    return sorted({int(dim) for total in totals for dim in total.costs.index})


def _gap(solved: Total, direct: Total) -> pd.Series:
    """ln of the cost of one over that of the other, by D."""
    return pd.Series(np.log(solved.costs["flops"] / direct.costs["flops"])).dropna()


def _keys(*kinds: Sequence[Total]) -> tuple[str, ...]:
    return tuple(key for kind in kinds for total in kind for key in total.records["key"])


def _row(total: Total) -> dict[str, Any]:
    """A series with its sizes, a range where D decides them, and its costs as 1.2e5 (38)."""
    row: dict[str, Any] = {"Flow": total.name, "N": _range(total.records["batch"])}
    row[RECORDS] = _keys([total])
    for header, option in (("H", "option.hidden"), ("L", "option.layers")):
        if option in total.records and (values := total.records[option].dropna()).size:
            row[header] = _range(values)
    for dim, flops, nfe in total.costs.itertuples():
        row[f"D = {dim}"] = f"{scientific(flops)}{f' ({nfe:.0f})' if nfe else ''}"
    return row


def _range(values: pd.Series) -> str:
    return " to ".join(dict.fromkeys(f"{end:g}" for end in (values.min(), values.max())))


def _picture(solved: Sequence[Total], direct: Sequence[Total]) -> Any:
    looks = draw.looks(total.name for total in (*solved, *direct))
    with draw.figure(1, 1, 4.2) as (figure, axes):
        panel = axes[0, 0]
        for total in solved:
            points = {**looks[total.name], "ls": "", "alpha": 0.4}
            panel.plot(total.records["dim"], total.records["solve_flops"], **points)
        for kind, own in ((solved, {}), (direct, {"ls": "--", "lw": 1.2})):
            for total in kind:
                look = {**looks[total.name], **own, "label": total.name}
                panel.plot(total.costs.index, total.costs["flops"], **look)
        draw.logarithmic(panel.xaxis, panel.yaxis)
        draw.ticks(panel.xaxis, _dims(solved))
        panel.set(xlabel="D", ylabel="FLOP per row")
        draw.legend_below(figure, *panel.get_legend_handles_labels())
    return figure
