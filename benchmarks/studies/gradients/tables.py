"""Tables of the gradients study: the quickest of an error, and every gradient by setting."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.stats import ratio_of_medians
from benchmarks.core.exhibit import RECORDS, Column, Table
from benchmarks.core.naming import series
from flows.continuous import Solver

LEVELS = (1e-2, 1e-3, 1e-4, 1e-5)  # errors that a gradient may be asked to keep
PLACE = ["dataset", "series", "updates", "dtype"]  # a field, in one precision
WHICH = {
    "dataset": Column("Data"),
    "series": Column("Flow"),
    "updates": Column("Updates", digits=",d"),
    "dtype": Column("Precision"),
    "level": Column("Error at most", digits="g"),
    "method": Column("Solver"),
    "setting": Column("Setting", digits="g"),
    "gradient": Column("Gradient"),
}
MEASURED = {
    "gradient_error": Column.of("gradient_error", digits=".1e"),
    "gradient_cosine": Column.of("gradient_cosine", digits=".6f"),
    "gradient_bytes": Column.of("gradient_bytes", digits=".3g"),
    "nfe_forward": Column.of("nfe_forward", digits=".0f"),
    "nfe_backward": Column.of("nfe_backward", digits=".0f"),
}
TIMES = {
    "reference_ratio": Column("Time / reference", digits=".3g", kind="time"),
    "backprop_ratio": Column(
        "Time / backprop", digits=".3g", interval="backprop_ratio.interval", kind="time"
    ),
}
MEANING = (
    "Updates: training updates of the field, 0 if untrained. Error: ‖g - g*‖ / ‖g*‖ over all "
    "parameters, with g* by backprop in float64 at a tight tolerance. Saved: the most bytes that "
    "autograd holds for backward at one time, without parameters. Forward, backward: evaluations "
    "of either solve. Medians over seeds. "
)
QUICKEST_NOTE = (
    f"The fastest solver setting with at most this error, of {', '.join(map(str, LEVELS))}. A "
    "setting that is fastest for several errors is listed at the smallest one. Fixed steps have "
    "no seminorm."
)
SETTINGS_NOTE = (
    "Setting: the tolerance rtol = atol, or the step size of a fixed-step method. Time: loss and "
    "backward, timed in the same shuffled rounds, as a ratio of medians with its 95 % bootstrap "
    "interval."
)


def tables(frame: pd.DataFrame) -> list[Table]:
    """What a gradient of a given error costs, and all figures by solver setting."""
    rows = with_solver(frame)
    columns = {**WHICH, **MEASURED, **TIMES}
    exhibits = [
        ("gradients-at-error", "Fastest gradient within an error", QUICKEST_NOTE, by_error(rows)),
        ("gradients", "Each gradient at each solver setting", SETTINGS_NOTE, by_setting(rows)),
    ]
    return [
        Table(name, title, MEANING + note, found, columns=columns)
        for name, title, note, found in exhibits
        if len(found)
    ]


def with_solver(frame: pd.DataFrame) -> pd.DataFrame:
    """The records with what tells them apart: series, method, fixed, setting and gradient.

    The setting is the tolerance, or the step size where steps are fixed.
    """
    solvers = frame["option.solver"].map(Solver.of)
    columns = frame.columns.str.match(r"flow$|run$|batch$|setting\.|option\.(?!solver$)")
    return frame.assign(
        series=series(frame.loc[:, columns]),
        method=solvers.map(lambda solver: solver.method),
        fixed=solvers.map(lambda solver: solver.step_size is not None),
        setting=solvers.map(lambda solver: solver.step_size or solver.rtol),
        gradient=solvers.map(lambda solver: solver.gradient),
    )


def by_setting(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each field, solver setting and gradient, loosest first; medians over seeds.

    Where no seed is done, the status stands for the error.
    """
    return _frame(_settings(rows.assign(order=-rows["setting"])), "backprop_ratio")


def by_error(rows: pd.DataFrame) -> pd.DataFrame:
    """For each field, error and gradient the quickest solver setting that keeps the error.

    A setting once, with the smallest of the errors that it is the quickest for.
    """
    done = rows[rows["status"] == "done"]
    if done.empty or "gradient_seconds" not in done:
        return pd.DataFrame()
    return _frame(_quickest(done), "reference_ratio")


def _frame(rows: Iterator[dict[str, Any]], ratio: str) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    order = [*WHICH, ratio, f"{ratio}.interval", *MEASURED, RECORDS]
    return frame[[name for name in order if name in frame]]


def _settings(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for (*place, method, _), block in rows.groupby([*PLACE, "method", "order"]):
        base = block[(block["gradient"] == "backprop") & (block["status"] == "done")]
        for gradient, group in block.groupby("gradient"):
            row = dict(zip(PLACE, place, strict=True))
            row |= {"method": method, "setting": group["setting"].iloc[0], "gradient": gradient}
            row[RECORDS] = tuple(dict.fromkeys([*group["key"], *base["key"]]))
            done = group[group["status"] == "done"]
            if done.empty:
                yield row | {"gradient_error": group["status"].iloc[0]}
                continue
            row |= {metric: done[metric].median() for metric in MEASURED}
            yield row | (_ratio(done, base) if "gradient_seconds" in done else {})


def _ratio(done: pd.DataFrame, base: pd.DataFrame) -> dict[str, Any]:
    """Seconds over backprop's of the same seed, all seeds pooled."""
    if set(done["gradient"]) == {"backprop"}:
        return {"backprop_ratio": 1.0}
    done, base = (side[side["gradient_seconds"].notna()] for side in (done, base))
    done = done.sort_values("seed")
    beside = base.set_index("seed")["gradient_seconds.values"]
    ours, theirs = [], []
    for seed, samples in zip(done["seed"], done["gradient_seconds.values"], strict=True):
        if seed in beside.index:
            scale = np.median(beside[seed])
            ours.append(np.asarray(samples) / scale)
            theirs.append(np.asarray(beside[seed]) / scale)
    if not ours:
        return {}
    value, low, high = ratio_of_medians(np.concatenate(ours), np.concatenate(theirs))
    return {"backprop_ratio": value, "backprop_ratio.interval": (low, high)}


def _quickest(done: pd.DataFrame) -> Iterator[dict[str, Any]]:
    done = done.assign(reference_ratio=done["gradient_seconds"] / done["reference_seconds"])
    alike = done.groupby([*PLACE, "gradient", "method", "setting"])
    settings = alike[["reference_ratio", *MEASURED]].median()
    settings = settings.assign(**{RECORDS: alike["key"].agg(tuple)}).reset_index()
    for _, field in settings.groupby(PLACE):
        quickest: dict[int, dict[str, Any]] = {}
        for level, gradient in product(LEVELS, sorted(field["gradient"].unique())):
            candidates = field[(field["gradient"] == gradient) & (field["gradient_error"] <= level)]
            for index, best in candidates.nsmallest(1, "reference_ratio").iterrows():
                quickest.pop(index, None)
                quickest[index] = {**best.to_dict(), "level": level}
        yield from quickest.values()
