"""Faults of a table as data of a density, and what is doubtful: steps, heaps, repeats, few rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.formats import brief, number
from benchmarks.core.naming import counted

FEWEST = 50  # rows below which a file is refused
FEW = (1000, 50)  # rows, and rows per column, below which flows can hardly be distinguished
SHARED = 5  # rows a value from which on equal steps between values are not an accident
CLASSES = 10  # values up to which a target is a class
HEAP = (10, 0.002)  # rows, and share of the rows, of one value that make a heap
MOST = 6  # names in a sentence
LARGEST = 1e30  # number, and its inverse the smallest of a column: float32 ends at 1e±38
UNBOUNDED = "likelihoods on them have no bound"


@dataclass(frozen=True)
class Inspection:
    """Faults, which make a table unusable, remarks, and the steps of columns that have them.

    ``steps`` are by index of a column the spacing of its values: of whole numbers, or of a few
    values at equal distances. ``repeats`` says whether repeated rows are kept: where all columns
    have steps, equal rows are not copies.
    """

    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    steps: dict[int, float] = field(default_factory=dict)
    repeats: bool = False


def examine(
    tables: Mapping[str, pd.DataFrame], dequantised: bool, targets: Iterable[str] = ()
) -> Inspection:
    """Inspect the parts of a table; one with other than finite numbers is inspected no further.

    ``targets`` are the columns whose density given the others is wanted.
    """
    table, first = pd.concat(tables.values(), ignore_index=True), next(iter(tables.values()))
    rows, columns = table.shape
    if 0 < rows < 2 * columns:  # before anything that takes minutes for thousands of columns
        return Inspection(_too_few(tables, rows))
    if not table.size:
        return Inspection([f"it holds {counted(rows, 'row')} of {counted(columns, 'column')}"])
    if faults := _not_numbers(table):
        return Inspection(faults)
    x = table.to_numpy(dtype="float64")
    spacings = {place: spacing(x[:, place]) for place in range(columns)}
    steps = {place: step for place, step in spacings.items() if step is not None}
    repeats = len(steps) == columns
    kept = table if repeats else table.drop_duplicates()
    faults = _too_few(tables, len(kept)) or _degenerate(
        table, x
    )  # not of a wide table: eigenvalues
    if dequantised and not steps:
        faults.append("no column has whole numbers or equal steps: leave out :dequantise")
    if not dequantised:
        classes = table[list(targets)].nunique()
        faults += [
            f"target {short(name)} has {count} values: a class has no density, take a classifier"
            for name, count in classes[classes <= CLASSES].items()
        ]
    shared = [name for name in first.attrs.get("shared", ()) if name in first]
    remarks = [f"columns of one name in the file: {quoted(shared)}"] if shared else []
    remarks += _repeated(tables, int(table.duplicated().sum()), rows, repeats)
    remarks += [*_stepped(table, x, steps, dequantised), *_heaps(kept, steps)]
    if len(kept) < max(FEW[0], FEW[1] * columns):
        remarks.append(
            f"{len(kept):,} rows of {counted(columns, 'column')} can hardly tell flows apart"
        )
    return Inspection(faults, remarks, steps, repeats)


def spacing(values: np.ndarray) -> float | None:
    """Return the step of a column (N,) of whole numbers, or of few values at equal distances.

    Steps are multiples of it. None where values are continuous, or there is only one.
    """
    distinct = np.unique(values)
    gaps = np.diff(distinct)
    if not len(gaps):
        return None
    if (distinct == np.round(distinct)).all():
        small = np.abs(distinct).max() < 2**53
        return float(np.gcd.reduce(gaps.astype(np.int64))) if small else 1.0
    if len(values) < SHARED * len(distinct):
        return None
    step = float(gaps.min())
    multiples = gaps / step
    rounding = 4 * np.finfo(np.float32).eps * np.abs(distinct).max()
    even = step > 100 * rounding and np.abs(multiples - np.round(multiples)).max() < 0.01
    return float(np.median(gaps / np.round(multiples))) if even else None


def heap(values: np.ndarray) -> tuple[float, int, int] | None:
    """Return the commonest value of a column (N,), its rows, and the number of such values.

    None where no value is held by far more rows than others are.
    """
    distinct, counts = np.unique(values, return_counts=True)
    heaped = counts >= max(HEAP[0], HEAP[1] * len(values), 10 * float(np.median(counts)))
    top = int(counts.argmax())
    return (float(distinct[top]), int(counts[top]), int(heaped.sum())) if heaped.any() else None


def short(text: object) -> str:
    """A text in quotes, its beginning if it is long."""
    return repr(brief(text, 60))


def quoted(names: Iterable[Any], most: int = MOST) -> str:
    """Names in quotes, the first of many."""
    texts = [short(name) for name in names]
    return ", ".join(texts[:most]) + f" and {len(texts) - most} more" * (len(texts) > most)


def _columns(table: pd.DataFrame, chosen: np.ndarray) -> str:
    return f"column{'s' * (int(chosen.sum()) > 1)} {quoted(table.columns[chosen])}"


def _not_numbers(table: pd.DataFrame) -> list[str]:
    """Faults of columns that are not all finite numbers, and then of constant ones beside them."""
    faults, numeric = [], []
    for name, column in table.items():
        kind = column.dtype
        if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind):
            numeric.append(name)
            continue
        wrong = column[pd.to_numeric(column, errors="coerce").isna() & column.notna()]
        content = f"text, {short(wrong.iloc[0])} say" if len(wrong) else str(kind)
        faults.append(f"column {short(name)} holds {content}: leave it out, or encode it")
    missing = table.isna()
    if rows := int(missing.any(axis=1).sum()):
        where = _columns(table, missing.any().to_numpy())
        faults.append(f"{rows:,} of {len(table):,} rows lack values ({where}): drop them, or fill")
    numbers = table[numeric]
    infinite = np.isinf(numbers.to_numpy(dtype="float64", na_value=np.nan)).any(axis=0)
    if infinite.any():
        faults.append(f"infinite values in {_columns(numbers, infinite)}")
    return faults + _constant(numbers) if faults else []


def _constant(table: pd.DataFrame) -> list[str]:
    constant = (table.nunique() == 1).to_numpy()
    where = _columns(table, constant)
    return [f"{where} of one value alone: leave out, or no density exists"] * bool(constant.any())


def _degenerate(table: pd.DataFrame, x: np.ndarray) -> list[str]:
    """Faults that leave no density: constant and linearly dependent columns."""
    if constant := _constant(table):
        return constant
    largest = np.abs(x).max(axis=0)
    if (extreme := (largest > LARGEST) | (largest < 1 / LARGEST)).any():
        return [f"{_columns(table, extreme)}: beyond {LARGEST:.0e} or its inverse, rescale"]
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    if values[0] > 1e-12 * values[-1]:
        return []
    tied = np.abs(vectors[:, 0]) > 1e-3
    return [f"{_columns(table, tied)} are linearly dependent: leave one out, or no density exists"]


def _too_few(tables: Mapping[str, pd.DataFrame], kept: int) -> list[str]:
    """Faults of size, of the training part or of the table that will be split."""
    first = next(iter(tables.values()))
    rows = min(len(first), kept)
    needed = max(FEWEST, 2 * len(first.columns))
    if rows < needed:
        return [f"{rows:,} different rows of {len(first.columns)} columns: {needed} are needed"]
    return [f"its part {part} is empty" for part, table in tables.items() if not len(table)]


def _repeated(
    tables: Mapping[str, pd.DataFrame], count: int, rows: int, repeats: bool
) -> Iterator[str]:
    if count and len(tables) > 1:
        yield f"{count:,} rows stand in it more than once, perhaps in two parts"
    elif count and repeats:
        yield f"{count:,} repeated rows, which are kept, since all columns have steps"
    elif count:
        yield (
            f"{count:,} of {rows:,} rows are repeats, of which the first alone is kept: the "
            "density is that of distinct rows"
        )


def _stepped(
    table: pd.DataFrame, x: np.ndarray, steps: Mapping[int, float], dequantised: bool
) -> Iterator[str]:
    """Remarks on columns of whole numbers, together, and on each lattice of other values."""
    if dequantised:
        if steps:
            yield f"uniform noise in [0, 1) of a step on {counted(len(steps), 'column')}"
        return
    remedy = f"{UNBOUNDED}; the name with :dequantise at its end adds uniform noise"
    integers = [place for place in steps if (x[:, place] == np.round(x[:, place])).all()]
    if integers:
        yield f"whole numbers alone in {quoted(table.columns[integers])}: {remedy}"
    for place in steps.keys() - set(integers):
        distinct = np.unique(x[:, place])
        values = f"{len(distinct):,} values at spacing {number(steps[place], '.4g')}"
        first = number(float(distinct[0]), ".7g")
        yield f"equal steps in {short(table.columns[place])} ({values} from {first}): {remedy}"


def _heaps(table: pd.DataFrame, steps: Mapping[int, float]) -> Iterator[str]:
    """Remarks on columns of few values without steps, and on the largest heap of each other one."""
    others = [name for place, name in enumerate(table.columns) if place not in steps]
    counts = {name: table[name].nunique() for name in others}
    discrete = [name for name in others if SHARED * counts[name] <= len(table)]
    if discrete:
        listed = ", ".join(f"{counts[name]:,} in {short(name)}" for name in discrete[:MOST])
        more = " and others" * (len(discrete) > MOST)
        yield f"few values, at unequal distances: {listed}{more}; {UNBOUNDED}"
    heaps = []
    for name in others:
        held = None if name in discrete else heap(table[name].to_numpy(dtype="float64"))
        if held is not None:
            value, rows, values = held
            more = f" (and {counted(values - 1, 'other value')} like it)" if values > 1 else ""
            heaps.append(f"{number(value, '.6g')} in {rows:,} rows of {short(name)}{more}")
    if heaps:
        yield (
            "heaped values, where a flow may put a spike and likelihoods have no bound: "
            f"{', '.join(heaps[:MOST])}{' and others' * (len(heaps) > MOST)}"
        )
