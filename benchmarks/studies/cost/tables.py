"""Tables of the cost study: growth with each size, where flows cross, all by dimension."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from benchmarks.analysis import sizes
from benchmarks.analysis.growth import ALWAYS, NEVER, ONCE, Growth, crossings, growth
from benchmarks.core.exhibit import RECORDS, Column, Table, cells, described, per_row, selected
from benchmarks.core.metrics import METRICS
from benchmarks.core.naming import RULES

CALLS = ("log_prob", "step", "sample")
FEW = 10  # pairs of flows that are all shown, however plain
WORDS = {ALWAYS: "all", NEVER: "none in range"}
GROWTH_NOTE = (
    "FLOPs: the degree in D of the polynomial that gives the exact counts (– if none fits), and in "
    "parentheses d ln cost / d ln D at the largest D. Seconds: the exponent of the fitted law at "
    "the largest D with its 95 % interval; ≥: the asymptote is not reached. A break is a size from "
    "which all times differ by a factor; the law is fitted to the larger sizes. Precomputed and "
    "linear layer: what is computed once for a batch; log_prob excludes products of weights that a "
    "solve precomputes."
)
AXES_NOTE = (
    "N is the batch size, H the width, ℓ the depth, L the number of layers; all other sizes are "
    "equal along an axis. All costs are per batch. FLOPs and bytes: the degree of the polynomial "
    "that gives the exact counts (– if none fits), and in parentheses d ln cost / d ln size at "
    "the largest size. Seconds: the exponent of the fitted law with its 95 % interval; ≥: the "
    "asymptote is not reached."
)
CROSSINGS_NOTE = (
    "The dimension from which on the first flow costs less per row than the second, at all "
    "larger D that were measured; interpolated between measured D on logarithmic axes. Pairs "
    "have equal batches and the same rule for the width. The flow of lower degree in D is first; "
    "of equal degree, where both solve an ODE or one is dense, that with fewer FLOPs. Pairs left "
    "out because one flow is cheaper at every D in every column:"
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


def metrics_of(frame: pd.DataFrame) -> list[str]:
    """FLOPs and seconds of the calls that the records have: old ones are without sampling."""
    calls = [call for call in CALLS if f"{call}_flops" in frame]
    return [f"{call}_{what}" for call in calls for what in ("flops", "seconds")]


# ---- growth and crossings -----------------------------------------------------------------------


def _by_growth(scans: pd.DataFrame) -> Table:
    """A row for each series: growth of the calls' FLOPs and seconds with D."""
    first, *others = metrics_of(scans) or ["log_prob_flops"]
    metrics = [first, ONCE, *others, "linear_flops", "linear_seconds"]
    rows = []
    for name, group in scans.groupby("series"):
        grown = {m: found for m in metrics if (found := growth(group, m))}
        if largest := int(max((each.largest for each in grown.values()), default=0)):
            place = {"flow": name, "dim": largest, RECORDS: tuple(group["key"])}
            rows.append(place | _cells(grown, largest))
    headers = {"flow": "Flow", "dim": "D"}
    return _table("cost-growth", "Growth with the dimension", GROWTH_NOTE, rows, headers, metrics)


def _by_axis(done: pd.DataFrame) -> Table:
    """A row for each series along N, H, depth or layers: growth with that size."""
    metrics = [f"{call}_{what}" for call in CALLS[:2] for what in ("flops", "seconds")]
    metrics += ["log_prob_determinant_flops", ONCE, "step_saved_bytes"]
    rows = []
    for axis, along in sizes.lines(done).items():
        for name, group in along.items():
            place = {"flow": name, "axis": sizes.AXES[axis], RECORDS: tuple(group["key"])}
            place |= {"from": group[axis].min(), "to": group[axis].max()}
            grown = {m: found for m in metrics if (found := growth(group, m, axis))}
            rows.append(place | _cells(grown, 0))
    headers = {"flow": "Flow", "axis": "Axis", "from": "From", "to": "To"}
    title = "Growth in N, H, depth and layers"
    return _table("cost-axes", title, AXES_NOTE, rows, headers, metrics)


