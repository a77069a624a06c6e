"""Tables of the cost study: growth with each size, where flows cross, all by dimension."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from benchmarks.analysis import sizes
from benchmarks.analysis.growth import ALWAYS, NEVER, ONCE, Growth, crossings, growth
from benchmarks.core.exhibit import RECORDS, Column, Table, cells, columns, described, per_row
from benchmarks.core.formats import number
from benchmarks.core.metrics import METRICS
from benchmarks.core.naming import in_words, width_rules

CALLS = ("log_prob", "step", "sample")
COSTS = [f"{call}_{what}" for call in CALLS for what in ("flops", "seconds")]
WIDE = 0.5  # interval of an exponent that says too little for a number
FEW = 10  # pairs of flows that are all shown, however plain
GROWTH = "Degree in D (and exponent at the largest D)"
GROWTH_NOTE = (
    "FLOPs: the degree in D of the polynomial of the exact counts (– if none fits), in parentheses "
    "d ln cost / d ln D at the largest D. Seconds: the exponent of the fitted law there with its "
    "95 % interval, or that alone where it is wide; rising: the asymptote is not reached. From a "
    "break on all times differ by a factor; the law is fitted to the larger sizes. Precomputed and "
    "linear layer: once for a batch; log_prob is without what a solve precomputes."
)
AXES_NOTE = (
    "N is the batch size, H the width, ℓ the depth, L the number of layers; along an axis the "
    "others are equal. Costs are those of a batch. Degrees and exponents as for the growth in D."
)
CROSSINGS_NOTE = (
    "The dimension from which on the first flow costs less per row than the second, at all larger "
    "D that were measured; interpolated between two of them on logarithmic axes. Pairs have equal "
    "batches and the same rule for the width. The flow of lower degree in D is first; of equal "
    "degree, where both solve an ODE or one is dense, that with fewer FLOPs. A flow with an ODE "
    'takes the evaluations of "Cost by dimension", untrained; the study nfe has the dimensions at '
    "those of trained ones. Pairs left out because one flow is cheaper at every D in every column:"
)


def tables(frame: pd.DataFrame) -> list[Table]:
    """Growth of each series with D, crossings, growth with other sizes, and all by dimension."""
    frame = own(frame)
    done = frame[frame["status"] == "done"]
    scans = sizes.scans(done)
    candidates = [_by_growth(scans), _by_crossing(scans), _by_axis(done)]
    return [*(table for table in candidates if len(table.frame)), by_dimension(frame)]


def own(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without the columns of other studies, of which there are many."""
    return frame.dropna(axis="columns", how="all").reset_index(drop=True)


def crossing_cells(name: str, dim: float) -> dict[str, Any]:
    """The cells of a dimension from which on one flow is cheaper than another."""
    value = {ALWAYS: "all", NEVER: "none in range"}.get(dim, dim)
    return {name: value, f"{name}.prefix": "D ≥ " if ALWAYS < dim < NEVER else ""}


def _by_growth(scans: pd.DataFrame) -> Table:
    """A row for each series: growth of the calls' FLOPs and seconds with D."""
    metrics = [COSTS[0], ONCE, *COSTS[1:], "linear_flops", "linear_seconds"]
    rows = []
    for name, group in scans.groupby("series"):
        grown = {metric: growth(group, metric) for metric in metrics}
        if largest := int(max((each.largest for each in grown.values() if each), default=0)):
            place = {"flow": name, "dim": largest, RECORDS: tuple(group["key"])}
            rows.append(place | _cells(grown, largest))
    layout = columns("flow", "dim") | _headers(metrics)
    return Table.of("cost-growth", GROWTH, GROWTH_NOTE, rows, layout)


