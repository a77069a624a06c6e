"""Figures of densities: beside their data, the way there, in a few columns, and the training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from benchmarks.analysis import improvement
from benchmarks.analysis.contests import validations
from benchmarks.analysis.paired import facts_of
from benchmarks.core.exhibit import Figure
from benchmarks.core.formats import number
from benchmarks.core.frame import arrays_by_case, holding
from benchmarks.core.naming import is_baseline, series
from benchmarks.core.store import arrays
from benchmarks.plotting import draw, panels

Arrays = dict[str, np.ndarray]

FLOWS, SETS = 6, 5  # flows beside the data, and data sets, of a figure of several sets
ABREAST = 6  # panels of a row in a figure of one set, the data among them
PORTRAIT_NOTE = (
    "Above: the density (for the data a histogram of the training set), all panels of a data set "
    "on one scale, in 1/area; grey: outside of the data's square, not evaluated. Below: samples "
    "(for the data rows of the test set). Numbers are test log-likelihoods in nats. First seed."
)
STEPS, GAP = 8, 0.05  # steps abreast, and the gap between two as a share of their side
STEPS_NOTE = (
    "From noise (left) to data (right). Above: the density at that step; below: 800 samples. A "
    "continuous flow is shown at equally spaced times on common axes, any other flow after the "
    "given number of layers on axes of its own, since layers scale. Densities of a flow share "
    "one scale: density over its mean in the panel. At most six flows: those of the slide, then "
    "the best of the others. First seed. A flow of one layer has no intermediate step and is "
    "left out."
)
PATHS_ABREAST = 7  # flows of a figure of trajectories
PATHS, STARTS, ENDS = "#56B4E9", "#000000", "#D55E00"
PATHS_NOTE = (
    "Paths of 100 points from noise (black) to data (orange) under each continuous flow, all "
    "panels of a data set on one scale. Length: length of the paths over the distance between "
    "their ends. Energy: integral of the squared speed over that of straight paths at constant "
    "speed. Both are means over the paths, with minimum 1. First seed."
)
BINS, SMOOTH = 40, 1.5  # bins of a histogram, and the width of its smoothing in bins
LEVELS = (0.5, 0.8, 0.95)  # shares of the data within the contours
DATA, SAMPLES = "#555555", "#D55E00"
CORNER_NOTE = (
    "{name}, test log-likelihood {ll} nats. Diagonal: the distribution of each column in "
    "test rows (grey) and samples. Below the diagonal: samples as dots over contours that hold "
    "50, 80 and 95 % of the test rows. Shown are the least normally distributed of {width} "
    "columns{given}. First seed."
)
TRAININGS = 4  # data sets of a figure of training
TRAINING_NOTE = (
    "Left and middle: validation log-likelihood, by the exact trace and an adaptive solver, "
    "against updates and against seconds of training (without validation). A mark shows the "
    "weights that were kept, a bar the end of a training that stopped early; a curve that still "
    "rises at its end was cut off by its budget. The steep first fifth of a curve may lie below "
    "the panel. Right: the training loss (faint: raw), which for some flows is not a likelihood. "
    "One line per seed."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Every figure of the study."""
    done = improvement.marked(frame[(frame["status"] == "done") & frame["arrays"].notna()])
    trained = done[done["updates"] > 0]
    flat = holding(trained[trained["dim"] == 2], "path_samples")
    plane = [*portraits(flat), *steps(flat), *trajectories(flat)]
    return [*plane, *corners(holding(done, "columns")), *training(trained)]


