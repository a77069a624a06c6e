"""Gradients by adjoint, seminorm and backprop, shown: their errors and what they cost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.stats import ratio_of_medians
from benchmarks.core.exhibit import RECORDS, Figure, Table
from benchmarks.core.series import series
from benchmarks.studies.gradients import figures as gradient_pictures

LEVELS = (1e-2, 1e-3, 1e-4, 1e-5)  # errors that a gradient may be asked to keep
PLACE = ["dataset", "name", "updates", "dtype"]  # a field, in one precision
COLUMNS = {  # header -> metric, factor, format
    "Error": ("gradient_error", 1, ".1e"),
    "Cosine": ("gradient_cosine", 1, ".6f"),
    "Saved (MB)": ("gradient_bytes", 1e-6, ".3g"),
    "NFE forward": ("nfe_forward", 1, ".0f"),
    "NFE backward": ("nfe_backward", 1, ".0f"),
}
RATIO = "Time / backprop"


def tables(frame: pd.DataFrame) -> list[Table]:
    """What a gradient of a given error costs, and all figures by solver setting."""
    if frame.empty:
        return []
    rows = with_setting(frame)
    meaning = (
        "Error: ‖g - g*‖ / ‖g*‖ over all parameters, g* by backprop in float64 at a tight "
        "tolerance. Saved: the most bytes that autograd holds for backward at one time, parameters "
        "excluded. Medians over seeds. "
    )
    quickest = (
        f"The quickest solver setting of at most this error, of {', '.join(map(str, LEVELS))}; one "
        "that is the quickest for several of them stands at the smallest. Fixed steps have no "
        "seminorm."
    )
    settings = (
        "Setting: the tolerance rtol = atol, or the step size of a fixed-step method. Time: loss "
        "and backward, timed in the same shuffled rounds, as a ratio of medians with its 95 % "
        "bootstrap interval."
    )
    digits = {header: digits for header, (_, _, digits) in COLUMNS.items()}
    digits |= {"Error at most": "g", "Setting": "g", "Time / reference": ".3g", RATIO: ".3g"}
    made = [
        ("gradients-at-error", "The quickest gradient of an error", quickest, _by_error(rows)),
        ("gradients", "Each gradient at each solver setting", settings, _by_setting(rows)),
    ]
    return [
        Table(name, title, meaning + note, pd.DataFrame(found), digits)
        for name, title, note, of in made
        if (found := list(of))
    ]


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Of each flow and data set: error, saved bytes and evaluations; error against seconds."""
    done = frame[frame["status"] == "done"]
    return list(_figures(with_setting(done))) if len(done) else []


def _figures(done: pd.DataFrame) -> Iterator[Figure]:
    for (data, name), group in done.groupby(["dataset", "name"]):
        slug = re.sub(r"[^\w.]+", "-", f"{name}-{data}").lower()
        about = (
            "A column for each state of training. Dashed lines and open marks are float32, solid "
            "and full ones float64; medians over seeds"
        )
        costs = (
            ", thin bars the range over seeds. "
            f"Top: error of the gradient by {gradient_pictures.alone(group)} against a float64 one "
            "at a tight tolerance. That one is known to the dotted line; the thin dashed line is "
            "the spacing of float32's numbers at one. Middle: most bytes held for backward, a mark "
            "for each setting of all solvers. Bottom: evaluations backward, of which backprop has "
            "none; the black line without marks is the forward solve."
        )
        work = (
            ". A row for each gradient. Error against the seconds of loss and backward over those "
            "of the reference workload, a line along each solver's settings: down and to the left "
            "is better."
        )
        for kind, title, note, picture in (
            ("", "Error and cost of the gradient", costs, gradient_pictures.costs),
            ("work-", "Error of the gradient against seconds", work, gradient_pictures.work),
        ):
            title, whole = f"{title}, {name} on {data}", partial(picture, group)
            yield Figure(f"gradients-{kind}{slug}", title, about + note, whole, tuple(group["key"]))


def with_setting(frame: pd.DataFrame) -> pd.DataFrame:
    """The records with what tells them apart in columns: name, method, setting and gradient."""
    solvers = frame["option.solver"]
    told = frame.assign(
        method=solvers.map(lambda s: s["method"]),
        fixed=solvers.map(lambda s: s["step_size"] is not None),
        setting=solvers.map(lambda s: s["step_size"] or s["rtol"]),
        gradient=solvers.map(lambda s: s["gradient"]),
    )
    same = frame.loc[:, frame.columns.str.match(r"flow$|batch$|setting\.|option\.(?!solver$)")]
    return told.assign(name=series(same))


def _heading(place: tuple[Any, ...]) -> dict[str, Any]:
    data, name, updates, dtype = place
    return {
        "Data": data,
        "Flow": name,
        "Field": gradient_pictures.field(updates),
        "Precision": dtype,
    }


def _by_setting(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """A row for each field, solver setting and gradient, loosest first; over seeds."""
    rows = rows.assign(order=-rows["setting"])
    for (*place, method, _), block in rows.groupby([*PLACE, "method", "order"]):
        base = block[(block["gradient"] == "backprop") & (block["status"] == "done")]
        for gradient, group in block.groupby("gradient"):
            row = _heading(tuple(place))
            row |= {"Solver": method, "Setting": group["setting"].iloc[0], "Gradient": gradient}
            row[RECORDS] = tuple(dict.fromkeys([*group["key"], *base["key"]]))
            done = group[group["status"] == "done"]
            if done.empty:
                yield row | {"Error": group["status"].iloc[0]}
                continue
            row |= {h: done[metric].median() * by for h, (metric, by, _) in COLUMNS.items()}
            yield row | (_ratio(done, base) if gradient != "backprop" else {RATIO: 1.0})


def _ratio(done: pd.DataFrame, base: pd.DataFrame) -> dict[str, Any]:
    """Seconds over backprop's of the same seed, all seeds pooled."""
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
    return {RATIO: value, "95 % interval": f"{low:.3g} to {high:.3g}"}


def _by_error(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """For each field, error and gradient the quickest solver setting that keeps the error.

    A setting once, with the smallest of the errors that it is the quickest for.
    """
    done = rows[rows["status"] == "done"]
    if done.empty:
        return
    done = done.assign(relative=done["gradient_seconds"] / done["reference_seconds"])
    metrics = ["relative", *(metric for metric, _, _ in COLUMNS.values())]
    alike = done.groupby([*PLACE, "gradient", "method", "setting"])
    settings = alike[metrics].median().assign(**{RECORDS: alike["key"].agg(tuple)}).reset_index()
    for place, field in settings.groupby(PLACE):
        found: dict[int, dict[str, Any]] = {}
        for level, gradient in product(LEVELS, sorted(field["gradient"].unique())):
            kept = field[(field["gradient"] == gradient) & (field["gradient_error"] <= level)]
            for index, best in kept.nsmallest(1, "relative").iterrows():
                found.pop(index, None)
                row = _heading(place) | {"Error at most": level, "Gradient": gradient}
                row |= {"Quickest": f"{best['method']} {best['setting']:g}"}
                row |= {"Time / reference": best["relative"]}
                row |= {h: best[metric] * by for h, (metric, by, _) in COLUMNS.items()}
                found[index] = row | {RECORDS: best[RECORDS]}
        yield from found.values()
