"""Cost against its sizes: tables and figures."""

from __future__ import annotations

from typing import Any

import pandas as pd

from benchmarks.analysis import crossings, growth, sizes
from benchmarks.core.exhibit import RECORDS, Figure, Table, cells
from benchmarks.core.series import RULES
from benchmarks.studies.cost import axes, cost_terms
from benchmarks.studies.cost import figures as cost_pictures

CALLS = {"log_prob": "log_prob", "step": "training step", "sample": "sampling"}
SETTINGS = {
    "H": "option.hidden",
    "Depth": "option.depth",
    "Layers": "option.layers",
    "Batch": "batch",
    "Trace": "option.trace",
    "Solver": "option.solver",
}
MEASURED = {
    "Parameters": "parameters",
    "NFE": "log_prob_nfe",
    "log_prob (FLOP/sample)": "log_prob_flops",
    "Determinant (FLOP/sample)": "log_prob_determinant_flops",
    "Step (FLOP/sample)": "step_flops",
    "Sampling (FLOP/sample)": "sample_flops",
    "log_prob (µs/sample)": "log_prob_seconds",
    "Step (µs/sample)": "step_seconds",
    "Sampling (µs/sample)": "sample_seconds",
    "First log_prob (ms)": "log_prob_first_seconds",
    "Build (ms)": "build_seconds",
    "log_prob / reference": "log_prob_seconds",
    "Saved (B/sample)": "step_saved_bytes",
    "Peak (B/sample)": "step_peak_bytes",
    "Resident (MiB)": "step_resident_bytes",
    "Precomputed (FLOP)": "precomputation_flops",
}
SCALES = {"(µs": 1e6, "(ms": 1e3, "(MiB": 2.0**-20}
NOTES = {
    "Determinant (FLOP/sample)": "Determinant: the part of log_prob that is LU factorisation, the "
    "rest forms what is factorised.",
    "First log_prob (ms)": "First log_prob: the first call of a new flow.",
    "log_prob / reference": "log_prob / reference is the batch's time over that of the reference "
    "workload in the same rounds, which is how times travel between machines.",
    "Saved (B/sample)": "Saved: what a training step keeps for its backward pass.",
    "Peak (B/sample)": "Peak: the most that is alive in a training step at once.",
    "Resident (MiB)": "Resident: by how much a training step makes a fresh process grow.",
    "Precomputed (FLOP)": "Precomputed: what a solve makes of the weights once, for the batch.",
}


def tables(frame: pd.DataFrame) -> list[Table]:
    """The growth of each series, where they cross, growth in other sizes, and all figures."""
    if frame.empty:
        return []
    frame = _own(frame)
    done, calls = frame[frame["status"] == "done"], _measured(frame)
    scans = sizes.scans(done)
    found = [growth.growth(scans, calls), crossings.crossings(scans, calls)]
    found += [axes.table(done), cost_terms.table(done)]
    return [*(table for table in found if len(table.frame)), _by_dimension(frame)]


def figures(frame: pd.DataFrame) -> list[Figure]:
    """What a sample costs against D, what a solve is made of, and cost against other sizes."""
    done = _own(frame[frame["status"] == "done"])
    if done.empty:
        return []
    scans = sizes.scans(done)
    keys, pictures = tuple(scans["key"]), cost_pictures.of(scans, _measured(scans))
    along_dimension = [Figure(*said, draw=drawn, records=keys) for said, drawn in pictures]
    return along_dimension + axes.figures(done)


def _own(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the columns of other studies, of which there are many, all in one piece."""
    return frame.dropna(axis="columns", how="all").copy()


def _measured(frame: pd.DataFrame) -> dict[str, str]:
    """The calls that the records have: old ones are without sampling."""
    return {call: title for call, title in CALLS.items() if f"{call}_flops" in frame}


def _by_dimension(frame: pd.DataFrame) -> Table:
    shown = pd.DataFrame({"Flow": sizes.flows(frame), "D": frame["dim"]}, index=frame.index)
    common = []
    for header, column in _settings(frame).items():
        if len(frame) > 1 and column.nunique(dropna=False) == 1:
            common += [f"{header} {_told(value)}" for value in column.dropna().unique()]
        else:
            shown[header] = column
    order = [str(header) for header in shown]
    measured = {h: m for h, m in MEASURED.items() if m in frame and frame[m].notna().any()}
    for header, metric in measured.items():
        values = frame[metric]
        if "/sample" in header:
            values = values / frame["batch"]
        elif "reference" in header:
            values = values / frame.get("reference_seconds", values)
        scale = next((scale for unit, scale in SCALES.items() if unit in header), 1.0)
        shown[header] = cells(frame, values * scale)
    shown[RECORDS] = [(key,) for key in frame["key"]]
    said = [
        "Medians of the raw samples.",
        *_uncounted(frame),
        *(said for header, said in NOTES.items() if header in shown),
    ]
    if common:
        said.append(f"In all rows: {', '.join(common)}.")
    return Table(
        "cost-by-dimension",
        "Cost by dimension",
        " ".join(said),
        shown.sort_values(order, ignore_index=True),
        dict.fromkeys(measured, ".4g"),
    )


def _uncounted(frame: pd.DataFrame) -> list[str]:
    """Which operators the FLOPs are without, by flow."""
    found: dict[str, set[str]] = {}
    noted = frame["notes"].dropna() if "notes" in frame else frame["flow"][:0]
    for flow, notes in zip(frame.loc[noted.index, "flow"], noted, strict=True):
        for operators in notes.values():
            found.setdefault(flow, set()).update(operators)
    told = [f"{flow}: {', '.join(sorted(names))}" for flow, names in found.items() if names]
    return [f"Operators that were seen and not counted: {'; '.join(told)}."] if told else []


def _settings(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """What the cases were measured with, by header: numbers, and short texts for all else."""
    found = {header: _whole(frame[name]) for header, name in SETTINGS.items() if name in frame}
    for header in ("Trace", "Solver"):
        if header in found:
            found[header] = found[header].map(_told, na_action="ignore")
    for rule, words in RULES.items():
        if rule in frame:
            told = frame[rule].map(words.format, na_action="ignore").astype(object)
            found["Width"] = found.get("Width", told).where(told.isna(), told)
    return found


def _whole(column: pd.Series) -> pd.Series:
    """Sizes as whole numbers, which flows of other studies that have none of them make floats."""
    known = pd.api.types.is_float_dtype(column) and bool(column.notna().all())
    return column.astype(int) if known else column


def _told(value: Any) -> str:
    """ "rk4, step size 0.5" of {"method": "rk4", "step_size": 0.5}; numbers and words alone."""
    if isinstance(value, dict):
        named = {key.replace("_", " "): v for key, v in value.items() if v is not None}
        return ", ".join(v if isinstance(v, str) else f"{k} {_told(v)}" for k, v in named.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