def _sets(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The first seed of each series, by data set."""
    groups = rows.groupby("dataset", sort=False)
    return {str(name): panels.ordered(group) for name, group in groups}


def _keys(parts: dict[str, pd.DataFrame]) -> tuple[str, ...]:
    return tuple(key for rows in parts.values() for key in rows["key"])


# ---- densities beside their data ------------------------------------------------------------


class Portrait(NamedTuple):
    """Contents of a pair of panels."""

    name: str
    below: str  # the line below the name
    image: np.ndarray  # density
    samples: np.ndarray


def portraits(flat: pd.DataFrame) -> list[Figure]:
    """All data sets at a glance, then each with all of its flows; several figures for many sets."""
    sets = _sets(flat)
    pictures = []
    within: dict[str, str] = {}
    for n, (chosen, names) in enumerate(panels.sheets(sets, SETS, FLOWS), 1):
        name = f"pictures-{n}" if n > 1 else "pictures"
        within |= {data: name for data in chosen if set(sets[data]["series"]) <= {*names}}
        note = PORTRAIT_NOTE + improvement.note(pd.concat(chosen.values()))
        draw = partial(_glance, chosen, names)
        pictures.append(Figure(name, "Data and densities", note, draw, _keys(chosen)))
    for name, rows in sets.items():
        title, keys, whole = f"{name}: data and densities", tuple(rows["key"]), within.get(name, "")
        note, draw = PORTRAIT_NOTE + improvement.note(rows), partial(_each, rows)
        pictures.append(Figure(f"picture-{name}", title, note, draw, keys, within=whole))
    return pictures


def _glance(sets: dict[str, pd.DataFrame], flows: list[str]) -> Any:
    """A pair of rows of panels a data set, a column a flow."""
    lines = []
    for name, rows in sets.items():
        held, extent = _portraits(rows)
        lines.append((name, [held.get(flow) for flow in ("Data", *flows)], extent))
    return _pairs(lines, 1 + len(flows), 1.5)


def _each(rows: pd.DataFrame) -> Any:
    """All flows of one data set, a pair of rows of panels for every `ABREAST`."""
    held, extent = _portraits(rows)
    every: list[Portrait | None] = list(held.values())
    columns = min(ABREAST, len(every))
    every += [None] * (-len(every) % columns)
    starts = range(0, len(every), columns)
    return _pairs([("", every[at : at + columns], extent) for at in starts], columns, 1.75)


def _portraits(rows: pd.DataFrame) -> tuple[dict[str, Portrait], np.ndarray]:
    """The data and each flow by name, and the extent of the images."""
    every = arrays_by_case(rows)
    first = every[0]
    portraits = {"Data": Portrait("Data", "", first["data_image"], first["data_samples"])}
    for (_, row), held in zip(rows.iterrows(), every, strict=True):
        likelihood = f"{row['test_ll']:.3f} {row.get(improvement.MARKS, '')}".strip()
        samples = held["samples"][: len(first["data_samples"])]
        image = np.exp(held["image"].astype(float))
        name = str(row["series"])
        portraits[name] = Portrait(name, likelihood.replace("-", "−"), image, samples)
    return portraits, first["extent"]


def _pairs(
    lines: Sequence[tuple[str, Sequence[Portrait | None], np.ndarray]], columns: int, most: float
) -> Any:
    """Pairs of rows: densities above, samples below, on the scale of the first of all, the data."""
    side, data = min(most, 9.2 / columns), None
    with panels.squares([panels.NAME, panels.NEXT] * len(lines), columns, side) as (figure, axes):
        for pair, (name, portraits, extent) in zip(
            axes.reshape(len(lines), 2, columns), lines, strict=True
        ):
            if portraits[0] is not None and portraits[0].name == "Data":
                image = portraits[0].image.astype(float)
                data = float(np.quantile(image[image > 0], 0.95))
            last = None
            for (above, below), portrait in zip(pair.T, portraits, strict=True):
                if portrait is None:
                    above.set_visible(False)
                    below.set_visible(False)
                    continue
                last = (panels.density(above, portrait.image, extent, data), above)
                panels.cloud(below, portrait.samples)
                above.set_facecolor(panels.UNSEEN)  # beyond an image that is no square
                for panel in (above, below):
                    panels.window(panel, extent)
                panels.title(above, portrait.name, portrait.below, side)
            if last:
                panels.scale(figure, *last)
            if name:
                panels.label(figure, pair[0, 0], pair[1, 0], name)
    return figure


# ---- from noise to data ---------------------------------------------------------------------


def steps(flat: pd.DataFrame) -> list[Figure]:
    """A figure for each data set, of flows that have something between noise and data."""
    pictures = []
    for name, rows in _sets(flat).items():
        held = arrays_by_case(rows, "path_samples")
        rows = rows[[len(own["path_samples"]) > 2 for own in held]].iloc[:FLOWS]
        if len(rows):
            title, keys = f"{name}: from noise to data", tuple(rows["key"])
            draw = partial(_draw_steps, rows)
            pictures.append(Figure(f"steps-{name}", title, STEPS_NOTE, draw, keys))
    return pictures


def _draw_steps(rows: pd.DataFrame) -> Any:
    """A pair of rows for each flow, each one panel with all steps: many panels are slow."""
    gaps, across = [0.25, panels.NEXT] * len(rows), STEPS * (1 + GAP) - GAP
    with panels.squares(gaps, 1, 1.1, across) as (figure, axes):
        flows = zip(rows["series"], arrays_by_case(rows), strict=True)
        for (above, below), (name, held) in zip(axes.reshape(-1, 2), flows, strict=True):
            for panel in (above, below):
                panel.set(xlim=(0, across), ylim=(0, 1))
                panel.spines[:].set_visible(False)
            panels.scale(figure, _draw_flow(above, below, held), above)
            panels.label(figure, above, below, str(name))
    return figure


def _draw_flow(above: Any, below: Any, held: Arrays) -> Any:
    """The steps of one flow, the first at the left and the last at the right, in unit squares."""
    extents, samples = held["path_extents"].reshape(-1, 2, 2), held["path_samples"].astype(float)
    lengths = np.diff(extents, axis=2)[:, :, 0]
    images = densities(held) * lengths.prod(1)[:, None, None]
    top = float(np.median(np.quantile(images, 0.999, axis=(1, 2))))
    for step, x in enumerate(np.linspace(0, (STEPS - 1) * (1 + GAP), len(images))):
        image = panels.density(above, images[step], (x, x + 1, 0, 1), top)
        above.text(x + 0.5, 1.04, _place(held, step), ha="center", fontsize=8)
        inside = (samples[step] - extents[step, :, 0]) / lengths[step]
        inside = inside[((inside > 0) & (inside < 1)).all(1)]
        panels.cloud(below, inside + np.array([x, 0]))
        below.add_patch(Rectangle((x, 0), 1, 1, fill=False, ec="#bbbbbb", clip_on=False))
    return image


def densities(held: Arrays) -> np.ndarray:
    """Decode the densities of the steps, (steps, side, side)."""
    peaks = held["path_peaks"].astype(float)[:, None, None]
    images: np.ndarray = held["path_densities"] * peaks / 255
    return images


def _place(held: Arrays, step: int) -> str:
    """Where a step is: "noise", "data", or how far between them."""
    if "path_times" in held:
        time = held["path_times"][step]
        return {0.0: "noise", 1.0: "data"}.get(float(time), f"t = {time:.2f}")
    layers = held["path_layers"]
    return {0: "noise", layers[-1]: "data"}.get(layers[step], f"{layers[step]} of {layers[-1]}")


def detours(lines: np.ndarray) -> tuple[float, float]:
    """Length and energy of trajectories (points, n, 2), equally spaced in time, over the least.

    The least are those of straight paths with the same ends and constant speed.
    """
    lines = lines.astype(float)
    steps = np.linalg.norm(np.diff(lines, axis=0), axis=2)
    ends = np.linalg.norm(lines[-1] - lines[0], axis=1)
    energy = len(steps) * np.square(steps).sum(0).mean() / np.square(ends).mean()
    return float(steps.sum(0).mean() / ends.mean()), float(energy)


def trajectories(flat: pd.DataFrame) -> list[Figure]:
    """All data sets and their continuous flows, a row a set; several figures for many sets."""
    sets, pictures = _sets(holding(flat, "path_lines")), []
    for n, (chosen, names) in enumerate(panels.sheets(sets, SETS, PATHS_ABREAST), 1):
        name = f"trajectories-{n}" if n > 1 else "trajectories"
        draw = partial(_draw_trajectories, chosen, names)
        title = "Paths from noise to data"
        pictures.append(Figure(name, title, PATHS_NOTE, draw, _keys(chosen)))
    return pictures


def _draw_trajectories(sets: dict[str, pd.DataFrame], names: list[str]) -> Any:
    """A row of panels a data set, a column a flow."""
    side = min(1.8, 9.2 / len(names))
    with panels.squares([panels.NAME + 0.15] * len(sets), len(names), side) as (figure, axes):
        for row, (name, rows) in zip(axes, sets.items(), strict=True):
            lines = [own["path_lines"].astype(float) for own in arrays_by_case(rows, "path_lines")]
            points = np.concatenate([own.reshape(-1, 2) for own in lines])
            extent = np.stack([points.min(0), points.max(0)], 1).flatten()
            held = dict(zip(rows["series"], lines, strict=True))
            for panel, flow in zip(row, names, strict=True):
                if flow not in held:
                    panel.set_visible(False)
                    continue
                own = held[flow]
                panel.plot(own[:, :, 0], own[:, :, 1], color=PATHS, lw=0.5, alpha=0.8)
                for ends, colour in ((own[0], STARTS), (own[-1], ENDS)):
                    panel.plot(*ends.T, ls="", marker="o", ms=1.8, mec="none", color=colour)
                panels.window(panel, extent, 0.03)
                numbers = "length {:.2f}\nenergy {:.2f}".format(*detours(own))
                panels.title(panel, flow, numbers, side)
            panels.label(figure, row[0], row[0], name)
    return figure


# ---- samples against data in a few columns of a table ---------------------------------------


def corners(wide: pd.DataFrame) -> list[Figure]:
    """A plot of the best discrete and the best continuous flow, and the mixture, of each set.

    The best by validation likelihood, in its first seed.
    """
    pictures = []
    for name, group in wide.groupby("dataset", sort=False):
        rows = group.assign(series=series(group)).sort_values("seed", kind="stable")
        rows = rows.drop_duplicates("series")
        rows = rows.iloc[np.argsort(-validations(rows), kind="stable")]
        solved = rows.reindex(columns=["test_nfe"])["test_nfe"].notna()
        trained = ~is_baseline(rows)
        kinds = (trained & ~solved, trained & solved, rows["flow"] == "mixture")
        for _, row in pd.concat([rows[kind].iloc[:1] for kind in kinds]).iterrows():
            facts, score = facts_of(row.to_frame().T), number(row["test_ll"], ".3f")
            given = facts.get("context_dim", 0)
            words = f", of which {given} are given: samples are drawn at theirs" if given else ""
            about = {"name": row["series"], "ll": score, "width": row["dim"] + given}
            note = CORNER_NOTE.format(**about, given=words) + improvement.note(row.to_frame().T)
            title = f"{name}: data and samples of {row['series']}"
            draw = partial(_draw_corner, row)
            pictures.append(
                Figure(f"corner-{name}-{row['flow']}", title, note, draw, (row["key"],))
            )
    return pictures


def _draw_corner(row: Any) -> Any:
    held = arrays(row)
    data, samples = (held[name].astype(float) for name in ("data_samples", "samples"))
    known = facts_of(row.to_frame().T).get("columns")
    names = [
        f"{known[i] if known else f'column {i}'}{'' if i < row['dim'] else ' (given)'}"
        for i in held["columns"]
    ]
    ends = np.quantile(data, [0.005, 0.995], axis=0)
    ends += np.array([[-0.08], [0.08]]) * np.ptp(ends, axis=0)
    count = len(names)
    with draw.figure(count, count, height=1.5) as (figure, axes):
        figure.set_size_inches(1.5 * count + 0.3, 1.5 * count + 0.3)
        for (i, j), panel in np.ndenumerate(axes):
            panel.grid(False)
            panel.set_xlim(ends[:, j])
            if i < j:
                panel.set_visible(False)
            elif i == j:
                _margin(panel, data[:, i], samples[:, i], ends[:, i])
            else:
                panel.set_ylim(ends[:, i])
                _pair(panel, data[:, [j, i]], samples[:, [j, i]], ends[:, [j, i]])
            panel.tick_params(labelbottom=i == count - 1, labelleft=j == 0 < i, labelsize=7)
            if i == count - 1:
                panel.set_xlabel(names[j])
            if j == 0 < i:
                panel.set_ylabel(names[i])
        dots = Line2D([], [], ls="", marker="o", ms=4, mec="none", color=SAMPLES)
        figure.legend(
            [Patch(color=DATA, alpha=0.4), dots], ["data", str(row["series"])], loc="upper right"
        )
    return figure


def _margin(panel: Any, data: np.ndarray, samples: np.ndarray, ends: np.ndarray) -> None:
    bins = np.linspace(ends[0], ends[1], BINS + 1)
    panel.hist(data, bins, density=True, color=DATA, alpha=0.4)
    panel.hist(samples, bins, density=True, histtype="step", color=SAMPLES, lw=1.2)
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)


def _pair(panel: Any, data: np.ndarray, samples: np.ndarray, ends: np.ndarray) -> None:
    counts, xs, ys = np.histogram2d(data[:, 0], data[:, 1], bins=BINS, range=ends.T)
    smooth = gaussian_filter(counts, SMOOTH).T
    ranked = np.sort(smooth.flatten())[::-1]
    within = np.cumsum(ranked) / ranked.sum()
    levels = sorted({float(ranked[np.searchsorted(within, share)]) for share in LEVELS})
    middles = [(edges[1:] + edges[:-1]) / 2 for edges in (xs, ys)]
    dots = {"ls": "", "marker": ".", "ms": 1.6, "mec": "none", "color": SAMPLES, "alpha": 0.6}
    panel.plot(*samples.T, rasterized=True, **dots)
    panel.contour(*middles, smooth, levels=levels, colors=DATA, linewidths=[0.6, 0.9, 1.2])


# ---- the training ---------------------------------------------------------------------------


def training(done: pd.DataFrame) -> list[Figure]:
    """Validation against updates and seconds, and the loss, a row of panels a data set."""
    groups = done.groupby("dataset", sort=False)
    sets = [(str(name), group.assign(series=series(group))) for name, group in groups]
    pictures = []
    for start in range(0, len(sets), TRAININGS):
        part = dict(sets[start : start + TRAININGS])
        name = f"validation-{1 + start // TRAININGS}" if start else "validation"
        note = TRAINING_NOTE + improvement.note(pd.concat(part.values()))
        pictures.append(Figure(name, "Training", note, partial(_draw, part), _keys(part)))
    return pictures


def _draw(sets: dict[str, pd.DataFrame]) -> Any:
    looks = draw.looks(name for group in sets.values() for name in group["series"])
    with draw.figure(len(sets), 3, height=2.7) as (figure, axes):
        for line, (name, group) in zip(axes, sets.items(), strict=True):
            every = arrays_by_case(group)
            cpu = all("validation_cpu_seconds" in held for held in every)
            axis = "validation_cpu_seconds" if cpu else "validation_seconds"
            curves = dict(zip(group.index, every, strict=True))
            for flow, seeds in group.groupby("series", sort=False):
                width = 1.4 if len(seeds) == 1 else 0.8
                for index, row in seeds.iterrows():
                    _training(line, row, curves[index], axis, dict(looks[str(flow)]), width)
            _limits(line)
            line[0].set(xlabel="updates", ylabel="validation LL (nats)")
            seconds = f"{'CPU ' if cpu else ''}seconds of training"
            line[1].set(xlabel=seconds, ylabel="validation LL (nats)")
            line[2].set(xlabel="updates", ylabel="training loss")
            for panel in line:
                panel.set_title(name)
        handles = [Line2D([], [], **look) for look in looks.values()]
        draw.legend_below(figure, handles, list(looks))
    return figure


def _training(
    line: Any, row: Any, held: Arrays, axis: str, look: dict[str, Any], width: float
) -> None:
    """Draw one training into its three panels."""
    colour, values = look["color"], held["validation_ll"]
    score = np.where(np.isfinite(values), values, np.nan)
    keep = (row.get("setting.training") or {}).get("keep", "best")
    best = len(score) - 1 if keep == "last" else int(np.argmax(values))
    early = row.get("train_updates", row["updates"]) < row["updates"]
    seconds = held.get(axis, np.full(len(score), np.nan))
    for panel, x in ((line[0], held["validated"]), (line[1], seconds)):
        panel.plot(x, score, color=colour, lw=width)
        panel.plot(x[best], score[best], ls="", **look)
        if early:
            panel.plot(x[-1], score[-1], color=colour, marker="|", ms=9, mew=1.5)
        if mark := row.get(improvement.MARKS):
            above = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
            panel.annotate(mark, (x[-1], score[-1]), color=colour, **above)
    losses = held["losses"].astype(float)
    updates, finite = np.arange(1, len(losses) + 1), np.isfinite(losses)
    smooth = gaussian_filter1d(losses[finite], max(1.0, len(losses) / 60))
    line[2].plot(updates, losses, color=colour, lw=0.5, alpha=0.2, rasterized=True)
    line[2].plot(updates[finite], smooth, color=colour, lw=width)


def _limits(panels: Any) -> None:
    """Leave out the first fifth of each curve, where it is steep, and outliers of the losses."""
    for panel in panels[:2]:
        values = (line.get_ydata() for line in panel.lines)
        curves = [y for y in values if len(y) > 1 and np.isfinite(y).any()]
        starts = [float(y[max(1, len(y) // 5)]) for y in curves]
        low = min((y for y in starts if np.isfinite(y)), default=0.0)
        high = max((float(np.nanmax(y)) for y in curves), default=0.0)
        panel.set_ylim(low - 0.05 * (high - low or 1), high + 0.08 * (high - low or 1))
    losses = np.concatenate([np.asarray(c.get_ydata(), dtype=float) for c in panels[2].lines])
    losses = losses[np.isfinite(losses)]
    low, high = np.quantile(losses, [0.001, 0.98]) if len(losses) else (0.0, 1.0)
    panels[2].set_ylim(low, high if high > low else low + max(1.0, abs(low)))
