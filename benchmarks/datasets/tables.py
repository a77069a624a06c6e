"""Tables of users as data sets: the path is the name wherever a data set is named.

A table of numbers, one row per observation, in any format of `READERS`. An .npz may hold `train`,
`val` and `test`; anything else is split at random, 80 / 10 / 10. Behind the path may follow
`:columns=a,b` or `:drop=a,b`, which choose columns by name, then `:target=a,b`, which makes it a
conditional set of these columns given the others, then `:dequantise`, which adds uniform noise to
columns of whole numbers or equal steps. Columns are standardised with the training mean and
standard deviation. Records depend on the file's content. An `Inspection` lists the faults of a
table as data of a density, and what is doubtful: steps, heaps, repeats, few rows.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from benchmarks.core.formats import brief, number
from benchmarks.core.naming import counted
from benchmarks.datasets import Dataset, bounds, counts, names, register, stream
from benchmarks.datasets.disk import FREE, RATIO, Absent, check_size, read_npy, sha256
from benchmarks.datasets.tabular import distinct_rows, shuffled_split, standardised

DEQUANTISE = ":dequantise"
NAME = re.compile(rf"(.+?)(?::(columns|drop)=(.+?))?(?::target=(.+?))?({DEQUANTISE})?", re.S)
PARTS = ("train", "val", "test")
SPELLINGS = {"validation": "val", "valid": "val"}
DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+([eE][-+]?\d+)?\s*")

FEWEST = 50  # rows below which a file is refused
FEW = (1000, 50)  # rows, and rows per column, below which flows can hardly be distinguished
SHARED = 5  # rows a value from which on equal steps between values are not an accident
CLASSES = 10  # values up to which a target is a class
HEAP = (10, 0.002)  # rows, and share of the rows, of one value that make a heap
MOST = 6  # names in a sentence
Support = Mapping[str, tuple[float, float]]
LARGEST = 1e30  # number, and its inverse the smallest of a column: float32 ends at 1e±38
UNBOUNDED = "likelihoods on them have no bound"


@dataclass(frozen=True)
class Selection:
    """A name taken apart: path, columns that are taken or left out, targets, and noise or none.

    Without ``columns`` all are taken but those of ``drop`` and the target of X and y. With a
    ``target`` its columns come first, and the others are their context.
    """

    path: Path
    columns: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    dequantise: bool = False
    target: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str) -> Self:
        """Read a name."""
        match = NAME.fullmatch(name)
        if match is None:
            return cls(Path(name))
        path, how, listed, target, noise = match.groups()
        chosen = {how: tuple(listed.split(","))} if how else {}
        chosen |= {"target": tuple(target.split(","))} if target else {}
        return cls(Path(path), dequantise=bool(noise), **chosen)

    def __str__(self) -> str:
        hows = [how for how in ("columns", "drop", "target") if getattr(self, how)]
        chosen = [f":{how}={','.join(getattr(self, how))}" for how in hows]
        return f"{self.path}{''.join(chosen)}{DEQUANTISE * self.dequantise}"

    def narrowed(
        self,
        table: pd.DataFrame,
        columns: Sequence[str],
        drop: Sequence[str],
        target: Sequence[str],
    ) -> Selection:
        """A selection with these columns in place of its own, where any are named."""
        kept, left_out = tuple(columns) or self.columns, tuple(drop) or self.drop
        chosen = replace(self, columns=(), drop=left_out, target=tuple(target) or self.target)
        try:
            chosen.select(table)
        except ValueError as error:
            raise ValueError(f"data file {str(self.path)!r}: {error}") from None
        if kept and left_out:
            kept, left_out = tuple(name for name in kept if name not in left_out), ()
            if not kept:
                raise ValueError("the columns and those that are left out are the same")
        return replace(chosen, columns=kept, drop=left_out)

    def select(self, table: pd.DataFrame) -> pd.DataFrame:
        """The chosen columns of a table.

        ValueError for a column that it does not have, and for a target that is left out.
        """
        named = (*self.columns, *self.drop, *self.target)
        if absent := [name for name in named if name not in table]:
            close = get_close_matches(absent[0], [str(name) for name in table], 1)
            hint = f"did you mean {close[0]!r}?" if close else f"choose from: {quoted(table, 50)}"
            raise ValueError(f"it has no column {absent[0]!r}; {hint}")
        if both := [name for name in self.target if name in self.drop]:
            raise ValueError(f"column {both[0]!r} is the target and left out")
        left_out = {*self.drop, *table.attrs.get("targets", ())}
        others = self.columns or [name for name in table.columns if name not in left_out]
        rest = [name for name in others if name not in self.target]
        if self.target and not rest:
            raise ValueError(f"no column is left that {quoted(self.target)} could depend on")
        return table[list(dict.fromkeys((*self.target, *rest)))].copy()


def is_file(name: str) -> bool:
    """Return whether a data set's name is a file's: whether it has a suffix, of any kind."""
    return bool(Selection.of(name).path.suffix)


def admit(name: str) -> None:
    """Register a file as a data set under its name; do nothing if the name is not a file's."""
    if is_file(name) and name not in names():
        register(name, version=2)(lambda root, seed: load_file(name, seed))


