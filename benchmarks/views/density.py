"""Densities, shown: likelihood tables, images beside the data, learning against seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmarks import datasets, draw
from benchmarks.exhibit import Figure, Table
from benchmarks.stats import standard_error
from benchmarks.store import arrays

# header: metric, factor, format
COLUMNS = {
    "Test LL (nats)": ("test_ll", 1, ".3f"),
    "Gap to entropy (nats)": ("gap", 1, ".3f"),
    "Parameters": ("parameters", 1, ",.0f"),
    "Training (s)": ("train_seconds", 1, ".1f"),
    "log_prob of 1,000 (ms)": ("per_1000_seconds", 1e3, ".3g"),
    "Samples per second": ("sample_rate", 1, ".3g"),
    "NFE an update": ("train_nfe", 1, ".1f"),
    "NFE test": ("test_nfe", 1, ".0f"),
    "LL moved (nats)": ("ll_shift", 1, ".1e"),
    "Own solver (nats)": ("solver_gap", 1, "+.1e"),
}


BEHIND = "Behind best (nats)"


def tables(frame: pd.DataFrame) -> list[Table]:
    """Likelihoods at a glance, then a table a data set: likelihood, and what it cost."""
    each = [_table(str(name), group) for name, group in frame.groupby("dataset", sort=False)]
    return [_glance(each, tuple(frame["key"])), *each] if each else []


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Pictures of the two-dimensional densities, and validation against seconds."""
    done = frame[(frame["status"] == "done") & (frame["updates"] > 0)]
    return [*_density_pictures(done), *_validation_curves(done)]


def _glance(each: list[Table], records: tuple[str, ...]) -> Table:
    """The test log-likelihoods of all tables side by side, a row a model."""
    models = dict.fromkeys(model for table in each for model in table.frame["Model"])
    shown = pd.DataFrame({"Model": list(models)})
    errors = {}
    for table in each:
        name, rows = table.title.partition(" (")[0], table.frame.set_index("Model")
        shown[name] = shown["Model"].map(rows["Test LL (nats)"])
        if error := table.errors.get("Test LL (nats)"):
            errors[name] = f"± {name}"
            shown[errors[name]] = shown["Model"].map(rows[error])
    sets = [str(c) for c in shown if c not in ("Model", *errors.values())]
    note = (
        "Mean log-density of the test rows in nats; the tables below have costs and paired errors."
    )
    return Table(
        "density",
        "Test log-likelihood by data set",
        note,
        shown,
        dict.fromkeys(sets, ".3f"),
        errors,
        dict.fromkeys(sets, "higher"),
        records,
    )


def _table(name: str, group: pd.DataFrame) -> Table:
    """Rows by likelihood; several seeds of a flow become their mean with a standard error."""
    data = datasets.load(name)
    rows, behind = [], _behind_the_best(group[group["status"] == "done"], data)
    for flow, seeds in group.groupby("flow", sort=False):
        done = seeds[seeds["status"] == "done"]
        row: dict[str, object] = {"Model": str(flow), "Seeds": len(done)}
        for header, (metric, factor, _) in COLUMNS.items():
            if done.empty:
                row[header] = str(seeds["status"].iloc[0]) if metric == "test_ll" else None
            elif metric in done and done[metric].notna().any():
                row[header] = done[metric].mean() * factor
        if len(done) > 1:
            row["± (seeds)"] = done["test_ll"].std() / len(done) ** 0.5
        if flow in behind:
            row[BEHIND], row["± (paired)"] = behind[str(flow)]
        if len(done):
            row["± (test set)"] = done["test_ll_se"].mean()
        rows.append(row)
    rows.sort(key=lambda row: -v if isinstance(v := row.get("Test LL (nats)"), float) else 0)
    shown = pd.DataFrame(rows).dropna(axis=1, how="all")
    first = [h for h in ("Model", "Test LL (nats)", BEHIND, "Gap to entropy (nats)") if h in shown]
    shown = shown[[*first, *(header for header in shown if header not in first)]]
    error = "± (seeds)" if "± (seeds)" in shown else "± (test set)"
    floor = f" Entropy: {data.entropy:.4f} nats." if data.entropy is not None else ""
    errors_note = (
        "± is the standard error over seeds"
        if error == "± (seeds)"
        else "One seed: ± is the standard error over the test set"
    )
    note = (
        f"{data.about}{floor} {errors_note}; Behind best compares row by row, so that what is hard "
        "for all models cancels. Every flow's test log-likelihood is that of its "
        "exact trace, in float64, at a tolerance at least as tight as in training; LL moved is by "
        "how much a tenfold tighter one changed it, Own solver by how much the solver of its "
        "training overstates it. NFE an update counts forward and backward."
    )
    return Table(
        f"density-{name}",
        f"{name} ({data.dim}-D, {data.units})",
        note,
        shown,
        {h: spec for h, (_, _, spec) in COLUMNS.items() if h in shown} | {BEHIND: ".3f"},
        {h: e for h, e in {"Test LL (nats)": error, BEHIND: "± (paired)"}.items() if e in shown},
        {"Test LL (nats)": "higher"},
        tuple(group["key"]),
    )