def _cells(grown: dict[str, Growth], largest: float) -> dict[str, Any]:
    """Degrees of counts and exponents of times, with the texts beside them.

    A cell whose largest size is below the ``largest`` of the row says which it is.
    """
    row: dict[str, Any] = {}
    for metric, found in grown.items():
        at = f"at {found.largest:g}" if found.largest < largest else ""
        if METRICS[metric].kind == "time":
            breaks = [f"break at {size:g}" for size in found.breaks]
            row[metric], row[f"{metric}.interval"] = found.exponent, found.interval
            row[f"{metric}.bound"] = "" if found.reached else "≥ "
            row[f"{metric}.mark"] = ", ".join(part for part in (at, *breaks) if part)
        else:
            row[metric] = float("nan") if found.degree is None else found.degree
            row[f"{metric}.mark"] = f"({found.exponent:.2f}) {at}".strip()
    return row


def _table(
    name: str,
    title: str,
    note: str,
    rows: list[dict[str, Any]],
    headers: Mapping[str, str],
    metrics: Iterable[str],
) -> Table:
    """The rows with the metrics that one has, and empty texts beside what a series does not."""
    columns = {name: Column(header) for name, header in headers.items()}
    for metric in (metric for metric in metrics if any(metric in row for row in rows)):
        columns[metric] = Column(
            METRICS[metric].title,
            digits=".2f" if METRICS[metric].kind == "time" else "d",
            interval=f"{metric}.interval",
            prefix=f"{metric}.bound",
            mark=f"{metric}.mark",
            kind=METRICS[metric].kind,
        )
    frame = selected(pd.DataFrame(rows), columns) if rows else pd.DataFrame()
    texts = [name for name in map(str, frame) if name.endswith((".bound", ".mark"))]
    frame[texts] = frame[texts].fillna("")
    return Table(name, title, note, frame, columns)


def _by_crossing(scans: pd.DataFrame) -> Table:
    """A row for each pair of series that can cross."""
    metrics = [metric for metric in metrics_of(scans) if metric in scans]
    pairs = crossings(scans, metrics)
    plain = pairs["plain"].astype(bool) & (len(pairs) > FEW)
    table = pairs[~plain].sort_values("plain", kind="stable", ignore_index=True)
    table = table.drop(columns="plain")
    columns = {"cheaper": Column("Cheaper"), "than": Column("than")}
    for metric in metrics:
        table[f"{metric}.from"] = ["D ≥ " if 0 < dim < NEVER else "" for dim in table[metric]]
        table[metric] = table[metric].astype(object).replace(WORDS)
        title, kind = METRICS[metric].title, METRICS[metric].kind
        columns[metric] = Column(title, digits=".0f", prefix=f"{metric}.from", kind=kind)
    title = "Where one becomes cheaper than another"
    return Table("cost-crossings", title, f"{CROSSINGS_NOTE} {plain.sum()}.", table, columns)


# ---- every case ---------------------------------------------------------------------------------

SETTINGS = {  # column: header, and the column of the records
    "hidden": ("H", "option.hidden"),
    "depth": ("Depth", "option.depth"),
    "layers": ("Layers", "option.layers"),
    "batch": ("Batch", "batch"),
    "trace": ("Trace", "option.trace"),
    "solver": ("Solver", "option.solver"),
}
RELATIVE = "log_prob_relative"  # seconds over those of the reference workload
MEASURED = (
    "parameters log_prob_nfe log_prob_flops log_prob_determinant_flops step_flops sample_flops "
    "log_prob_seconds step_seconds sample_seconds log_prob_first_seconds build_seconds "
    f"{RELATIVE} step_saved_bytes step_peak_bytes step_resident_bytes {ONCE}"
).split()
WHOLE = ("step_resident_bytes", ONCE)  # shown of a batch, others of a row
NOTE = (
    "Medians of the raw samples. Determinant: the LU factorisations within log_prob. log_prob / "
    "reference: the time of the batch over that of the reference workload in the same rounds. "
    "Saved: the most bytes that autograd holds for the backward pass of a training step; peak: of "
    "live tensors; resident: the growth of a fresh process. Precomputed: products of weights that "
    "a solve computes once for the batch."
)
SOLVER = {"method": "dopri5", "rtol": 1e-5, "atol": 1e-5, "step_size": None, "gradient": "adjoint"}
SHOWN = {"first_step": None, "max_steps": 10000, "error_norm": "all"}  # where they are not so