def files(name: str, root: Path | None = None) -> tuple[Path, ...]:
    """Return the file of a data set; raise Absent if it does not exist."""
    path = Selection.of(name).path
    if path.is_file():
        return (path,)
    if path.exists():
        raise Absent(f"data file {str(path)!r} is not a file")
    close = get_close_matches(path.name, [other.name for other in path.parent.glob("*")], 1)
    hint = f", did you mean {close[0]!r}?" if close else ""
    raise Absent(f"data file {str(path)!r} does not exist{hint}")


def inspect(name: str) -> Inspection:
    """Inspect a file's table; ValueError if it cannot be read."""
    selection = Selection.of(name)
    return examine(_selected(name, selection), selection.dequantise, selection.target)


def load_file(
    name: str | Path, seed: int = 0, dequantise: bool = False, support: Support | None = None
) -> Dataset:
    """Load the data set in a file, split and dequantised from ``seed``.

    ``support`` are lower and upper bounds, in the file's units, of the columns that have any.
    Raises ValueError with every fault of an `Inspection`; its remarks are part of ``about``.
    """
    name = str(name) + DEQUANTISE * (dequantise and not str(name).endswith(DEQUANTISE))
    source = f"{name} (sha256 {sha256(files(name)[0])[:12]})"
    selection = Selection.of(name)
    return _dataset(name, _selected(name, selection), source, seed, selection, support)


def load_frame(
    frame: pd.DataFrame,
    name: str = "table",
    seed: int = 0,
    dequantise: bool = False,
    target: Iterable[str] = (),
    support: Support | None = None,
) -> Dataset:
    """Load the columns of a DataFrame as `load_file` does those of a file."""
    selection = Selection(Path(name), dequantise=dequantise, target=tuple(target))
    table = selection.select(frame.rename(columns=str))
    return _dataset(name, {"all": table}, name, seed, selection, support)


def _selected(name: str, selection: Selection) -> dict[str, pd.DataFrame]:
    """Read the parts of a file, or its one part `all`, in the columns that are chosen."""
    tables = read(name)
    try:
        return {part: selection.select(table) for part, table in tables.items()}
    except ValueError as error:
        raise ValueError(f"data file {str(selection.path)!r}: {error}") from None


