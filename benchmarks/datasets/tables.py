"""Tables of users as data sets: the path is the name wherever a data set is named.

A table of numbers, one row per observation, in any format of `READERS`. An .npz may hold `train`,
`val` and `test`; anything else is split at random, 80 / 10 / 10. Behind the path may follow which
rows and columns are wanted, and of which of them the density is (`Selection`). Columns are
standardised with the training mean and standard deviation. Records depend on the file's content.
An `Inspection` lists the faults of a table as data of a density, and what is doubtful: an index, a
label, steps, heaps, repeats, few rows.
"""

from __future__ import annotations

import gzip
import io
import re
import shlex
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import lru_cache
from itertools import combinations, islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from pandas.api.types import is_complex_dtype, is_numeric_dtype

from benchmarks.core.formats import brief, number
from benchmarks.core.naming import counted
from benchmarks.core.store import FREE, RATIO
from benchmarks.datasets import Dataset, counts, register, registry, stream
from benchmarks.datasets.disk import Absent, check_size, read_npy, sha256
from benchmarks.datasets.tabular import add_noise, distinct_rows, scaled, shuffled_split

OPTION = re.compile(r":(?:(columns|drop|target|context|support)=|(dropna|dequantise)(?=:|$))")
SEPARATORS = {";": ".,", "\t": ".,", "|": ".,", r"\s+": ".,", ",": "."}  # with decimal marks
PARTS = ("train", "val", "test")
SPELLINGS = {"validation": "val", "valid": "val"}

FEWEST = 50  # rows below which a file is refused
FEW = (1000, 50)  # rows, and rows per column, below which flows can hardly be distinguished
SHARED = 5  # rows a value from which on equal steps between values are not an accident
CLASSES = 10  # values up to which a target is a class
LABELS = 20  # whole numbers up to which a column may be a label
CALLED = ("class", "label", "target", "y")  # names of labels
NEARLY = 0.995  # share of the rows, of one value that makes a column nearly constant
HEAP = (10, 0.002)  # rows, and share of the rows, of one value that make a heap
MOST = 6  # names in a sentence
NEAR = 0.05  # distance of a share's least and largest value from 0 and 1, at most
SKEWED = 2.0  # skewness of a long tail: that of an exponential distribution
LARGEST = 1e30  # number, and its inverse the smallest of a column: float32 ends at 1e±38
UNBOUNDED = "likelihoods on them have no bound"


