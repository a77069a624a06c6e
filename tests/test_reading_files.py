"""Reading files of data: separators, decimals, names of columns, and files that are none."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.datasets import own, tables


@pytest.mark.parametrize(
    ("text", "rows", "columns"),
    [
        ("a,b\n1,2\n", 1, ["a", "b"]),
        ("1,2\n3,4\n", 2, ["0", "1"]),
        ("0,1\n3,4\n", 1, ["0", "1"]),  # the names that pandas gives
        ("id,2019\n3,4\n", 1, ["id", "2019"]),
        ("1,,3\n4,5,6\n", 2, ["0", "1", "2"]),
        ("1,g\n3,h\n", 2, ["0", "1"]),
        ('"a;x";b\n?;2\n', 1, ["a;x", "b"]),
        ("a\n1\n2\n", 2, ["a"]),
        ("a,b\n", 0, ["a", "b"]),
    ],
)
def test_a_first_line_of_names_is_told_from_one_of_numbers(text, rows, columns, tmp_path):
    (tmp_path / "x.csv").write_text(text)
    frame = tables.read_csv(tmp_path / "x.csv")["all"]
    assert list(frame) == columns
    assert len(frame) == rows


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "it is empty"),
        ("x.csv", b"\xff\xfe\x00", "cannot be read"),
        ("x.csv", b'a,b\n1,"2\n', "cannot be read"),
        ("x.parquet", b"no", "x.parquet"),
        ("x.npy", b"no", "NumPy's format"),
        ("x.npz", b"no", "not an .npz archive"),
    ],
)
def test_a_file_that_is_none_is_named(name, content, message, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        own.load_file(tmp_path / name)
    assert name in str(error.value)


def test_arrays_of_the_wrong_kind_are_refused(tmp_path: Path) -> None:
    for arrays, message in [
        ({"a": np.zeros(3), "b": np.zeros(3)}, "train, val and test, not 'a', 'b'"),
        ({"x": np.zeros(3)}, r"\(rows, columns\), not \(3,\)"),
        (
            dict(
                zip(("train", "val", "test"), map(np.ones, [(9, 2), (9, 2), (9, 3)]), strict=True)
            ),
            "differ",
        ),
        ({"x": np.array([["a", {}]], dtype=object)}, "object and of shape"),
        (
            {"X": np.zeros((9, 2)), "y": np.zeros((9, 2, 2))},
            r"\(N,\) or \(N, K\), not .* \(9, 2, 2\)",
        ),
        ({"X": np.zeros((9, 2)), "y": np.zeros((9, 0))}, r"\(N,\) or \(N, K\), not .* \(9, 0\)"),
    ]:
        np.savez(tmp_path / "x.npz", **arrays)
        with pytest.raises(ValueError, match=message):
            own.load_file(tmp_path / "x.npz")


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("apart", [",", ";", "\t", "|", " ", "   "])
@pytest.mark.parametrize("decimal", [".", ","])
def test_any_usual_way_of_writing_numbers_is_read(apart, decimal, named, tmp_path: Path) -> None:
    """What is between values is told from the decimals' comma, with names of columns or without."""
    if apart == decimal == ",":
        pytest.skip("nobody could tell")
    x = np.random.default_rng(0).standard_normal((60, 3)).round(4)
    rows = [apart.join(f"{v:.4f}".replace(".", decimal) for v in row) for row in x]
    lines = [apart.join(["größe", "b.2", '"c;d"']), *rows] if named else rows
    (tmp_path / "x.csv").write_text("\n".join(lines), encoding="utf-8")
    table = tables.read_csv(tmp_path / "x.csv")["all"]
    assert np.array_equal(table.to_numpy(), x)
    assert list(table) == (["größe", "b.2", "c;d"] if named else ["0", "1", "2"])


def test_a_csv_in_another_encoding_or_of_uneven_rows_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("größe,b\n1,2\n".encode("latin-1"))
    with pytest.raises(ValueError, match="UTF-8"):
        own.load_file(tmp_path / "x.csv")
    (tmp_path / "y.csv").write_text("1,2\n" * 9 + "1,2,3\n")
    with pytest.raises(ValueError, match=r"y\.csv.*2 fields in line 10, saw 3"):
        own.load_file(tmp_path / "y.csv")


