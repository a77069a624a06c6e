"""pytest-benchmark: its files in the frames of the suites, and a clock that shows FLOPs."""

import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

import benchmarks
import flows
import pytest_flowgauge
from benchmarks.gate import pytest_benchmark
from benchmarks.gate.comparison import compare
from benchmarks.measure.operations import Operations
from documents import ROOT

COUNTS = "benchmarks/micro/bench_counts.py::bench_flops"
LIKE = "realnvp-log_prob"


def micro(storage: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One run of pytest-benchmark's that stores what it measures.

    Within the storage: from elsewhere pytest-benchmark cannot say where it compares with.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-only"]
    command += ["-p", "pytest_flowgauge", "-c", f"{ROOT}/pyproject.toml", f"--rootdir={ROOT}"]
    command += [f"--benchmark-storage=file://{storage}", "--benchmark-autosave", *arguments]
    environment = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    environment["PYTHONPATH"] = str(ROOT)  # its own run, with no part in this one's
    return subprocess.run(command, cwd=storage, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """A storage with one run: FLOPs and seconds of a flow's log_prob."""
    storage = tmp_path_factory.mktemp("storage")
    files = [str(ROOT / f"benchmarks/micro/bench_{kind}.py") for kind in ("counts", "flows")]
    fast = ["--benchmark-max-time=0.05", "--benchmark-save-data"]
    result = micro(storage, *files, "-k", LIKE, *fast)
    assert result.returncode == 0, result.stdout
    return storage


def test_files_load_into_the_columns_of_the_suites(stored):
    frame = benchmarks.load(stored)
    suites = benchmarks.load(ROOT / "results" / "baseline")
    shared = {"study", "flow", "dim", "batch", "threads", "key", "status", "machine", "versions"}
    assert shared | {"notes", "log_prob_flops", "log_prob_flops.values"} <= {*frame, *suites}
    both = benchmarks.load(ROOT / "results" / "baseline", stored)
    assert len(both) == len(suites) + len(frame)
    assert set(both["run"]) == {"baseline", stored.name}
    (row,) = frame[(frame["flow"] == "realnvp") & frame["log_prob_flops"].notna()].itertuples()
    assert (row.study, row.dim, row.batch, row.status) == ("micro", 8, 128, "done")
    with torch.no_grad(), Operations() as operations:
        flows.build("realnvp", 8).log_prob(torch.randn(128, 8))
    assert row.log_prob_flops == operations.flops
    timed = frame[frame["log_prob_seconds"].notna()]
    assert (timed["log_prob_seconds.values"].map(len) >= 5).all()
    assert (timed["reference_seconds.values"].map(len) == 30).all()


def test_committed_files_load_too():
    files = list((ROOT / "results" / "benchmarks").rglob("*.json"))
    assert files
    for path in files:
        frame = benchmarks.load(path)
        assert frame["setting.work"].is_unique
        for column in ("log_prob_flops", "log_prob_seconds", "step_seconds", "sample_seconds"):
            assert (frame[column].dropna() > 0).all()
            assert frame[column].notna().any()


def test_counts_are_free_of_noise_and_a_change_fails(stored, tmp_path):
    """By pytest-benchmark's own comparison, and by the gate's."""
    base = json.loads(pytest_benchmark.newest(stored).read_bytes())
    base["machine_info"]["cpu"] = "another"
    for benchmark in base["benchmarks"]:  # what was measured before a change
        if benchmark["fullname"] == f"{COUNTS}[{LIKE}]":
            for name in ("min", "median"):
                benchmark["stats"][name] -= 1
            benchmark["stats"]["data"] = [benchmark["stats"]["min"]]
    before = tmp_path / "before.json"
    before.write_text(json.dumps(base))
    against = [f"--benchmark-compare={before}", "--benchmark-compare-fail=min:0%"]
    result = micro(tmp_path, str(ROOT / "benchmarks/micro/bench_counts.py"), "-k", LIKE, *against)
    assert result.returncode == 1
    failed = [line for line in result.stderr.splitlines() if "PercentageRegressionCheck" in line]
    assert [line.split()[0] for line in failed] == [f"bench_flops[{LIKE}]"]
    verdict = compare(stored, tmp_path, allow=["*bench_flows.py*"])
    assert not verdict.failures
    verdict = compare(before, tmp_path, allow=["*bench_flows.py*"])
    assert [c.change for c in verdict.failures] == ["+1 (+0.00%)"]
    assert verdict.failures[0].case == f"{COUNTS}[{LIKE}]"


def test_newest_is_the_one_that_was_written_last(tmp_path):
    benchmark = {"fullname": "x", "stats": {"median": 1.0}}
    for number, date in (("0001", "2026-02-01"), ("0002", "2026-01-01")):
        (tmp_path / number).mkdir()
        content = {"benchmarks": [benchmark], "datetime": date, "machine_info": {}}
        (tmp_path / number / f"{number}_a.json").write_text(json.dumps(content))
    (tmp_path / "other.json").write_text("[]")
    assert pytest_benchmark.newest(tmp_path).name == "0001_a.json"


@pytest.mark.parametrize("content", ["[]", "{}", '{"benchmarks": []}', '{"benchmarks": [{}]}', ""])
def test_what_is_no_file_of_pytest_benchmark_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match=r"x\.json"):
        pytest_benchmark.load(tmp_path / "x.json")


def test_the_plug_in_gives_ours_and_puts_others_of_these_names_back(monkeypatch):
    """A repository may have packages of our names: they are what it imports before and after."""
    theirs = {name: types.ModuleType(name) for name in ("benchmarks", "benchmarks.sizes")}
    for module in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, module)
    for name, module in theirs.items():
        module.__spec__ = importlib.util.spec_from_loader(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    for _ in range(2):
        with pytest_flowgauge.packages():
            from benchmarks.measure.operations import Operations as counted

            assert sys.modules["flows"] is flows
            assert "benchmarks.sizes" not in sys.modules
        named = {n: m for n, m in sys.modules.items() if n.partition(".")[0] == "benchmarks"}
        assert named == theirs
        with counted() as operations:
            torch.ones(2, 3) @ torch.ones(3, 4)
        assert operations.flops == 2 * 2 * 3 * 4
    assert counted is not Operations
