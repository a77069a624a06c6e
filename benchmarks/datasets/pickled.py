"""Reader of a pickled pandas table that runs nothing that the pickle names.

A pickle is a program: it may name any function and have it called. Here every class and function of
numpy, pandas and pyarrow that tables are pickled with becomes a `StandIn`, which only keeps what it
was given, and any other name is refused. Arrays are rebuilt from these at the end, with their sizes
checked. So the version of pandas that wrote the file does not matter either: that of the MAF
archive is of 2017, which pandas 2 cannot read.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# Names by the top package: where in it they lie differs by its version. None is ever imported.
NAMES = {
    "numpy": {"ndarray", "dtype", "_reconstruct", "_frombuffer"},
    "pandas": {
        *("DataFrame", "BlockManager", "BlockPlacement", "_unpickle_block", "new_block"),
        *("Index", "Int64Index", "Float64Index", "RangeIndex", "_new_Index"),
        *("ArrowStringArray", "StringArray", "StringDtype"),
    },
    "pyarrow": {"_restore_array", "type_for_alias", "py_buffer"},
}
CODES = re.compile(r"b1|[iu][1248]|f[248]")  # of dtypes of numbers


class StandIn:
    """What a pickle makes of a class or function: its name, its arguments and its state."""

    name: str
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **more: Any) -> StandIn:
        instance = object.__new__(cls)
        instance.args, instance.state = args, None
        return instance

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def get(self, key: str) -> Any:
        """Return the attribute or argument of a name; None if there is none."""
        places = (self.state, *self.args)
        return next((p[key] for p in places if isinstance(p, dict) and key in p), None)


def _bytes(content: Any = b"", encoding: str = "") -> bytes:
    """Rebuild bytes, which old pickles hold as text in latin-1."""
    if not isinstance(content, str | bytes | bytearray):
        raise ValueError(f"a {type(content).__name__} in place of bytes")
    return content.encode("latin1") if isinstance(content, str) else bytes(content)


def _reconstructor(cls: type[StandIn], base: Any, state: Any) -> StandIn:
    """Make an object of a class the way the oldest pickles do; stand-ins only."""
    return StandIn.__new__(cls)


ADMITTED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _bytes,
    **{(m, "_reconstructor"): _reconstructor for m in ("copy_reg", "copyreg")},
    **{
        (module, kind.__name__): stand_in
        for module in ("__builtin__", "builtins")
        for kind, stand_in in ((object, object), (slice, slice), (bytearray, _bytes))
    },
}


class Unpickler(pickle.Unpickler):
    """Replaces what tables of numbers are made of by stand-ins, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement of a name."""
        if (module, name) in ADMITTED:
            return ADMITTED[module, name]
        if name in NAMES.get(module.partition(".")[0], ()):
            return type(name, (StandIn,), {"name": name})
        raise pickle.UnpicklingError(
            f"it names {module}.{name}, which is no part of a table of numbers"
        )


def read_table(path: Path) -> pd.DataFrame:
    """Read the columns of a pickled DataFrame of numbers, without its index.

    Raises ValueError for a pickle that names anything that such a table does not need, or that
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
    """Return the names of columns, and blocks of values (columns, rows) with columns' indices."""
    if not isinstance(frame, StandIn):
        raise ValueError(f"it is a {type(frame).__name__}")
    manager = frame.get("_mgr") or frame.get("_data") or frame.state
    if not isinstance(manager, StandIn):
        raise ValueError("no data frame of a known form")
    if manager.args:  # since pandas 1.3
        blocks, axes = manager.args[:2]
        pairs = [block.args[:2] for block in blocks]
    else:  # since pandas 0.14
        state = manager.state[3]["0.14.1"]
        axes, pairs = state["axes"], [(b["values"], b["mgr_locs"]) for b in state["blocks"]]
    return _labels(axes[0]), [
        (np.atleast_2d(numbers(values)), _places(places)) for values, places in pairs
    ]


def _places(places: Any) -> Any:
    """Return the indices of a block's columns: a slice, or an array of them."""
    inner = places.args[0] if getattr(places, "name", "") == "BlockPlacement" else places
    return inner if isinstance(inner, slice) else numbers(inner)


def numbers(array: Any) -> np.ndarray:
    """Rebuild a pickled array of numbers; ValueError for another type or a wrong size."""
    shape, dtype, fortran, content = _array(array)
    kind = np.dtype(_order(dtype) + _code(dtype))
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f"an array of shape {shape!r}")
    buffer = _bytes(content)
    if len(buffer) != math.prod(shape) * kind.itemsize:
        raise ValueError(f"an array of shape {shape} and {kind} in {len(buffer):,} bytes")
    return np.frombuffer(buffer, kind).reshape(shape, order="F" if fortran else "C")


def _array(array: Any) -> tuple[tuple[int, ...], Any, bool, Any]:
    """Return shape, dtype, whether the order is Fortran's, and content of a pickled array."""
    name = getattr(array, "name", "")
    if name == "_reconstruct":
        _, shape, dtype, fortran, content = array.state
        return tuple(shape), dtype, bool(fortran), content
    if name == "_frombuffer":
        content, dtype, shape, order, *axes = array.args
        if axes and axes[0] is not None:
            raise ValueError("an array with permuted axes")
        return tuple(shape), dtype, order == "F", content
    raise ValueError(f"a {name or type(array).__name__} in place of an array")


def _code(dtype: Any) -> str:
    """Return the code of a pickled dtype of numbers, "f8" say."""
    code = str(dtype.args[0]) if getattr(dtype, "name", "") == "dtype" and dtype.args else ""
    if not CODES.fullmatch(code):
        raise ValueError(f"a column of {code or dtype!r}, which is no number")
    return code


def _order(dtype: Any) -> str:
    """Return the byte order of a pickled dtype: ">", or "<" where it is little or none."""
    return ">" if dtype.state and dtype.state[1] == ">" else "<"


def _labels(index: Any) -> list[str]:
    """Return the names in a pickled index of columns."""
    if (start := index.get("start")) is not None:
        return [str(n) for n in range(start, index.get("stop"), index.get("step"))]
    data = index.get("data")
    if (array := index.get("_ndarray")) is not None:
        data = array
    name = getattr(data, "name", "")
    if name in ("_reconstruct", "_frombuffer"):
        return _texts(data)
    return _arrow(data.get("_pa_array")) if data.get("_pa_array") is not None else _labels(data)


def _texts(array: Any) -> list[str]:
    """Return the strings, or numbers as strings, of a pickled array in one dimension."""
    shape, dtype, _, content = _array(array)
    if str(dtype.args[0]) not in ("O", "O8"):
        return [str(label) for label in numbers(array).reshape(-1)]
    if not isinstance(content, list) or shape != (len(content),):
        raise ValueError("names of columns that are no list")
    if not all(isinstance(label, str) for label in content):
        raise ValueError("names of columns that are no text")
    return content


def _arrow(array: Any) -> list[str]:
    """Return the strings of a pickled pyarrow array: those between offsets into one text."""
    kind, length, _, first, buffers = array.args[0][:5]
    width = {"large_string": "<i8", "string": "<i4"}[kind.args[0]]
    ends = np.frombuffer(_bytes(buffers[1].args[0]), width)[first : first + length + 1]
    text = _bytes(buffers[2].args[0])
    return [text[a:b].decode() for a, b in pairwise(ends)]
