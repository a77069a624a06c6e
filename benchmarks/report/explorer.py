"""The explorer: models, costs and evaluations of results folders on one page, with their records.

The page holds its data, style, script and, in ``vendored``, Observable Plot; it loads nothing.
"""

import base64
import hashlib
import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

import pandas as pd

from benchmarks.analysis import improvement, nfe, paired, sizes
from benchmarks.analysis.contests import budget_of
from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.models import models_of
from benchmarks.core.exhibit import Column, per_row
from benchmarks.core.frame import place
from benchmarks.core.metrics import METRICS
from benchmarks.core.record import Record
from benchmarks.report.html import environment
from benchmarks.report.runs import CaseState, Run
from benchmarks.studies.cost.tables import CALLS
from benchmarks.studies.density.tables import BESIDE
from benchmarks.studies.search import tables as search

Point = dict[str, Any]  # a mark of a chart and a row of a table: names, and values in base units
EFFORT = ("train_flops", "train_cpu_seconds", "train_seconds")
TAKEN = (*EFFORT, "row_flops", "per_1000_cpu_seconds", "test_nfe", "parameters")
NFE = ("nfe_end", "nfe_start", "solve_nfe", "row_flops")
FIT = ("behind", "test_ll")
TABLE = (*FIT, "standing", "splits", *TAKEN)
# by name: title, kind of points, filters that take one value, axes x and y, columns of the table
VIEWS: dict[str, tuple[str, str, Sequence[str], Sequence[str], Sequence[str], Sequence[str]]] = {
    "board": ("Leaderboard", "models", ("run", "data", "budget"), FIT, (), TABLE),
    "effort": ("Fit against effort", "models", ("run", "data"), EFFORT, FIT[::-1], ("budget",)),
    "cost": ("Cost against D", "costs", ("run",), ("dim",), (), ()),
    "nfe": ("Evaluations against D", "evaluations", ("run", "data"), ("dim",), (), ()),
}
BEHIND = Column("Behind the best, paired", "nats", digits=".3f")
OTHERS = {"behind": BEHIND, "dim": Column("D", digits=",.0f")}
FIELDS = "case declared files plugins status reason notes machine versions commit started seconds"