def test_wide_tables_are_read_and_refused_before_anything_dear(tmp_path: Path) -> None:
    """Eigenvalues of thousands of columns would take minutes and gigabytes."""
    x = np.random.default_rng(0).standard_normal((3, 6000))
    np.savetxt(tmp_path / "x.csv", x, delimiter=",")
    np.save(tmp_path / "x.npy", x)
    for name in ("x.csv", "x.npy"):
        with pytest.raises(ValueError, match="3 different rows of 6000 columns"):
            own.load_file(tmp_path / name)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_the_order_of_bytes_changes_no_value(tmp_path: Path, suffix: str) -> None:
    x = np.random.default_rng(0).standard_normal((200, 2))
    save = {"npy": np.save, "npz": np.savez}[suffix]
    for name, order in (("native", "="), ("other", ">")):
        save(tmp_path / f"{name}.{suffix}", x.astype(x.dtype.newbyteorder(order)))
    native, other = (own.load_file(tmp_path / f"{n}.{suffix}") for n in ("native", "other"))
    assert np.array_equal(native.train, other.train)


def damaged(path: Path, offset: int, content: bytes) -> None:
    """A zip of one array whose headers have other bytes at an offset."""
    np.savez(path, x=np.ones((60, 2)))
    archive = bytearray(path.read_bytes())
    for start in (archive.find(b"PK\x03\x04") + offset - 2, archive.find(b"PK\x01\x02") + offset):
        archive[start : start + len(content)] = content
    path.write_bytes(archive)


@pytest.mark.parametrize(
    ("offset", "content"), [(8, b"\x01"), (10, b"\x63")], ids=["encrypted", "unknown compression"]
)
def test_an_archive_that_cannot_be_opened_is_named(tmp_path, offset, content) -> None:
    damaged(tmp_path / "x.npz", offset, content)
    with pytest.raises(ValueError, match=r"x\.npz' cannot be read"):
        own.load_file(tmp_path / "x.npz")


def bomb(path: Path) -> None:
    """A file of 100 KB or less that unpacks to 80 MB of zeros or to as many rows of one value."""
    zeros = np.zeros((10_000_000, 1))
    if path.suffix == ".npz":
        np.savez_compressed(path, x=zeros)
    elif path.suffix == ".parquet":
        pd.DataFrame(zeros, columns=["x"]).to_parquet(path)
    else:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f8", "fortran_order": False, "shape": zeros.shape}
        )
        path.write_bytes(header.getvalue() + bytes(100))


@pytest.mark.parametrize("suffix", ["npz", "parquet", "npy"])
def test_what_takes_more_memory_than_a_file_of_its_size_may_is_refused(tmp_path, suffix) -> None:
    path = tmp_path / f"x.{suffix}"
    bomb(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"unpacks to|promises"):
        own.load_file(path)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_header_that_promises_fewer_rows_than_follow_is_refused(tmp_path, suffix) -> None:
    x = np.random.default_rng(0).standard_normal((800, 2))
    {"npy": np.save, "npz": np.savez}[suffix](path := tmp_path / f"x.{suffix}", x)
    path.write_bytes(path.read_bytes().replace(b"(800, 2)", b"(100, 2)"))
    with pytest.raises(ValueError, match="more than one array"):
        own.load_file(path)


def test_a_table_of_endless_columns_and_no_row_is_refused(tmp_path) -> None:
    header = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (0, 10**15)}
    np.lib.format.write_array_header_1_0(header, shape)
    (tmp_path / "x.npy").write_bytes(header.getvalue())
    with pytest.raises(ValueError, match="no plain numbers"):
        own.load_file(tmp_path / "x.npy")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """The content of a small file of each kind."""
    folder, x = tmp_path_factory.mktemp("whole"), np.random.default_rng(0).normal(size=(60, 2))
    np.save(folder / "x.npy", x)
    np.savez_compressed(folder / "x.npz", x=x)
    pd.DataFrame(x, columns=["a", "b"]).to_parquet(folder / "x.parquet")
    pd.DataFrame(x, columns=["a", "b"]).to_csv(folder / "x.csv", index=False)
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_in_words(whole, tmp_path_factory, data) -> None:
    suffix = data.draw(st.sampled_from(sorted(whole)))
    content = bytearray(whole[suffix])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + 1] = data.draw(st.binary(max_size=8))
    path = tmp_path_factory.mktemp("damaged") / f"x{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(ValueError), np.errstate(all="ignore"):
        own.load_file(path)