def _behind_the_best(done: pd.DataFrame, data: datasets.Dataset) -> dict[str, tuple[float, float]]:
    """How far each model's mean log-density is behind the best one's, with its paired error."""
    means: dict[str, np.ndarray] = {}
    for flow, seeds in done[done["arrays"].notna()].groupby("flow", sort=False):
        rows = [arrays(row)["test_log_prob"] for _, row in seeds.iterrows()]
        means[str(flow)] = np.mean(rows, axis=0, dtype=float)
    if len({len(mean) for mean in means.values()}) != 1:
        return {}
    best = max(means.values(), key=np.mean)
    groups = None if data.groups is None else data.groups[: len(best)].numpy()
    found = {}
    for flow, mean in means.items():
        error = standard_error(best - mean, groups) if mean is not best else float("nan")
        found[flow] = (float((best - mean).mean()), error)
    return found


def _density_pictures(done: pd.DataFrame) -> list[Figure]:
    """One figure for each two-dimensional data set: Data | each flow, density above samples."""
    note = (
        "Above: the density (data: a histogram of the training set), all panels on one scale. "
        "Below: samples (data: the test set)."
    )
    return [
        Figure(
            f"picture-{name}",
            f"{name}: data and densities",
            note,
            lambda name=name, group=group: _pictures(str(name), group),  # type: ignore[misc]
            tuple(group["key"]),
        )
        for name, group in done[done["dim"] == 2].groupby("dataset", sort=False)
    ]


def _validation_curves(done: pd.DataFrame) -> list[Figure]:
    """Validation log-likelihood against seconds of training, a panel a data set."""
    if done.empty:
        return []
    note = (
        "Log-likelihood of the validation rows, by exact trace and the flow's own solver, against "
        "seconds of training, validation apart. One line a seed. A curve that still rises was "
        "stopped by its budget."
    )
    return [
        Figure(
            "validation",
            "Learning against seconds",
            note,
            lambda: _curves(done),
            tuple(done["key"]),
        )
    ]


def _pictures(name: str, group: pd.DataFrame) -> Any:
    data = datasets.load(name)
    rows = [row for _, row in group.drop_duplicates("flow").iterrows()]
    held = [arrays(row) for row in rows]
    x0, x1, y0, y1 = extent = held[0]["extent"]
    histogram, _, _ = np.histogram2d(
        data.train[:, 0].numpy(),
        data.train[:, 1].numpy(),
        bins=80,
        range=[[x0, x1], [y0, y1]],
        density=True,
    )
    images = [histogram.T, *(np.exp(a["image"].astype(float)) for a in held)]
    clouds = [data.test[:3000].numpy(), *(a["samples"].astype(float) for a in held)]
    top = float(np.quantile(histogram[histogram > 0], 0.95))
    titles = ["Data", *(f"{row['flow']}\n{row['test_ll']:.3f} nats" for row in rows)]
    with draw.figure(2, len(images), height=2.2) as (figure, axes):
        figure.set_size_inches(2.15 * len(images), 4.6)
        for column, (title, image, cloud) in enumerate(zip(titles, images, clouds, strict=True)):
            above, below = axes[:, column]
            above.imshow(
                image,
                origin="lower",
                extent=extent,
                vmin=0,
                vmax=top,
                cmap="viridis",
                aspect="equal",
                interpolation="nearest",
            )
            below.plot(
                *cloud.T,
                ls="",
                marker=".",
                ms=1.2,
                mec="none",
                color="#333333",
                alpha=0.7,
                rasterized=True,
            )
            below.set(xlim=(x0, x1), ylim=(y0, y1), aspect="equal")
            above.set_title(title)
            for panel in (above, below):
                panel.set(xticks=[], yticks=[])
                panel.grid(False)
                for spine in panel.spines.values():
                    spine.set_visible(True)
                    spine.set_color("#bbbbbb")
    return figure


def _curves(done: pd.DataFrame) -> Any:
    looks = draw.looks(done["flow"])
    groups = list(done.groupby("dataset", sort=False))
    columns = min(4, len(groups))
    lines = -(-len(groups) // columns)
    with draw.figure(lines, columns, height=2.8) as (figure, axes):
        for panel in axes.flat[len(groups) :]:
            panel.set_visible(False)
        for panel, (name, group) in zip(axes.flat, groups, strict=False):
            for flow, seeds in group.groupby("flow", sort=False):
                for index, (_, row) in enumerate(seeds.iterrows()):
                    a = arrays(row)
                    finite = np.isfinite(a["validation_ll"])
                    panel.plot(
                        a["validation_seconds"][finite],
                        a["validation_ll"][finite],
                        label=flow if index == 0 else None,
                        **looks[str(flow)],
                    )
            best = (
                max(float(np.max(line.get_ydata())) for line in panel.lines) if panel.lines else 0
            )
            starts = [
                float(line.get_ydata()[min(1, len(line.get_ydata()) - 1)]) for line in panel.lines
            ]
            if starts:
                low = min(starts)
                panel.set_ylim(low - 0.05 * (best - low or 1), best + 0.08 * (best - low or 1))
            panel.set(title=str(name), xlabel="seconds of training", ylabel="validation LL (nats)")
        handles: dict[str, Any] = {}
        for panel in axes.flat:
            handles.update(dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True)))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5)
    return figure
