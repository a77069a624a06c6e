"""Pickles that are meant to do harm: a table of numbers comes out, or a ValueError, at no price."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.core.formats import plain
from benchmarks.datasets.pickled import NAMES, read_table

TABLE = pd.DataFrame({"a": np.arange(9.0), "b": np.arange(9.0) ** 2, "c": np.arange(9)})
SEEDS = [
    pickle.dumps(table.set_axis(table.columns.astype(kind), axis=1), protocol)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    for table in (TABLE, TABLE[["b"]])
    for kind in ("str", "object")
]
SEEDS += [pickle.dumps(TABLE.set_axis(range(3), axis=1), 4)]
BITS = [
    bytes([code]) for code in b"().012NQRabcdegijlopqrstu]}\x80\x81\x85\x86\x87\x8f\x90\x93\x94"
]
BITS += [b"K\x01", b"K\x00", b"J\xff\xff\xff\x7f", b"\x8a\x09" + b"\xff" * 8 + b"\x00"]
BITS += [b"h\x00", b"h\x05", b"X\x01\x00\x00\x00O", b"C\x08" + bytes(8), b"M\xff\xff"]
BITS += [f"c{module}\n{name}\n".encode() for module, kinds in NAMES.items() for name in kinds]


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A pickle of a table with some of its bytes replaced, removed, repeated or put in between."""
    content = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = start + draw(st.integers(0, 6))
        other = draw(st.sampled_from(BITS) | st.binary(max_size=4) | st.just(content[start:]))
        content = content[:start] + other + content[stop:]
    return content


@settings(max_examples=300)
@given(mutations() | st.lists(st.sampled_from(BITS), max_size=30).map(b"".join))
def test_any_bytes_are_a_table_of_numbers_or_refused(tmp_path_factory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.pickle"
    path.write_bytes(content)
    with suppress(ValueError):
        table = read_table(path)
        assert all(kind.kind in "fiub" for kind in table.dtypes)
        assert table.size <= len(content)  # of a byte a value at least


def named(module: str, name: str) -> bytes:
    """The opcode of a name."""
    return f"c{module}\n{name}\n".encode()


def array(shape: bytes, content: bytes, code: bytes = b"f8") -> bytes:
    """The opcodes of a numpy array of a shape and a content that are opcodes themselves."""
    kind = named("numpy", "dtype") + b"(U" + bytes([len(code)]) + code + b"K\x00K\x01tR"
    empty = named("numpy.core.multiarray", "_reconstruct") + b")R"
    return empty + b"(K\x01" + shape + kind + b"I00\n" + content + b"tb"


def frame(labels: bytes, *blocks: bytes) -> bytes:
    """A pickled data frame of an index and blocks, each of one column."""
    block = named("pandas", "new_block")
    slices = named("builtins", "slice")
    listed = b"".join(
        block + values + slices + b"(K" + bytes([n]) + b"K" + bytes([n + 1]) + b"K\x01tR\x86R"
        for n, values in enumerate(blocks)
    )
    manager = named("pandas", "BlockManager") + b"(" + listed + b"t(" + labels + b"t\x86R"
    return b"\x80\x02" + named("pandas", "DataFrame") + b")\x81}U\x04_mgr" + manager + b"sb."


def numbered(stop: bytes) -> bytes:
    """A RangeIndex from nought."""
    return (
        named("pandas", "RangeIndex") + b"(}(U\x05startK\x00U\x04stop" + stop + b"U\x04stepK\x01utR"
    )


def texts(code: bytes, shape: bytes, content: bytes) -> bytes:
    """An index around an array."""
    return named("pandas", "Index") + b"(}U\x04data" + array(shape, content, code) + b"stR"


def arrow(kind: bytes, ends: bytes, text: bytes) -> bytes:
    """An index around pyarrow's texts between ``ends``."""
    buffers = (
        b"(N" + b"".join(named("pyarrow", "py_buffer") + b + b"\x85R" for b in (ends, text)) + b"t"
    )
    alias = named("pyarrow", "type_for_alias") + kind + b"\x85R"
    data = (
        named("pyarrow", "_restore_array") + b"(" + alias + b"K\x01K\x00K\x00" + buffers + b"t\x85R"
    )
    strings = named("pandas", "ArrowStringArray") + b")\x81}U\x09_pa_array" + data + b"sb"
    return named("pandas", "Index") + b"(}U\x04data" + strings + b"stR"


def blob(size: int) -> bytes:
    return b"B" + struct.pack("<I", size) + bytes(size)


DEEP = b")" + b"\x85" * 20_000  # a tuple in a tuple in a tuple ...
HUGE = b"\x8a\x07" + b"\xff" * 6 + b"\x00"  # 2^48 - 1
EIGHT = array(b"K\x08\x85", blob(64))
GOOD = frame(numbered(b"K\x01"), EIGHT)
LOST = array(b"K\x08\x85", b"h\x00")
HOSTILE = {
    "deep key": b"\x80\x02}" + DEEP + b"K\x01s.",
    "deep element of a set": b"\x80\x04\x8f(" + DEEP + b"\x90.",
    "memo of 2^32": b"\x80\x02Nr\xff\xff\xff\x7f0.",
    "bytes of 2^36": b"\x80\x05\x96" + struct.pack("<Q", 1 << 36) + b"abc.",
    "attributes of a function": named("_codecs", "encode") + b"(N}U\x0c__defaults__Nstb.",
    "names without end": frame(numbered(HUGE), EIGHT),
    "an index of itself": frame(named("pandas", "Index") + b")Rq\x01}U\x04datah\x01sb", EIGHT),
    "deep shape": frame(numbered(b"K\x01"), array(DEEP + b"\x85", blob(64))),
    "deep type": frame(arrow(DEEP, blob(8), blob(1)), EIGHT),
    "shape of 2^96": frame(numbered(b"K\x01"), array(b"(K\x00" + HUGE * 2 + b"t", blob(0))),
    "shape of many factors": frame(numbered(b"K\x01"), array(b"(" + HUGE * 9999 + b"t", blob(8))),
    "ends that go back": frame(
        arrow(b"U\x06string", b"C\x08\x01\x00\x00\x00\x00\x00\x00\x00", blob(1)), EIGHT
    ),
    "addresses as names": frame(texts(b"O8", b"K\x01\x85", blob(8)), EIGHT),
    "addresses as values": frame(numbered(b"K\x01"), array(b"K\x08\x85", blob(64), b"O8")),
    "shared bytes": frame(
        numbered(b"K\xc8"),
        *[array(b"K\x08\x85", b"T" + struct.pack("<I", 64) + bytes(64) + b"q\x00"), *[LOST] * 199],
    ),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_no_pickle_costs_more_than_its_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(GOOD)
    assert read_table(tmp_path / "x").shape == (8, 1)
    (tmp_path / "x").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"x'") as error:
            read_table(tmp_path / "x")
        assert plain(error.value) == str(error.value)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000 + 100 * len(content)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "key", [b")", b"N", b"K\x01\x85", named("numpy", "dtype"), b"G" + bytes(8)]
)
def test_keys_are_texts_or_whole_numbers(tmp_path: Path, key: bytes) -> None:
    """Hashing a tuple in a tuple, a hundred thousand deep, overflows the stack of the machine."""
    (tmp_path / "x").write_bytes(b"\x80\x02}" + key + b"K\x01s.")
    with pytest.raises(ValueError, match="was not unpickled"):
        read_table(tmp_path / "x")