def by_dimension(frame: pd.DataFrame) -> Table:
    """A row for each case, with what was measured of it."""
    table = pd.DataFrame({"flow": sizes.flows(frame), "dim": frame["dim"]}, index=frame.index)
    columns, common = {"flow": Column("Flow"), "dim": Column("D")}, []
    for name, (header, column) in _settings(frame).items():
        if len(frame) > 1 and column.nunique(dropna=False) == 1:
            common += [f"{header} {_words(value)}" for value in column.dropna().unique()]
        else:
            table[name], columns[name] = column, Column(header)
    order = [str(name) for name in table]
    if {"log_prob_seconds", "reference_seconds"} <= set(frame):
        frame = frame.assign(**{RELATIVE: frame["log_prob_seconds"] / frame["reference_seconds"]})
    for metric in (metric for metric in MEASURED if metric in frame):
        if metric == RELATIVE:
            columns[metric] = Column("log_prob / reference", digits=".4g", kind="time")
            table[metric] = cells(frame, metric)
            continue
        row = bool(METRICS[metric].per) and metric not in WHOLE
        digits = ",.0f" if metric == "parameters" else ".4g"
        columns[metric] = Column.of(metric, row=row, digits=digits)
        table[metric] = cells(frame, per_row(frame, metric) if row else frame[metric])
    table[RECORDS] = [(key,) for key in frame["key"]]
    notes = [NOTE, *_uncounted(frame)]
    if common:
        notes.append(f"In all rows: {', '.join(common)}.")
    table = table.sort_values(order, ignore_index=True)
    return Table("cost-by-dimension", "Cost by dimension", " ".join(notes), table, columns)


def _uncounted(frame: pd.DataFrame) -> list[str]:
    """Operators that the FLOPs are without, by flow."""
    lacking: dict[str, set[str]] = {}
    noted = frame.reindex(columns=["flow", "notes"]).dropna()
    for flow, notes in noted.itertuples(index=False):
        lacking.setdefault(flow, set()).update(*notes.values())
    listed = [f"{flow}: {', '.join(sorted(names))}" for flow, names in lacking.items() if names]
    return [f"Operators whose FLOPs are not counted: {'; '.join(listed)}."] if listed else []


def _settings(frame: pd.DataFrame) -> dict[str, tuple[str, pd.Series]]:
    """Header and values of each setting: numbers, and short texts for all else."""
    settings = {}
    for name, (header, source) in SETTINGS.items():
        if source not in frame:
            continue
        column = frame[source]
        if name == "trace":
            column = column.map(_words, na_action="ignore")
        elif name == "solver":
            column = _solvers(column.dropna()).reindex(column.index)
        elif pd.api.types.is_float_dtype(column) and column.notna().all():
            column = column.astype(int)  # floats beside studies without such sizes
        settings[name] = header, column
    width = pd.Series(None, frame.index, dtype=object)
    for rule, words in RULES.items():
        if rule in frame:
            width = frame[rule].map(words.format, na_action="ignore").astype(object).fillna(width)
            settings["width"] = "Width", width
    return settings


def _words(value: Any) -> str:
    """ "rk4, step size 0.5" of {"method": "rk4", "step_size": 0.5}; numbers and words alone."""
    if isinstance(value, dict):
        named = {key.replace("_", " "): v for key, v in value.items() if v is not None}
        return ", ".join(v if isinstance(v, str) else f"{k} {_words(v)}" for k, v in named.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _solvers(values: pd.Series) -> pd.Series:
    """ "rk4, step size 0.5, adjoint": method, steps, gradient, and what is not by default."""
    texts = []
    for solver in described(values, **SOLVER, **SHOWN).astype(object).to_dict("records"):
        steps = ("rtol", "atol") if pd.isna(solver["step_size"]) else ("step_size",)
        named = {name: solver[name] for name in ("method", *steps, "gradient")}
        named |= {n: solver[n] for n, v in SHOWN.items() if pd.notna(solver[n]) and solver[n] != v}
        texts.append(_words(named))
    return pd.Series(texts, values.index, dtype=object)
