"""A pickled pandas table, read without running anything that the pickle names.

A pickle is a program: it may name any function and have it called. Here numpy's arrays and types
are admitted, every class of pandas and pyarrow that tables are pickled with becomes a `StandIn`
that only remembers what it was given, and anything else is refused. So it does not matter which
pandas wrote the file either: that of the MAF archive is of 2017, and pandas 2 no longer reads such.
"""

from __future__ import annotations

import io
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# Where pandas of any age keeps them does not matter: they are never imported.
PANDAS = {
    *("DataFrame", "BlockManager", "BlockPlacement", "_unpickle_block", "new_block"),
    *("Index", "Int64Index", "Float64Index", "RangeIndex", "_new_Index"),
    *("ArrowStringArray", "StringArray", "StringDtype"),
}
PYARROW = {"_restore_array", "type_for_alias", "py_buffer"}


class StandIn:
    """What a pickle makes of a class that is not there: its arguments and its state."""

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **more: Any) -> StandIn:
        made = object.__new__(cls)
        made.args, made.state = args, None
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def held(self, key: str) -> Any:
        """What an attribute or argument of that name was; None where there is none."""
        places = (self.state, *self.args)
        return next((p[key] for p in places if isinstance(p, dict) and key in p), None)


def _frombuffer(buffer: Any, dtype: Any, shape: Any, order: Any, axis_order: Any = None) -> Any:
    """numpy's own way from a buffer to an array, which newer pickles name."""
    array = np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)
    return array if axis_order is None else array.transpose(np.argsort(axis_order))


def _encode(text: str, encoding: str) -> bytes:
    """How old pickles hold bytes: as text in latin-1."""
    return text.encode("latin1")


def _reconstructor(cls: type[StandIn], base: Any, state: Any) -> StandIn:
    """How the oldest pickles make an object of a class; of stand-ins alone."""
    return StandIn.__new__(cls)


_CORES = ("numpy.core", "numpy._core")
ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(f"{c}.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0] for c in _CORES},
    **{(f"{c}.numeric", "_frombuffer"): _frombuffer for c in _CORES},
    ("_codecs", "encode"): _encode,
    **{(m, "_reconstructor"): _reconstructor for m in ("copy_reg", "copyreg")},
    **{(m, c.__name__): c for m in ("__builtin__", "builtins") for c in (object, slice, bytearray)},
}


class Unpickler(pickle.Unpickler):
    """Admits what tables of numbers are made of, and refuses everything else by name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ADMITTED:
            return ADMITTED[module, name]
        package = module.partition(".")[0]
        if name in {"pandas": PANDAS, "pyarrow": PYARROW}.get(package, ()):
            return type(name, (StandIn,), {})
        raise pickle.UnpicklingError(
            f"it names {module}.{name}, which is no part of a table of numbers"
        )


def read_table(path: Path) -> pd.DataFrame:
    """The columns of a pickled DataFrame of numbers, its index left out.

    ValueError for a pickle that names anything that such a table does not need, and for one that
    holds something else.
    """
    try:
        content = Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:  # a broken or hostile pickle can raise anything
        raise ValueError(f"{str(path)!r} was not unpickled: {error}") from error
    try:
        labels, blocks = _parts(content)
        columns: dict[str, np.ndarray] = {}
        for values, places in blocks:
            for row, place in zip(values, np.arange(len(labels))[places], strict=True):
                columns[labels[place]] = row
        return pd.DataFrame({label: columns[label] for label in labels})
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} holds no table of numbers: {error}") from error


def _parts(frame: Any) -> tuple[list[str], list[tuple[np.ndarray, Any]]]:
    """Names of the columns, and blocks of values (columns, rows) with the columns' places."""
    if not isinstance(frame, StandIn):
        raise ValueError(f"it is a {type(frame).__name__}")
    manager = frame.held("_mgr") or frame.held("_data") or frame.state
    if not isinstance(manager, StandIn):
        raise ValueError("no data frame of a known form")
    if manager.args:  # since pandas 1.3
        found, axes = manager.args[:2]
        blocks = [block.args[:2] for block in found]
    else:  # since pandas 0.14
        told = manager.state[3]["0.14.1"]
        axes, blocks = told["axes"], [(b["values"], b["mgr_locs"]) for b in told["blocks"]]
    placed = [(np.atleast_2d(v), p.args[0] if isinstance(p, StandIn) else p) for v, p in blocks]
    for values, _ in placed:
        if values.dtype.kind not in "fiub":
            raise ValueError(f"a column of {values.dtype}, which is no number")
    return _labels(axes[0]), placed


def _labels(index: Any) -> list[str]:
    """The names in an index of columns."""
    if isinstance(index, np.ndarray):
        return [str(label) for label in index]
    if (start := index.held("start")) is not None:
        return [str(n) for n in range(start, index.held("stop"), index.held("step"))]
    data = index.held("data")
    if isinstance(data, StandIn):
        if (array := data.held("_ndarray")) is not None:
            return _labels(array)
        return _arrow(data.held("_pa_array"))
    return _labels(data)


def _arrow(array: Any) -> list[str]:
    """The strings of a pyarrow array: those between offsets into one text."""
    kind, length, _, first, buffers = array.args[0][:5]
    width = {"large_string": "<i8", "string": "<i4"}[kind.args[0]]
    ends = np.frombuffer(buffers[1].args[0], width)[first : first + length + 1]
    text = bytes(buffers[2].args[0])
    return [text[a:b].decode() for a, b in pairwise(ends)]
