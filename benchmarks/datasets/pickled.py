"""Reader of a pickled pandas table that runs nothing that the pickle names.

The pickle is interpreted by `benchmarks.datasets.unpickling`, where every class and function of
numpy, pandas and pyarrow that tables are pickled with is a stand-in, and any other name is refused.
Arrays are rebuilt from these at the end, with their sizes checked against the bytes that there are.
So the version of pandas that wrote the file does not matter either: that of the MAF archive is of
2017, which pandas 2 cannot read.
"""

from __future__ import annotations

import math
import re
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.formats import brief
from benchmarks.datasets.unpickling import RECONSTRUCTOR, StandIn, load

# Names by the top package: where in it they lie differs by its version. None is ever imported.
NAMES = {
    "numpy": {"ndarray", "dtype", "_reconstruct", "_frombuffer"},
    "pandas": {
        *("DataFrame", "BlockManager", "BlockPlacement", "_unpickle_block", "new_block"),
        *("Index", "Int64Index", "Float64Index", "RangeIndex", "_new_Index"),
        *("ArrowStringArray", "StringArray", "StringDtype"),
    },
    "pyarrow": {"_restore_array", "type_for_alias", "py_buffer"},
    "_codecs": {"encode"},
    **{package: {RECONSTRUCTOR} for package in ("copy_reg", "copyreg")},
    **{package: {"object", "slice", "bytearray"} for package in ("__builtin__", "builtins")},
}
BYTES = ("bytearray", "encode")  # what bytes are pickled with where a protocol has none
ARRAYS = ("_reconstruct", "_frombuffer")
LARGEST = 2**63  # of the numbers of columns
CODES = re.compile(r"b1|[iu][1248]|f[248]")  # of dtypes of numbers


def read_table(path: Path) -> pd.DataFrame:
    """Read the columns of a pickled DataFrame of numbers, without its index.

    Raises ValueError for a pickle that names anything that such a table does not need, or that
    holds something else.
    """
    content = path.read_bytes()
    try:
        frame = load(content, NAMES)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} was not unpickled: {brief(error)}") from error
    try:
        return _table(frame, len(content))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} holds no table of numbers: {brief(error)}") from error


def _table(frame: Any, size: int) -> pd.DataFrame:
    """Return the table of a frame's stand-in, whose file has so many bytes.

    Arrays that share bytes are refused: a small file could hold a table of any size.
    """
    axis, pairs = _parts(frame)
    blocks: list[np.ndarray] = []
    for values, _ in pairs:
        blocks.append(np.atleast_2d(numbers(values)))
        size -= blocks[-1].nbytes
        if size < 0:
            raise ValueError("its arrays have more bytes than the file")
    count, lengths = sum(map(len, blocks)), {block.shape[1] for block in blocks}
    if len(lengths) != 1 or count > lengths.pop():
        raise ValueError(f"{count:,} columns, which have fewer rows or different numbers of them")
    order = np.concatenate([np.arange(count)[_places(places)] for _, places in pairs])
    if not np.array_equal(np.sort(order), np.arange(count)):
        raise ValueError(f"blocks of {count:,} columns that do not cover them")
    labels = _labels(axis, count)
    if len(labels) != count or len(set(labels)) != count:
        raise ValueError(f"{len(set(labels)):,} names of {count:,} columns")
    columns = dict(zip(order.tolist(), (row for block in blocks for row in block), strict=True))
    return pd.DataFrame({label: columns[place] for place, label in enumerate(labels)})


def _parts(frame: Any) -> tuple[Any, list[tuple[Any, Any]]]:
    """Return the index of columns, and blocks: values (columns, rows) with columns' places."""
    if not isinstance(frame, StandIn):
        raise ValueError(f"it is a {type(frame).__name__}")
    manager = frame.get("_mgr") or frame.get("_data") or frame.state
    if not isinstance(manager, StandIn):
        raise ValueError("no data frame of a known form")
    if manager.args:  # since pandas 1.3
        blocks, axes = manager.args[:2]
        return axes[0], [block.args[:2] for block in blocks]
    state = manager.state[3]["0.14.1"]  # since pandas 0.14
    return state["axes"][0], [(block["values"], block["mgr_locs"]) for block in state["blocks"]]


