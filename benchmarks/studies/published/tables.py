"""Tables of our figures beside those of the literature: the difference, and what is not alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmarks import protocols
from benchmarks.analysis.models import mean_of
from benchmarks.core.exhibit import RECORDS, Column, Table, cells, with_parts
from benchmarks.core.naming import series
from benchmarks.datasets.maf import PUBLISHED
from benchmarks.studies.published.literature import Row, figures
from benchmarks.training.baselines import BASELINES

UNLIKE = {
    "dataset": Column("Data"),
    "model": Column("Model"),
    "unlike": Column("What is not alike"),
    "error_is": Column("Their ±"),
    "source": Column("Published in"),
}
COLUMNS = {
    "dataset": Column("Data"),
    "model": Column("Model"),
    "test_ll": Column("Ours", "nats", digits=".3f", error="test_ll_se"),
    "theirs": Column("Theirs is"),
    "published_ll": Column("Theirs", "nats", digits=".2f", error="published_se"),
    "difference": Column("Ours less theirs", "nats", digits="+.3f"),
    "comparable": Column("Comparable"),
    "seeds": Column("Seeds"),
}
NOTE = (
    "Mean test log-likelihood. Our ± is the standard error over seeds, or over the test set for "
    "one seed; the table of the papers' figures explains their ±, which is of another kind. The "
    "difference measures the flow only if a row is comparable: data whose rows are not the "
    "published ones are other data."
)
NAMES = {"updates": "updates at most"}  # of settings that do not go by their own


def tables(frame: pd.DataFrame) -> list[Table]:
    """Figures side by side, their differences in words, and those of the literature alone."""
    rows = beside(frame)
    compared = rows.assign(test_ll=cells(rows, rows["test_ll"]))
    unlike = rows[[name for name in (*UNLIKE, RECORDS) if name in rows]]
    note = "From the settings of each case and its protocol; for an absent data set, how to get it."
    return [
        Table(
            "published",
            "Our figures beside the papers'",
            NOTE,
            compared.reindex(columns=[*with_parts(COLUMNS), RECORDS]),
            columns=COLUMNS,
        ),
        Table("published-unlike", "What is not alike", note, unlike, columns=UNLIKE),
        _literature(),
    ]


def beside(frame: pd.DataFrame) -> pd.DataFrame:
    """Our likelihood beside the published one, nats, a row for each data set and model.

    ``test_ll`` is the mean over seeds, NaN where ``status`` is not "done"; ``published_ll`` and
    ``difference`` are NaN where nothing was published. ``comparable`` and ``unlike`` are words.
    """
    by = frame.reindex(columns=["setting.by"])["setting.by"].astype(object)
    frame = frame.assign(by=by.where(by.notna(), None))
    rows = [
        _row(seeds)
        for _, group in frame.groupby("dataset", sort=False)
        for _, seeds in group.assign(series=series(group)).groupby("series", sort=False)
    ]
    return pd.DataFrame(rows).reindex(
        columns=list(dict.fromkeys(key for row in rows for key in row))
    )


def _row(seeds: pd.DataFrame) -> dict[str, Any]:
    first, done = seeds.iloc[0], seeds[seeds["status"] == "done"]
    flow, dataset = str(first["flow"]), str(first["dataset"])
    published = figures().beside(flow, first["by"])
    published = published if published and dataset in published.by_name else None
    row: dict[str, Any] = {"dataset": dataset, "model": str(first["series"])}
    row |= {"theirs": published.model if published else "not published"}
    row |= {RECORDS: tuple(seeds["key"]), "status": "done", "test_ll": math.nan}
    if done.empty:
        absent = first["notes"].get("absent")
        row |= {"status": "absent" if absent else str(first["status"])}
        return row | {"unlike": str(first["reason"])}
    ours, error = mean_of(done, "test_ll")
    unlike = _data(done) + _training(first) + _standing(first)
    unlike += list(published.caveats) if published else []
    row |= {"test_ll": ours, "test_ll_se": error, "seeds": len(done)}
    row |= {"comparable": _comparable(done, first, published)}
    row |= {"unlike": "; ".join(unlike) or "nothing that is known"}
    if published:
        values = published.by_name
        paper = figures().sources[published.source]
        row |= {
            "published_ll": values[dataset],
            "published_se": published.errors.get(dataset, math.nan),
            "difference": ours - values[dataset],
            "error_is": published.error_is or "not given",
            "source": f"arXiv:{paper.arxiv}, {paper.where} ({published.certainty})",
        }
    return row


def _comparable(done: pd.DataFrame, first: pd.Series, published: Row | None) -> str:
    """Whether the two figures can be compared, in a few words."""
    if published is None:
        return "no: none published"
    if _data(done):
        return "no: other data"
    if str(first["flow"]) in BASELINES:
        return "yes"
    if first["by"] is None:
        return "no: by no protocol"
    if published.protocol != first["by"]:
        return "no: another protocol"
    return "no: trained otherwise" if _training(first) else "as far as settings go"


def _data(done: pd.DataFrame) -> list[str]:
    """Differences of the data from the published set, and of the rows that were scored."""
    first = done.iloc[0]
    differences = [text for text in [str(first["notes"]["data_differs"])] if text]
    known = PUBLISHED.get(str(first["dataset"]))
    scored = int(_mapping(first["setting.scoring"]).get("rows", 0))
    if known and scored < known.rows[-1]:
        differences.append(f"{scored:,} of the {known.rows[-1]:,} test rows were scored")
    return differences


def _training(first: pd.Series) -> list[str]:
    """Settings of a case that are not those of its protocol, in words."""
    if first["by"] is None:
        return []
    rule = protocols.read(str(first["by"])).of(str(first["flow"]), str(first["dataset"]))
    stated = {"batch": rule.batch, "updates": rule.updates, **rule.training, **rule.options}
    ours = {**_mapping(first.get("setting.training")), "batch": first["batch"]}
    ours |= {"updates": first["updates"]}
    ours |= {str(k)[7:]: v for k, v in first.items() if str(k).startswith("option.")}
    return [
        f"{NAMES.get(name, name.replace('_', ' '))} {_text(ours.get(name))}, "
        f"{'the protocol as read here' if name in rule.ours else 'there'} {_text(value)}"
        for name, value in stated.items()
        if value is not None and not _alike(ours.get(name), value)
    ]


def _alike(ours: Any, theirs: Any) -> bool:
    """Whether a setting is as the protocol states it; of nested settings, those stated."""
    if isinstance(theirs, Mapping):
        return isinstance(ours, Mapping) and all(
            _alike(ours.get(name), value) for name, value in theirs.items()
        )
    return bool(ours == theirs)


def _standing(first: pd.Series) -> list[str]:
    """Differences that no setting removes, and how the test likelihood is computed."""
    if first["by"] is None:
        return []
    rule = protocols.read(str(first["by"])).of(str(first["flow"]), str(first["dataset"]))
    differences = list(rule.differences)
    solver, scoring = _mapping(rule.options.get("solver")), _mapping(first["setting.scoring"])
    if "rtol" in solver:
        tolerance = scoring["tolerance"]
        differences.append(
            f"scored by the exact trace in float64 at a tolerance of {tolerance:g} or below, there "
            f"by the exact trace at rtol {solver['rtol']:g}, atol {solver['atol']:g}"
        )
    return differences


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name} {_text(inner)}" for name, inner in value.items()) + ")"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"


def _literature() -> Table:
    """Every figure of the literature that comes with the project."""
    names = list(PUBLISHED)
    rows: list[dict[str, Any]] = []
    for row in figures().rows:
        values = row.by_name
        paper = figures().sources[row.source]
        numbers = {name: values.get(name, math.nan) for name in names}
        numbers |= {f"{name}_se": row.errors.get(name, math.nan) for name in names}
        words = {"source": f"arXiv:{paper.arxiv}", "certainty": row.certainty}
        rows.append({"model": row.model, **numbers, **words, "error_is": row.error_is})
    columns = {
        "model": Column("Model"),
        **{name: Column(name, digits=".2f", error=f"{name}_se") for name in names},
        "source": Column("Source"),
        "certainty": Column("Certainty"),
        "error_is": Column("±"),
    }
    sources = "; ".join(str(source) for source in figures().sources.values())
    note = f"Nothing of this was measured here. {sources}."
    title = "The papers' test log-likelihoods (nats)"
    return Table("published-figures", title, note, pd.DataFrame(rows), columns=columns)
