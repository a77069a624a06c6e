"""Our figures beside those of the literature, `benchmarks/published.toml`: what is not alike."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

import pandas as pd
from pydantic import PositiveFloat

from benchmarks import protocols
from benchmarks.analysis.models import mean_of
from benchmarks.core.case import Settings
from benchmarks.core.exhibit import RECORDS, Column, Table, cells, columns
from benchmarks.core.naming import named

Set = Literal["power", "gas", "hepmass", "miniboone", "bsds300"]
SETS: tuple[str, ...] = get_args(Set)
UNLIKE = columns("dataset", "model") | columns(
    {"unlike": "What is not alike", "error_is": "Their ±", "source": "Published in"}
)
COLUMNS = columns(
    *("dataset", "model"),
    {
        "test_ll": Column("Ours", "nats", digits=".3f"),
        "theirs": "Theirs is",
        "published_ll": Column("Theirs", "nats", digits=".2f", error="published_se"),
        "difference": Column("Ours less theirs", "nats", digits="+.3f"),
    },
    *("comparable", "seeds"),
)
FIGURES = columns(
    *("model", {name: Column(name, digits=".2f") for name in SETS}),
    *("source", "certainty", {"error_is": "±"}),
)
NOTE = (
    "Mean test log-likelihood. Our ± is the standard error over seeds, or over the test set for "
    "one seed; theirs is of another kind. The difference measures the flow only if a row is "
    "comparable: data whose rows are not the published ones are other data."
)
UNLIKE_NOTE = "From the settings of each case and its protocol."


class Row(Settings, frozen=True):
    """A model's test log-likelihoods, nats, by data set; their errors, and what these are.

    ``flow`` is the member that it is set beside, ``protocol`` the one by which it was trained.
    """

    model: str
    source: str
    flow: str | None = None
    protocol: str | None = None
    certainty: Literal["seen", "second-hand"]
    error_is: str = ""
    caveats: tuple[str, ...] = ()
    values: dict[Set, float]
    errors: Mapping[str, PositiveFloat] = {}


class Figures(Settings, frozen=True):
    """All rows, and the papers that they name."""

    sources: dict[str, protocols.Source]
    rows: tuple[Row, ...]

    def beside(self, flow: str, protocol: str | None) -> Row | None:
        """The row that a flow trained by a protocol is set beside, if there is one.

        One that was trained by that protocol, or else one without a protocol of ours.
        """
        rows = [row for row in self.rows if row.flow == flow]
        wanted = [row for row in rows if row.protocol == protocol]
        return next(iter(wanted or [row for row in rows if row.protocol is None]), None)


@cache
def figures() -> Figures:
    """The figures that come with the project."""
    text = (resources.files("benchmarks") / "published.toml").read_text("utf-8")
    return Figures.model_validate(tomllib.loads(text))


def tables(frame: pd.DataFrame) -> list[Table]:
    """Figures side by side, their differences in words, and those of the literature alone."""
    rows = beside(frame)
    compared, title = rows.assign(test_ll=cells(rows, "test_ll")), "Our figures beside the papers'"
    return [
        Table.of("published", title, NOTE, compared, COLUMNS),
        Table.of("published-unlike", "What is not alike", UNLIKE_NOTE, rows, UNLIKE),
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
        for _, seeds in named(group).groupby("series", sort=False)
    ]
    return pd.DataFrame(rows)


def _row(seeds: pd.DataFrame) -> dict[str, Any]:
    first, done = seeds.iloc[0], seeds[seeds["status"] == "done"]
    dataset = str(first["dataset"])
    published = figures().beside(str(first["flow"]), first["by"])
    values: dict[str, float] = published.model_dump()["values"] if published else {}
    published = published if dataset in values else None
    row: dict[str, Any] = {"dataset": dataset, "model": str(first["series"])}
    row |= {"theirs": published.model if published else "not published"}
    row |= {RECORDS: tuple(seeds["key"]), "status": "done"}
    row |= dict.fromkeys(["test_ll", "test_ll_se", "published_ll", "difference"], math.nan)
    if done.empty:
        absent = first["notes"].get("absent")
        row |= {"status": "absent" if absent else str(first["status"])}
        return row | {"unlike": str(first["reason"])}
    ours, error = mean_of(done, "test_ll")
    rule = _rule(first)
    data, training = _data(done.iloc[0]), _training(first, rule)
    unlike = data + training + _standing(first, rule) + list(published.caveats if published else ())
    row |= {"test_ll": ours, "test_ll_se": error, "seeds": len(done)}
    row |= {"comparable": _comparable(first, published, data, training)}
    row |= {"unlike": "; ".join(unlike) or "nothing that is known"}
    if published:
        paper = figures().sources[published.source]
        row |= {
            "published_ll": values[dataset],
            "published_se": published.errors.get(dataset, math.nan),
            "difference": ours - values[dataset],
            "error_is": published.error_is or "not given",
            "source": f"arXiv:{paper.arxiv}, {paper.where} ({published.certainty})",
        }
    return row


def _rule(first: pd.Series) -> protocols.Rule | None:
    """The rule of a case's protocol; None of a case without one."""
    if first["by"] is None:
        return None
    return protocols.read(str(first["by"])).of(str(first["flow"]), str(first["dataset"]))


