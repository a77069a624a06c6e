"""Figures of the search: test likelihood against what training took; of a race the ranking."""

from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import improvement, paired
from benchmarks.analysis.contests import kinds
from benchmarks.analysis.criteria import LEVEL
from benchmarks.core.exhibit import Figure
from benchmarks.core.store import arrays
from benchmarks.plotting import draw, ranks
from benchmarks.studies.search import tables
from benchmarks.studies.search.tables import Choice, by_budget, finals

AXES = {"train_flops": "training (FLOP)", "seconds": "budget (s)"}
LOOK = {"markersize": 4, "lw": 1.2}
OTHERS = {"color": "#bbbbbb", "marker": "."}  # of models that a figure does not name
FITTED = {"color": "#bbbbbb", "ls": ":"}  # and of baselines
BEST_FITTED = {"color": "black", "ls": ":"}
HEIGHT = 3.2  # of a panel, inches
FAR = 3.0  # below the best, as a multiple of the lower quartile's distance: out of view
NOTE = (
    "Mean test log-likelihood, over the splits that all budgets have, of what is best by "
    "validation within each budget, against the FLOPs of the budget's training and its seconds. "
    f"Bands are {1 - LEVEL:.0%} intervals, by Student's t, of the difference on the same splits "
    "from the flow that is best at the largest budget: what a split does to all models alike is "
    "in none. Dotted: baselines, which are fitted. Each panel names its data's best three flows "
    "with an ODE and without, and the best baseline. What is far below most is outside of the axes."
)

