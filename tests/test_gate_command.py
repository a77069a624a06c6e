"""`flowgauge compare` and `flowgauge baseline`: exit status, outputs, and what they refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.cli.app import app
from benchmarks.core import store
from benchmarks.core.record import Record
from benchmarks.gate import sources
from benchmarks.gate.baseline import renew
from benchmarks.gate.comparison import compare
from records import cli, cost, density, folder


def test_exit_status_and_the_three_outputs_agree(tmp_path):
    base = folder(tmp_path / "base", cost(2), cost(3), density(0, -5.0))
    new = folder(tmp_path / "new", cost(2), cost(3, flops=120), density(0, -5.005))
    files = [str(tmp_path / name) for name in ("c.md", "c.json")]
    result = cli.invoke(
        app, ["compare", str(base), str(new), "--markdown", files[0], "--json", files[1]]
    )
    assert result.exit_code == 1
    markdown, data = Path(files[0]).read_text(), json.loads(Path(files[1]).read_text())
    assert "FAILED: 1 failure" in result.stdout
    assert "Gate: FAILED: 1 failure" in markdown
    row = (
        "| cost realnvp D=3 | log\\_prob\\_flops | 100 FLOP | 120 FLOP | +20 (+20.00%) | 🔴 worse |"
    )
    assert row in markdown
    assert "−0.005 ± 0.014" in markdown  # not resolved, and told with its error
    assert data["fails"]
    assert [c["metric"] for c in data["comparisons"] if c["fails"]] == ["log_prob_flops"]
    single = [str(new / "records" / f"{cost(2).key}.json")] * 2
    result = cli.invoke(app, ["compare", *single, "--json", "-"])
    assert result.exit_code == 0
    assert not json.loads(result.stdout)["fails"]


def spoiled(tmp_path: Path, kind: str) -> Path:
    """Something that cannot be compared with records."""
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_text({"empty": "", "text": "no JSON", "list": "[]", "object": "{}"}[kind])
    return path


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "text", "list", "object"])
@pytest.mark.parametrize("side", [0, 1])
def test_what_holds_no_results_is_refused_in_one_line(tmp_path, kind, side):
    sides = [str(folder(tmp_path / "good", cost())), str(spoiled(tmp_path, kind))]
    result = cli.invoke(app, ["compare", sides[side], sides[1 - side]])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert kind in result.stderr


OTHER: dict[str, tuple[list[Record], str]] = {
    "torch": ([cost(versions={"torch": "2.14.1"})], "renew the baseline"),
    "versions of torch": ([cost(), cost(3, versions={"torch": "2.14.1"})], "2.13, 2.14"),
    "protocol": ([cost(case={"protocol": "0"})], "renew the baseline"),
}


@pytest.mark.parametrize("what", OTHER)
def test_other_versions_are_not_comparable(tmp_path, what):
    records, message = OTHER[what]
    base, new = folder(tmp_path / "base", cost()), folder(tmp_path / "new", *records)
    result = cli.invoke(app, ["compare", str(base), str(new)])
    assert (result.exit_code, message in result.stderr) == (2, True)


def test_a_factor_below_one_and_a_file_that_cannot_be_written_are_wrong_usage(tmp_path):
    base = str(folder(tmp_path / "base", cost()))
    for option, message in (
        *((f"--factor={factor}", factor) for factor in ("0.9", "nan", "inf")),
        (f"--json={tmp_path}", "directory"),
    ):
        result = cli.invoke(app, ["compare", base, base, option])
        assert result.exit_code == 2
        assert message in result.stderr


def test_a_renewed_baseline_equals_its_source_and_keeps_no_times(tmp_path):
    broken = cost(4, status="failed")
    source, target = folder(tmp_path / "ci", cost(2), cost(3), broken), tmp_path / "base"
    result = cli.invoke(app, ["baseline", "update", str(source), "--target", str(target)])
    assert (result.exit_code, "3 records" in result.stdout) == (0, True)
    assert not compare(target, source).failures
    renewed = store.read(target).values()
    assert {name for record in renewed for name in record.metrics} == {"log_prob_flops"}


def test_a_baseline_is_of_one_suite_and_whole(tmp_path):
    ours, others = folder(tmp_path / "ours", cost()), folder(tmp_path / "others", cost(7))
    mixed = folder(tmp_path / "mixed", cost(), cost(7, versions={"torch": "2.14.1"}))
    renew(ours, tmp_path / "baseline")
    with pytest.raises(ValueError, match="shares no case"):
        renew(others, tmp_path / "baseline")
    with pytest.raises(ValueError, match=r"torch 2\.13, 2\.14"):
        renew(mixed, tmp_path / "baseline")


def test_the_gate_runs_with_the_torch_of_its_baseline():
    """Another minor version's counts could not be compared."""
    root = Path(__file__).parent.parent
    (pin,) = re.findall(r"TORCH:==(\d+\.\d+)\.\*", (root / "tox.ini").read_text())
    assert sources.read(root / "results" / "baseline").facts["torch"] == pin