def _comparable(
    first: pd.Series, published: Row | None, data: list[str], training: list[str]
) -> str:
    """Whether the two figures can be compared, in a few words."""
    if published is None:
        return "no: none published"
    if data:
        return "no: other data"
    if not first["updates"]:  # a baseline
        return "yes"
    if first["by"] is None:
        return "no: by no protocol"
    if published.protocol != first["by"]:
        return "no: another protocol"
    return "no: trained otherwise" if training else "as far as settings go"


def _data(first: pd.Series) -> list[str]:
    """Differences of the data from the published set, and of the rows that were scored."""
    differences = [text for text in [str(first["notes"].get("data_differs", ""))] if text]
    rows = _mapping(first["notes"].get("data", {}).get("rows")).get("test", 0)
    scored = int(_mapping(first["setting.scoring"]).get("rows", 0))
    if first["dataset"] in SETS and scored < rows:
        differences.append(f"{scored:,} of the {rows:,} test rows were scored")
    return differences


def _training(first: pd.Series, rule: protocols.Rule | None) -> list[str]:
    """Settings of a case that are not those of its protocol, in words."""
    if rule is None:
        return []
    stated = {"batch": rule.batch, "updates": rule.updates, **rule.training, **rule.options}
    ours = {**_mapping(first.get("setting.training")), "batch": first["batch"]}
    ours |= {"updates": first["updates"]}
    ours |= {str(k)[7:]: v for k, v in first.items() if str(k).startswith("option.")}
    return [
        f"{'updates at most' if name == 'updates' else name.replace('_', ' ')} "
        f"{_text(ours.get(name))}, "
        f"{'the protocol as read here' if name in rule.ours else 'there'} {_text(value)}"
        for name, value in stated.items()
        if value is not None and not _alike(ours.get(name), value)
    ]


def _alike(ours: Any, theirs: Any) -> bool:
    """Whether a setting is as the protocol states it; of nested settings, those stated."""
    if not isinstance(theirs, Mapping):
        return bool(ours == theirs)
    return isinstance(ours, Mapping) and all(_alike(ours.get(k), v) for k, v in theirs.items())


def _standing(first: pd.Series, rule: protocols.Rule | None) -> list[str]:
    """Differences that no setting removes, and how the test likelihood is computed."""
    if rule is None:
        return []
    solver, tolerance = _mapping(rule.options.get("solver")), first["setting.scoring"]["tolerance"]
    if "rtol" not in solver:
        return list(rule.differences)
    return [
        *rule.differences,
        f"scored by the exact trace in float64 at a tolerance of {tolerance:g} or below, there "
        f"by the exact trace at rtol {solver['rtol']:g}, atol {solver['atol']:g}",
    ]


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
    rows = []
    for row in figures().rows:
        errors = {f"{name}_se": error for name, error in row.errors.items()}
        words = {"source": f"arXiv:{figures().sources[row.source].arxiv}"}
        words |= {"certainty": row.certainty, "error_is": row.error_is}
        rows.append({"model": row.model, **row.values, **errors, **words, RECORDS: ()})
    note = f"Nothing of this was measured here. {'; '.join(map(str, figures().sources.values()))}."
    title = "The papers' test log-likelihoods (nats)"
    return Table.of("published-figures", title, note, rows, FIGURES)