def _dataset(
    name: str,
    tables: Mapping[str, pd.DataFrame],
    source: str,
    seed: int,
    selection: Selection,
    support: Support | None,
) -> Dataset:
    if (inspection := examine(tables, selection.dequantise, selection.target)).faults:
        raise ValueError(f"data file {name!r}: {'; '.join(inspection.faults)}")
    parts: dict[str, Any] = {
        part: torch.tensor(table.to_numpy("float64")) for part, table in tables.items()
    }
    if "all" in tables and not inspection.repeats:  # or equal rows could lie in two parts
        parts["all"] = distinct_rows(tables["all"])
    if selection.dequantise:
        generator = stream(seed, "own/noise")
        places, steps = list(inspection.steps), torch.tensor(list(inspection.steps.values()))
        for x in parts.values():
            noise = torch.rand(len(x), len(places), generator=generator, dtype=x.dtype)
            x[:, places] += noise * steps
    if "all" in parts:
        parts = shuffled_split(parts["all"], stream(seed, "own/split"))
    if not parts["train"].std(dim=0).all():
        raise ValueError(f"data file {name!r}: a column is constant in its training part")
    parts, scaling = standardised(parts)
    sizes = counts(map(len, parts.values()))
    split = "as the file has them" if len(tables) > 1 else "a random 80/10/10 split"
    table = next(iter(tables.values()))
    if support is not None:
        if absent := [column for column in support if column not in table]:
            raise ValueError(f"data file {name!r}: it has no column {absent[0]!r} with a support")
        raw = bounds(*(support.get(str(column), (-np.inf, np.inf)) for column in table))
        for place, step in inspection.steps.items() if selection.dequantise else ():
            raw[1, place] += step
    if selection.target:
        split = f"of {quoted(selection.target)} given the other columns, {split}"
    elif aside := [label for label in table.attrs.get("targets", ()) if label not in table]:
        split = f"{split}, without {quoted(aside)}"
    remarks = " ".join(f"{remark[:1].upper()}{remark[1:]}." for remark in inspection.remarks)
    width, numbered = parts["train"].shape[1], tuple(map(str, range(len(table.columns))))
    columns = tuple(map(str, table.columns))
    return Dataset(
        name,
        len(selection.target) or width,
        parts["train"],
        parts["val"],
        parts["test"],
        units="standardised columns",
        about=f"{source}: {sizes} rows, {split}, standardised with the training mean and sd. "
        f"{remarks}".strip(),
        columns=None if columns == numbered else columns,
        scaling=scaling,
        remarks=tuple(inspection.remarks),
        split="published" if len(tables) > 1 else "random",
        context_dim=width - len(selection.target) if selection.target else 0,
        support=None if support is None else scaling(raw)[0],
    )


def read(name: str) -> dict[str, pd.DataFrame]:
    """Read the parts of a file, or its one part `all`, in all columns; ValueError if that fails.

    The last file is kept: nobody may change the result.
    """
    (path,) = files(name)
    try:
        return _read(path, path.stat().st_size, path.stat().st_mtime_ns)
    except Exception as error:  # whatever a library raises for a damaged file
        reason = brief(error)
        where = "" if str(path) in reason else f"data file {str(path)!r} cannot be read: "
        raise ValueError(f"{where}{reason}") from error


@lru_cache(maxsize=1)
def _read(path: Path, size: int, changed: int) -> dict[str, pd.DataFrame]:
    suffix = max((end for end in READERS if path.name.lower().endswith(end)), key=len, default="")
    if not suffix:
        raise ValueError(f"write it as one of {', '.join(READERS)}")
    return READERS[suffix](path)


