"""Our figures beside the literature's, shown: how far apart, and what is not alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmarks import protocols
from benchmarks.analysis.stats import standard_error
from benchmarks.core.exhibit import RECORDS, Table
from benchmarks.core.series import series
from benchmarks.datasets.maf import PUBLISHED
from benchmarks.studies.published.literature import Row, figures
from benchmarks.training.baselines import BASELINES

OURS, THEIRS, APART = "Ours (nats)", "Theirs (nats)", "Ours less theirs (nats)"
NAMES = {"batch": "batch", "updates": "updates at most"}  # others go by their own


def tables(frame: pd.DataFrame) -> list[Table]:
    """Figures side by side, their differences in words, and the literature's alone."""
    if frame.empty:
        return []
    by = frame.reindex(columns=["setting.by"])["setting.by"].astype(object)
    frame = frame.assign(by=by.where(by.notna(), None))
    each = [
        _row(seeds)
        for _, group in frame.groupby("dataset", sort=False)
        for _, seeds in group.assign(series=series(group)).groupby("series", sort=False)
    ]
    return [_beside([row for row, _ in each]), _unlike([words for _, words in each]), _all()]


def _row(seeds: pd.DataFrame) -> tuple[dict[str, Any], dict[str, Any]]:
    """A row of figures, and one of what is not alike."""
    first, done = seeds.iloc[0], seeds[seeds["status"] == "done"]
    flow, dataset = str(first["flow"]), str(first["dataset"])
    theirs = figures().beside(flow, first["by"])
    theirs = theirs if theirs and dataset in theirs.values else None
    key = {"Data": dataset, "Model": str(first["series"]), RECORDS: tuple(seeds["key"])}
    row: dict[str, Any] = {**key, "Theirs is": theirs.model if theirs else "not published"}
    words: dict[str, Any] = dict(key)
    if done.empty:
        row[OURS] = "absent" if first["notes"].get("absent") else str(first["status"])
        words["What is not alike"] = str(first["reason"])
        return row, words
    ours = done["test_ll"].mean()
    over_seeds = len(done) > 1
    row |= {OURS: ours, "Seeds": len(done)}
    row["±"] = standard_error(done["test_ll"]) if over_seeds else done["test_ll_se"].mean()
    unlike = _data(done) + _training(first) + _standing(first)
    unlike += list(theirs.caveats) if theirs else []
    if theirs:
        value = {str(name): each for name, each in theirs.values.items()}[dataset]
        row |= {THEIRS: value, "their ±": theirs.errors.get(dataset), APART: ours - value}
    row["Comparable"] = _comparable(done, first, theirs)
    words["What is not alike"] = "; ".join(unlike) or "nothing that is known"
    if theirs:
        words["Their ±"] = theirs.error_is or "not given"
        paper = figures().sources[theirs.source]
        words["Published in"] = f"arXiv:{paper.arxiv}, {paper.where} ({theirs.certainty})"
    return row, words


def _comparable(done: pd.DataFrame, first: pd.Series, theirs: Row | None) -> str:
    """Whether the two figures may be set against each other, in a few words."""
    if theirs is None:
        return "no: none published"
    if _data(done):
        return "no: other data"
    if str(first["flow"]) in BASELINES:
        return "yes"
    if first["by"] is None:
        return "no: by no protocol"
    if theirs.protocol != first["by"]:
        return "no: another protocol"
    return "no: trained otherwise" if _training(first) else "as far as settings go"


def _data(done: pd.DataFrame) -> list[str]:
    """How the data differ from the published, and the rows that were scored."""
    first = done.iloc[0]
    told = [text for text in [str(first["notes"]["data_differs"])] if text]
    known = PUBLISHED.get(str(first["dataset"]))
    scored = int(_mapping(first["setting.scoring"]).get("rows", 0))
    if known and scored < known.rows[-1]:
        told.append(f"{scored:,} of the {known.rows[-1]:,} test rows were scored")
    return told


def _training(first: pd.Series) -> list[str]:
    """Where the settings of a case are not those of its protocol, in words."""
    if first["by"] is None:
        return []
    rule = protocols.read(str(first["by"])).of(str(first["flow"]), str(first["dataset"]))
    stated = {"batch": rule.batch, "updates": rule.updates, **rule.training, **rule.options}
    ours = {**_mapping(first.get("setting.training")), "batch": first["batch"]}
    ours |= {"updates": first["updates"]}
    ours |= {str(k)[7:]: v for k, v in first.items() if str(k).startswith("option.")}
    return [
        f"{NAMES.get(name, name.replace('_', ' '))} {_told(ours.get(name))}, "
        f"{'the protocol as read here' if name in rule.ours else 'there'} {_told(value)}"
        for name, value in stated.items()
        if value is not None and not _alike(ours.get(name), value)
    ]


def _alike(ours: Any, theirs: Any) -> bool:
    """Whether what is stated holds; of nested settings, those that are stated."""
    if isinstance(theirs, Mapping):
        return isinstance(ours, Mapping) and all(
            _alike(ours.get(name), value) for name, value in theirs.items()
        )
    return bool(ours == theirs)


def _standing(first: pd.Series) -> list[str]:
    """What no setting mends, and how the test likelihood is computed."""
    if first["by"] is None:
        return []
    rule = protocols.read(str(first["by"])).of(str(first["flow"]), str(first["dataset"]))
    found = list(rule.differences)
    solver, scoring = _mapping(rule.options.get("solver")), _mapping(first["setting.scoring"])
    if "rtol" in solver:
        tolerance = scoring["tolerance"]
        found.append(
            f"scored by the exact trace in float64 at a tolerance of {tolerance:g} or below, there "
            f"by the exact trace at rtol {solver['rtol']:g}, atol {solver['atol']:g}"
        )
    return found


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name} {_told(inner)}" for name, inner in value.items()) + ")"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"


def _beside(rows: list[dict[str, Any]]) -> Table:
    order = ["Data", "Model", OURS, "±", "Theirs is", THEIRS, "their ±", APART, "Comparable"]
    shown = pd.DataFrame(rows)
    shown = shown.reindex(columns=[*order, *(c for c in shown if c not in order)])
    note = (
        "Mean test log-likelihood. Our ± is the standard error over seeds, with one seed over the "
        "test set; what theirs is stands in the table below, and the two are not alike. Only where "
        "a row is comparable does the difference say anything of a flow; data whose rows are not "
        "the published ones are other data, however near."
    )
    return Table(
        "published",
        "Our figures beside the papers'",
        note,
        shown,
        {OURS: ".3f", THEIRS: ".2f", APART: "+.3f"},
        {OURS: "±", THEIRS: "their ±"},
    )


def _unlike(rows: list[dict[str, Any]]) -> Table:
    note = "Told from the settings of each case and from its protocol; absent data sets say so."
    return Table("published-unlike", "What is not alike", note, pd.DataFrame(rows))


def _all() -> Table:
    """Every figure of the literature that is on board."""
    rows = []
    for row in figures().rows:
        cells: dict[str, str] = {
            str(name): f"{value:.2f}" + (f" ± {row.errors[name]:.2f}" if name in row.errors else "")
            for name, value in row.values.items()
        }
        source = figures().sources[row.source]
        told = {"Source": f"arXiv:{source.arxiv}", "Certainty": row.certainty, "±": row.error_is}
        rows.append({"Model": row.model, **cells, **told})
    sources = "; ".join(str(source) for source in figures().sources.values())
    return Table(
        "published-figures",
        "The papers' test log-likelihoods (nats)",
        f"Nothing of this was measured here. {sources}.",
        pd.DataFrame(rows),
    )