def page(every: Sequence[Run]) -> str:
    jinja, vendored = environment(), files("benchmarks.report") / "vendored"
    parts = ("d3.min.js", "plot.min.js", "LICENSE.txt")
    *scripts, licence = ((vendored / name).read_text("utf-8") for name in parts)
    scripts.append(jinja.get_template("explorer.js.jinja").render())
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    data = json.dumps(content(every), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    hashes = [base64.b64encode(each).decode() for each in digests]
    values = {"scripts": scripts, "licence": licence, "data": data.replace("<", "\\u003c")}
    return jinja.get_template("explorer.html.jinja").render(values, hashes=hashes, runs=every)


def content(every: Sequence[Run]) -> dict[str, Any]:
    """What the page shows, as JSON: views, their points, columns and the records behind them.

    Fields of records are places among the ``parts``, since most repeat.
    """
    kinds, runs = (_models, _costs, _evaluations), [run for run in every if len(run.frame)]
    points = {of.__name__[1:]: [p for run in runs for p in of(run)] for of in kinds}
    views = []
    for name, (title, kind, fixed, across, up, table) in VIEWS.items():
        present = {n: None for p in points[kind] for n, v in p["values"].items() if v is not None}
        measures = sorted(present, key=lambda n: n not in (*METRICS, *OTHERS) and 1 / float(n))
        x, y = ([n for n in axis if n in present] for axis in (across, up or measures))
        y = [] if name == "board" else [n for n in y if n not in across]
        if x and (y or name == "board"):
            view = {"name": name, "title": title, "points": kind, "fixed": fixed, "table": table}
            views.append(view | {"x": x, "y": y})
    if not views:
        raise ValueError("no model, cost or evaluation is done in these records: draw the report")
    parts: dict[str, int] = {}
    cited = {key for group in points.values() for point in group for key in point["records"]}
    return {
        "confidence": f"{1 - LEVEL:.0%}",
        "views": views,
        "points": points,
        "metrics": {n: _metric(n) for of in points.values() for p in of for n in p["values"]},
        "notes": {run.label: run.note for run in every},
        "records": {
            case.key: {n: parts.setdefault(json.dumps(v), len(parts)) for n, v in _facts(run, case)}
            for run in every
            for case in run.states
            if case.key in cited
        },
        "parts": [json.loads(text) for text in parts],
    }


def _metric(name: str) -> dict[str, Any]:
    """How values of a metric are shown, by its row of the table of metrics."""
    sign, column = 1, OTHERS.get(name, Column(f"At equal fit, tolerance {name}", "NFE"))
    if metric := METRICS.get(name):
        sign, column = -1 if metric.better == "higher" else 1, Column.of(name, row=bool(metric.per))
    facts = {"label": column.header, "scale": column.scale, "digits": column.digits or ".3~g"}
    return facts | {"sign": sign, "time": column.kind == "time"}


def _point(run: Run, rows: pd.DataFrame, values: Mapping[str, Any], **names: Any) -> Point:
    """A point of rows of a run; values that are not finite are None."""
    keys = list(dict.fromkeys(rows["key"]))
    places = {place(*each) for each in rows[["machine", "versions", "device"]].itertuples(False)}
    names |= {"run": run.label, "family": rows["flow"].iloc[0], "records": keys}
    names["machine"] = places.pop() if len(places) == 1 else "several"
    names["doubt"] = next((run.cautions[key] for key in keys if key in run.cautions), "")
    finite = {n: float(v) if math.isfinite(v) else None for n, v in values.items()}
    return {**names, "values": finite}


def _models(run: Run) -> Iterator[Point]:
    """The models of each data set and budget, with how far each is behind the best."""
    for data, budget, sides, gap in _boards(run.frame):
        _, lags = paired.rivals(sides, gap=gap)
        stands = paired.standing(lags)
        for model, cases in sides.items():
            lag, over = lags.get(model), paired.over_seeds(cases, cases["test_ll"].to_numpy())
            half = over.half(LEVEL) if len(cases) > 1 else paired.error_over_rows(cases)
            halves, values = {"test_ll": half}, {"test_ll": cases["test_ll"].mean(), "behind": 0.0}
            names = {"series": model, "data": data, "budget": budget, "splits": len(cases)}
            names |= {"standing": "best", "paired": "", "mark": improvement.mark(cases)}
            if lag:
                values["behind"], halves["behind"] = lag.estimate.value, lag.half
                names |= {"standing": BESIDE[stands[model]], "paired": lag.about}
            values |= cases[[m for m in TAKEN if m in cases]].median()
            names["halves"] = {name: half for name, half in halves.items() if math.isfinite(half)}
            yield _point(run, cases, values, **names)


def _boards(frame: pd.DataFrame) -> Iterator[tuple[str, str, dict[str, pd.DataFrame], float]]:
    """Data set, budget, scored cases by model and the gap that sets the margin of "level"."""
    for (study, data), rows in frame.groupby(["study", "dataset"], sort=False):
        if study == "search" and not search.is_race(rows):
            scored = search.finals(search.labelled(rows.reset_index(drop=True)))
            gap = paired.gap_of(cases for _, cases in scored.groupby("model"))
            for seconds, group in search.by_budget(scored).items():
                sides = {str(m): cases for m, cases in group.groupby("model", sort=False)}
                yield str(data), budget_of(seconds, group), sides, gap
        elif study == "density":
            done = models_of(str(data), rows.reset_index(drop=True)).done
            if sides := {m: cases for m, cases in done.items() if cases["test_ll"].notna().all()}:
                yield str(data), "updates of the suite", sides, paired.gap_of(sides.values())


def _done(run: Run, study: str) -> pd.DataFrame:
    rows = run.frame[(run.frame["study"] == study) & (run.frame["status"] == "done")]
    return rows.dropna(axis="columns", how="all").reset_index(drop=True) if len(rows) else rows


def _costs(run: Run) -> Iterator[Point]:
    """The cost of a row in the calls of each series by D: medians over its cases."""
    scans = sizes.scans(_done(run, "cost"))
    calls = [n for n in METRICS if n in scans and n.startswith(CALLS) and METRICS[n].per]
    rows = scans.assign(**{name: per_row(scans, name) for name in calls})
    for (series, dim), cases in rows.groupby(["series", "dim"], sort=False):
        yield _point(run, cases, {**cases[calls].median(), "dim": dim}, series=series)


def _evaluations(run: Run) -> Iterator[Point]:
    """Evaluations of each trained series by D: means over its trainings; also at equal fit."""
    rows = _done(run, "nfe")
    fits = {fit.name: fit for fit in nfe.fits(rows)}
    for name, group in nfe.families(rows).items():
        series, data = nfe.parts_of(name)
        for dim, cases in group.groupby("dim"):
            values = {m: cases[m].mean() for m in NFE if m in cases} | {"dim": dim}
            if fit := fits.get(name):
                values |= fit.rows.loc[fit.rows["dim"] == dim, list(fit.tolerances)].mean()
            yield _point(run, cases, values, series=series, data=data)


def _facts(run: Run, case: CaseState) -> Iterator[tuple[str, Any]]:
    """What the page shows of a record: how it is measured again, medians, and its fields."""
    record = run.records[case.key]
    yield from (("again", command(run, record)), ("state", case.state), ("remark", case.reason))
    medians = {name: values.median for name, values in record.metrics.items()}
    yield "metrics", {n: v if math.isfinite(v) else str(v) for n, v in medians.items()}
    yield "times", run.cautions.get(case.key, "")
    yield from record.model_dump(mode="json", include={*FIELDS.split()}).items()


def command(run: Run, record: Record) -> str:
    """The command that measures a record again; empty without a plan of one suite."""
    if not run.plan.suite:
        return ""
    words = [f"flowgauge run {shlex.quote(str(run.folder))} --study {record.case.study}"]
    words += {f"--plugin {shlex.quote(each['file'])}": "" for each in record.plugins.values()}
    return f"{' '.join(words)} --shard {record.key} --out results/again"