@dataclass(frozen=True)
class Selection:
    """A file and what is wanted of it; ``str`` gives the name of that data set.

    ``columns`` are taken, or all but those of ``drop`` and the target of X and y. The density is
    that of ``target`` given ``context``; if one of them is empty, all other columns are in its
    place, and without either there is no context. ``support`` has the bounds of columns in raw
    units: "0,1" for those of the density, "mass=0,inf" for one. ``dropna`` leaves out rows with
    missing or infinite values; ``dequantise`` adds uniform noise to whole numbers and equal steps.
    """

    path: Path
    columns: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    support: tuple[str, ...] = ()
    dropna: bool = False
    dequantise: bool = False

    @classmethod
    def of(cls, name: str) -> Self:
        """Read a name: a path, then `:columns=a,b`, `:dropna` and so on, in any order."""
        path, *pieces = OPTION.split(name)
        values: dict[str, Any] = {}
        for how, flag, text in zip(*[iter(pieces)] * 3, strict=True):
            if flag and text:
                return cls(Path(name))
            texts = (text,) if how == "support" else tuple(text.split(","))
            values[how or flag] = bool(flag) or (*values.get(how, ()), *texts)
        return cls(Path(path), **values)

    def __str__(self) -> str:
        parts = [str(self.path)]
        for how, value in ((one.name, getattr(self, one.name)) for one in fields(self)[1:]):
            if isinstance(value, tuple):
                texts = value if how == "support" else filter(None, [",".join(value)])
                parts += [f"{how}={text}" for text in texts]
            elif value:
                parts.append(how)
        return ":".join(parts)

    def narrowed(self, table: pd.DataFrame, **options: Any) -> Selection:
        """A selection with other options where any are given; those of ``drop`` are added.

        ValueError as for `select`.
        """
        changes = {how: value for how, value in options.items() if value}
        changes["drop"] = tuple(dict.fromkeys((*self.drop, *options.get("drop", ()))))
        chosen = replace(self, **changes)
        try:
            chosen.select(table)
        except ValueError as error:
            raise ValueError(f"data file {str(self.path)!r}: {error}") from None
        if chosen.columns and chosen.drop:
            columns = tuple(name for name in chosen.columns if name not in chosen.drop)
            chosen = replace(chosen, columns=columns, drop=())
        return chosen

    def select(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows and columns of a table that are wanted, those of the density first.

        Its ``attrs`` count the columns of the ``context``, and say which rows are ``incomplete``
        and left out. ValueError for columns that the table does not have or has twice, or that are
        named in two options, where no column or row is left, and for a support without an inside.
        """
        if not table.columns.is_unique:
            shared = table.columns[table.columns.duplicated()].unique()
            raise ValueError(f"columns share a name: {quoted(shared)}; rename them")
        columns = (*self.columns, *self.drop, *self.target, *self.context, *self.bounds(()))
        if absent := [name for name in columns if name not in table]:
            close = get_close_matches(absent[0], [str(name) for name in table], 1)
            hint = f"did you mean {close[0]!r}?" if close else f"choose from: {quoted(table, 50)}"
            raise ValueError(f"it has no column {absent[0]!r}; {hint}")
        roles = {"left out": self.drop, "the target": self.target, "the context": self.context}
        for (role, some), (other, more) in combinations(roles.items(), 2):
            if both := [name for name in some if name in more]:
                raise ValueError(f"column {both[0]!r} is {role} and {other}: name it in one option")
        left_out = {*self.drop, *self.target, *self.context}
        left_out |= set() if self.columns else {*table.attrs.get("targets", ())}
        rest = [name for name in self.columns or table.columns if name not in left_out]
        density = self.target or rest
        context = self.context or (rest if self.target else ())
        if not density:
            clause = f" beside the context {quoted(context)}" if context else ""
            raise ValueError(f"no column is left for the density{clause}: name fewer columns")
        if self.target and not context:
            raise ValueError(f"no column is left that {quoted(density)} could depend on")
        chosen = table[list(dict.fromkeys((*density, *context)))].copy()
        chosen.attrs["context"] = len(set(context))
        if self.dropna and (gaps := _gaps(chosen)):
            rows, names, text = gaps
            chosen.attrs["incomplete"] = f"{text} and are left out"
            chosen = chosen[~rows]
            if not len(chosen):
                raise ValueError(f"{text}: {_without(names)}")
        return chosen

    def bounds(self, density: Iterable[str]) -> dict[str, tuple[float, float]]:
        """Lower and upper bounds of columns, those of one before those of the density's.

        ValueError for what is not two numbers, the lower one first.
        """
        bounds: dict[str, tuple[float, float]] = {}
        for text in sorted(self.support, key=lambda text: "=" in text):
            name, sign, ends = text.rpartition("=")
            try:
                lower, upper = map(float, ends.split(","))
            except ValueError:
                form = "write LOWER,UPPER or NAME=LOWER,UPPER, such as 0,1 or mass=0,inf"
                raise ValueError(f"support {text!r} is not two numbers: {form}") from None
            if not lower < upper:
                raise ValueError(f"support {text!r}: {lower:g} is not below {upper:g}, swap them")
            bounds |= dict.fromkeys([name] if sign else density, (lower, upper))
        return bounds


def is_file(name: str) -> bool:
    """Return whether a data set's name is a file's: whether it has a suffix, of any kind."""
    return bool(Selection.of(name).path.suffix)


def admit(name: str) -> None:
    """Register a file as a data set under its name; do nothing if the name is not a file's."""
    if is_file(name) and name not in registry:
        register(name, version=2, pace=2)(lambda root, seed: load_file(name, seed))


def files(name: str, root: Path | None = None) -> tuple[Path, ...]:
    """Return the file of a data set; raise Absent if it does not exist."""
    path = Selection.of(name).path
    if path.is_file():
        return (path,)
    if path.exists():
        raise Absent(f"data file {str(path)!r} is not a file")
    others = [other.name for other in path.parent.glob("*") if other != path]  # a link may be one
    close = get_close_matches(path.name, others, 1)
    hint = f", did you mean {close[0]!r}?" if close else ""
    raise Absent(f"data file {str(path)!r} does not exist{hint}")


def inspect(name: str) -> Inspection:
    """Inspect a file's table; ValueError if it cannot be read."""
    selection = Selection.of(name)
    return examine(_selected(name, selection), selection)


def load_file(name: str | Path, seed: int = 0, dequantise: bool = False) -> Dataset:
    """Load the data set in a file, split and dequantised from ``seed``.

    Raises ValueError with every fault of an `Inspection`; its remarks are part of ``about``.
    """
    selection = Selection.of(str(name))
    if dequantise and not selection.dequantise:
        selection = replace(selection, dequantise=True)
        name = str(selection)
    source = f"{name} (sha256 {sha256(files(str(name))[0])[:12]})"
    return _dataset(str(name), _selected(str(name), selection), source, seed, selection)


def load_frame(frame: pd.DataFrame, name: str = "table", seed: int = 0, **options: Any) -> Dataset:
    """Load a DataFrame as `load_file` does a file; options are those of a `Selection`."""
    chosen: Any = {how: v if isinstance(v, bool) else tuple(v) for how, v in options.items()}
    selection = Selection(Path(name), **chosen)
    table = selection.select(frame.rename(columns=str))
    return _dataset(name, {"all": table}, name, seed, selection)


def _selected(name: str, selection: Selection) -> dict[str, pd.DataFrame]:
    """Read the parts of a file, or its one part `all`, in the columns that are chosen."""
    tables = read(name)
    try:
        return {part: selection.select(table) for part, table in tables.items()}
    except ValueError as error:
        raise ValueError(f"data file {str(selection.path)!r}: {error}") from None


def _dataset(
    name: str, tables: Mapping[str, pd.DataFrame], source: str, seed: int, selection: Selection
) -> Dataset:
    if (inspection := examine(tables, selection)).faults:
        raise ValueError(f"data file {name!r}: {'; '.join(inspection.faults)}")
    parts: dict[str, Any] = {
        part: torch.tensor(table.to_numpy("float64")) for part, table in tables.items()
    }
    if "all" in tables and not inspection.repeats:  # or equal rows could lie in two parts
        parts["all"] = distinct_rows(tables["all"])
    steps = inspection.steps if selection.dequantise else {}
    if steps:
        generator = stream(seed, "own/noise")
        for x in parts.values():
            add_noise(x, steps, generator)
    if "all" in parts:
        parts = shuffled_split(parts["all"], stream(seed, "own/split"))
    if not parts["train"].std(dim=0).all():
        raise ValueError(f"data file {name!r}: a column is constant in its training part")
    sizes = counts(map(len, parts.values()))
    split = "as the file has them" if len(tables) > 1 else "a random 80/10/10 split"
    table = next(iter(tables.values()))
    columns = tuple(map(str, table.columns))
    dim = len(columns) - table.attrs["context"]
    noise = {columns[place]: step for place, step in steps.items()}
    limits = {
        column: (lower, upper + noise.get(column, 0))
        for column, (lower, upper) in selection.bounds(columns[:dim]).items()
    }
    if dim < len(columns):
        condition = quoted(columns[dim:]) if selection.context else "the other columns"
        split = f"of {quoted(columns[:dim])} given {condition}, {split}"
    return scaled(
        name,
        parts,
        columns,
        limits,
        about=f"{source}: {sizes} rows, {split}, standardised with the training mean and sd."
        + sentences(inspection.remarks),
        columns=None if columns == tuple(map(str, range(len(columns)))) else columns,
        remarks=tuple(inspection.remarks),
        split="published" if len(tables) > 1 else "random",
        context_dim=len(columns) - dim,
    )


def sentences(remarks: Iterable[str]) -> str:
    return "".join(f" {remark[:1].upper()}{remark[1:]}." for remark in remarks)


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

    Unless the separator is a comma, decimals may be written with one: with the mark that makes most
    columns of the first hundred lines numbers. The first two decide the rest (`csv.Sniffer` fails
    on a single column). Lines before them that begin with "#" are passed over; the last names the
    columns if it has as many words. Equal names are numbered, and listed in ``attrs["shared"]``.
    """
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        content = file.read(FREE + RATIO * path.stat().st_size + 1)
    check_size(path, len(content))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not text in UTF-8: save it in that encoding") from None
    comments = str(re.match(r"(?:#.*(?:\n|$)|\s*\n)*", text)[0])  # type: ignore[index]  # or ""
    rows = islice(re.finditer(r".*\S.*", text[len(comments) :]), 100)
    lines = [row[0].strip(" \r") for row in rows]
    if not lines:
        raise ValueError("it is empty")
    layout, first = _layout(lines)
    skipped = comments.count("\n")
    try:
        table = pd.read_csv(io.StringIO(text), skiprows=skipped, low_memory=False, **layout)
    except pd.errors.ParserError as error:
        raise ValueError(str(error).strip().rpartition("error: ")[2]) from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first values for labels
        raise ValueError("its rows have more values than there are names: name all columns")
    separator = None if layout["sep"] == r"\s+" else layout["sep"]
    comment = comments.rstrip("# \r\n").rpartition("\n")[2].strip("# \r\n")
    names = [name.strip() for name in comment.split(separator)]
    if layout["header"] == 0:
        shared = first.iloc[0].duplicated(keep=False) & first.iloc[0].notna()
        table.attrs["shared"] = [str(n) for n, one in zip(table, shared, strict=False) if one]
    elif len(names) == len(table.columns) == len(set(names)):
        table.columns = pd.Index(names)
    return {"all": table.rename(columns=str)}


def _layout(lines: Sequence[str]) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return how to read values, by the first lines, and the values of the first of them.

    A separator splits every line into the same number of values, from two. The comma is tried last,
    since it may be the decimal mark; a space must separate numbers. The first line has names if a
    word in it is above a number, or if it counts 0, 1, 2, ...
    """
    for separator, decimals in SEPARATORS.items():
        ways = []
        for decimal in decimals:
            how = {"sep": separator, "decimal": decimal, "skipinitialspace": True}
            once: Any = {"na_values": ["?", "", "nan", "NaN"], "keep_default_na": False, **how}
            once["on_bad_lines"] = "skip"  # which the reading of the whole table refuses
            with suppress(pd.errors.ParserError):
                texts = map(io.StringIO, (lines[0], lines[:2][-1], "\n".join(lines[1:] or lines)))
                ways.append((how, *(pd.read_csv(text, header=None, **once) for text in texts)))
        if not ways:
            continue
        how, first, second, _ = max(ways, key=lambda way: _numeric(way[3]).sum())
        same = first.shape[1] == second.shape[1] > 1
        if separator == "," or (same and (separator != r"\s+" or _numeric(second).all())):
            words = first.notna().to_numpy()[0] & ~_numeric(first)
            numbers = _numeric(second) if len(lines) > 1 else [True] * len(words)
            counting = list(first.astype(str).iloc[0]) == list(map(str, range(len(words))))
            has_header = counting or any(a and b for a, b in zip(words, numbers, strict=False))
            return how | {"header": 0 if has_header else None, "na_values": ["?"]}, first
    raise ValueError("its first lines have no common separator: write commas")


def _numeric(table: pd.DataFrame) -> np.ndarray:
    """Which columns (D,) of a table hold numbers."""
    kinds = [is_numeric_dtype(kind) and not is_complex_dtype(kind) for kind in table.dtypes]
    return np.array(kinds, dtype=bool)


def read_parquet(path: Path) -> dict[str, pd.DataFrame]:
    about = pq.read_metadata(path)
    size = sum(about.row_group(n).total_byte_size for n in range(about.num_row_groups))
    check_size(path, max(size, 8 * about.num_rows * about.num_columns))
    names = pd.Index(about.schema.to_arrow_schema().names)
    if (shared := names[names.duplicated()].unique()).size:
        raise ValueError(f"columns share a name: {quoted(shared)}; rename them")
    return {"all": pd.read_parquet(path).rename(columns=str)}


def read_arrays(path: Path) -> dict[str, pd.DataFrame]:
    """Read the arrays `train`, `val` and `test` of an .npz file, its only one, or `X` and `y`.

    The columns of y, `y` or `y0, y1, ...`, are targets, which the table's ``attrs`` name.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not an .npz archive, or cut off")
    with zipfile.ZipFile(path) as archive:
        check_size(path, sum(member.file_size for member in archive.infolist()))
    seen: dict[str, str] = {}
    with np.load(path) as content:
        for key in content.files:
            name = key.lower()
            if (other := seen.setdefault(SPELLINGS.get(name, name), key)) != key or (
                content.files.count(key) > 1
            ):
                raise ValueError(f"{other!r} and {key!r} are the same part: leave one out")
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


def examine(tables: Mapping[str, pd.DataFrame], selection: Selection) -> Inspection:
    """Inspect the parts of a selected table; unless all values are finite numbers, those alone."""
    table, first = pd.concat(tables.values(), ignore_index=True), next(iter(tables.values()))
    rows, columns = table.shape
    if 0 < rows < 2 * columns:  # before anything that takes minutes for thousands of columns
        return Inspection(_too_few(tables, rows))
    if not table.size:
        return Inspection([f"it holds {counted(rows, 'row')} of {counted(columns, 'column')}"])
    if faults := _not_numbers(table):
        return Inspection(faults)
    table = table.astype("float64")  # from whatever types a file has, such as those of pyarrow
    x = table.to_numpy()
    density = table.columns[: columns - first.attrs.get("context", 0)]
    spacings = map(spacing, x.T)
    steps = {place: step for place, step in enumerate(spacings) if step is not None}
    repeats = len(steps) == columns
    kept = table if repeats else table.drop_duplicates()
    faults = _too_few(tables, len(kept)) or _degenerate(table, x)
    for name, (lower, upper) in selection.bounds(density).items():
        if len(wrong := table[name][~table[name].between(lower, upper)]):
            fault = f"{counted(len(wrong), 'value')} outside of its support [{lower:g}, {upper:g}]"
            value = number(float(wrong.iloc[0]), ".6g")
            faults.append(f"column {short(name)} has {fault}, {value} say: widen --support")
    if selection.dequantise and not steps:
        faults.append("no column has whole numbers or equal steps: leave out :dequantise")
    for name in () if selection.dequantise else selection.target:
        if (count := table[name].nunique()) <= CLASSES:
            fault = f"has {count} values: a class has no density, take a classifier"
            faults.append(f"target {short(name)} {fault}")
    remarks = [part.attrs["incomplete"] for part in tables.values() if "incomplete" in part.attrs]
    if aside := [name for name in first.attrs.get("targets", ()) if name not in first]:
        remarks.append(f"{quoted(aside)} left out: {_option('target', aside)} asks for it given X")
    shared = [name for name in first.attrs.get("shared", ()) if name in first]
    remarks += [f"columns of one name in the file: {quoted(shared)}"] if shared else []
    if copies := int(table.duplicated().sum()):
        if len(tables) > 1:
            end = "rows stand in it more than once, perhaps in two parts"
        elif repeats:
            end = "repeated rows, which are kept, since all columns have steps"
        else:
            end = f"of {rows:,} rows are repeats, of which the first alone is kept: the density is "
            end += "that of distinct rows"
        remarks.append(f"{copies:,} {end}")
    indices = [place for place in range(columns) if _is_index(x[:, place])]
    for name in table.columns[indices]:
        remarks.append(f"column {short(name)} numbers the rows, like an index: {_without([name])}")
    if len(density) > 1 and not selection.target:
        remarks += _labels(table[density])
    if selection.dequantise and steps:
        remarks.append(f"uniform noise in [0, 1) of a step on {counted(len(steps), 'column')}")
    elif not selection.dequantise:
        lattices = {place: steps[place] for place in steps.keys() - set(indices)}
        remarks += _stepped(table[density], lattices, replace(selection, dequantise=True))
    bounded = [name for name, ends in selection.bounds(density).items() if np.isfinite(ends).any()]
    remarks += _bounded(table[density].drop(columns=bounded, errors="ignore"))
    remarks += _heaps(kept[density], steps)
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


def _option(how: str, names: Iterable[Any]) -> str:
    """An option of columns, to be copied into a shell."""
    return f"--{how} {shlex.quote(','.join(map(str, names)))}"


def _without(names: Sequence[Any]) -> str:
    return f"leave {'it' if len(names) == 1 else 'them'} out with {_option('drop', names)}"


def _gaps(table: pd.DataFrame) -> tuple[np.ndarray, list[Any], str] | None:
    """Rows (N,) and columns with missing or infinite values, and a text; None without any."""
    lacking = table.isna()
    for name in table.columns[_numeric(table)]:
        lacking[name] |= np.isinf(table[name].to_numpy(dtype="float64", na_value=np.nan))
    rows, counts = lacking.any(axis=1).to_numpy(), lacking.sum()
    counts = counts[counts > 0]
    where = _first([f"{count:,} in {short(name)}" for name, count in counts.items()])
    text = f"{rows.sum():,} of {len(rows):,} rows lack values or have infinite ones ({where})"
    return (rows, list(counts.index), text) if rows.any() else None


def _not_numbers(table: pd.DataFrame) -> list[str]:
    """Faults of columns that are not all finite numbers, and then of constant ones beside them."""
    faults, numeric = [], _numeric(table)
    for name, column in table.loc[:, ~numeric].items():
        wrong = column[pd.to_numeric(column, errors="coerce").isna() & column.notna()]
        content = f"text, {short(wrong.iloc[0])} say" if len(wrong) else str(column.dtype)
        faults.append(f"column {short(name)} holds {content}: {_without([name])}, or encode it")
    if gaps := _gaps(table):
        _, names, text = gaps
        remedy = f"leave these rows out with --dropna, or columns with {_option('drop', names)}"
        faults.append(f"{text}: {remedy}")
    return faults + _constant(table.loc[:, numeric]) if faults else []


def _constant(table: pd.DataFrame) -> list[str]:
    constant = (table.nunique() == 1).to_numpy()
    remedy = f"{_without(list(table.columns[constant]))}, or no density exists"
    where = _columns(table, constant)
    return [f"{where} of one value alone: {remedy}"] * bool(constant.any())


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
    remedy = f"leave one out, as by {_option('drop', table.columns[tied][-1:])}"
    return [f"{_columns(table, tied)} are linearly dependent: {remedy}, or no density exists"]


def _too_few(tables: Mapping[str, pd.DataFrame], count: int) -> list[str]:
    """Faults of size, of the training part or of the table that will be split."""
    first = next(iter(tables.values()))
    rows = min(len(first), count)
    needed = max(FEWEST, 2 * len(first.columns))
    if rows < needed:
        return [f"{rows:,} different rows of {len(first.columns)} columns: {needed} are needed"]
    return [f"its part {part} is empty" for part, table in tables.items() if not len(table)]


def _is_index(values: np.ndarray) -> bool:
    """Whether whole numbers (N,), each once, count on, or nearly so in the order of the rows."""
    span, rows = np.ptp(values) + 1, len(values)
    if span > 2 * rows or (values % 1).any() or len(np.unique(values)) < rows:
        return False
    return bool(span == rows or (np.diff(values) > 0).all())


def _labels(table: pd.DataFrame) -> Iterator[str]:
    """Remarks on columns of few whole numbers, of which those called so or the last are labels.

    Where most columns are such, they are counts or pixels, unless one is called a label.
    """
    integral = [name for name in table if not (table[name] % 1).any()]
    few = {name: count for name in integral if (count := table[name].nunique()) <= LABELS}
    called = [name for name in few if str(name).lower() in CALLED]
    usual = few if 2 * len(few) <= table.shape[1] else ()
    for name in called or [name for name in usual if name == table.columns[-1]] or [*usual][:MOST]:
        values = f"column {short(name)} has {few[name]} values in {len(table):,} rows"
        use = f"ask for its use as context with {_option('context', [name])}"
        yield f"{values}, like a label: {_without([name])}, or {use}"


def _stepped(table: pd.DataFrame, steps: Mapping[int, float], noisy: Selection) -> Iterator[str]:
    """A remark on columns of whole numbers and of other lattices, with the name that adds noise."""
    integral, lattices = [], []
    for place, name in enumerate(table.columns):
        distinct = np.unique(table[name])
        if place in steps and (distinct == np.round(distinct)).all():
            integral.append(name)
        elif place in steps:
            values = f"{len(distinct):,} values at spacing {number(steps[place], '.4g')}"
            lattices.append(f"{short(name)} ({values} from {number(float(distinct[0]), '.7g')})")
    texts = [f"whole numbers alone in {quoted(integral)}"] * bool(integral)
    texts += [f"equal steps in {_first(lattices)}"] * bool(lattices)
    if texts:
        remedy = shlex.quote(str(noisy)) if is_file(str(noisy)) else "dequantise=True"
        yield f"{' and '.join(texts)}: {UNBOUNDED}; {remedy} adds uniform noise"


def _bounded(table: pd.DataFrame) -> Iterator[str]:
    """Remarks on columns of shares, and on those above 0 with a long tail that their logs lack.

    Shares reach from near 0 to near 1, and have more values than labels have.
    """
    least, most = table.min(), table.max()
    within = (least >= 0) & (least < NEAR) & (most > 1 - NEAR) & (most <= 1)
    shares = list(table.columns[within & (table.nunique() > LABELS)])
    above = table.loc[:, least > 0].drop(columns=shares, errors="ignore")
    skews, of_logs = above.skew(), above.apply(np.log).skew().abs()
    long = list(skews.index[(skews > SKEWED) & (skews > 2 * of_logs)])
    kinds = ("from 0 to 1, like shares", shares, "0,1"), ("above 0 with a long tail", long, "0,inf")
    for kind, names, ends in kinds:
        bounds = [f"--support {shlex.quote(f'{name}={ends}')}" for name in names[:MOST]]
        if names:
            yield f"{kind}: {quoted(names)}; {' '.join(bounds)} keeps nearly all samples there"


def _heaps(table: pd.DataFrame, steps: Mapping[int, float]) -> Iterator[str]:
    """Remarks on nearly constant columns, on those of few values without steps, and on heaps.

    A heap is a value that far more rows have than others; the largest of a column is named.
    """
    nearly, few, heaps = [], [], []
    for place, name in enumerate(table.columns):
        values, rows = np.unique(table[name], return_counts=True)
        top, most = number(float(values[rows.argmax()]), ".6g"), int(rows.max())
        count = int((rows >= max(HEAP[0], HEAP[1] * len(table), 10 * np.median(rows))).sum())
        if most >= NEARLY * len(table):
            nearly.append(name)
        elif place not in steps and SHARED * len(rows) <= len(table):
            few.append(f"{len(rows):,} in {short(name)}")
        elif place not in steps and count:
            more = f" (and {counted(count - 1, 'other value')} like it)" if count > 1 else ""
            heaps.append(f"{top} in {most:,} rows of {short(name)}{more}")
    if nearly:
        share = f"one value in {NEARLY:.1%} of the rows or more"
        yield f"nearly constant, {share}: {quoted(nearly)}; {UNBOUNDED}: {_without(nearly)}"
    if few:
        yield f"few values, at unequal distances: {_first(few)}; {UNBOUNDED}"
    if heaps:
        spike = "where a flow may put a spike and likelihoods have no bound"
        yield f"heaped values, {spike}: {_first(heaps)}"


def _first(texts: Sequence[str]) -> str:
    return ", ".join(texts[:MOST]) + " and others" * (len(texts) > MOST)