OF_A_KIND = 3  # flows of a kind, with an ODE and without, that a figure of all names
CLOSED = (
    "Share of the gap between a Gaussian and the best model that each flow closes, mean over "
    "{}, against the FLOPs of its training (geometric mean). A line goes from the shortest budget "
    "to the longest, where there are several. Bars are {:.0%} intervals; the line across is the "
    "best baseline. Grey: the other flows."
)
RANKING = (
    f"Left: test log-likelihood with its {1 - LEVEL:.0%} interval over the test rows, the best by "
    "validation on top; dotted: baselines. Right: validation log-likelihood of the trainings "
    "against the CPU seconds of updates. What lies far below "
    "the best flow is off the axes."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Test likelihood against FLOPs and the seconds of the budget, a row a data set; each race."""
    sets, choices = tables.parted(frame)
    races = []
    for choice in (choice for choice in choices if len(choice.flows)):
        name, title = f"choose-{choice.data}", f"{choice.data}: which flow"
        races.append(Figure.of(name, title, RANKING, _draw_race, choice.ranking, choice))
    scored = [finals(rows).assign(model=lambda own: own[tables.FAMILY]) for rows in sets.values()]
    scored = [tables.on_common_splits(rows) for rows in scored if rows["seconds"].notna().any()]
    if not scored:
        return races
    title = "Test likelihood against the cost of training"
    budgets = [list(by_budget(rows).values()) for rows in scored]
    marked = [improvement.marked(rows) for of_set in budgets for rows in of_set]
    likelihoods = [pd.concat(of_set, ignore_index=True) for of_set in budgets]
    note = NOTE + improvement.note(pd.concat(marked))
    every = Figure.of("frontier", title, note, _draw, pd.concat(scored), likelihoods)
    best = tables.best_of(sets)
    overall = ranks.figures("frontier", tables.ranked(best))
    return [*overall, *_who_closes(sets, best), *races, every]


def _draw(_: pd.DataFrame, sets: list[pd.DataFrame]) -> Any:
    named = [_named(rows) for rows in sets]
    fitted = {name for rows in sets for name in rows.loc[rows["seconds"].isna(), "model"]}
    every = set().union(*named)
    looks = draw.looks(every - fitted) | dict.fromkeys(every & fitted, BEST_FITTED)
    budgets = {budget for rows in sets for budget in rows["seconds"].dropna()}
    labels = dict([*AXES.items()][: len(budgets)])  # one budget needs no axis
    with draw.figure(len(sets), len(labels), height=HEIGHT) as (figure, axes):
        for panels, rows, names in zip(axes, sets, named, strict=True):
            points = _points(rows[rows["seconds"].notna()])
            levels = rows[rows["seconds"].isna()].groupby("model", sort=False)["test_ll"].mean()
            for panel, (axis, label) in zip(panels, labels.items(), strict=True):
                _panel(panel, points, levels, axis, {name: looks[name] for name in names})
                panel.set(title=str(rows["dataset"].iloc[0]), xlabel=label)
                panel.set_ylabel("test log-likelihood (nats)")
    return figure


def _named(rows: pd.DataFrame) -> list[str]:
    """The models of a data set that its panels name: the best of each kind, at its last budget."""
    budgets = rows["seconds"].fillna(0)
    last = rows[budgets == budgets.groupby(rows["model"]).transform("max")]
    means = last.groupby("model")["test_ll"].mean().sort_values(ascending=False)
    kind = kinds(rows).groupby(rows["model"]).first()[means.index]
    most = {"discrete": OF_A_KIND, "continuous": OF_A_KIND, "baseline": 1}
    return [str(name) for of, count in most.items() for name in means.index[kind == of][:count]]


def _points(flows: pd.DataFrame) -> pd.DataFrame:
    """Of each model and budget median costs, mean likelihood, half the interval of its lag, mark.

    Half an interval is 0 where it is not known.
    """
    longest = flows[flows["seconds"] == flows["seconds"].max()]
    best = longest[longest["model"] == longest.groupby("model")["test_ll"].mean().idxmax()]
    rows: list[dict[str, Any]] = []
    for (model, _), seeds in flows.groupby(["model", "seconds"], sort=False):
        half = paired.compare(best, seeds).half
        row = {"model": str(model), **{axis: float(seeds[axis].median()) for axis in AXES}}
        row |= {"mean": float(seeds["test_ll"].mean()), "half": 0.0 if half != half else half}
        rows.append(row | {"mark": improvement.mark(seeds)})
    return pd.DataFrame(rows)


def _panel(panel: Any, points: pd.DataFrame, levels: pd.Series, axis: str, looks: Any) -> None:
    models = points.groupby("model", sort=False)
    lines = {str(model): group[[axis, "mean", "half"]].to_numpy().T for model, group in models}
    low, high = view(list(lines.values()), levels.to_numpy())
    ends = [draw.End(model, line[1][-1], model) for model, line in lines.items() if model in looks]
    for model, (x, y, half) in lines.items():
        look, near = looks.get(model, OTHERS), y >= low
        panel.plot(x, y, label=model, **look, **LOOK)
        for *place, mark in zip(x, y, models["mark"].get_group(model), strict=True):
            above = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
            panel.annotate(mark, place, color=look["color"], clip_on=True, **above)
        bars = (y - half)[near], (y + half)[near]
        panel.fill_between(x[near], *bars, color=look["color"], alpha=0.15, lw=0)
        panel.vlines(x[near], *bars, color=look["color"], alpha=0.4, lw=1)
    for model, level in zip(map(str, levels.index), levels, strict=True):
        panel.axhline(level, lw=1.1, label=model, **looks.get(model, FITTED))
        ends += [draw.End(model, level, model)] if model in looks else []
    panel.set_ylim(low, high)
    draw.logarithmic(panel.xaxis)
    draw.label_ends(panel, [end for end in ends if low <= end.y <= high], looks, HEIGHT)
    if axis == "seconds":
        draw.ticks(panel.xaxis, points[axis])


def view(lines: list[np.ndarray], levels: np.ndarray) -> tuple[float, float]:
    """Limits of y around the models that are not `FAR` below the best."""
    _, means, halves = np.concatenate(lines, axis=1)
    best = means.max()
    lowest = best - FAR * (best - np.quantile(means, 0.25))
    near = means >= lowest
    ends = [*(means - halves)[near], *(means + halves)[near], *levels[levels >= lowest]]
    margin = 0.05 * (max(ends) - min(ends)) or 1.0
    return min(ends) - margin, max(ends) + margin


def _range(choice: Choice) -> tuple[float, float]:
    """Ends of the axis of test likelihoods: what is far below the best flow would squeeze it."""
    tests, halves = choice.flows["test_ll"], choice.flows["half"]
    spread = max(0.5, halves.iloc[0], 3 * (tests.max() - tests.median()))
    ends = pd.concat([tests - halves, tests + halves, choice.baselines["test_ll"]])
    near = ends[(ends - tests.max()).abs() <= 2 * spread]
    margin = 0.05 * (near.max() - near.min())
    return near.min() - margin, near.max() + margin


def _draw_race(ranking: pd.DataFrame, choice: Choice) -> Any:
    looks = draw.looks(ranking["model"])
    height = max(2.6, 1.2 + 0.28 * len(choice.flows))
    with draw.figure(1, 2, height=height) as (figure, axes):
        scores, curves = axes[0]
        for place, (_, row) in enumerate(choice.flows.iterrows()):
            look = looks[row["model"]]
            scores.errorbar(row["test_ll"], -place, xerr=row["half"], capsize=3, **look)
            names = "validation_cpu_seconds", "validation_ll"
            held = arrays(row, *names)
            curve = np.array([held.get(name, ()) for name in names], dtype=float)
            curve = curve[:, np.isfinite(curve[1])]
            curves.plot(*curve, label=row["model"], **look)
        for _, row in choice.baselines.iterrows():
            look = {"color": looks[row["model"]]["color"], "ls": ":", "label": row["model"]}
            scores.axvline(row["test_ll"], **look)
        scores.set_yticks(-choice.flows.index, labels=choice.flows["model"])
        scores.set(xlabel="test log-likelihood (nats)", ylim=(0.5 - len(choice.flows), 0.5))
        scores.set_xlim(*_range(choice))
        curves.set(xlabel="CPU seconds of updates", ylabel="validation log-likelihood (nats)")
        low, high = choice.flows["val_ll"].agg(["min", "max"])
        spread = max(high - low, 0.2)
        curves.set_ylim(low - spread, high + 0.2 * spread)
        draw.legend_of(figure, [curves, scores])
    return figure


def _who_closes(sets: dict[str, pd.DataFrame], best: dict[str, tables.Best]) -> list[Figure]:
    """What each flow closes of the gap to the best, of several data sets."""
    budgets = tables.closed(sets, best)
    if len(sets) < 2 or not budgets:
        return []
    every = pd.concat(budgets.values(), keys=budgets)
    every["percent"] = [100 * share.value for share in every["share"]]
    last = every.loc[[max(budgets)]]
    flows = last[~last["baseline"]].sort_values("percent", ascending=False)
    leaders = flows.groupby(flows["test_nfe"].notna(), sort=False).head(OF_A_KIND)["model"]
    note = CLOSED.format(", ".join(tables.with_gap(sets)), 1 - LEVEL)
    title = "What training FLOPs buy: the gap to the best that each flow closes"
    return [Figure.of("frontier-leaders", title, note, _draw_closed, every, list(leaders))]


def _draw_closed(every: pd.DataFrame, leaders: list[str]) -> Any:
    looks = draw.looks(leaders)
    flows, fitted = every[~every["baseline"]], every[every["baseline"]]
    with draw.figure(height=4.2) as (figure, axes):
        panel, ends = axes[0, 0], []
        for model, points in flows.groupby("model"):
            look = looks.get(str(model), OTHERS)
            halves = [100 * share.half(LEVEL) for share in points["share"]]
            panel.errorbar(points["train_flops"], points["percent"], yerr=halves, **look, **LOOK)
            if model in looks:
                ends.append(draw.End(str(model), points["percent"].iloc[-1], str(model)))
        last: pd.Series = fitted.sort_values("percent").iloc[-1]
        panel.axhline(last["percent"], lw=1.1, **BEST_FITTED)
        ends.append(draw.End(last["model"], last["percent"], last["model"]))
        least = flows.loc[flows["model"].isin(leaders), "percent"].min()
        panel.set(ylim=(least - 2, 101), xlabel="training (FLOP)", ylabel="gap closed (%)")
        draw.logarithmic(panel.xaxis)
        draw.label_ends(panel, ends, looks | {last["model"]: BEST_FITTED}, 4.2)
    return figure
