"""Tables as people have them: formats, chosen columns, steps, heaps, and noise on them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.datasets import own
from benchmarks.datasets.inspection import examine, heap, spacing

X = np.random.default_rng(0).normal(2, 5, (300, 3)).round(6)
FRAME = pd.DataFrame(X, columns=["mass", "flux", "age"])


def numbers(path: Path) -> None:
    """As np.savetxt writes them: names in a comment."""
    np.savetxt(path, X, fmt="%.6f", header="of a telescope\nmass flux age")


def packed(path: Path) -> None:
    path.write_bytes(gzip.compress(FRAME.to_csv(index=False).encode()))


WRITERS = {
    "x.tsv": lambda path: FRAME.to_csv(path, sep="\t", index=False),
    "x.txt": lambda path: FRAME.to_csv(path, sep=";", decimal=",", index=False),
    "x.dat": numbers,
    "x.csv.gz": packed,
    "X.CSV": lambda path: FRAME.to_csv(path, index=False),
}


@pytest.mark.parametrize(("name", "write"), WRITERS.items(), ids=WRITERS)
def test_a_table_is_the_same_in_every_format(name, write, tmp_path: Path) -> None:
    write(tmp_path / name)
    data, frame = own.load_file(tmp_path / name), own.load_frame(FRAME)
    assert data.columns == frame.columns == ("mass", "flux", "age")
    for part in ("train", "val", "test"):
        assert torch.allclose(getattr(data, part), getattr(frame, part), rtol=0, atol=1e-9)


def test_raw_densities_are_lower_by_the_logarithms_of_the_deviations() -> None:
    data, scaled = own.load_frame(FRAME), own.load_frame(FRAME * [1.0, 10.0, 100.0])
    assert torch.allclose(data.test, scaled.test)
    scales = [table.facts["log_scale"] for table in (scaled, data)]
    assert scales[0] - scales[1] == pytest.approx(np.log(1000))


def test_columns_are_chosen_by_name_or_number(tmp_path: Path) -> None:
    FRAME.assign(kind="a").to_csv(tmp_path / "x.csv", index=False)
    np.savez(tmp_path / "x.npz", X=X, y=np.arange(300) % 2)
    csv, npz = str(tmp_path / "x.csv"), str(tmp_path / "x.npz")
    assert own.load_file(f"{csv}:drop=kind,flux").columns == ("mass", "age")
    assert own.load_file(f"{csv}:columns=age,mass").columns == ("age", "mass")
    assert own.load_file(npz).dim == 3
    assert own.load_file(f"{npz}:columns=2,0").dim == 2
    assert own.load_file(f"{npz}:columns=2,y:dequantise").columns == ("2", "y")
    np.savez(tmp_path / "xy.npz", X=X, y=X[:, :2] ** 2)
    pair = own.load_file(f"{tmp_path / 'xy.npz'}:target=y1,y0")
    assert (pair.columns, pair.dim) == (("y1", "y0", "0", "1", "2"), 2)
    assert own.load_file(tmp_path / "xy.npz").columns == own.load_file(npz).columns
    for name in (f"{csv}:drop=nosuch", f"{csv}:columns=mass,nosuch"):
        with pytest.raises(ValueError, match=r"no column 'nosuch'.*'flux'"):
            own.load_file(name)


@given(
    step=st.sampled_from([0.1, 0.25, 1.0, 3.0, 1000.0]),
    start=st.floats(-1e3, 1e3),
    count=st.integers(2, 40),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_steps_are_those_of_any_lattice(step, start, count, dtype):
    """Wherever it begins, in either precision; not of continuous values."""
    rng = np.random.default_rng(count)
    places = np.concatenate([np.arange(count), rng.integers(0, count, 20 * count)])
    values = (start + step * places).astype(dtype).astype(float)
    assert spacing(values) == pytest.approx(step, rel=1e-2)
    assert spacing(values + rng.normal(0, step, len(values))) is None


def test_steps_of_whole_numbers_are_their_greatest_common_divisor() -> None:
    assert spacing(np.array([4.0, 10.0, 28.0])) == 6
    assert spacing(np.arange(1e5)) == 1
    assert spacing(np.array([1e300, -1e300])) == 1


def test_a_heap_is_a_value_of_far_more_rows_than_others() -> None:
    values = np.random.default_rng(0).normal(size=20_000)
    assert heap(values) is None
    values[:454] = 12.023
    assert heap(values) == (12.023, 454, 1)


def test_doubtful_columns_are_named() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"level": np.where(rng.random(2000) < 0.1, 12.023, rng.normal(size=2000))})
    table["angle"] = -69.975 + rng.integers(0, 50, 2000)
    remarks = " ".join(own.load_frame(table).remarks)
    for words in ("'angle' (50 values at spacing 1 from −69.975)", "12.023 in", "of 'level'"):
        assert words in remarks


@pytest.mark.parametrize("continuous", [True, False])
def test_noise_changes_no_choice_of_rows(continuous: bool) -> None:
    """Repeated rows are copies where a column is continuous; where none is, they are kept."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"k": rng.integers(0, 5, 400), "a": 0.5 + 10 * rng.integers(0, 3, 400)})
    if continuous:
        table["c"] = rng.normal(size=400)
    table = pd.concat([table, table.head(50)])
    plain, noisy = own.load_frame(table), own.load_frame(table, dequantise=True)
    assert len(plain.train) == len(noisy.train) == (320 if continuous else 360)
    if continuous:  # the same rows in the same order: undo both scalings
        slope, start = np.polyfit(noisy.test[:, 2].numpy(), plain.test[:, 2].numpy(), 1)
        assert np.allclose(slope * noisy.test[:, 2] + start, plain.test[:, 2])
    assert len(torch.unique(noisy.train[:, 1])) == len(noisy.train)