def _by_axis(done: pd.DataFrame) -> Table:
    """A row for each series along N, H, depth or layers: growth with that size."""
    metrics = [*COSTS[:4], "log_prob_determinant_flops", ONCE, "step_saved_bytes"]
    rows = []
    for axis, along in sizes.lines(done).items():
        for name, group in along.items():
            place = {"flow": name, "axis": sizes.AXES[axis], RECORDS: tuple(group["key"])}
            place |= {"from": group[axis].min(), "to": group[axis].max()}
            rows.append(place | _cells({m: growth(group, m, axis) for m in metrics}, 0))
    layout = columns("flow", "axis", "from", "to") | _headers(metrics)
    return Table.of("cost-axes", "Growth in N, H, depth and layers", AXES_NOTE, rows, layout)


def _cells(grown: dict[str, Growth | None], largest: float) -> dict[str, Any]:
    """Degrees of counts and exponents of times, with the texts beside them.

    A cell whose largest size is below the ``largest`` of the row says which it is.
    """
    row: dict[str, Any] = {}
    for metric, each in grown.items():
        if each is None:
            continue
        at = f"at {each.largest:g}" if each.largest < largest else ""
        if METRICS[metric].kind == "time":
            breaks = [f"break at {size:g}" for size in each.breaks]
            row[metric], row[f"{metric}.interval"] = each.exponent, each.interval
            parts = ["rising" * (not each.reached), at, *breaks]
            if each.interval and each.interval[1] - each.interval[0] > WIDE:
                row[metric] = " to ".join(number(end, ".2f") for end in each.interval)
                row[f"{metric}.interval"] = None
            row[f"{metric}.mark"] = ", ".join(filter(None, parts))
        else:
            row[metric] = float("nan") if each.degree is None else each.degree
            row[f"{metric}.mark"] = f"({each.exponent:.2f}) {at}".strip()
    return row


def _headers(metrics: Iterable[str]) -> dict[str, Column]:
    kinds = {metric: METRICS[metric].kind for metric in metrics}
    return {
        metric: Column(METRICS[metric].title, digits=".2f" if kind == "time" else "d", kind=kind)
        for metric, kind in kinds.items()
    }


def _by_crossing(scans: pd.DataFrame) -> Table:
    metrics = [metric for metric in COSTS if metric in scans]
    pairs = crossings(scans, metrics)
    plain = pairs["plain"].astype(bool) & (len(pairs) > FEW)
    table = pairs[~plain].sort_values("plain", kind="stable", ignore_index=True)
    table = table.drop(columns="plain")
    layout = columns({"cheaper": "Cheaper", "than": "than"})
    for metric in metrics:
        parts = [crossing_cells(metric, dim) for dim in table[metric]]
        table = table.assign(**pd.DataFrame(parts, columns=[*crossing_cells(metric, 0.0)]))
        layout[metric] = Column(METRICS[metric].title, digits=".0f", kind=METRICS[metric].kind)
    title = "Where one becomes cheaper than another"
    return Table("cost-crossings", title, f"{CROSSINGS_NOTE} {plain.sum()}.", table, layout)


SETTINGS = {  # header, and the column of the records
    "hidden": ("H", "option.hidden"),
    "depth": ("Depth", "option.depth"),
    "layers": ("Layers", "option.layers"),
    "batch": ("Batch", "batch"),
    "trace": ("Trace", "option.trace"),
    "solver": ("Solver", "option.solver"),
    "width": ("Width", "width"),
}
RELATIVE = "log_prob_relative"  # seconds over those of the reference workload
MEASURED = (
    "parameters log_prob_nfe log_prob_flops log_prob_determinant_flops step_flops sample_flops "
    "log_prob_seconds step_seconds sample_seconds log_prob_first_seconds build_seconds "
    f"{RELATIVE} step_saved_bytes step_peak_bytes step_resident_bytes {ONCE}"
).split()
RATIO = Column("log_prob / reference", digits=".4g", kind="time")
WHOLE = ("step_resident_bytes", ONCE, RELATIVE)  # shown as they are, others of a row
NOTE = (
    "Medians of the raw samples. Determinant: LU factorisations within log_prob. log_prob / "
    "reference: over the time of the reference workload in the same rounds. Saved: the most bytes "
    "that autograd holds for a training step; peak: of live tensors; resident: the growth of a "
    "fresh process. Precomputed: products of weights that a solve computes once for the batch."
)
SOLVER = {"method": "dopri5", "rtol": 1e-5, "atol": 1e-5, "step_size": None, "gradient": "adjoint"}
SHOWN = {"first_step": None, "max_steps": 10000, "error_norm": "all"}  # where they are not so