def _places(places: Any) -> Any:
    """Return the places of a block's columns: a slice, or an array."""
    inner = places.args[0] if places.name == "BlockPlacement" else places
    return slice(*inner.args) if inner.name == "slice" else numbers(inner)


def numbers(array: Any) -> np.ndarray:
    """Rebuild a pickled array of numbers; ValueError for another type or a wrong size."""
    shape, dtype, fortran, content = _array(array)
    kind = np.dtype(_order(dtype) + _code(dtype))
    buffer = _bytes(content)
    if len(shape) > 2 or not all(isinstance(n, int) and 0 < n <= len(buffer) for n in shape):
        raise ValueError(f"an array that is no table of {len(buffer):,} bytes")
    if len(buffer) != math.prod(shape) * kind.itemsize:
        raise ValueError(f"an array of shape {shape} and {kind} in {len(buffer):,} bytes")
    return np.frombuffer(buffer, kind).reshape(shape, order="F" if fortran else "C")


def _array(array: Any) -> tuple[tuple[Any, ...], Any, bool, Any]:
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


def _bytes(content: Any) -> bytes:
    """Rebuild bytes, which old pickles hold as text in latin-1."""
    for name in BYTES:
        if isinstance(content, StandIn) and content.name == name:
            content = content.args[0] if content.args else b""
    if not isinstance(content, str | bytes | bytearray):
        raise ValueError(f"a {type(content).__name__} in place of bytes")
    return content.encode("latin1") if isinstance(content, str) else bytes(content)


def _code(dtype: Any) -> str:
    """Return the code of a pickled dtype, "f8" say; ValueError for one that is no number's."""
    code = _kind(dtype)
    if not CODES.fullmatch(code):
        raise ValueError(f"a column of {brief(code) or 'no type'}, which is no number")
    return code


def _kind(dtype: Any) -> str:
    """Return what a stand-in of a type was made of, a text."""
    kind = dtype.args[0]
    if not isinstance(kind, str):
        raise ValueError(f"a {type(kind).__name__} in place of a type")
    return kind


def _order(dtype: Any) -> str:
    """Return the byte order of a pickled dtype: ">", or "<" where it is little or none."""
    return ">" if dtype.state and dtype.state[1] == ">" else "<"


def _labels(index: Any, count: int) -> list[str]:
    """Return the names in a pickled index of so many columns, or one name more."""
    if (start := index.get("start")) is not None:
        numbered = range(start, index.get("stop"), index.get("step"))
        if max(map(abs, (numbered.start, numbered.stop, numbered.step))) > LARGEST:
            raise ValueError("numbers of columns beyond 64 bits")
        return [str(number) for number in islice(numbered, count + 1)]
    data = index.get("data")
    if data.name not in ARRAYS:  # an array of texts around one of pyarrow or numpy
        if (array := data.get("_pa_array")) is not None:
            return _arrow(array, count)
        data = data.get("_ndarray")
    return _texts(data, count)


def _texts(array: Any, count: int) -> list[str]:
    """Return the texts, or numbers as texts, of a pickled array in one dimension."""
    shape, dtype, _, content = _array(array)
    if shape != (count,):
        raise ValueError(f"names that are not those of {count:,} columns")
    if _kind(dtype) not in ("O", "O8"):
        return [str(label) for label in numbers(array)]
    if not isinstance(content, list) or not all(isinstance(label, str) for label in content):
        raise ValueError("names of columns that are no texts")
    return content


def _arrow(array: Any, count: int) -> list[str]:
    """Return the texts of a pickled pyarrow array: those between offsets into one text."""
    kind, length, _, first, buffers = array.args[0][:5]
    width = {"large_string": "<i8", "string": "<i4"}[_kind(kind)]
    ends = np.frombuffer(_bytes(buffers[1].args[0]), width)[first : first + length + 1]
    if len(ends) != count + 1 or ends[0] < 0 or (np.diff(ends) < 0).any():
        raise ValueError(f"names that are not those of {count:,} columns")
    text = _bytes(buffers[2].args[0])
    return [text[a:b].decode() for a, b in pairwise(ends)]
