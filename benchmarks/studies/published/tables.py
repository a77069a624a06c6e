"""Our figures beside those of the literature, `benchmarks/published.toml`: what is not alike."""

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

import pandas as pd
from pydantic import PositiveFloat

from benchmarks import protocols
from benchmarks.analysis.models import mean_of
from benchmarks.core.case import Settings
from benchmarks.core.exhibit import RECORDS, Column, Table, cells, columns
from benchmarks.core.naming import flattened, in_words, named

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
        matches = [row for row in rows if row.protocol == protocol]
        return next(iter(matches or [row for row in rows if row.protocol is None]), None)


@cache
def figures() -> Figures:
    """The figures that come with the project."""
    text = (resources.files("benchmarks") / "published.toml").read_text("utf-8")
    return Figures.model_validate(tomllib.loads(text))


def tables(frame: pd.DataFrame) -> Iterator[Table]:
    """Figures side by side, their differences in words, and those of the literature alone."""
    rows = beside(frame)
    compared, title = rows.assign(test_ll=cells(rows, "test_ll")), "Our figures beside the papers'"
    yield Table.of("published", title, NOTE, compared, COLUMNS)
    yield Table.of("published-unlike", "What is not alike", UNLIKE_NOTE, rows, UNLIKE)
    yield _literature()


def beside(frame: pd.DataFrame) -> pd.DataFrame:
    """Our likelihood beside the published one, nats, a row for each data set and model.

    ``test_ll`` is the mean over seeds, absent where ``status`` is not "done"; ``published_ll`` and
    ``difference`` are absent where nothing was published. ``comparable`` and ``unlike`` are words.
    """
    sets = [named(group) for _, group in frame.groupby("dataset", sort=False)]
    rows = [_row(seeds) for group in sets for _, seeds in group.groupby("series", sort=False)]
    return pd.DataFrame(rows)


def _row(seeds: pd.DataFrame) -> dict[str, Any]:
    first, done = seeds.iloc[0], seeds[seeds["status"] == "done"]
    dataset, flow, by = str(first["dataset"]), str(first["flow"]), first.get("setting.by")
    by = by if isinstance(by, str) else None  # of a baseline
    published = figures().beside(flow, by)
    values: dict[Any, float] = dict(published.values) if published else {}
    published = published if dataset in values else None
    row: dict[str, Any] = {"dataset": dataset, "model": str(first["series"])}
    row[RECORDS] = tuple(seeds["key"])
    row |= {"theirs": published.model if published else "not published", "status": "done"}
    if done.empty:
        status = "absent" if first["notes"].get("absent") else str(first["status"])
        return row | {"status": status, "unlike": str(first["reason"])}
    rule = protocols.read(by).of(flow, dataset) if by else None
    data, training = _data(done.iloc[0]), _training(first, rule) if rule else []
    unlike = [*data, *training, *(_standing(first, rule) if rule else ())]
    unlike += published.caveats if published else ()
    row["test_ll"], row["test_ll_se"] = mean_of(done, "test_ll")
    row |= {"seeds": len(done), "unlike": "; ".join(unlike) or "nothing that is known"}
    row["comparable"] = _comparable(first, by, published, data, training)
    if published:
        paper = figures().sources[published.source]
        row |= {
            "published_ll": values[dataset],
            "published_se": published.errors.get(dataset, math.nan),
            "difference": row["test_ll"] - values[dataset],
            "error_is": published.error_is or "not given",
            "source": f"arXiv:{paper.arxiv}, {paper.where} ({published.certainty})",
        }
    return row


def _comparable(
    first: pd.Series, by: str | None, published: Row | None, data: list[str], training: list[str]
) -> str:
    if published is None:
        return "no: none published"
    if data:
        return "no: other data"
    if not first["updates"]:  # a baseline
        return "yes"
    if by is None:
        return "no: by no protocol"
    if published.protocol != by:
        return "no: another protocol"
    return "no: trained otherwise" if training else "as far as settings go"


def _data(first: pd.Series) -> list[str]:
    """Differences of the data from the published set, and of the rows that were scored."""
    differences = [text for text in [str(first["notes"].get("data_differs", ""))] if text]
    rows = (first["notes"].get("data", {}).get("rows") or {}).get("test", 0)
    scored = first["setting.scoring"]["rows"]
    if first["dataset"] in SETS and scored < rows:
        differences.append(f"{scored:,} of the {rows:,} test rows were scored")
    return differences


def _training(first: pd.Series, rule: protocols.Rule) -> list[str]:
    """Settings of a case that are not those of its protocol, in words."""
    sizes = {"batch": rule.batch, "updates": rule.updates}
    stated = flattened({**sizes, **rule.training, **rule.options})
    options = {str(k)[7:]: v for k, v in first.items() if str(k).startswith("option.")}
    ours = flattened({**first["setting.training"], **options, **first[["batch", "updates"]]})
    return [
        f"{'updates at most' if name == 'updates' else re.sub('[_.]', ' ', name)} "
        f"{_text(ours.get(name))}, "
        f"{'the protocol as read here' if name.partition('.')[0] in rule.ours else 'there'} "
        f"{_text(value)}"
        for name, value in stated.items()
        if value is not None and ours.get(name) != value
    ]


def _text(value: Any) -> str:
    return f"{value:,}" if type(value) is int else in_words(value)


def _standing(first: pd.Series, rule: protocols.Rule) -> list[str]:
    """Differences that no setting removes, and how the test likelihood is computed."""
    solver, tolerance = rule.options.get("solver"), first["setting.scoring"]["tolerance"]
    if not isinstance(solver, dict) or "rtol" not in solver:
        return list(rule.differences)
    return [
        *rule.differences,
        f"scored by the exact trace in float64 at a tolerance of {tolerance:g} or below, there "
        f"by the exact trace at rtol {solver['rtol']:g}, atol {solver['atol']:g}",
    ]


def _literature() -> Table:
    rows = []
    for row in figures().rows:
        errors: dict[Any, Any] = {f"{name}_se": error for name, error in row.errors.items()}
        words = {"source": f"arXiv:{figures().sources[row.source].arxiv}"}
        words |= {"certainty": row.certainty, "error_is": row.error_is}
        rows.append({"model": row.model, **row.values, **errors, **words, RECORDS: ()})
    note = f"Nothing of this was measured here. {'; '.join(map(str, figures().sources.values()))}."
    title = "The papers' test log-likelihoods (nats)"
    return Table.of("published-figures", title, note, rows, FIGURES)
