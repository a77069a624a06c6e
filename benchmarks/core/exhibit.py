"""What a study shows: tables and figures, before any format is chosen."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, Self

import pandas as pd

from benchmarks.core.metrics import METRICS, defined

RECORDS = "records"  # the column of a table's frame that is not shown: each row's records' keys


def cells(frame: pd.DataFrame, values: pd.Series | str) -> pd.Series:
    """A table's cells: values, or a metric, of the cases that are done, else their status."""
    absent = pd.Series(float("nan"), frame.index)
    series = frame.get(values, absent) if isinstance(values, str) else values
    return series.astype(object).where(frame["status"] == "done", frame["status"])


def with_interval(name: str, value: float, low: float, high: float) -> dict[str, Any]:
    """The cells of a value and its interval."""
    return {name: value, f"{name}.interval": (low, high)}


def scientific(value: float) -> str:
    """ "1.6e-5"."""
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


# headers of columns that are not metrics, where they are not their names
HEADERS = {"dataset": "Data", "series": "Flow", "dim": "D", "batch": "N", "hidden": "H"}
# endings of the columns that are parts of another: of "a" the error is "a_se", the mark "a.mark"
ENDINGS = {"error": "_se"} | {part: f".{part}" for part in ("interval", "prefix", "mark", "leads")}


@dataclass(frozen=True)
class Column:
    """How a column of a table is shown; the frame holds raw values in base units (s, B, nats)."""

    label: str = ""  #: of the header; by default the column's name
    unit: str = ""  #: of the header
    scale: float = 1.0  #: factor from the raw unit to ``unit``
    digits: str = ""  #: a format specification (".3g")
    # names of columns of the frame, by default the column's with the ending in `ENDINGS`
    error: str = ""  #: the standard error, shown as "value ± error"
    interval: str = ""  #: pairs (low, high), shown in brackets
    prefix: str = ""  #: texts before the number
    mark: str = ""  #: texts after the number
    leads: str = ""  #: booleans: the cell that stands out as the best
    kind: str = ""  #: "time": a report marks the cells that are not to be quoted

    @classmethod
    def of(cls, metric: str, *, row: bool | None = None, **changes: Any) -> Self:
        """Column of a metric by its definition; ``row`` if values are of one row of data.

        The label begins with a capital letter, unless its first word is an identifier. Raises
        ValueError for a metric that the table of metrics lacks.
        """
        definition = defined(metric)
        unit, label = definition.display_unit, definition.name
        if "_" not in label.partition(" ")[0]:
            label = label[:1].upper() + label[1:]
        row = definition.per == "row" if row is None else row
        values: dict[str, Any] = {
            "label": label,
            "unit": f"{unit}/row" if row and unit else unit,
            "scale": definition.scale,
            "digits": definition.digits,
            "kind": "" if definition.cpu else definition.kind,
        }
        return cls(**{**values, **changes})

    @property
    def header(self) -> str:
        """Label and unit, as in "log_prob (µs/row)"."""
        alone = not self.unit or self.unit == self.label
        return self.label if alone else f"{self.label} ({self.unit})"

    @property
    def beside(self) -> tuple[str, ...]:
        """The columns that are shown within this one."""
        return tuple(name for part in ENDINGS if (name := getattr(self, part)))

    def within(self, name: str, frame: pd.DataFrame) -> Self:
        """The column of a frame by its name, with the parts that the frame has."""
        ends = {part: f"{name}{end}" for part, end in ENDINGS.items() if not getattr(self, part)}
        parts: dict[str, Any] = {part: column for part, column in ends.items() if column in frame}
        return replace(self, label=self.label or name, **parts)


def columns(*parts: str | Mapping[str, str | Column]) -> dict[str, Column]:
    """Columns by name: those of metrics, others that are headers themselves, or have one."""
    every: dict[str, Column] = {}
    for each in parts:
        if not isinstance(each, str):
            every |= {n: Column(c) if isinstance(c, str) else c for n, c in each.items()}
        elif each in METRICS:
            every[each] = Column.of(each)
        else:
            every[each] = Column(HEADERS.get(each, each.replace("_", " ").capitalize()))
    return every


