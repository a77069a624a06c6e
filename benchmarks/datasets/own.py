"""User files as data sets: the path is the name wherever a data set is named.

A table of numbers, one row per observation, in any format of `tables.READERS`. An .npz may hold
`train`, `val` and `test`; anything else is split at random, 80 / 10 / 10. Behind the path may
follow `:columns=a,b` or `:drop=a,b`, which choose columns by name, then `:target=a,b`, which makes
it a conditional set of these columns given the others, then `:dequantise`, which adds uniform noise
to columns of whole numbers or equal steps. Columns are standardised with the training
mean and standard deviation. Records depend on the file's content.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Self

import pandas as pd
import torch

from benchmarks.core.formats import brief
from benchmarks.core.unpacking import MALFORMED
from benchmarks.datasets import Dataset, Loader, names, register, stream
from benchmarks.datasets.disk import Absent, sha256
from benchmarks.datasets.inspection import Inspection, examine, quoted
from benchmarks.datasets.tables import read
from benchmarks.datasets.tabular import distinct_rows, scaling, shuffled_split, standardised

DEQUANTISE = ":dequantise"
_NAME = re.compile(rf"(.+?)(?::(columns|drop)=(.+?))?(?::target=(.+?))?({DEQUANTISE})?", re.S)


@dataclass(frozen=True)
class Selection:
    """What a name says: a path, the columns that are taken or left out, and whether noise is added.

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
        match = _NAME.fullmatch(name)
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
        columns: Iterable[str] = (),
        drop: Iterable[str] = (),
        target: Iterable[str] = (),
    ) -> Selection:
        """A selection with other columns in place of its own, where any are named.

        Raises ValueError as `select` does, and where no column is left.
        """
        kept, left_out = tuple(columns) or self.columns, tuple(drop) or self.drop
        targets = tuple(target) or self.target
        try:
            Selection(self.path, drop=left_out, target=targets).select(table)
        except ValueError as error:
            raise ValueError(f"data file {str(self.path)!r}: {error}") from None
        if kept and left_out:
            kept, left_out = tuple(name for name in kept if name not in left_out), ()
            if not kept:
                raise ValueError("the columns and those that are left out are the same")
        return Selection(self.path, kept, left_out, self.dequantise, targets)

    def select(self, table: pd.DataFrame) -> pd.DataFrame:
        """The chosen columns of a table; ValueError for one that it does not have.

        ValueError as well for a target that is left out.
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
        register(name, version=2)(_loader(name))


def _loader(name: str) -> Loader:
    def load(root: Path | None, seed: int) -> Dataset:
        return load_file(name, seed)

    return load


def files(name: str, root: Path | None = None) -> tuple[Path, ...]:
    """Return the file of a data set; raise Absent if it does not exist."""
    path = Selection.of(name).path
    if not path.is_file():
        fault = "is not a file" if path.exists() else "does not exist"
        beside = [other.name for other in path.parent.glob("*")]
        close = [f", did you mean {name!r}?" for name in get_close_matches(path.name, beside, 1)]
        raise Absent(f"data file {str(path)!r} {fault}{''.join(close) * (not path.exists())}")
    return (path,)


def inspect(name: str) -> Inspection:
    """Inspect a file's table; ValueError if it cannot be read."""
    selection = Selection.of(name)
    return examine(read_file(name), selection.dequantise, selection.target)


def load_file(name: str | Path, seed: int = 0, dequantise: bool = False) -> Dataset:
    """Load the data set in a file, split and dequantised from ``seed``.

    Raises ValueError with every fault: text, missing or infinite values, constant or linearly
    dependent columns, too few rows, nothing to dequantise. Remarks on doubtful tables are part of
    ``about``.
    """
    name = str(name) + DEQUANTISE * (dequantise and not str(name).endswith(DEQUANTISE))
    source = f"{name} (sha256 {sha256(files(name)[0])[:12]})"
    return _dataset(name, read_file(name), source, seed, Selection.of(name))


def load_frame(
    frame: pd.DataFrame,
    name: str = "table",
    seed: int = 0,
    dequantise: bool = False,
    target: Iterable[str] = (),
) -> Dataset:
    """Load the columns of a DataFrame as `load_file` does those of a file."""
    selection = Selection(Path(name), dequantise=dequantise, target=tuple(target))
    table = selection.select(frame.rename(columns=str))
    return _dataset(name, {"all": table}, name, seed, selection)


def read_file(name: str) -> dict[str, pd.DataFrame]:
    """Read the parts of a file, or its one part `all`, in the columns that are chosen.

    Raises ValueError if that fails.
    """
    selection = Selection.of(name)
    tables = read_whole(name)
    try:
        return {part: selection.select(table) for part, table in tables.items()}
    except ValueError as error:
        raise ValueError(f"data file {str(selection.path)!r}: {error}") from None


def read_whole(name: str) -> dict[str, pd.DataFrame]:
    """Read the parts of a file, or its one part `all`, in all columns; ValueError if that fails."""
    (path,) = files(name)
    try:
        return read(path)
    except (*MALFORMED, csv.Error) as error:
        reason = brief(error)
        where = "" if str(path) in reason else f"data file {str(path)!r} cannot be read: "
        raise ValueError(f"{where}{reason}") from error


def _dataset(
    name: str, tables: Mapping[str, pd.DataFrame], source: str, seed: int, selection: Selection
) -> Dataset:
    inspection = examine(tables, selection.dequantise, selection.target)
    if inspection.faults:
        raise ValueError(f"data file {name!r}: {'; '.join(inspection.faults)}")
    parts = {part: torch.tensor(table.to_numpy("float64")) for part, table in tables.items()}
    if "all" in tables and not inspection.repeats:  # or equal rows could lie in two parts
        parts["all"], _ = distinct_rows(tables["all"])
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
    raw, parts = scaling(parts), standardised(parts)
    sizes = " / ".join(f"{len(part):,}" for part in parts.values())
    split = "as the file has them" if len(tables) > 1 else "a random 80/10/10 split"
    table = next(iter(tables.values()))
    if selection.target:
        split = f"of {quoted(selection.target)} given the other columns, {split}"
    elif aside := [label for label in table.attrs.get("targets", ()) if label not in table]:
        split = f"{split}, without {quoted(aside)}"
    remarks = " ".join(f"{_sentence(remark)}." for remark in inspection.remarks)
    width = parts["train"].shape[1]
    return Dataset(
        name,
        len(selection.target) or width,
        parts["train"],
        parts["val"],
        parts["test"],
        units="standardised columns",
        about=f"{source}: {sizes} rows, {split}, standardised with the training mean and sd. "
        f"{remarks}".strip(),
        columns=_columns(table.columns),
        scaling=raw,
        remarks=tuple(inspection.remarks),
        split="published" if len(tables) > 1 else "random",
        context_dim=width - len(selection.target) if selection.target else 0,
    )


def _columns(labels: Iterable[object]) -> tuple[str, ...] | None:
    """Return the names of a table's columns; None if they are only numbered."""
    columns = tuple(map(str, labels))
    return None if columns == tuple(map(str, range(len(columns)))) else columns


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
