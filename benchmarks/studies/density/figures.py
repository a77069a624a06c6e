"""Figures of densities: beside their data, the way there, in a few columns, and the training."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from benchmarks.analysis import improvement
from benchmarks.analysis.contests import kinds, validations
from benchmarks.analysis.paired import facts_of
from benchmarks.analysis.ranking import Ranking
from benchmarks.core.exhibit import Figure
from benchmarks.core.formats import number
from benchmarks.core.frame import arrays_by_case, holds
from benchmarks.core.naming import named
from benchmarks.plotting import draw, panels, ranks

Arrays = dict[str, np.ndarray]

FLOWS, SETS = 6, 5  # flows beside the data, and data sets, of a figure of several sets
ABREAST = 6  # panels of a row in a figure of one set, the data among them
PORTRAIT_NOTE = (
    "Above: the density (for the data a histogram of the training set), all panels of a data set "
    "on one scale; grey: not evaluated. Below: samples (for the data test rows). Numbers are test "
    "log-likelihoods in nats. First seed."
)
STEPS, GAP = 8, 0.05  # steps abreast, and the gap between two as a share of their side
STEPS_NOTE = (
    "From noise (left) to data (right): densities above 800 samples. A continuous flow is shown "
    "at equally spaced times on common axes, any other after the given number of layers on axes "
    "of its own. Densities of a flow share one scale. First seed of at most six flows."
)
PATHS_ABREAST = 7  # flows of a figure of trajectories
PATHS, STARTS, ENDS = "#56B4E9", "#000000", "#D55E00"
PATHS_NOTE = (
    "Paths of 100 points from noise (black) to data (orange) under each continuous flow. Length: "
    "that of the paths over the distance between their ends. Energy: integral of the squared speed "
    "over that of straight paths at constant speed. First seed."
)
BINS, SMOOTH = 40, 1.5  # bins of a histogram, and the width of its smoothing in bins
LEVELS = (0.5, 0.8, 0.95)  # shares of the data within the contours
DATA, SAMPLES = "#555555", "#D55E00"
DOTS = {"ls": "", "marker": ".", "ms": 1.6, "mec": "none", "color": SAMPLES, "alpha": 0.6}
CORNER_NOTE = (
    "{name}, test log-likelihood {ll} nats. Test rows (grey; contours hold 50, 80 and 95 % of "
    "them) and samples (orange), in the least normally distributed of {width} columns{given}. "
    "First seed."
)
TRAININGS = 4  # data sets of a figure of training
TRAINING_NOTE = (
    "Left and middle: validation log-likelihood, by the exact trace and an adaptive solver. A mark "
    "shows the weights that were kept, a bar a training that stopped early. Right: the training "
    "loss (faint: raw), which for some flows is not a likelihood. One line per seed."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    done = improvement.marked(frame[(frame["status"] == "done") & frame["arrays"].notna()])
    trained = done[done["updates"] > 0]
    flat = panels.ordered(trained[(trained["dim"] == 2) & holds(trained, "path_samples")])
    plane = [*portraits(flat), *steps(flat), *trajectories(flat)]
    ranking = Ranking.of(pd.concat([named(group) for _, group in _sets(frame)]))
    overall = ranks.figures("density", ranking)
    return [*overall, *plane, *corners(done[holds(done, "columns")]), *training(trained)]


def _sets(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(str(name), group) for name, group in rows.groupby("dataset", sort=False)]


def _numbered(name: str, number: int) -> str:
    return f"{name}-{number}" if number > 1 else name


# ---- densities beside their data ----------------------------------------------------------------


Portrait = tuple[str, np.ndarray, np.ndarray]  # the line below the name, density, samples
# name of a row; portraits by name, None in an empty place; extent and top of the scale
Line = tuple[str, dict[str, Portrait | None], np.ndarray, float]


def portraits(flat: pd.DataFrame) -> Iterator[Figure]:
    """All data sets at a glance, then each with all of its flows; several figures for many sets."""
    within: dict[str, str] = {}
    for n, (part, names) in enumerate(panels.sheets(flat, SETS, FLOWS), 1):
        name, note = _numbered("pictures", n), PORTRAIT_NOTE + improvement.note(part)
        candidates = flat[flat["dataset"].isin(part["dataset"])]
        within |= {data: name for data, rows in _sets(candidates) if {*rows["series"]} <= {*names}}
        yield Figure.of(name, "Data and densities", note, _glance, part, names)
    for data, rows in _sets(flat):
        title, note = f"{data}: data and densities", PORTRAIT_NOTE + improvement.note(rows)
        figure = Figure.of(f"picture-{data}", title, note, _each, rows)
        yield replace(figure, within=within.get(data, ""))  # the figure that has all of this one


def _glance(part: pd.DataFrame, flows: list[str]) -> Any:
    """A pair of rows of panels a data set, a column a flow."""
    lines: list[Line] = []
    for name, rows in _sets(part):
        every, extent, top = _portraits(rows)
        lines.append((name, {flow: every.get(flow) for flow in ("Data", *flows)}, extent, top))
    return _pairs(lines, 1.5)


def _each(rows: pd.DataFrame) -> Any:
    """All flows of one data set, a pair of rows of panels for every `ABREAST`."""
    every, extent, top = _portraits(rows)
    names = list(every)
    parts = [names[start : start + ABREAST] for start in range(0, len(names), ABREAST)]
    return _pairs([("", {name: every[name] for name in part}, extent, top) for part in parts], 1.75)


def _portraits(rows: pd.DataFrame) -> tuple[dict[str, Portrait], np.ndarray, float]:
    """The data and each flow by name; extent of the images, and top of their scale by the data."""
    every = arrays_by_case(rows)
    first = every[0]
    portraits = {"Data": ("", first["data_image"], first["data_samples"])}
    for (_, row), content in zip(rows.iterrows(), every, strict=True):
        likelihood = f"{number(row['test_ll'], '.3f')} {row.get(improvement.MARKS, '')}".strip()
        samples = content["samples"][: len(first["data_samples"])]
        portraits[str(row["series"])] = likelihood, np.exp(content["image"].astype(float)), samples
    image = first["data_image"].astype(float)
    return portraits, first["extent"], float(np.quantile(image[image > 0], 0.95))


def _pairs(lines: Sequence[Line], most: float) -> Any:
    """Pairs of rows: densities above, samples below."""
    columns = max(len(portraits) for _, portraits, _, _ in lines)
    side = min(most, 9.2 / columns)
    with panels.squares([panels.NAME, panels.NEXT] * len(lines), columns, side) as (figure, axes):
        for panel in axes.flat:
            panel.set_visible(False)
        pairs = zip(axes.reshape(len(lines), 2, columns), lines, strict=True)
        for pair, (label, portraits, extent, top) in pairs:
            for (above, below), (name, portrait) in zip(pair.T, portraits.items(), strict=False):
                if portrait is None:
                    continue
                likelihood, image, samples = portrait
                last = (panels.density(above, image, extent, top), above)
                panels.cloud(below, samples)
                above.set_facecolor(panels.UNSEEN)  # beyond an image that is not square
                for panel in (above, below):
                    panel.set_visible(True)
                    panels.window(panel, extent)
                panels.title(above, name, likelihood, side)
            panels.scale(figure, *last)
            panels.label(figure, pair[0, 0], pair[1, 0], label)
    return figure


# ---- from noise to data -------------------------------------------------------------------------


def steps(flat: pd.DataFrame) -> Iterator[Figure]:
    """A figure for each data set, of flows that have something between noise and data."""
    counts = [len(content["path_samples"]) for content in arrays_by_case(flat, "path_samples")]
    for name, rows in _sets(flat[np.array(counts, dtype=int) > 2]):
        title = f"{name}: from noise to data"
        yield Figure.of(f"steps-{name}", title, STEPS_NOTE, _steps, rows.iloc[:FLOWS])


def _steps(rows: pd.DataFrame) -> Any:
    """A pair of rows for each flow, each one panel with all steps: many panels are slow."""
    gaps, across = [0.25, panels.NEXT] * len(rows), STEPS * (1 + GAP) - GAP
    with panels.squares(gaps, 1, 1.1, across) as (figure, axes):
        flows = zip(rows["series"], arrays_by_case(rows), strict=True)
        for (above, below), (name, path) in zip(axes.reshape(-1, 2), flows, strict=True):
            for panel in (above, below):
                panel.set(xlim=(0, across), ylim=(0, 1))
                panel.spines[:].set_visible(False)
            panels.scale(figure, _flow(above, below, path), above)
            panels.label(figure, above, below, str(name))
    return figure


def _flow(above: Any, below: Any, path: Arrays) -> Any:
    """The steps of one flow, the first at the left and the last at the right, in unit squares."""
    extents, samples = path["path_extents"].reshape(-1, 2, 2), path["path_samples"].astype(float)
    lengths = np.diff(extents, axis=2)[:, :, 0]
    images = densities(path) * lengths.prod(1)[:, None, None]
    top = float(np.median(np.quantile(images, 0.999, axis=(1, 2))))
    layers = path.get("path_layers", np.zeros(1))
    names = [f"t = {time:.2f}" for time in path.get("path_times", ())]
    names = ["noise", *(names or [f"{n} of {layers[-1]}" for n in layers])[1:-1], "data"]
    for step, x in enumerate(np.linspace(0, (STEPS - 1) * (1 + GAP), len(images))):
        image = panels.density(above, images[step], (x, x + 1, 0, 1), top)
        above.text(x + 0.5, 1.04, names[step], ha="center", fontsize=8)
        inside = (samples[step] - extents[step, :, 0]) / lengths[step]
        inside = inside[((inside > 0) & (inside < 1)).all(1)]
        panels.cloud(below, inside + np.array([x, 0]))
        below.add_patch(Rectangle((x, 0), 1, 1, fill=False, ec="#bbbbbb", clip_on=False))
    return image


def densities(path: Arrays) -> np.ndarray:
    """Decode the densities of the steps, (steps, side, side)."""
    peaks = path["path_peaks"].astype(float)[:, None, None]
    images: np.ndarray = path["path_densities"] * peaks / 255
    return images


def detours(lines: np.ndarray) -> tuple[float, float]:
    """Length and energy of trajectories (points, n, 2), equally spaced in time, over the least.

    The least are those of straight paths with the same ends and constant speed.
    """
    lines = lines.astype(float)
    steps = np.linalg.norm(np.diff(lines, axis=0), axis=2)
    ends = np.linalg.norm(lines[-1] - lines[0], axis=1)
    energy = len(steps) * np.square(steps).sum(0).mean() / np.square(ends).mean()
    return float(steps.sum(0).mean() / ends.mean()), float(energy)


def trajectories(flat: pd.DataFrame) -> Iterator[Figure]:
    """All data sets and their continuous flows, a row a set; several figures for many sets."""
    sheets = panels.sheets(flat[holds(flat, "path_lines")], SETS, PATHS_ABREAST)
    for n, (part, names) in enumerate(sheets, 1):
        name, title = _numbered("trajectories", n), "Paths from noise to data"
        yield Figure.of(name, title, PATHS_NOTE, _paths, part, names)


def _paths(part: pd.DataFrame, names: list[str]) -> Any:
    """A row of panels a data set, a column a flow."""
    side, sets = min(1.8, 9.2 / len(names)), _sets(part)
    with panels.squares([panels.NAME + 0.15] * len(sets), len(names), side) as (figure, axes):
        for row, (name, rows) in zip(axes, sets, strict=True):
            contents = arrays_by_case(rows, "path_lines")
            lines = [content["path_lines"].astype(float) for content in contents]
            points = np.concatenate([path.reshape(-1, 2) for path in lines])
            extent = np.stack([points.min(0), points.max(0)], 1).flatten()
            by_flow = dict(zip(rows["series"], lines, strict=True))
            for panel, flow in zip(row, names, strict=True):
                panel.set_visible(flow in by_flow)
                if flow not in by_flow:
                    continue
                path = by_flow[flow]
                panel.plot(path[:, :, 0], path[:, :, 1], color=PATHS, lw=0.5, alpha=0.8)
                for ends, colour in ((path[0], STARTS), (path[-1], ENDS)):
                    panel.plot(*ends.T, ls="", marker="o", ms=1.8, mec="none", color=colour)
                panels.window(panel, extent, 0.03)
                numbers = "length {:.2f}\nenergy {:.2f}".format(*detours(path))
                panels.title(panel, flow, numbers, side)
            panels.label(figure, row[0], row[0], name)
    return figure


# ---- samples against data in a few columns of a table -------------------------------------------


def corners(wide: pd.DataFrame) -> Iterator[Figure]:
    """A plot of the best discrete and the best continuous flow, and the mixture, of each set.

    The best by validation likelihood, in its first seed.
    """
    for name, group in _sets(wide):
        rows = named(group).sort_values("seed", kind="stable").drop_duplicates("series")
        rows = rows.iloc[np.argsort(-validations(rows), kind="stable")]
        of = kinds(rows)
        masks = (of == "discrete", of == "continuous", rows["flow"] == "mixture")
        for row in (rows[mask].iloc[:1] for mask in masks if mask.any()):
            first = row.iloc[0]
            width = facts_of(row).get("context_dim", 0)
            words = f", of which {width} are given: samples are drawn at theirs" if width else ""
            about = {"name": first["series"], "ll": number(first["test_ll"], ".3f")}
            about |= {"width": first["dim"] + width, "given": words}
            note = CORNER_NOTE.format(**about) + improvement.note(row)
            title = f"{name}: data and samples of {first['series']}"
            yield Figure.of(f"corner-{name}-{first['flow']}", title, note, _corner, row)


def _corner(rows: pd.DataFrame) -> Any:
    row, columns = rows.iloc[0], facts_of(rows).get("columns")
    (content,) = arrays_by_case(rows)
    data, samples = (content[name].astype(float) for name in ("data_samples", "samples"))
    names = [
        f"{columns[i] if columns else f'column {i}'}{'' if i < row['dim'] else ' (given)'}"
        for i in content["columns"]
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
                bins = np.linspace(ends[0, i], ends[1, i], BINS + 1)
                panel.hist(data[:, i], bins, density=True, color=DATA, alpha=0.4)
                line = {"histtype": "step", "color": SAMPLES, "lw": 1.2}
                panel.hist(samples[:, i], bins, density=True, **line)
                panel.set_yticks([])
                panel.spines["left"].set_visible(False)
            else:
                panel.set_ylim(ends[:, i])
                _pair(panel, data[:, [j, i]], samples[:, [j, i]], ends[:, [j, i]])
            panel.tick_params(labelbottom=i == count - 1, labelleft=j == 0 < i, labelsize=7)
            panel.set_xlabel(names[j] if i == count - 1 else "")
            panel.set_ylabel(names[i] if j == 0 < i else "")
        dots = Line2D([], [], ls="", marker="o", ms=4, mec="none", color=SAMPLES)
        handles = [Patch(color=DATA, alpha=0.4), dots]
        figure.legend(handles, ["data", str(row["series"])], loc="upper right")
    return figure


def _pair(panel: Any, data: np.ndarray, samples: np.ndarray, ends: np.ndarray) -> None:
    counts, xs, ys = np.histogram2d(data[:, 0], data[:, 1], bins=BINS, range=ends.T)
    smooth = gaussian_filter(counts, SMOOTH).T
    ranked = np.sort(smooth.flatten())[::-1]
    within = np.cumsum(ranked) / ranked.sum()
    levels = sorted({float(ranked[np.searchsorted(within, share)]) for share in LEVELS})
    middles = [(edges[1:] + edges[:-1]) / 2 for edges in (xs, ys)]
    panel.plot(*samples.T, rasterized=True, **DOTS)
    panel.contour(*middles, smooth, levels=levels, colors=DATA, linewidths=[0.6, 0.9, 1.2])


# ---- the training -------------------------------------------------------------------------------


def training(done: pd.DataFrame) -> Iterator[Figure]:
    """Validation against updates and seconds, and the loss, a row of panels a data set."""
    sets = [named(group) for _, group in _sets(done)]
    for n, start in enumerate(range(0, len(sets), TRAININGS), 1):
        part = pd.concat(sets[start : start + TRAININGS])
        note = TRAINING_NOTE + improvement.note(part)
        yield Figure.of(_numbered("validation", n), "Training", note, _trainings, part)


def _trainings(part: pd.DataFrame) -> Any:
    looks, sets = draw.looks(part["series"]), _sets(part)
    with draw.figure(len(sets), 3, height=2.7) as (figure, axes):
        for line, (name, group) in zip(axes, sets, strict=True):
            curves = arrays_by_case(group)
            cpu = all("validation_cpu_seconds" in curve for curve in curves)
            axis = "validation_cpu_seconds" if cpu else "validation_seconds"
            counts = group.groupby("series")["key"].transform("size")
            for (_, row), curve, count in zip(group.iterrows(), curves, counts, strict=True):
                width = 1.4 if count == 1 else 0.8
                _training(line, row, curve, axis, looks[str(row["series"])], width)
            _limits(line)
            for panel, x in zip(line, ("updates", "seconds of training", "updates"), strict=True):
                label = "training loss" if panel is line[2] else "validation LL (nats)"
                panel.set(title=name, xlabel=x, ylabel=label)
            if cpu:
                line[1].set_xlabel("CPU seconds of training")
        handles = [Line2D([], [], **look) for look in looks.values()]
        draw.legend_below(figure, handles, list(looks))
    return figure


def _training(
    line: Any, row: Any, curve: Arrays, axis: str, look: dict[str, Any], width: float
) -> None:
    """Draw one training into its three panels."""
    colour, values = look["color"], curve["validation_ll"]
    score = np.where(np.isfinite(values), values, np.nan)
    keep = (row.get("setting.training") or {}).get("keep", "best")
    best = len(score) - 1 if keep == "last" else int(np.argmax(values))
    for panel, name in ((line[0], "validated"), (line[1], axis)):
        x = curve.get(name, np.full(len(score), np.nan))
        panel.plot(x, score, color=colour, lw=width)
        panel.plot(x[best], score[best], ls="", **look)
        if row.get("train_updates", row["updates"]) < row["updates"]:
            panel.plot(x[-1], score[-1], color=colour, marker="|", ms=9, mew=1.5)
        if mark := row.get(improvement.MARKS):
            above = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
            panel.annotate(mark, (x[-1], score[-1]), color=colour, **above)
    losses = curve["losses"].astype(float)
    updates, finite = np.arange(1, len(losses) + 1), np.isfinite(losses)
    smooth = gaussian_filter1d(losses[finite], max(1.0, len(losses) / 60))
    line[2].plot(updates, losses, color=colour, lw=0.5, alpha=0.2, rasterized=True)
    line[2].plot(updates[finite], smooth, color=colour, lw=width)


def _limits(panels: Any) -> None:
    """Leave out the first fifth of each curve, where it is steep, and outliers of the losses."""
    for panel in panels[:2]:
        curves = [np.asarray(line.get_ydata(), dtype=float) for line in panel.lines]
        late = [y[max(1, len(y) // 5) :] for y in curves if len(y) > 1]
        late = [y for y in late if np.isfinite(y[0])]
        low = min((float(y[0]) for y in late), default=0.0)
        high = max((float(np.nanmax(y)) for y in late), default=0.0)
        panel.set_ylim(low - 0.05 * (high - low or 1), high + 0.08 * (high - low or 1))
    losses = np.concatenate([np.asarray(c.get_ydata(), dtype=float) for c in panels[2].lines])
    losses = losses[np.isfinite(losses)]
    low, high = np.quantile(losses, [0.001, 0.98]) if len(losses) else (0.0, 1.0)
    panels[2].set_ylim(low, high if high > low else low + max(1.0, abs(low)))
