"""Densities, shown: images beside the data, and learning against seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmarks import datasets, draw
from benchmarks.exhibit import Figure
from benchmarks.store import arrays


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Pictures of the two-dimensional densities, and validation against seconds."""
    done = frame[(frame["status"] == "done") & (frame["updates"] > 0)]
    return [*_density_pictures(done), *_validation_curves(done)]


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
            lambda name=name, group=group: _pictures(str(name), group),  # type: ignore[misc]  # no type for a lambda's defaults
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
    group = group.assign(series=draw.series(group)).drop_duplicates("series")  # the first seed
    rows = [row for _, row in group.iterrows()]
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
    titles = ["Data", *(f"{row['series']}\n{row['test_ll']:.3f} nats" for row in rows)]
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
    groups = [
        (name, group.assign(series=draw.series(group)))
        for name, group in done.groupby("dataset", sort=False)
    ]
    looks = draw.looks(name for _, group in groups for name in group["series"])
    columns = min(4, len(groups))
    lines = -(-len(groups) // columns)
    with draw.figure(lines, columns, height=2.8) as (figure, axes):
        for panel in axes.flat[len(groups) :]:
            panel.set_visible(False)
        for panel, (name, group) in zip(axes.flat, groups, strict=False):
            for flow, seeds in group.groupby("series", sort=False):
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
        draw.legend_below(figure, list(handles.values()), list(handles))
    return figure
