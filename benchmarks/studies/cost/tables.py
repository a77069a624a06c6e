"""Tables of the cost study: growth with each size, where flows cross, all by dimension."""

from __future__ import annotations

from typing import Any

import pandas as pd

from benchmarks.analysis import sizes
from benchmarks.analysis.crossings import ALWAYS, NEVER, crossings
from benchmarks.analysis.growth import ONCE, Growth, growth
from benchmarks.core.exhibit import RECORDS, Column, Table
from benchmarks.core.metrics import METRICS
from benchmarks.studies.cost import by_dimension

CALLS = ("log_prob", "step", "sample")
FLOW = Column("Flow")
Row = tuple[dict[str, Any], dict[str, Growth | None], float]  # place, growth, largest size
FEW = 10  # pairs of flows that are all shown, however plain
WORDS = {ALWAYS: "all", NEVER: "none in range"}
GROWTH_NOTE = (
    "FLOPs: the degree in D of the polynomial that gives the exact counts (of the larger D only, "
    "if the smallest do not fit; – if no polynomial fits), and in parentheses d ln cost / d ln D "
    "at the largest D. Seconds: the exponent of the fitted law at the largest D with its 95 % "
    "interval, which includes the noise of the samples and a drift of each size. ≥: the "
    "asymptote is not reached, because the leading term is below half of the cost or of a lower "
    "degree than that of the FLOPs, or because no polynomial fits. A break is a size from which "
    "all times differ by a factor; the law is fitted to the larger sizes. D is the largest that "
    "was counted; a cell whose series ends earlier says where. Determinants of weights, as in "
    "glow, are computed once for a batch; those of Jacobians, as in dense, once for each row."
)
GROWTH_PARTS = {
    ONCE: "Precomputed: products of weights that a solve computes once for the batch. The FLOPs "
    "of log_prob exclude them, so that their growth is that of one row.",
    "linear_flops": "Linear layer: one pass of the batch through the invertible linear layers of "
    "the flow, with their log-determinant.",
}
AXES_NOTE = (
    "N is the batch size, H the width, ℓ the depth, L the number of layers; all other sizes are "
    "equal along an axis. All costs are per batch. FLOPs and bytes: the degree of the polynomial "
    "that gives the exact counts (– if none fits), and in parentheses d ln cost / d ln size at "
    "the largest size. Seconds: the exponent of the fitted law with its 95 % interval; ≥: the "
    "asymptote is not reached. A cost of degree 0 in N is computed once for a batch, as are the "
    "determinant of weights and the products of weights that a solve precomputes."
)
CROSSINGS_NOTE = (
    "The dimension from which on the first flow costs less per row than the second, at all "
    "larger D that were measured; interpolated between measured D on logarithmic axes. Pairs "
    "have equal batches and the same rule for the width. If their log_prob differs in degree in "
    "D, the flow of lower degree is first. Two flows that solve an ODE, and a flow that solves "
    "one with dense, are compared at equal degree too: the one with fewer FLOPs at the largest "
    "common D is first. The table by dimension has the evaluations (NFE) of flows that solve an "
    "ODE; trained fields may take more. Pairs left out because one flow is cheaper at every D in "
    "every column:"
)


def tables(frame: pd.DataFrame) -> list[Table]:
    """Growth of each series with D, crossings, growth with other sizes, and all by dimension."""
    frame = own(frame)
    done = frame[frame["status"] == "done"]
    scans = sizes.scans(done)
    candidates = [_by_growth(scans), _by_crossing(scans), _by_axis(done)]
    return [*(table for table in candidates if len(table.frame)), by_dimension.table(frame)]


