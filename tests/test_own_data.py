"""A file as a data set: parts, faults, remarks, and its way through a run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks import datasets
from benchmarks.cli.app import app
from benchmarks.core.case import Case
from benchmarks.core.frame import load
from benchmarks.datasets import own
from benchmarks.evaluation.scoring import score
from benchmarks.execution.suite import Suite, read
from benchmarks.execution.versions import dependencies

cli = CliRunner()
PAGE = Path(__file__).parent.parent / "docs" / "data.md"


def table(rows: int = 2000, columns: int = 3, seed: int = 0) -> pd.DataFrame:
    x = np.random.default_rng(seed).normal(2, 5, size=(rows, columns))
    return pd.DataFrame(x, columns=[f"c{k}" for k in range(columns)])


def written(folder: Path, frame: pd.DataFrame, name: str) -> str:
    path = folder / name
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".npy":
        np.save(path, frame.to_numpy())
    elif path.suffix == ".npz":
        np.savez(path, x=frame.to_numpy())
    else:
        frame.to_csv(path, index=False)
    return str(path)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.integers(60, 500), columns=st.integers(1, 6), seed=st.integers(0, 99))
def test_parts_are_disjoint_standardised_and_decided_by_the_seed(tmp_path, rows, columns, seed):
    frame = table(rows, columns, seed)
    name = written(tmp_path, frame, "x.parquet")
    data, again = own.load_file(name, seed), own.load_file(name, seed)
    parts = (data.train, data.val, data.test)
    assert [len(part) for part in parts] == [rows - 2 * (rows // 10), rows // 10, rows // 10]
    assert torch.equal(data.test, again.test)
    assert not torch.equal(data.test, own.load_file(name, seed + 1).test)
    assert data.train.mean(dim=0).abs().max() < 1e-12
    assert (data.train.std(dim=0, correction=0) - 1).abs().max() < 1e-12
    # Every row of the file once: undo the scaling by regression on the sorted first column.
    ours, theirs = torch.cat(parts)[:, 0].sort().values, torch.tensor(frame["c0"]).sort().values
    assert torch.corrcoef(torch.stack((ours, theirs)))[0, 1] > 1 - 1e-12


def test_every_format_gives_the_same_data(tmp_path: Path) -> None:
    frame = table()
    names = [
        written(tmp_path, frame, f"x{suffix}") for suffix in (".parquet", ".npy", ".npz", ".csv")
    ]
    for apart in (";", "\t"):
        frame.to_csv(tmp_path / f"{ord(apart)}.csv", sep=apart, index=False)
        names.append(str(tmp_path / f"{ord(apart)}.csv"))
    frame.to_csv(tmp_path / "bare.csv", header=False, index=False)
    frame.to_csv(tmp_path / "mark.csv", index=False, encoding="utf-8-sig")
    names += [str(tmp_path / "bare.csv"), str(tmp_path / "mark.csv")]
    first = own.load_file(names[0])
    for name in names[1:]:
        assert torch.allclose(own.load_file(name).test, first.test, rtol=0, atol=1e-12), name


def test_columns_keep_their_names_in_every_record_and_picture(tmp_path: Path) -> None:
    name = written(tmp_path, table(500), "x.csv")
    data = own.load_file(name)
    assert data.columns == ("c0", "c1", "c2")
    assert own.load_file(written(tmp_path, table(500), "x.npy")).columns is None
    case = Case(
        study="density", flow="gaussian", dim=3, dataset=name, batch=1,
        settings={"scoring": {"rows": 20, "seconds": 0}},
    )  # fmt: skip
    result = score(case, data)
    assert result.notes["data"]["columns"] == ["c0", "c1", "c2"]
    assert all(0 <= column < 3 for column in result.arrays["columns"])


def test_the_parts_of_an_npz_are_kept(tmp_path: Path) -> None:
    x = table().to_numpy()
    np.savez(tmp_path / "x.npz", train=x[:1500], validation=x[1500:1600], test=x[1600:])
    data = own.load_file(tmp_path / "x.npz", seed=3)
    z = (x - x[:1500].mean(0)) / x[:1500].std(0)
    assert np.allclose(data.train.numpy(), z[:1500])
    assert np.allclose(data.val.numpy(), z[1500:1600])
    assert np.allclose(data.test.numpy(), z[1600:])
    assert data.split == "published"
    assert "as the file has them" in data.about


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 99))
def test_dequantised_columns_keep_their_whole_part(tmp_path, seed) -> None:
    frame = table(300).assign(n=np.random.default_rng(seed).integers(-5, 5, 300))
    np.savez(tmp_path / "x.npz", **{part: frame.to_numpy() for part in ("train", "val", "test")})
    data = own.load_file(tmp_path / "x.npz", seed, dequantise=True)
    assert data.name.endswith("x.npz:dequantise")
    n, z = frame["n"].to_numpy(), data.train[:, 3].numpy()
    slope, start = np.polyfit(z, n, 1)  # n + u = sd z + mean, so the fit recovers sd and mean - 1/2
    noise = slope * z + start - n
    assert noise.max() - noise.min() < 1.2
    assert len(np.unique(z)) == 300
    c = frame["c0"].to_numpy()
    assert np.allclose(data.train[:, 0].numpy(), (c - c.mean()) / c.std())
    assert "niform noise in [0, 1)" in data.about


FAULTS = {
    "text": (lambda f: f.assign(kind="ab"), ["'kind'", "text, 'ab' say", "encode"]),
    "dates": (lambda f: f.assign(day="2020-01-01"), ["'day'", "'2020-01-01'"]),
    "missing": (lambda f: f.assign(c1=f.c1.where(f.c1 > 0)), ["rows lack values", "'c1'", "drop"]),
    "marked": (lambda f: f.astype(object).replace(f.iloc[3, 0], "?"), ["1 of 2,000 rows", "'c0'"]),
    "infinite": (lambda f: f.assign(c2=1 / (f.index.to_numpy() > 3)), ["infinite", "'c2'"]),
    "constant": (lambda f: f.assign(one=1.0, two=2.0), ["'one', 'two'", "one value alone"]),
    "dependent": (lambda f: f.assign(sum=f.c0 + f.c1), ["'c0', 'c1', 'sum'", "dependent"]),
    "few": (lambda f: f.head(20), ["20 different rows of 3 columns: 50 are needed"]),
    "alike": (lambda f: pd.concat([f.head(20)] * 9), ["20 different rows"]),
    "none": (lambda f: f.head(0), ["0 rows"]),
    "all": (
        lambda f: f.assign(kind="ab", c1=f.c1.where(f.c1 > 0), c2=1 / (f.index > 3), one=1.0),
        ["'kind'", "'c1'", "infinite", "'c2'", "'one'"],
    ),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(("change", "words"), FAULTS.values(), ids=FAULTS)
def test_faults_are_named(change, words, tmp_path: Path) -> None:
    name = written(tmp_path, change(table()), "x.csv")
    with pytest.raises(ValueError, match=r"x\.csv") as error:
        own.load_file(name)
    for word in words:
        assert word in str(error.value)
    result = cli.invoke(app, ["data", "info", name])
    assert result.exit_code == 1
    for word in words:
        assert word in result.stderr


REMARKS = {
    "whole": (lambda f: f.assign(n=range(len(f))), ["hole numbers alone in 'n'", ":dequantise"]),
    "repeated": (lambda f: pd.concat([f, f.head(7)]), ["7 of 2,007 rows are repeats"]),
    "few": (lambda f: f.head(300), ["300 rows of 3 columns can hardly"]),
    "discrete": (
        lambda f: f.assign(d=np.array([0, 1.5, 4, 4.5, 9.25])[f.index.to_numpy() % 5]),
        ["ew values, at unequal distances: 5 in 'd'"],
    ),
    "heap": (
        lambda f: f.assign(d=f.c0.where(f.index.to_numpy() % 99 > 0, 0)).head(1500),
        ["0 in 16 rows of 'd'"],
    ),
    "fine": (lambda f: f, ["mean and sd."]),
}


@pytest.mark.parametrize(("change", "words"), REMARKS.values(), ids=REMARKS)
def test_doubts_are_told_and_the_data_still_load(change, words, tmp_path: Path) -> None:
    data = own.load_file(written(tmp_path, change(table()), "x.csv"))
    for word in words:
        assert word in data.about
    rows = torch.cat((data.train, data.val, data.test))
    assert len(torch.unique(rows, dim=0)) == len(rows)
    assert data.about.endswith("sd.") == (words == ["mean and sd."])


def suite(*names: str) -> Suite:
    about = {"name": "s", "about": "a", "threads": 1}
    density = {"study": "density", "datasets": list(names), "flows": [], "baselines": ["gaussian"]}
    return Suite(**about, studies=(density,))


def test_the_content_decides_what_is_stale(tmp_path: Path) -> None:
    name = written(tmp_path, table(), "stale.csv")
    (case,) = suite(name).cases()
    assert case.dataset == name
    assert case.dim == 3
    assert datasets.module_of(name) == own.__name__
    before = dependencies(case)
    assert dependencies(case) == before
    written(tmp_path, table(seed=1), "stale.csv")
    assert dependencies(case).declared == before.declared
    assert dependencies(case).files != before.files


def test_a_suite_runs_on_other_data(tmp_path: Path) -> None:
    first = read("smoke").on(["magic"])
    assert {tuple(e["datasets"]) for e in first.studies if "datasets" in e} == {("magic",)}
    cost = Suite(name="s", studies=({"study": "cost", "flows": ["maf"], "dims": [2]},))
    with pytest.raises(ValueError, match="'s' has no study that takes data sets"):
        cost.on(["magic"])


def test_a_file_goes_through_run_status_and_report(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, table(), "my.csv")
    plan = suite("magic").model_dump(mode="json", exclude={"name"})
    lines = [f"{key} = {json.dumps(plan[key])}" for key in ("about", "threads")]
    lines += ["[[studies]]", *(f"{k} = {json.dumps(v)}" for k, v in plan["studies"][0].items())]
    Path("s.toml").write_text("\n".join(lines))
    with datasets.registry.temporary():
        done = cli.invoke(app, ["run", "s.toml", "--out", "out", "--data", "my.csv"])
        assert done.exit_code == 0, done.output
        frame = load("out")
        assert list(frame["dataset"]) == ["my.csv"]
        assert Path("out/report/tables/density-my-csv.csv").is_file()
        status = ["status", "s.toml", "--out", "out", "--data", "my.csv"]
        assert cli.invoke(app, status).exit_code == 0
    assert cli.invoke(app, ["report", "out"]).exit_code == 0
    for wrong in ("nosuch.csv", "nosuch"):
        refused = cli.invoke(app, ["run", "s.toml", "--out", "out", "--data", wrong])
        assert refused.exit_code == 2
        assert wrong in refused.stderr


@pytest.mark.slow
def test_the_suite_of_the_page_on_data_scores_flows_and_baselines(tmp_path, monkeypatch) -> None:
    """From the folder of the data, wherever the suite is; it says nothing of its purpose."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    written(tmp_path, table(600), "my.csv")
    (text,) = re.findall(r"```toml\n# own.toml.*?\n(.*?)```", PAGE.read_text(), re.S)
    Path("elsewhere/own.toml").write_text(text)
    few = ["-s", "density.updates=3"]
    done = cli.invoke(app, ["run", "elsewhere/own.toml", "--out", "out", *few])
    assert done.exit_code == 0, done.output
    frame = load("out")
    assert set(frame["dataset"]) == {"my.csv"}
    assert set(frame["flow"]) > {"realnvp", "maf", "nsf_coupling", "gaussian", "mixture"}
    assert frame["test_ll"].notna().all()
    report = Path("out/report/report.md").read_text()
    assert report.startswith("# own\n")
    assert "\n- **Cases:** 6 done" in report
    assert 'class="about"' not in Path("out/report/index.html").read_text()
