"""Records outlive a refactoring and do not outlive a change of what they measure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.core import store
from benchmarks.execution.versions import dependencies
from benchmarks.measure.machine import machine, versions
from edited_tree import ROOT, Edit, Standing, copied, faults, standing
from judge import NEW_CASE

REFERENCE = ROOT / "results/reference"

EDITS = tomllib.loads((ROOT / "tests/edits.toml").read_text("utf-8"))
HARMLESS = [Edit(**edit) for edit in EDITS["harmless"]]
FFJORD = "flows/continuous/ffjord.py", 'register("ffjord"'


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed run as if it had been measured here, by the code as it is."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "suite.json").write_bytes((REFERENCE / "suite.json").read_bytes())
    here = {"machine": machine(), "versions": versions(), "arrays": {}}
    for record in store.read(REFERENCE).values():
        declared = dependencies(record.case).declared
        store.write(folder, record.model_copy(update={**here, "declared": declared}))
    return folder


@pytest.fixture(scope="module")
def before(measured: Path) -> Standing:
    """Where that run stands under the code as it is."""
    return standing(ROOT, measured)


def test_edits_are_of_texts_that_the_code_has() -> None:
    """Else the slow tests below, which make them, are the first to know."""
    edits = [*EDITS["harmless"], *EDITS["seeded"]]
    texts = {edit["file"]: (ROOT / edit["file"]).read_text("utf-8") for edit in edits}
    assert not [edit for edit in edits if edit["old"] not in texts[edit["file"]]]


@pytest.mark.slow
def test_harmless_edits_leave_every_record_as_it_is(
    measured: Path, before: Standing, tmp_path: Path
) -> None:
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
    assert standing(tree, measured) == before


@pytest.mark.slow
@pytest.mark.parametrize("number", ["version", "pace"])
def test_a_raised_number_makes_its_own_records_stale(
    number: str, measured: Path, before: Standing, tmp_path: Path
) -> None:
    file, old = FFJORD
    tree = copied(tmp_path, Edit(file, old, f"{old}, {number}=2"))
    after = standing(tree, measured)
    moved = {c["key"] for c in before["done"]} - {c["key"] for c in after["done"]}
    stale = [case for case in after["stale"] if case["key"] in moved]
    assert len(stale) == len(moved) > 0
    assert all("ffjord" in case["label"] and number in case["reason"] for case in stale)
    if number == "version":
        assert not [case for case in after["done"] if "ffjord" in case["label"]]


@pytest.mark.slow
def test_the_gate_finds_seeded_edits(tmp_path: Path) -> None:
    trees = [_edited(tmp_path, **edit) for edit in EDITS["seeded"]]
    seen = [_refused(*each) for each in zip(trees, faults(*trees), strict=True)]
    missed = [e["name"] for e, caught in zip(EDITS["seeded"], seen, strict=True) if not caught]
    assert len(seen) >= 20
    assert len(missed) <= len(seen) // 20, missed


def _edited(
    folder: Path, name: str, cases: Sequence[str], **edit: str
) -> tuple[Path, Sequence[str]]:
    """A tree with an edit, and the patterns of its cases."""
    return copied(folder / name, Edit(**edit)), cases


def _refused(tree: tuple[Path, Sequence[str]], verdicts: dict[str, str]) -> bool:
    """Whether the gate refuses a case of a tree."""
    assert verdicts, f"no case of the suite ci is named {tree[1]}"
    return any(fault and fault != NEW_CASE for fault in verdicts.values())


@pytest.mark.slow
def test_the_gate_passes_a_tree_without_edits(tmp_path: Path) -> None:
    patterns = {pattern for edit in EDITS["seeded"] for pattern in edit["cases"]}
    (verdicts,) = faults((copied(tmp_path), sorted(patterns)))
    assert verdicts
    assert not any(verdicts.values())
