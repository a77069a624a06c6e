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
    "FLOPs: the degree in D of the polynomial that the exact counts are of, those of the smallest "
    "D aside where it takes that (– for none), and in parentheses d ln cost / d ln D at the "
    "largest D. Seconds: that exponent of the fitted law with its 95 % interval, which counts the "
    "noise of the samples and a drift of each size; ≥ where the asymptote is not reached: the "
    "leading term is below half, or of a lower degree than that of the FLOPs, or no polynomial "
    "fits. A break is a size from which all times differ by a factor; the law is that of the "
    "larger ones. D is the largest that was counted; a cell whose sizes end before says where. "
    "Determinants of weights, as in glow, are taken once for a batch, those of Jacobians, as in "
    "dense, for each row."
)
GROWTH_PARTS = {
    ONCE: "Precomputed is what a solve makes of the weights once for the batch; the FLOPs of "
    "log_prob are those without it, and grow as a row's do.",
    "linear_flops": "Linear layer: the invertible linear layers of the flow alone, one pass of the "
    "batch with its log-determinant.",
}
AXES_NOTE = (
    "N is the batch, H the width, ℓ the depth, L the layers; along an axis all else is equal. "
    "All costs are those of a batch. FLOPs and bytes: the degree of the polynomial that the "
    "exact counts are of (– for none), and in parentheses d ln cost / d ln size at the largest "
    "size. Seconds: that exponent of the fitted law with its 95 % interval; ≥ where the "
    "asymptote is not reached. What is of degree 0 in N is computed once for a batch, as is "
    "the determinant of weights, or what a solve precomputes of them."
)
CROSSINGS_NOTE = (
    "The dimension from which on the first costs less per row than the second, at all larger ones "
    "that were measured; interpolated between two of them on logarithmic axes. Pairs of equal "
    "batches and of one rule for the width whose log_prob is of different degree in D, the lower "
    "one first; and all pairs of flows that solve an ODE, and of those with dense: of equal degree "
    "the one with fewer FLOPs at the largest common D is first. Flows that solve an ODE take the "
    "evaluations (NFE) that the table by dimension says; trained fields may take more. Pairs left "
    "out because one is cheaper at every D in every column:"
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