def by_dimension(frame: pd.DataFrame) -> Table:
    """A row for each case, with what was measured of it."""
    table = pd.DataFrame({"flow": sizes.flows(frame), "dim": frame["dim"]}, index=frame.index)
    layout, common = columns("flow", "dim"), []
    rules = width_rules(frame)
    frame = frame.assign(width=rules.where(rules != "", None))
    for name, (header, source) in SETTINGS.items():
        column = _setting(name, frame.get(source, pd.Series(None, frame.index, dtype=object)))
        if len(frame) > 1 and column.nunique(dropna=False) == 1:
            common += [f"{header} {_words(value)}" for value in column.dropna().unique()]
        elif column.notna().any():
            table[name], layout[name] = column, Column(header)
    order = [str(name) for name in table]
    if {"log_prob_seconds", "reference_seconds"} <= set(frame):
        frame = frame.assign(**{RELATIVE: frame["log_prob_seconds"] / frame["reference_seconds"]})
    for metric in (metric for metric in MEASURED if metric in frame):
        row = metric not in WHOLE and bool(METRICS[metric].per)
        layout[metric] = RATIO if metric == RELATIVE else Column.of(metric, row=row)
        table[metric] = cells(frame, per_row(frame, metric) if row else metric)
    table[RECORDS] = [(key,) for key in frame["key"]]
    notes = [NOTE, *_uncounted(frame)]
    if common:
        notes.append(f"In all rows: {', '.join(common)}.")
    table = table.sort_values(order, ignore_index=True)
    return Table("cost-by-dimension", "Cost by dimension", " ".join(notes), table, layout)


def _uncounted(frame: pd.DataFrame) -> list[str]:
    """Operators that the FLOPs are without, by flow."""
    lacking: dict[str, set[str]] = {}
    noted = frame.reindex(columns=["flow", "notes"]).dropna()
    for flow, notes in noted.itertuples(index=False):
        lacking.setdefault(flow, set()).update(*notes.values())
    texts = [f"{flow}: {', '.join(sorted(names))}" for flow, names in lacking.items() if names]
    return [f"Operators whose FLOPs are not counted: {'; '.join(texts)}."] if texts else []


def _setting(name: str, values: pd.Series) -> pd.Series:
    """Values of a setting: numbers, and short texts for all else."""
    if name == "trace":
        return values.map(_words, na_action="ignore")
    if name == "solver":
        return _solvers(values.dropna()).reindex(values.index)
    integral = pd.api.types.is_float_dtype(values) and (values % 1 == 0).all()
    return values.astype(int) if integral else values  # floats beside studies without such sizes


def _words(value: Any) -> str:
    """ "rk4, step size 0.5" of {"method": "rk4", "step_size": 0.5}; numbers and words alone."""
    if isinstance(value, dict):
        parts = {key.replace("_", " "): v for key, v in value.items() if v is not None}
        return ", ".join(v if isinstance(v, str) else f"{k} {_words(v)}" for k, v in parts.items())
    return in_words(value)


def _solvers(values: pd.Series) -> pd.Series:
    """ "rk4, step size 0.5, adjoint": method, steps, gradient, and what is not by default."""
    texts = []
    for solver in described(values, **SOLVER, **SHOWN).astype(object).to_dict("records"):
        steps = ("rtol", "atol") if pd.isna(solver["step_size"]) else ("step_size",)
        parts = {name: solver[name] for name in ("method", *steps, "gradient")}
        parts |= {n: solver[n] for n, v in SHOWN.items() if pd.notna(solver[n]) and solver[n] != v}
        texts.append(_words(parts))
    return pd.Series(texts, values.index, dtype=object)
