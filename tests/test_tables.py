"""Tables of users as data sets: formats, columns, faults, remarks, noise, a run."""

import contextlib
import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import datasets
from benchmarks.core.frame import load
from benchmarks.datasets import load_file, load_frame, tables
from benchmarks.datasets.tables import Selection, spacing
from benchmarks.execution.suite import Suite
from benchmarks.execution.versions import dependencies
from documents import DOCS, blocks
from runs import flowgauge, refused, toml

X = np.random.default_rng(0).normal(2, 5, (2000, 3)).round(6)
FRAME = pd.DataFrame(X, columns=["mass", "flux", "age"])


def written(folder: Path, frame: pd.DataFrame, name: str = "x.csv") -> str:
    frame.to_csv(folder / name, index=False)
    return str(folder / name)


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(rows=st.integers(60, 500), columns=st.integers(1, 6), seed=st.integers(0, 99))
def test_parts_are_disjoint_standardised_and_decided_by_the_seed(tmp_path, rows, columns, seed):
    x = np.random.default_rng(seed).normal(2, 5, size=(rows, columns))
    np.save(tmp_path / "x.npy", x)
    data, again, other = (load_file(tmp_path / "x.npy", s) for s in (seed, seed, seed + 1))
    parts = (data.train, data.val, data.test)
    assert [len(part) for part in parts] == [rows - 2 * (rows // 10), rows // 10, rows // 10]
    assert torch.equal(data.test, again.test)
    assert not torch.equal(data.test, other.test)
    assert data.train.mean(dim=0).abs().max() < 1e-12
    assert (data.train.std(dim=0, correction=0) - 1).abs().max() < 1e-12
    # Every row of the file once: undo the scaling by regression on the sorted first column.
    ours, theirs = torch.cat(parts)[:, 0].sort().values, torch.tensor(x[:, 0]).sort().values
    assert torch.corrcoef(torch.stack((ours, theirs)))[0, 1] > 1 - 1e-12


WRITERS = {
    "x.dat": lambda path: np.savetxt(path, X, fmt="%.6f", header="a telescope\nmass flux age"),
    "x.csv.gz": lambda path: path.write_bytes(gzip.compress(FRAME.to_csv(index=False).encode())),
    "X.CSV": lambda path: FRAME.to_csv(path, index=False, encoding="utf-8-sig"),
    "x.parquet": lambda path: FRAME.to_parquet(path),
    "arrow.parquet": lambda path: FRAME.convert_dtypes(dtype_backend="pyarrow").to_parquet(path),
    "x.npy": lambda path: np.save(path, X),
    "y.npy": lambda path: np.save(path, X.astype(">f8")),
    "x.npz": lambda path: np.savez(path, x=X),
}


@pytest.mark.parametrize(("name", "write"), WRITERS.items(), ids=WRITERS)
def test_a_table_is_the_same_in_every_format(name, write, tmp_path: Path) -> None:
    write(tmp_path / name)
    data, frame = load_file(tmp_path / name), load_frame(FRAME)
    bare = name.endswith((".npy", ".npz"))
    assert data.columns == (None if bare else ("mass", "flux", "age"))
    for part in ("train", "val", "test"):
        assert torch.allclose(getattr(data, part), getattr(frame, part), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "rows", "columns"),
    [
        ("a,b\n1,2\n", 1, ["a", "b"]),
        ("0,1\n3,4\n", 1, ["0", "1"]),  # the names that pandas gives
        ("id,2019\n3,4\n", 1, ["id", "2019"]),
        ("1,,3\n4,5,6\n", 2, ["0", "1", "2"]),
        ("1,g\n3,h\n", 2, ["0", "1"]),
        ('"a;x";b\n?;2\n', 1, ["a;x", "b"]),
        ("a\n1\n2\n", 2, ["a"]),
        ("a,b\n", 0, ["a", "b"]),
    ],
)
def test_a_line_of_names_is_told_from_one_of_numbers(text, rows, columns, tmp_path) -> None:
    (tmp_path / "x.csv").write_text(text)
    frame = tables.read(str(tmp_path / "x.csv"))["all"]
    assert (list(frame), len(frame)) == (columns, rows)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("apart", [",", ";", "\t", "|", " ", "   "])
@pytest.mark.parametrize("decimal", [".", ","])
def test_any_usual_way_of_writing_numbers_is_read(apart, decimal, named, tmp_path: Path) -> None:
    if apart == decimal == ",":
        pytest.skip("nobody could tell")
    values = np.vstack([[1, 2, 3], X[:60].round(4)])  # whole numbers, without a mark, come first
    rows = [apart.join(f"{v:.9g}".replace(".", decimal) for v in row) for row in values]
    lines = [apart.join(["größe", "b.2", '"c;d"']), *rows] if named else rows
    (tmp_path / "x.csv").write_text("\n".join(lines), encoding="utf-8")
    table = tables.read(str(tmp_path / "x.csv"))["all"]
    assert np.array_equal(table.to_numpy(), values)
    assert list(table) == (["größe", "b.2", "c;d"] if named else ["0", "1", "2"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "it is empty"),
        ("x.csv", "größe,b\n1,2\n".encode("latin-1"), "UTF-8"),
        ("x.csv", b"1,2\n" * 9 + b"1,2,3\n", "2 fields in line 10, saw 3"),
        ("x.csv", b'a,b\n1,"2\n', "cannot be read"),
        ("x.csv", b"a,b\n" + b"1,2,\n" * 9, "more values than there are names"),
        ("x.parquet", b"no", "cannot be read"),
        ("x.npz", b"no", "not an .npz archive"),
        ("x.xls", b"no", "write it as one of .csv"),
        ("x.csv.gz", gzip.compress(bytes(80_000_000)), "unpacks to"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name, content, message, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        load_file(tmp_path / name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3), "b": np.zeros(3)}, "train, val and test, not 'a', 'b'"),
        ({"x": np.zeros(3)}, r"\(rows, columns\), not \(3,\)"),
        ({"train": np.ones((9, 2)), "val": np.ones((9, 2)), "test": np.ones((9, 3))}, "differ"),
        ({"x": np.array([["a", {}]], dtype=object)}, "allow_pickle"),
        ({"X": np.zeros((9, 2)), "y": np.zeros((9, 0))}, r"\(N,\) or \(N, K\).* \(9, 0\)"),
        ({"x": np.zeros((10_000_000, 1))}, "unpacks to"),
        ({n: np.eye(9) for n in ("train", "val", "valid", "test")}, "'val' and 'valid'"),
        ({n: np.eye(9) for n in ("train", "validation", "VAL", "test")}, "same part"),
    ],
)
def test_arrays_of_the_wrong_kind_are_refused(arrays, message, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_file(tmp_path / "x.npz")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    for name in ("x.npy", "x.npz", "x.parquet", "X.CSV"):
        WRITERS[name](folder / name)
    return {path.suffix: path.read_bytes()[:4000] for path in folder.iterdir()}


@settings(max_examples=100)
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
        load_file(path)


def test_wide_tables_are_refused_before_anything_dear(tmp_path: Path) -> None:
    """Eigenvalues of thousands of columns would take minutes and gigabytes."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((3, 6000)))
    with pytest.raises(ValueError, match="3 different rows of 6000 columns"):
        load_file(tmp_path / "x.npy")


def test_the_parts_of_an_npz_are_kept(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train=X[:1500], validation=X[1500:1600], test=X[1600:])
    data = load_file(tmp_path / "x.npz", seed=3)
    z = (X - X[:1500].mean(0)) / X[:1500].std(0)
    for part, rows in {"train": z[:1500], "val": z[1500:1600], "test": z[1600:]}.items():
        assert np.allclose(getattr(data, part).numpy(), rows)
    assert data.split == "published"
    assert "as the file has them" in data.about


def test_columns_are_chosen_by_name_or_number(tmp_path: Path) -> None:
    csv = written(tmp_path, FRAME.assign(kind="a"))
    np.savez(tmp_path / "x.npz", X=X, y=np.arange(len(X)) % 2)
    npz = str(tmp_path / "x.npz")
    assert load_file(f"{csv}:drop=kind,flux").columns == ("mass", "age")
    assert load_file(f"{csv}:columns=age,mass").columns == ("age", "mass")
    assert load_file(npz).dim == 3
    assert load_file(f"{npz}:columns=2,y:dequantise").columns == ("2", "y")
    np.savez(tmp_path / "xy.npz", X=X, y=X[:, :2] ** 2)
    pair = load_file(f"{tmp_path / 'xy.npz'}:target=y1,y0")
    assert (pair.columns, pair.dim) == (("y1", "y0", "0", "1", "2"), 2)
    with pytest.raises(FileNotFoundError, match=r"did you mean 'x\.csv'"):
        load_file(tmp_path / "x.cs")


def test_raw_densities_are_lower_by_the_logarithms_of_the_deviations() -> None:
    data, scaled = load_frame(FRAME), load_frame(FRAME * [1.0, 10.0, 100.0])
    assert torch.allclose(data.test, scaled.test)
    assert scaled.facts["log_scale"] - data.facts["log_scale"] == pytest.approx(np.log(1000))


def test_bounds_follow_their_columns_into_other_units() -> None:
    """By the scaling of the table, and as far as the noise of whole numbers reaches."""
    frame = FRAME.assign(count=np.arange(len(FRAME)) % 11)
    support = ["count=0,10", "age=-100,100"]
    data = load_frame(frame, dequantise=True, target=["age"], support=support)
    assert data.columns[0] == "age"
    raw = data.scaling.inverse(data.support)[0]
    expected = [[-100, -np.inf, -np.inf, 0], [100, np.inf, np.inf, 11]]
    assert np.allclose(raw.numpy(), expected)
    with pytest.raises(ValueError, match="no column 'size'"):
        load_frame(frame, support=["size=0,1"])
    with pytest.raises(ValueError, match=r"'count' has .* values outside"):
        load_frame(frame, support=["count=0,9"])


FAULTS = {
    "text": (lambda f: f.assign(kind="ab"), ["'kind'", "text, 'ab' say", "--drop kind, or encode"]),
    "marked": (lambda f: f.astype(object).replace(f.iloc[3, 0], "?"), ["1 of 2,000 rows", "mass"]),
    "constant": (lambda f: f.assign(one=1.0, two=2.0), ["'one', 'two'", "--drop one,two"]),
    "dependent": (lambda f: f.assign(sum=f.mass + f.flux), ["'mass', 'flux', 'sum'", "dependent"]),
    "few": (lambda f: f.head(20), ["20 different rows of 3 columns: 50 are needed"]),
    "alike": (lambda f: pd.concat([f.head(20)] * 9), ["20 different rows"]),
    "none": (lambda f: f.head(0), ["0 rows"]),
    "extreme": (lambda f: f * [1e40, 1e-40, 1], ["'mass', 'flux'", "rescale"]),
    "all": (
        lambda f: f.assign(kind="ab", mass=f.mass.where(f.mass > 0), age=1 / (f.index > 3), one=1),
        ["'kind'", "'mass'", "infinite", "'age'", "'one'"],
    ),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(("change", "words"), FAULTS.values(), ids=FAULTS)
def test_faults_are_named(change, words, tmp_path: Path) -> None:
    name = written(tmp_path, change(FRAME))
    with pytest.raises(ValueError, match=r"x\.csv") as error:
        load_file(name)
    result = flowgauge("data", "info", name, status=1)
    assert len(result.stderr.splitlines()) == len(tables.inspect(name).faults)
    for word in words:
        assert word in str(error.value)
        assert word in result.stderr


HOLES = FRAME.assign(age=FRAME.age.where(FRAME.age > 0))
BAD = {  # a table, options, the exit status, and what the one line says
    "holes": (HOLES, [], 1, ["684 of 2,000 rows", "684 in 'age'", "--dropna", "--drop age"]),
    "all holes": (FRAME.assign(age=np.nan), ["--dropna"], 2, ["2,000 of 2,000", "--drop age"]),
    "few left": (HOLES.head(60), ["--dropna"], 1, ["different rows", "50 are needed"]),
    "no drop": (FRAME, ["--drop", "mas"], 2, ["no column 'mas'", "'mass'"]),
    "no target": (FRAME, ["--target", "nosuch"], 2, ["no column 'nosuch'", "'flux'"]),
    "no context": (FRAME, ["--context", ""], 2, ["'--context' is empty"]),
    "no bounded": (FRAME, ["--support", "nosuch=0,1"], 2, ["no column 'nosuch'"]),
    "dropped": (FRAME, ["--target", "age", "--drop", "age"], 2, ["'age'", "left out", "target"]),
    "all given": (FRAME, ["--context", "mass,flux,age"], 2, ["no column", "context 'mass'"]),
    "none given": (FRAME, ["--target", "mass,flux,age"], 2, ["no column", "depend on"]),
    "outside": (FRAME, ["--support", "age=0,inf"], 1, ["'age'", "values outside", "[0, inf]"]),
    "turned": (FRAME, ["--support", "1,0"], 2, ["'1,0'", "1 is not below 0"]),
    "bound": (FRAME, ["--support", "age=0"], 2, ["'age=0'", "NAME=LOWER,UPPER"]),
    "class": (FRAME.assign(k=FRAME.index % 5), ["--target", "k"], 1, ["'k'", "5 values", "class"]),
    "continuous": (FRAME, ["--dequantise"], 1, ["whole numbers", "leave out :dequantise"]),
}


@pytest.mark.parametrize(("table", "options", "status", "words"), BAD.values(), ids=BAD)
def test_a_bad_table_or_option_is_one_line_with_the_remedy(table, options, status, words, tmp_path):
    result = flowgauge("data", "info", written(tmp_path, table), *options, status=status)
    (line,) = result.stderr.splitlines()
    assert all(word in line for word in words), line


def test_columns_that_share_a_name_are_refused_but_in_text(tmp_path: Path) -> None:
    columns = [pa.array(np.arange(60.0) + n) for n in range(3)]
    pq.write_table(pa.Table.from_arrays(columns, ["a", "b", "a"]), tmp_path / "x.parquet")
    frame = FRAME.set_axis(["a", "a", "b"], axis=1)
    for read, data in ((load_file, tmp_path / "x.parquet"), (load_frame, frame)):
        with pytest.raises(ValueError, match="share a name: 'a'"):
            read(data)


texts = st.lists(st.from_regex(r"[a-z]\w{0,3}", fullmatch=True), max_size=3, unique=True).map(tuple)
bounds = st.tuples(st.sampled_from(["", "mass="]), st.integers(-9, 9), st.integers(10, 20))


@given(
    lists=st.fixed_dictionaries(dict.fromkeys(("columns", "drop", "target", "context"), texts)),
    flags=st.fixed_dictionaries(dict.fromkeys(("dropna", "dequantise"), st.booleans())),
    support=st.lists(bounds.map(lambda b: f"{b[0]}{b[1]},{b[2]}"), max_size=2).map(tuple),
)
def test_a_name_says_all_that_is_selected(lists, flags, support) -> None:
    selection = Selection(Path("a:b/my.csv"), support=support, **lists, **flags)
    assert Selection.of(str(selection)) == selection


ROWS = {  # options of a command, and the rows and columns that they mean, the context behind
    "drop": (["--drop", "flux", "--drop", "age"], HOLES[["mass"]], 0),
    "whole columns": (["--dropna", "--columns", "mass,flux"], HOLES[["mass", "flux"]], 0),
    "target": (["--target", "flux", "--drop", "age"], HOLES[["flux", "mass"]], 1),
    "context": (["--context", "age", "--dropna"], HOLES.dropna(), 1),
    "given alone": (["--target", "flux", "--context", "mass"], HOLES[["flux", "mass"]], 1),
}


@pytest.mark.parametrize(("options", "rows", "context"), ROWS.values(), ids=ROWS)
def test_choose_and_data_info_say_the_same_of_the_same_rows(options, rows, context, tmp_path):
    """Their first lines have the name of these rows, for any command, and what is doubtful."""
    path = written(tmp_path, HOLES)
    lines = flowgauge("data", "info", path, *options).stdout.splitlines()
    remarks = [line for line in lines if line.startswith(("data set: ", "note: ", "warning: "))]
    chosen = flowgauge("choose", path, *options, "--flow", "maf,nosuch", status=2)
    assert chosen.stdout.splitlines() == remarks
    assert "nosuch" in chosen.stderr
    data = load_file(remarks[0].removeprefix("data set: "))
    width = rows.shape[1]
    expected = load_frame(rows, target=list(rows)[: width - context] if context else ())
    assert (data.columns, data.context_dim) == (tuple(rows), context)
    assert torch.equal(data.test, expected.test)


def lattice(f: pd.DataFrame) -> pd.DataFrame:
    return f.assign(angle=-69.975 + np.arange(len(f)) % 50)


REMARKS = {
    "whole": (lambda f: f.assign(n=f.index // 2), ["hole numbers alone in 'n'", ":dequantise"]),
    "index": (lambda f: f.assign(n=f.index[::-1] + 3), ["'n' numbers the rows", "--drop n"]),
    "rows left": (lambda f: f.assign(n=(f.index * 1.5).astype(int)), ["'n' numbers the rows"]),
    "label": (lambda f: f.assign(kind=f.index % 2), ["'kind' has 2 values in 2,000 rows"]),
    "nearly constant": (lambda f: f.assign(d=f.mass.where(f.index < 9, 4)), ["'d'", "--drop d"]),
    "steps": (lattice, ["'angle' (50 values at spacing 1 from −69.975)", ":dequantise"]),
    "repeated": (lambda f: pd.concat([f, f.head(7)]), ["7 of 2,007 rows are repeats"]),
    "few": (lambda f: f.head(300), ["300 rows of 3 columns can hardly"]),
    "discrete": (
        lambda f: f.assign(d=np.array([0, 1.5, 4, 4.5, 9.25])[f.index.to_numpy() % 5]),
        ["ew values, at unequal distances: 5 in 'd'"],
    ),
    "heap": (
        lambda f: f.assign(d=f.mass.where(f.index.to_numpy() % 99 > 0, 0)).head(1500),
        ["0 in 16 rows of 'd'"],
    ),
    "tail": (
        lambda f: f.assign(d=np.random.default_rng(0).lognormal(0, 1.5, len(f))),
        ["bove 0 with a long tail: 'd'; --support d=0,inf"],
    ),
    "shares": (
        lambda f: f.assign(d=np.random.default_rng(0).uniform(size=len(f)) ** 2),
        ["rom 0 to 1, like shares: 'd'; --support d=0,1"],
    ),
    "one name": (lambda f: f.set_axis(["a", "a", "b"], axis=1), ["'a', 'a.1'"]),
    "fine": (lambda f: f, ["mean and sd."]),
}


@pytest.mark.parametrize(("change", "words"), REMARKS.values(), ids=REMARKS)
def test_doubts_are_told_and_the_data_still_load(change, words, tmp_path: Path) -> None:
    data = load_file(written(tmp_path, change(FRAME)))
    for word in words:
        assert word in data.about
    rows = torch.cat((data.train, data.val, data.test))
    assert len(torch.unique(rows, dim=0)) == len(rows)
    assert data.about.endswith("sd.") == (words == ["mean and sd."])


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


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 99))
def test_dequantised_columns_keep_their_whole_part(tmp_path, seed) -> None:
    n = np.random.default_rng(seed).integers(-5, 5, len(X))
    frame = FRAME.assign(n=n).to_numpy()
    np.savez(tmp_path / "x.npz", **dict.fromkeys(("train", "val", "test"), frame))
    data = load_file(tmp_path / "x.npz", seed, dequantise=True)
    assert data.name.endswith("x.npz:dequantise")
    z = data.train[:, 3].numpy()
    slope, start = np.polyfit(z, n, 1)  # n + u = sd z + mean, so the fit recovers sd and mean - 1/2
    noise = slope * z + start - n
    assert noise.max() - noise.min() < 1.2
    assert len(np.unique(z)) == len(X)
    assert np.allclose(data.train[:, 0].numpy(), (X[:, 0] - X[:, 0].mean()) / X[:, 0].std())
    with pytest.raises(ValueError, match="leave out :dequantise"):
        load_frame(FRAME, dequantise=True)


@pytest.mark.parametrize("continuous", [True, False])
def test_noise_changes_no_choice_of_rows(continuous: bool) -> None:
    """Repeated rows are copies where a column is continuous; where none is, they are kept."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"k": rng.integers(0, 5, 400), "a": 0.5 + 10 * rng.integers(0, 3, 400)})
    if continuous:
        table["c"] = rng.normal(size=400)
    table = pd.concat([table, table.head(50)])
    plain, noisy = load_frame(table), load_frame(table, dequantise=True)
    assert len(plain.train) == len(noisy.train) == (320 if continuous else 360)
    if continuous:  # the same rows in the same order: undo both scalings
        slope, start = np.polyfit(noisy.test[:, 2].numpy(), plain.test[:, 2].numpy(), 1)
        assert np.allclose(slope * noisy.test[:, 2] + start, plain.test[:, 2])


def test_of_whole_numbers_a_class_alone_is_no_target(tmp_path: Path) -> None:
    """That one is refused is a row of BAD."""
    numbers = np.arange(len(FRAME))
    path = written(tmp_path, FRAME.assign(kind=numbers % 7, count=numbers % 40))
    for target in ("count", "mass", "kind:dequantise"):
        assert load_file(f"{path}:target={target}").context_dim == 4


DENSITY = {"study": "density", "flows": [], "baselines": ["gaussian"]}


def test_the_content_decides_what_is_stale(tmp_path: Path) -> None:
    name = written(tmp_path, FRAME, "stale.csv")
    study = DENSITY | {"datasets": [name]}
    (case,) = Suite(name="s", threads=1, studies=(study,)).cases()
    assert (case.dataset, case.dim) == (name, 3)
    assert datasets.registry.module_of(name) == tables.__name__
    before = dependencies(case)
    assert dependencies(case) == before
    written(tmp_path, FRAME + 1, "stale.csv")
    assert dependencies(case).declared == before.declared
    assert dependencies(case).files != before.files


def test_a_file_goes_through_run_status_and_report(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, FRAME, "my.csv")
    Path("s.toml").write_text(toml(DENSITY | {"datasets": ["magic"]}))
    with datasets.registry.temporary():
        flowgauge("run", "s.toml", "--out", "out", "--data", "my.csv")
        assert list(load("out")["dataset"]) == ["my.csv"]
        assert Path("out/report/tables/density-my-csv.csv").is_file()
        flowgauge("status", "s.toml", "--out", "out", "--data", "my.csv")
    flowgauge("report", "out")
    for wrong in ("nosuch.csv", "nosuch"):
        assert wrong in refused("run", "s.toml", "--out", "out", "--data", wrong)


@pytest.mark.slow
def test_the_suite_of_the_page_on_data_scores_flows_and_baselines(tmp_path, monkeypatch) -> None:
    """From the folder of the data, wherever the suite is."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    written(tmp_path, FRAME.head(600), "my.csv")
    (text,) = (block.text for block in blocks(DOCS / "data.md") if block.file == "own.toml")
    Path("elsewhere/own.toml").write_text(text)
    flowgauge("run", "elsewhere/own.toml", "--out", "out", "-s", "density.updates=3")
    frame = load("out")
    assert set(frame["dataset"]) == {"my.csv"}
    assert set(frame["flow"]) > {"realnvp", "maf", "nsf_coupling", "gaussian", "mixture"}
    assert frame["test_ll"].notna().all()
    assert "\n- **Cases:** 6 done" in Path("out/report/report.md").read_text()
