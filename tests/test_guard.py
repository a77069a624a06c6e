"""The guard: figures move with a declared version, operators with a pace, and baselines grow."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import datasets
from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.record import Record
from benchmarks.core.study import registry as studies
from benchmarks.execution import suite
from benchmarks.gate import baseline as guard
from benchmarks.gate.baseline import faults, renew
from benchmarks.gate.comparison import compare
from benchmarks.measure.operations import ARRAYS, OPERATORS, dispatched
from flows.registry import Declared
from measuring import cases_of
from records import folder, record
from repositories import commit

BY_THE_CLOCK = {"choose"}  # studies whose figures are those of the seconds that there were
FLOW, SHARED = "flow maf", "benchmarks.training"
AGAIN = "flowgauge baseline update"  # what a message has to name


def measured(
    figure: float = -1.25,
    operators: int = 3,
    *,
    flow: int = 1,
    pace: int = 1,
    shared: int = 1,
    dim: int = 2,
    array: Sequence[float] = (4.0, 0.5, 0.75),
) -> Record:
    """A record of the suite ci: a likelihood, an array, operators, and the versions declared."""
    case = Case(study="density", flow="maf", dim=dim, batch=4)
    declared = {FLOW: Declared(flow, pace), SHARED: Declared(shared)}
    notes = {OPERATORS: {"aten.mm.default": operators}, ARRAYS: {"samples": list(array)}}
    return record(case, {"test_ll": figure, "parameters": 7}, notes=notes, declared=declared)


def renewed(path: Path, *records: Record) -> Path:
    """A baseline of records."""
    renew(folder(path / "ci", *records), path / "baseline")
    return path / "baseline"


@given(
    figure=st.floats(1e-3, 1e6) | st.floats(-1e6, -1e-3),
    share=st.floats(0, 0.9),
    beyond=st.floats(1.1, 1e6),
)
def test_figures_are_equal_within_the_tolerance_and_not_beyond(figure, share, beyond) -> None:
    base, tolerance = measured(figure, array=(4, figure)), 1e-8 * figure
    for near in (figure + share * tolerance, figure - share * tolerance):
        assert not guard.moved(base, measured(near, array=(4, near)))
    far = figure + beyond * tolerance
    assert guard.moved(base, measured(far, array=(4, far))) == ["test_ll", "array samples"]


def test_the_author_of_a_plug_in_has_to_raise_its_own_version_alone() -> None:
    old, new = measured(), measured(-2.0)
    assert all(name in guard.refusal(old, new) for name in (FLOW, SHARED))
    theirs = new.model_copy(update={"plugins": {"flow": {"file": "maf.py", "commit": ""}}})
    assert FLOW in guard.refusal(old, theirs)
    assert SHARED not in guard.refusal(old, theirs)


@given(figure=st.floats(allow_nan=True, allow_infinity=True))
def test_what_is_not_finite_equals_itself_alone(figure) -> None:
    assert not guard.moved(measured(figure), measured(figure))
    for other in (float("nan"), float("inf"), -float("inf")):
        same = figure == other or (figure != figure and other != other)
        assert bool(guard.moved(measured(figure), measured(other))) is not same


def test_a_failure_an_array_or_a_metric_more_is_a_move() -> None:
    base = measured()
    more = base.model_copy(update={"metrics": {**base.metrics, "gap": base.metrics["test_ll"]}})
    for other in (
        base.model_copy(update={"status": "failed"}),
        more,
        measured(array=(5.0, 0.5, 0.75)),
        measured(array=()),
    ):
        assert guard.moved(base, other)
        assert guard.moved(other, base)


def test_a_case_that_fails_now_is_refused_whatever_was_raised(tmp_path: Path) -> None:
    base = renewed(tmp_path, measured())
    broken = measured(flow=2).model_copy(update={"status": "failed", "reason": "ZeroError"})
    source = folder(tmp_path / "new", broken)
    (failure,) = compare(base, source).failures
    assert "ZeroError" in failure.note
    with pytest.raises(ValueError, match="ZeroError"):
        renew(source, base)


@pytest.mark.parametrize(
    ("figures", "operators", "version", "pace"), [*itertools.product([False, True], repeat=4)]
)
def test_figures_need_a_version_and_operators_a_version_or_a_pace(
    figures: bool, operators: bool, version: bool, pace: bool, tmp_path: Path
) -> None:
    base = renewed(tmp_path, measured())
    after = measured(-1.5 if figures else -1.25, 4 if operators else 3, flow=1 + version)
    after = after.model_copy(update={"declared": {**after.declared, SHARED: Declared(1, 1 + pace)}})
    raised = version or pace
    refused = (figures and not version) or (operators and not raised)
    source, parts_before = folder(tmp_path / "new", after), store.tables(base)
    failures = compare(base, source).failures
    assert bool(failures) is (figures or operators or raised)
    assert all((AGAIN in failure.note) is not refused for failure in failures)
    if refused:
        with pytest.raises(ValueError, match="version" if figures else "pace"):
            renew(source, base)
        assert store.tables(base) == parts_before
    else:
        assert renew(source, base) == raised
        assert not compare(base, source).failures
        assert not list(faults(base))


def test_one_version_with_two_sets_of_figures_is_a_fault(tmp_path: Path) -> None:
    history = [measured(), measured(-1.5, flow=2), measured(dim=3), measured()]
    assert not list(guard.contradictions(history))
    for again in (measured(-1.5), measured(operators=4), measured(-1.25, flow=2)):
        assert len(list(guard.contradictions([*history, again]))) == 1
    base = renewed(tmp_path, measured())
    store.write_part(base, [(measured(-1.5), {})])
    assert len(list(faults(base))) == 1


def test_a_version_that_was_lowered_again_has_the_figures_it_had(tmp_path: Path) -> None:
    base = renewed(tmp_path, measured())
    renew(folder(tmp_path / "raised", measured(-1.5, flow=2)), base)
    with pytest.raises(ValueError, match="version"):
        renew(folder(tmp_path / "other", measured(-1.75)), base)
    assert renew(folder(tmp_path / "back", measured()), base) == 1


def test_a_raised_shared_version_names_the_cases_that_moved(tmp_path: Path) -> None:
    base = renewed(tmp_path, *(measured(dim=dim) for dim in (2, 3, 4)))
    after = [measured(-1.25 if dim == 3 else -1.5, shared=2, dim=dim) for dim in (2, 3, 4)]
    verdict = compare(base, folder(tmp_path / "new", *after))
    labels = {failure.case for failure in verdict.failures if failure.metric}
    assert len(verdict.failures) == 3
    assert set(verdict.raised[SHARED]) == labels
    assert len(labels) == 2


def test_parts_that_a_base_commit_has_otherwise_are_named(tmp_path: Path) -> None:
    base = renewed(tmp_path, measured())
    commit(tmp_path, "baseline: start")
    renew(folder(tmp_path / "raised", measured(-1.5, flow=2)), base)
    first, second = store.tables(base)
    assert not list(faults(base, "HEAD"))
    with pytest.raises(ValueError, match="git"):
        list(faults(base, "no-such-commit"))
    original = first.read_bytes()
    first.write_bytes(second.read_bytes())
    (fault,) = faults(base, "HEAD")
    assert first.name in fault
    first.unlink()
    (fault,) = faults(base, "HEAD")
    assert first.name in fault
    first.write_bytes(original)
    assert not list(faults(base, "HEAD"))


def test_a_case_is_measured_as_if_it_were_the_first() -> None:
    """What an earlier case has drawn, trained or solved must not be missing among operators."""
    options = {
        "part": "gradients", "datasets": ["8gaussians"], "batch": 8,
        "sizes": {"hidden": 4, "depth": 1, "layers": 1},
        "solvers": {"euler": [0.5]}, "gradients": ["backprop"], "dtypes": ["float64"],
        "updates": [1], "seconds": 0, "reference": 1e-2,
        "training": {"validations": 1, "validation_rows": 8},
    }  # fmt: skip
    study, cases = studies["numerics"], cases_of("numerics", options, dtype="float64")
    (first, second) = (list(dispatched(study, cases)) for _ in range(2))
    assert first[0][1].notes[OPERATORS] == second[0][1].notes[OPERATORS]
    assert first[0][1].metrics == second[0][1].metrics


def test_the_suite_ci_has_every_study_family_and_module_of_drawn_data() -> None:
    entries = suite.read("ci").studies
    assert {entry["study"] for entry in entries} == set(studies) - BY_THE_CLOCK
    assert any("*" in str(entry.get("flows")) for entry in entries if entry["study"] == "density")
    listed = {name for entry in entries for name in entry.get("datasets", ())}
    without_files = {
        name
        for name in datasets.names()
        if not hasattr(import_module(datasets.module_of(name)), "files")
    }
    assert {datasets.module_of(name) for name in without_files} == {
        datasets.module_of(name) for name in listed
    }


def test_the_baseline_is_sound_and_of_the_suite_ci() -> None:
    base = Path(__file__).parent.parent / "results/baseline"
    assert not list(faults(base))
    done = [r for r in store.read(base).values() if r.status == "done"]
    assert all(OPERATORS in record.notes for record in done)


def test_a_move_has_its_old_and_new_figures_and_no_direction(tmp_path) -> None:
    (comparison,) = guard.judge([("case", measured(2.0), measured(1.0, operators=5))])
    assert (comparison.outcome, comparison.metric) == ("moved", "test_ll, operators")
    assert comparison.change == "test_ll 2 → 1 (−1); operators aten.mm.default 3 → 5"
    verdict = compare(renewed(tmp_path, measured(2.0)), folder(tmp_path / "ci", measured(1.0)))
    assert verdict.failures[0].change == "test_ll 2 → 1 (−1)"