def read_text(path: Path) -> dict[str, pd.DataFrame]:
    """Read values separated by semicolons, tabs, bars, spaces or commas, with or without names.

    Unless the separator is a comma, decimals may be written with one. Both are decided by the first
    two lines (`csv.Sniffer`, which pandas' ``sep=None`` uses, fails on numbers without a line of
    names and on a single column). Lines before them that begin with "#" are passed over; the last
    names the columns if it has as many words. Columns that share a name get numbers behind it, and
    are listed in ``attrs["shared"]``.
    """
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        content = file.read(FREE + RATIO * path.stat().st_size + 1)
    check_size(path, len(content))
    try:
        text = io.StringIO(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError("it is not text in UTF-8: save it in that encoding") from None
    comments, lines = [], []
    for line in text:
        if not line.startswith("#") and line.strip():
            lines = [line, *islice(text, 1)]
            break
        comments.append(line)
    if not lines:
        raise ValueError("it is empty")
    separator, rows = _separated(lines)
    decimal = "," if separator != "," and any(map(DECIMAL_COMMA.fullmatch, rows[-1])) else "."
    named = _is_header(*([value.replace(decimal, ".") for value in row] for row in rows))
    try:
        table = pd.read_csv(
            io.BytesIO(content),
            sep=r"\s+" if separator == " " else separator,
            decimal=decimal,
            header=0 if named else None,
            na_values=["?"],
            skiprows=len(comments),
            skipinitialspace=True,
            encoding="utf-8-sig",
            low_memory=False,
        )
    except pd.errors.ParserError as error:
        raise ValueError(str(error).strip().rpartition("error: ")[2]) from error
    last = next((line for line in reversed(comments) if line.strip(" #\r\n")), "").strip("# \r\n")
    words = last.split() if separator == " " else [w.strip() for w in last.split(separator)]
    if not named and len(words) == len(table.columns) == len(set(words)):
        table.columns = pd.Index(words)
    table = table.rename(columns=str)
    if named:
        count = Counter(rows[0])
        pairs = zip(table, rows[0], strict=False)
        table.attrs["shared"] = [column for column, name in pairs if count[name] > 1]
    return {"all": table}


def _separated(lines: Sequence[str]) -> tuple[str, list[list[str]]]:
    """Return the separator of the first lines, and their values.

    It splits every line into the same number of values, from two. The comma is tried last, since it
    may be the decimal mark; a space must separate numbers.
    """
    stripped = [line.strip(" \r\n") for line in lines]
    for separator in ";\t| ":
        try:
            rows = list(csv.reader(stripped, delimiter=separator, skipinitialspace=True))
        except csv.Error:  # a wide line of another separator is too long for one value
            continue
        numbers = all(_is_number(value.replace(",", ".")) for value in rows[-1])
        if len({len(row) for row in rows}) == 1 < len(rows[0]) and (separator != " " or numbers):
            return separator, rows
    return ",", list(csv.reader(lines))


def _is_header(first: Sequence[str], second: Sequence[str] = ()) -> bool:
    """Return whether the first line names columns: words above numbers, or 0, 1, 2, ..."""
    words = [bool(value.strip()) and not _is_number(value) for value in first]
    if not second:
        return any(words)
    above = any(word and _is_number(value) for word, value in zip(words, second, strict=False))
    return above or list(first) == [str(k) for k in range(len(first))]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.strip() == "?"
    return True


def read_parquet(path: Path) -> dict[str, pd.DataFrame]:
    """Read the columns of a parquet file."""
    about = pq.read_metadata(path)
    size = sum(about.row_group(n).total_byte_size for n in range(about.num_row_groups))
    check_size(path, max(size, 8 * about.num_rows * about.num_columns))
    return {"all": pd.read_parquet(path).rename(columns=str)}


def read_arrays(path: Path) -> dict[str, pd.DataFrame]:
    """Read the arrays `train`, `val` and `test` of an .npz file, its only one, or `X` and `y`.

    The columns of y, `y` or `y0, y1, ...`, are targets, which the table's ``attrs`` name.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not an .npz archive, or cut off")
    with zipfile.ZipFile(path) as archive:
        check_size(path, sum(member.file_size for member in archive.infolist()))
    with np.load(path) as content:
        arrays = {SPELLINGS.get(key, key): content[key] for key in content.files}
    if {key.lower() for key in arrays} == {"x", "y"}:
        return {"all": _with_target(*(arrays[key] for key in sorted(arrays, key=str.lower)))}
    if len(arrays) == 1:
        arrays = {"all": next(iter(arrays.values()))}
    elif set(arrays) >= set(PARTS):
        arrays = {part: arrays[part] for part in PARTS}
    else:
        raise ValueError(
            f"it should hold one array, X and y, or train, val and test, not {quoted(arrays)}"
        )
    for key, values in arrays.items():
        if values.ndim != 2:
            raise ValueError(f"{key} should have the shape (rows, columns), not {values.shape}")
    if len({values.shape[1] for values in arrays.values()}) > 1:
        raise ValueError("train, val and test differ in their number of columns")
    return {key: _frame(values) for key, values in arrays.items()}


def _with_target(x: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    if x.ndim != 2 or y.ndim not in (1, 2) or len(y) != len(x) or y.size == 0:
        raise ValueError(
            f"X and y should have the shapes (N, D) and (N,) or (N, K), not {x.shape}, {y.shape}"
        )
    targets = _frame(y.reshape(len(y), -1))
    targets.columns = [f"y{name}" for name in targets] if targets.shape[1] > 1 else ["y"]
    table = pd.concat([_frame(x), targets], axis=1)
    table.attrs["targets"] = list(targets)
    return table


def _frame(values: np.ndarray) -> pd.DataFrame:
    native = values.astype(values.dtype.newbyteorder("="), copy=False)  # pandas takes no other
    return pd.DataFrame(native).rename(columns=str)


TEXT = (".csv", ".tsv", ".dat", ".txt")
READERS: dict[str, Callable[[Path], dict[str, pd.DataFrame]]] = {
    **dict.fromkeys((*TEXT, *(f"{suffix}.gz" for suffix in TEXT)), read_text),
    ".parquet": read_parquet,
    ".npy": lambda path: {"all": _frame(read_npy(path))},
    ".npz": read_arrays,
}


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
    spacings = map(spacing, x.T)
    steps = {place: step for place, step in enumerate(spacings) if step is not None}
    repeats = len(steps) == columns
    kept = table if repeats else table.drop_duplicates()
    faults = _too_few(tables, len(kept)) or _degenerate(table, x)
    if dequantised and not steps:
        faults.append("no column has whole numbers or equal steps: leave out :dequantise")
    for name in () if dequantised else targets:
        if (count := table[name].nunique()) <= CLASSES:
            fault = f"has {count} values: a class has no density, take a classifier"
            faults.append(f"target {short(name)} {fault}")
    shared = [name for name in first.attrs.get("shared", ()) if name in first]
    remarks = [f"columns of one name in the file: {quoted(shared)}"] if shared else []
    if copies := int(table.duplicated().sum()):
        if len(tables) > 1:
            end = "rows stand in it more than once, perhaps in two parts"
        elif repeats:
            end = "repeated rows, which are kept, since all columns have steps"
        else:
            end = f"of {rows:,} rows are repeats, of which the first alone is kept: the density is "
            end += "that of distinct rows"
        remarks.append(f"{copies:,} {end}")
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
    """Remarks on columns of few values without steps, and on the largest heap of each other one.

    A heap is a value that far more rows have than others.
    """
    few, heaps = [], []
    for place, name in enumerate(table.columns):
        values, rows = np.unique(table[name].to_numpy(dtype="float64"), return_counts=True)
        least = max(HEAP[0], HEAP[1] * len(table), 10 * float(np.median(rows)))
        count, top = int((rows >= least).sum()), rows.argmax()
        if place not in steps and SHARED * len(values) <= len(table):
            few.append(f"{len(values):,} in {short(name)}")
        elif place not in steps and count:
            more = f" (and {counted(count - 1, 'other value')} like it)" if count > 1 else ""
            value = number(float(values[top]), ".6g")
            heaps.append(f"{value} in {rows[top]:,} rows of {short(name)}{more}")
    if few:
        yield f"few values, at unequal distances: {_first(few)}; {UNBOUNDED}"
    if heaps:
        spike = "where a flow may put a spike and likelihoods have no bound"
        yield f"heaped values, {spike}: {_first(heaps)}"


def _first(texts: Sequence[str]) -> str:
    return ", ".join(texts[:MOST]) + " and others" * (len(texts) > MOST)