def own(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without the columns of other studies, of which there are many."""
    return frame.dropna(axis="columns", how="all").reset_index(drop=True)


def calls(frame: pd.DataFrame) -> list[str]:
    """The calls that the records have: old ones are without sampling."""
    return [call for call in CALLS if f"{call}_flops" in frame]


def _by_growth(scans: pd.DataFrame) -> Table:
    """A row for each series: growth of the calls' FLOPs and seconds with D."""
    metrics = [f"{call}_{what}" for call in calls(scans) for what in ("flops", "seconds")]
    metrics = [*metrics[:1], ONCE, *metrics[1:], "linear_flops", "linear_seconds"]
    rows: list[Row] = []
    for name, group in scans.groupby("series"):
        grown = {metric: growth(group, metric) for metric in metrics}
        largest = max((each.largest for each in grown.values() if each), default=0)
        if largest:
            place = {"flow": name, "dim": int(largest), RECORDS: tuple(group["key"])}
            rows.append((place, grown, largest))
    frame, columns = _grown(rows, metrics)
    note = " ".join([GROWTH_NOTE, *(text for part, text in GROWTH_PARTS.items() if part in frame)])
    columns = {"flow": FLOW, "dim": Column("D"), **columns}
    return Table("cost-growth", "Growth with the dimension", note, frame, columns=columns)


def _by_axis(done: pd.DataFrame) -> Table:
    """A row for each series along N, H, depth or layers: growth with that size."""
    metrics = [f"{call}_{what}" for call in CALLS[:2] for what in ("flops", "seconds")]
    metrics += ["log_prob_determinant_flops", ONCE, "step_saved_bytes"]
    rows: list[Row] = []
    for axis, along in sizes.lines(done).items():
        for name, group in along.items():
            place = {"flow": name, "axis": sizes.AXES[axis], RECORDS: tuple(group["key"])}
            place |= {"from": group[axis].min(), "to": group[axis].max()}
            rows.append((place, {m: growth(group, m, axis) for m in metrics}, 0))
    frame, columns = _grown(rows, metrics)
    ends = {"from": Column("From"), "to": Column("To")}
    columns = {"flow": FLOW, "axis": Column("Axis"), **ends, **columns}
    title = "Growth in N, H, depth and layers"
    return Table("cost-axes", title, AXES_NOTE, frame, columns=columns)


def _grown(rows: list[Row], metrics: list[str]) -> tuple[pd.DataFrame, dict[str, Column]]:
    """A column for each metric whose growth a row has: degrees of counts, exponents of times."""
    known = [metric for metric in metrics if any(grown[metric] for _, grown, _ in rows)]
    frame = pd.DataFrame(
        place | {k: v for metric in known for k, v in _cell(metric, grown[metric], largest).items()}
        for place, grown, largest in rows
    )
    columns = {
        metric: Column(
            label=METRICS[metric].title,
            digits=".2f" if METRICS[metric].kind == "time" else "d",
            interval=f"{metric}.interval",
            prefix=f"{metric}.bound",
            mark=f"{metric}.mark",
            kind=METRICS[metric].kind,
        )
        for metric in known
    }
    return frame, columns


def _cell(metric: str, grown: Growth | None, largest: float) -> dict[str, Any]:
    """The degree or exponent, and the texts beside it; ``largest`` is the largest of the row."""
    if grown is None:
        return {metric: float("nan"), f"{metric}.mark": ""}
    at = f"at {grown.largest:g}" if grown.largest < largest else ""
    if METRICS[metric].kind != "time":
        degree = float("nan") if grown.degree is None else grown.degree
        return {metric: degree, f"{metric}.mark": f"({grown.exponent:.2f}) {at}".strip()}
    breaks = [f"break at {size:g}" for size in grown.breaks]
    return {
        metric: grown.exponent,
        f"{metric}.interval": grown.interval,
        f"{metric}.bound": "" if grown.reached else "≥ ",
        f"{metric}.mark": ", ".join(part for part in (at, *breaks) if part),
    }


def _by_crossing(scans: pd.DataFrame) -> Table:
    """A row for each pair of series that can cross."""
    metrics = [f"{call}_{what}" for call in calls(scans) for what in ("flops", "seconds")]
    pairs = crossings(scans, [metric for metric in metrics if metric in scans])
    few = len(pairs) <= FEW
    left_out = 0 if few else int(pairs["plain"].sum())
    table = pairs if few else pairs[~pairs["plain"].astype(bool)]
    table = table.sort_values("plain", kind="stable").drop(columns="plain").reset_index(drop=True)
    columns = {"cheaper": Column("Cheaper"), "than": Column("than")}
    for metric in [metric for metric in metrics if metric in table]:
        table[f"{metric}.from"] = ["D ≥ " if 0 < dim < NEVER else "" for dim in table[metric]]
        table[metric] = table[metric].astype(object).replace(WORDS)
        title, kind = METRICS[metric].title, METRICS[metric].kind
        columns[metric] = Column(title, digits=".0f", prefix=f"{metric}.from", kind=kind)
    title = "Where one becomes cheaper than another"
    note = f"{CROSSINGS_NOTE} {left_out}."
    return Table("cost-crossings", title, note, table, columns=columns)