@dataclass(frozen=True)
class Table:
    """Rows to be shown, raw: a report formats them, an export does not.

    A cell that is a string is shown as it is: that is how a failed case appears. The column
    `RECORDS`, which is not shown, has for each row a tuple of the keys of the records that it comes
    from. Nothing computes from a header: readers take columns by name.
    """

    name: str
    title: str
    note: str
    frame: pd.DataFrame
    columns: Mapping[str, Column] = field(default_factory=dict)  #: of the frame's, by name
    first: str | None = None  #: of a table of leaders: what is read before it, may be empty

    @classmethod
    def of(
        cls,
        name: str,
        title: str,
        note: str,
        rows: pd.DataFrame | Sequence[Mapping[str, Any]],
        columns: Mapping[str, Column],
        varying: Iterable[str] = (),
    ) -> Self:
        """Show those of the columns that the rows have, in order, with their parts and `RECORDS`.

        Rows without these are of their ``key``. Columns of ``varying`` with one value are left out.
        """
        rows = pd.DataFrame(rows)
        if RECORDS not in rows and "key" in rows:
            rows = rows.assign(**{RECORDS: rows["key"].map(lambda key: (key,))})
        constant = {n for n in varying if n in rows and rows[n].dropna().nunique() <= 1}
        names = [n for n in columns if n in rows and n not in constant]
        parts = [part for n in names for part in (n, *columns[n].within(n, rows).beside)]
        names = [n for n in dict.fromkeys((*parts, RECORDS)) if n in rows]
        return cls(name, title, note, rows[names].reset_index(drop=True), columns)

    @property
    def rows_from(self) -> tuple[tuple[str, ...], ...]:
        """For each row the keys of the records that it comes from."""
        return tuple(map(tuple, self.frame.get(RECORDS, [()] * len(self.frame))))

    @property
    def shown(self) -> dict[str, Column]:
        """The columns that are shown as such, by name, in their order, with a label each."""
        names = [str(name) for name in self.frame if name != RECORDS]
        every = {n: self.columns.get(n, Column()).within(n, self.frame) for n in names}
        within = {part for column in every.values() for part in column.beside}
        return {name: column for name, column in every.items() if name not in within}


def per_row(frame: pd.DataFrame, metric: str) -> pd.Series:
    """A metric for one row of data, NaN if no case has it; ValueError if not of a batch or row."""
    per = defined(metric).per
    if not per:
        raise ValueError(f"metric {metric!r} is not of a batch: it has no value for a row")
    values: pd.Series = frame.get(metric, pd.Series(float("nan"), frame.index))
    return values / frame["batch"] if per == "batch" else values


@dataclass(frozen=True)
class Figure:
    """A picture: ``draw`` returns a matplotlib Figure when a report wants one."""

    name: str
    title: str
    note: str
    draw: Callable[[], Any]
    records: tuple[str, ...] = ()
    within: str = ""  #: another figure of the study with all of its content, which a report shows

    @classmethod
    def of(
        cls,
        name: str,
        title: str,
        note: str,
        draw: Callable[..., Any],
        rows: pd.DataFrame,
        *arguments: Any,
    ) -> Self:
        """Picture of rows by ``draw(rows, *arguments)``; of records, or with their `RECORDS`."""
        keys = rows["key"] if "key" in rows else rows[RECORDS].explode()
        return cls(name, title, note, partial(draw, rows, *arguments), tuple(dict.fromkeys(keys)))


def described(values: pd.Series, **defaults: Any) -> pd.DataFrame:
    """Fields of descriptions, such as solvers, a column each; a text is the first field of one."""
    first, *_ = defaults
    filled = [
        {**defaults, **(dict(value) if isinstance(value, Mapping) else {first: value})}
        for value in values
    ]
    return pd.DataFrame(filled, values.index, columns=[*defaults])


class Folder:
    """What the package of a study shows of its records, without the modules that measure.

    Its docstring is the study's question. Its module ``tables`` has ``tables(frame)``, and may have
    ``READS``, other studies whose records these use; ``figures`` has ``figures(frame)``.
    """

    def __init__(self, package: str) -> None:
        self.package = package

    @property
    def question(self) -> str:
        """The question, in one line."""
        text = import_module(self.package).__doc__ if self.package else ""
        return (text or "").strip().partition("\n")[0]

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(getattr(self._module("tables"), "READS", ()))

    def tables(self, frame: pd.DataFrame) -> list[Table]:
        module = None if frame.empty else self._module("tables")
        return list(module.tables(frame)) if module else []

    def figures(self, frame: pd.DataFrame) -> list[Figure]:
        module = None if frame.empty else self._module("figures")
        return list(module.figures(frame)) if module else []

    def _module(self, name: str) -> Any:
        full = f"{self.package}.{name}"
        return import_module(full) if self.package and find_spec(full) else None


def showing(study: str) -> Any:
    """What shows the records of a study: a `Folder`, the study of a plug-in, or None."""
    package = f"benchmarks.studies.{study}"
    if study.isidentifier() and find_spec(package):
        return Folder(package)
    if "benchmarks.core.study" in sys.modules or entry_points(group="flowgauge.studies"):
        from benchmarks.core.study import registry

        if study in registry:
            return registry[study]
    return None


def plain_table(study: str, frame: pd.DataFrame) -> Table:
    """The records of a study that nothing shows: a row each, with its metrics."""
    metrics = [name for name in METRICS if name in frame and frame[name].notna().any()]
    layout = columns("run", "flow", "dataset", "dim", "seed", "status", *metrics)
    return Table.of(study, f"Records of {study}", "Nothing here shows this study.", frame, layout)
