"""Records outlive a refactoring and do not outlive a change of what they measure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edited_tree import ROOT, Edit, copied, faults, standing

REFERENCE = ROOT / "results/reference"

HARMLESS = (
    Edit("flows/registry.py", "is already registered by", "was registered before by"),
    Edit("benchmarks/core/metrics.py", "METRICS: dict[str, Metric] = {\n", 'METRICS: dict[str, Metric] = {\n    "novel": Metric("a new one", "", "lower", "quality"),\n'),
    Edit("flows/discrete/glow.py", "    layers: int = ", "    novelty: float = 0.5,\n    layers: int = "),
    Edit("flows/continuous/solve.py", "    max_steps: int = 10_000\n", "    max_steps: int = 10_000\n    novelty: float = 0.5\n"),
    Edit("benchmarks/core/case.py", "    batches: int = 0\n", "    batches: int = 0\n    novelty: int = 0\n"),
    Edit("benchmarks/evaluation/scoring.py", "    rows: PositiveInt = 5000", "    novelty: float = 0.5\n    rows: PositiveInt = 5000"),
    Edit("benchmarks/training/settings.py", "    patience: NonNegativeInt", "    novelty: float = 0.5\n    patience: NonNegativeInt"),
    Edit("benchmarks/studies/trace/study.py", 'include={"gain", "draws", "seconds"}', 'include={"gain", "draws", "seconds", "novelty"}'),
    Edit("benchmarks/studies/trace/study.py", "    gain: PositiveFloat = ", "    novelty: float = 0.5\n    gain: PositiveFloat = "),
)  # fmt: skip


def test_harmless_edits_leave_every_record_as_it_is(tmp_path: Path) -> None:
    tree = copied(tmp_path, *HARMLESS)
    helper, users = "benchmarks/training/schedules.py", (tree / "benchmarks").rglob("*.py")
    for path in users:  # move a module, and rename what it has
        text = path.read_text("utf-8")
        if "schedules" in text:
            text = re.sub(r"\bschedules\b", "rates", text)
            path.write_text(text.replace("rates.share", "rates.fraction"), "utf-8")
    source = tree / helper
    text = source.read_text("utf-8").replace("def share(", "def fraction(")
    source.with_name("rates.py").write_text(text, "utf-8")
    source.unlink()
    before, after = (standing(code, REFERENCE) for code in (ROOT, tree))
    assert {group: len(cases) for group, cases in after.items()} == {
        group: len(cases) for group, cases in before.items()
    }
    assert after == before


@pytest.mark.parametrize(
    ("edit", "group", "part"),
    [
        (Edit("flows/continuous/ffjord.py", 'register("ffjord"', 'register("ffjord", version=2'), "ffjord", "version"),
        (Edit("flows/continuous/ffjord.py", 'register("ffjord"', 'register("ffjord", pace=2'), "ffjord", "pace"),
    ],
)  # fmt: skip
def test_a_raised_number_makes_its_own_records_stale(
    edit: Edit, group: str, part: str, tmp_path: Path
) -> None:
    before, after = (
        standing(code, REFERENCE) for code in (ROOT, copied(tmp_path, edit))
    )
    fresh = {case["key"] for case in before["done"]} - {case["key"] for case in after["done"]}
    assert fresh
    reasons = {c["key"]: c["reason"] for c in after["stale"]}
    labels = {c["key"]: c["label"] for c in after["stale"]}
    assert all(group in labels[key] and part in reasons[key] for key in fresh)
    kept = [case for case in after["done"] if group in case["label"]]
    assert not kept if part == "version" else True


SEEDED = {
    "schedule": (Edit("benchmarks/training/schedules.py", "0.5 * (1 +", "0.6 * (1 +"), "density realnvp*"),
}  # fmt: skip


@pytest.mark.slow
def test_the_gate_finds_seeded_edits(tmp_path: Path) -> None:
    found = {
        name: any(faults(copied(tmp_path / name, edit), *patterns).values())
        for name, (edit, *patterns) in SEEDED.items()
    }
    assert sum(found.values()) >= len(found) - 1, [n for n, seen in found.items() if not seen]