def test_nothing_to_dequantise_is_an_error() -> None:
    with pytest.raises(ValueError, match="leave out :dequantise"):
        own.load_frame(FRAME, dequantise=True)


def test_a_class_is_no_target(tmp_path: Path) -> None:
    numbers = np.arange(len(FRAME))
    path = tmp_path / "x.csv"
    FRAME.assign(kind=numbers % 7, count=numbers % 40).to_csv(path, index=False)
    with pytest.raises(ValueError, match="target 'kind' has 7 values: a class"):
        own.load_file(f"{path}:target=kind")
    for target in ("count", "mass", "kind:dequantise"):
        assert own.load_file(f"{path}:target={target}").context_dim == 4


def test_what_is_nearly_named_is_asked_for(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "stars.csv", index=False)
    for name, meant in (("star.csv", "stars.csv"), ("stars.csv:drop=mas", "mass")):
        with pytest.raises((ValueError, FileNotFoundError), match=f"did you mean '{meant}'"):
            own.load_file(tmp_path / name)


def test_columns_that_share_a_name_are_named(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(200, 3))
    lines = ["mass,mass,flux", *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "my.csv").write_text("\n".join(lines))
    remarks = own.inspect(str(tmp_path / "my.csv")).remarks
    assert [remark for remark in remarks if "'mass', 'mass.1'" in remark]
    remarks = own.inspect(f"{tmp_path / 'my.csv'}:columns=mass,flux").remarks
    assert not [remark for remark in remarks if "'mass.1'" in remark]


@given(st.sampled_from([1e-300, 1e-40, 1e-20, 1.0, 1e20, 1e40, 1e300]))
def test_numbers_that_a_float_cannot_hold_squared_are_refused(scale: float) -> None:
    table = pd.DataFrame(
        np.random.default_rng(0).normal(size=(200, 2)) * [scale, 1], columns=[*"ab"]
    )
    faults = examine({"all": table}, dequantised=False).faults
    assert bool(faults) is not (1e-30 < scale < 1e30)
    assert all("'a'" in fault and "rescale" in fault for fault in faults)
