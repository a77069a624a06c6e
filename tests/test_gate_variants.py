"""Variants of records, each with the exit status that the gate owes it; versions and baselines."""

import itertools
import json
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import datasets
from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.record import SCHEMA, Record, Values
from benchmarks.core.study import registry as studies
from benchmarks.core.study import study_of
from benchmarks.execution import suite
from benchmarks.gate import baseline as guard
from benchmarks.gate.baseline import faults, renew
from benchmarks.gate.comparison import compare
from benchmarks.measure.operations import ARRAYS, OPERATORS, dispatched
from committed import ROOT
from flows.registry import Declared
from measuring import gradient_cases
from records import HERE, cost, density, folder, record
from repositories import commit
from runs import flowgauge, refused

PASSED, FAILED, REFUSED = 0, 1, 2
Fields = dict[str, Any]
Change = Callable[[Fields], object]
Variant = tuple[str, Change, int]  # which record, what is done to its JSON, and the exit status

TIMES = {name: [0.2] * 9 for name in ("log_prob_seconds", "reference_seconds")}
SINGLE = {"test_ll": -5.0, "test_ll_se": 0.01, "sliced_wasserstein": 0.1}
MEASURED: dict[str, Record] = {
    "cost": record(cost().case, {"log_prob_flops": 100.0, "sample_rate": [5.0] * 9, **TIMES}),
    "other": cost(3),
    "failed": cost(4, status="failed", reason="diverged"),
    "single": record(density(0, 0, flow="nsf").case, SINGLE),
    **{f"seed {seed}": density(seed, -5.0 + 0.01 * seed) for seed in range(4)},
}
SOUND = {name: json.loads(r.model_dump_json(by_alias=True)) for name, r in MEASURED.items()}


def to(metric: str, *values: float | str) -> Change:
    return lambda fields: fields["metrics"].update({metric: list(values)})


def without(metric: str) -> Change:
    return lambda fields: fields["metrics"].pop(metric)


def having(**changes: object) -> Change:
    return lambda fields: fields.update(changes)


def scaled(factor: float, *metrics: str) -> Change:
    def change(fields: Fields) -> None:
        for metric in metrics:
            fields["metrics"][metric] = [factor * value for value in fields["metrics"][metric]]

    return change


SEEDS = (-5.0, -5.12, -4.93, -5.04)
METRICS = {
    "cost": ("log_prob_flops", "log_prob_seconds", "sample_rate", "reference_seconds"),
    "single": ("test_ll", "test_ll_se", "sliced_wasserstein"),
    "seed 2": ("test_ll",),
}
SPOILT: dict[str, Callable[[str], Change]] = {
    "nan": lambda metric: to(metric, "nan"),
    "inf": lambda metric: to(metric, "inf"),
    "-inf": lambda metric: to(metric, "-inf"),
    "partly nan": lambda metric: to(metric, *[0.1] * 8, "nan"),
    "empty": to,
    "missing": without,
}
VARIANTS: dict[str, Variant] = {
    **{
        f"{name}: {metric} {kind}": (name, spoil(metric), FAILED)
        for name, metrics in METRICS.items()
        for metric in metrics
        for kind, spoil in SPOILT.items()
    },
    **{
        f"values of {values!r}": ("cost", having(metrics={"parameters": values}), REFUSED)
        for values in (["many"], [None], [[1]], None, {})
    },
    **{
        f"{metric} of {value}": ("cost", to(metric, *[value] * 9), FAILED)
        for metric in METRICS["cost"][1:]
        for value in (0.0, -0.2)
    },
    **{
        f"a count of {value}": ("cost", to("log_prob_flops", *value), FAILED)
        for value in ([101], [99], [100 + 1e-9], [100, 100], [1e5], [0.1], [-100], [0])
    },
    "the same": ("cost", having(), PASSED),
    "one more field": ("cost", having(later=[1]), PASSED),
    "an unknown metric": ("cost", to("mine", 3.0), PASSED),
    "a version raised": ("cost", having(declared={"flow realnvp": [2, 1]}), PASSED),
    "worse": ("single", to("test_ll", -5.1), FAILED),
    "within its error": ("single", to("test_ll", -5.01), PASSED),
    "better": ("single", to("test_ll", -4.9), PASSED),
    "rounded": ("single", to("test_ll", -5.0 - 1e-9), PASSED),
    "worse, and no error": ("single", to("sliced_wasserstein", 0.101), FAILED),
    "better, and no error": ("single", to("sliced_wasserstein", 0.09), PASSED),
    "rounded, and no error": ("single", to("sliced_wasserstein", 0.1 + 1e-10), PASSED),
    "one seed of several": ("seed 3", to("test_ll", -4.98), PASSED),
    "slower": ("cost", scaled(1.3, "log_prob_seconds"), FAILED),
    "a lower rate": ("cost", scaled(0.7, "sample_rate"), FAILED),
    "slightly slower": ("cost", scaled(1.05, "log_prob_seconds"), PASSED),
    "faster": ("cost", scaled(0.7, "log_prob_seconds"), PASSED),
    "a slow machine": ("cost", scaled(1.3, *TIMES), PASSED),
    **{
        f"one sample of {value}": ("cost", to("log_prob_seconds", value), FAILED)
        for value in (0.9, 0.2, 0.1)
    },
    "another machine": ("cost", having(machine={**HERE, "cpu": "another"}), PASSED),
    "an unknown machine": ("cost", having(machine={}), PASSED),
    # cases
    **{
        f"now {status}": ("other", having(status=status, reason="x"), FAILED)
        for status in ("failed", "timeout", "skipped")
    },
    "failed otherwise": ("failed", having(status="timeout"), PASSED),
    "done now": ("failed", having(status="done"), PASSED),
    "no such status": ("other", having(status="perhaps"), REFUSED),
    "another key": ("other", having(key="0" * 16), REFUSED),
    "another identity": ("other", having(identity={}), REFUSED),
    "another protocol": (
        "other", lambda f: f.update(case={**f["case"], "protocol": "0"}), REFUSED,
    ),
    "a newer schema": ("other", having(schema=SCHEMA + 1), REFUSED),
    "metrics in a list": ("other", having(metrics=[100]), REFUSED),
    "another torch": ("other", having(versions={"torch": "2.14.0"}), REFUSED),
    "no versions": ("other", having(versions={}), REFUSED),
}  # fmt: skip


def write(folder: Path, records: dict[str, Fields]) -> Path:
    (folder / "records").mkdir(parents=True, exist_ok=True)
    for name, fields in records.items():
        key = SOUND[name]["key"]
        (folder / "records" / f"{key}.json").write_text(json.dumps(fields))
    return folder


def changed(*changes: tuple[str, Change]) -> dict[str, Fields]:
    records: dict[str, Fields] = json.loads(json.dumps(SOUND))
    for name, change in changes:
        change(records[name])
    return records


@pytest.fixture
def status(tmp_path: Path) -> Callable[..., int]:
    """The exit status of the gate for records against others, by default the sound ones."""
    numbers = itertools.count()

    def judge(new: dict[str, Fields], base: dict[str, Fields] = SOUND, *allow: str) -> int:
        sides = [write(tmp_path / str(next(numbers)), records) for records in (base, new)]
        try:
            verdict = compare(*sides, allow=allow)
        except ValueError:
            return REFUSED
        return verdict.status

    return judge


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_has_its_exit_status(status, name):
    victim, change, expected = VARIANTS[name]
    beside = {n for n in SOUND if n in (victim, "cost") or n[:4] == victim[:4]}  # to save time
    base, new = ({n: side[n] for n in beside} for side in (SOUND, changed((victim, change))))
    assert status(new, base) == expected


@pytest.mark.parametrize("name", SOUND)
def test_a_case_that_is_lost_fails_and_one_more_passes(status, name):
    fewer = {n: fields for n, fields in SOUND.items() if n != name}
    assert status(fewer) == FAILED
    assert status(SOUND, fewer) == (FAILED if name == "failed" else PASSED)


@pytest.mark.parametrize("content", ["", "{", "null", '{"schema": 1}'])
@pytest.mark.parametrize("side", ["base", "new"])
def test_a_side_that_is_not_whole_is_refused(tmp_path, content, side):
    folders = {name: write(tmp_path / name, SOUND) for name in ("base", "new")}
    (folders[side] / "records" / f"{SOUND['other']['key']}.json").write_text(content)
    refused("compare", *folders.values())


def test_what_was_no_number_before_may_become_one_and_not_another(status):
    base = changed(("single", to("test_ll", "inf")))
    assert status(SOUND, base) == PASSED
    assert status(base, base) == PASSED
    assert status(changed(("single", to("test_ll", "-inf"))), base) == FAILED
    undefined = changed(("single", to("test_ll", "nan")))
    assert status(undefined, undefined) == PASSED
    assert status(base, undefined) == FAILED


def test_a_metric_that_the_first_seed_lacks_is_judged(status):
    base = changed(*((f"seed {seed}", to("gap", 0.1 + 0.001 * seed)) for seed in (1, 2, 3)))
    worse = [(f"seed {seed}", to("gap", 0.3 + 0.002 * seed)) for seed in (1, 2, 3)]
    assert status(changed(*worse), base) == FAILED


def test_what_is_worse_and_cannot_be_judged_fails_unless_its_case_is_allowed(status):
    """One seed whose error is zero or none, and counts that all move by one step."""
    for change in (to("test_ll_se", 0.0), to("test_ll_se", "nan")):
        base, new = (changed(("single", change)) for _ in range(2))
        to("test_ll", -100.0)(new["single"])
        assert status(new, base) == FAILED
        assert status(new, base, "density nsf*") == PASSED
    fewer = {name: fields for name, fields in SOUND.items() if name != "other"}
    for pattern in ("cost realnvp D=3", "*D=3"):
        assert status(fewer, SOUND, pattern) == PASSED
    seeds = [f"seed {seed}" for seed in range(4)]
    few, many = (changed(*((seed, to("sample_nfe", n)) for seed in seeds)) for n in (14, 20))
    assert status(many, few) == FAILED
    assert status(few, many) == PASSED


COLLAPSES = [(0, 5, 5), (0.5, 3, 8), (1e4, 1e6, 1e8), (0, 0, 5), (1, 2, 40), (-90, 30, 90)]
COLLAPSES += [(0, 0, 0, 1), (1e300, 1e308, 0)]


@pytest.mark.parametrize("errors", [(0.01, 0.01), (0.01, 1e9), (None, None), ("nan", "inf")])
@pytest.mark.parametrize("moves", COLLAPSES, ids=str)
def test_a_collapse_of_some_seeds_fails_however_they_scatter(status, moves, errors):
    seeds, sides = [f"seed {s}" for s in range(len(moves))], []
    for error, sign in zip(errors, (0, 1), strict=True):
        lls = [to("test_ll", SEEDS[s] - sign * m) for s, m in enumerate(moves)]
        spread = without("test_ll_se") if error is None else to("test_ll_se", error)
        side = changed(*zip(seeds, lls, strict=True), *((seed, spread) for seed in seeds))
        sides.append({seed: side[seed] for seed in seeds})
    assert status(sides[0], sides[0]) == PASSED
    assert status(sides[1], sides[0]) == FAILED


def test_a_seed_without_a_number_hides_no_other_and_a_curve_no_point(status):
    base = changed(("seed 0", to("test_ll", "nan")), ("single", to("solver_error", 1e-2, 1e-4)))
    worse = changed(*((f"seed {s}", to("test_ll", -5.0 - 9**s)) for s in range(4)))
    for new in (worse, changed(("seed 0", to("test_ll", "nan")), ("seed 1", to("test_ll", -60.0)))):
        new["single"] = base["single"]
        assert status(new, base) == FAILED
    for values in ((1e-2, 1e4), (1e-2,), (1e-2, 1e-4, 1e-4)):
        new = json.loads(json.dumps(base))
        to("solver_error", *values)(new["single"])
        assert status(new, base) == FAILED
    assert status(base, base) == PASSED


def test_a_single_seed_is_judged_by_the_error_of_the_baseline(status):
    for error in (1e4, "inf", "nan"):
        new = changed(("single", to("test_ll", -1e4)), ("single", to("test_ll_se", error)))
        assert status(new) == FAILED


def test_a_seed_more_is_no_reason_to_fail(status):
    one = {name: SOUND[name] for name in ("cost", "seed 0")}
    two = one | {"seed 1": changed(("seed 1", to("test_ll", -5.5)))["seed 1"]}
    assert status(two, one) == PASSED
    assert status(one, two) == FAILED


def test_a_verdict_on_nothing_is_no_pass(status, tmp_path):
    times = changed(("cost", without("log_prob_flops")))["cost"]
    elsewhere = {**times, "machine": {**HERE, "cpu": "another"}}
    assert status({"cost": elsewhere}, {"cost": times}) == REFUSED
    failed = {"failed": SOUND["failed"]}
    assert status(failed, failed) == REFUSED
    flowgauge("compare", *[write(tmp_path / name, failed) for name in ("a", "b")], status=REFUSED)


FLOW, SHARED = "flow maf", "benchmarks.training"
AGAIN = "flowgauge baseline update"  # what a message has to name


def measured(figure=-1.25, operators=3, *, flow=1, shared=1, dim=2, array=(4.0, 0.5, 0.75)):
    """A record of the suite ci: a likelihood, an array, operators, and the versions declared."""
    case = Case(study="density", flow="maf", dim=dim, batch=4)
    declared = {FLOW: Declared(flow), SHARED: Declared(shared)}
    notes = {OPERATORS: {"aten.mm.default": operators}, ARRAYS: {"samples": list(array)}}
    return record(case, {"test_ll": figure, "parameters": 7}, notes=notes, declared=declared)


def renewed(path: Path, *records: Record) -> Path:
    renew(folder(path / "ci", *records), path / "baseline")
    return path / "baseline"


@given(st.floats(1e-3, 1e6) | st.floats(-1e6, -1e-3), st.floats(0, 0.9), st.floats(1.1, 1e6))
def test_figures_are_equal_within_the_tolerance_and_not_beyond(figure, share, beyond):
    base, tolerance = measured(figure, array=(4, figure)), 1e-8 * figure
    for near in (figure + share * tolerance, figure - share * tolerance):
        assert not guard.moved(base, measured(near, array=(4, near)))
    far = figure + beyond * tolerance
    assert guard.moved(base, measured(far, array=(4, far))) == ["test_ll", "array samples"]


def test_the_author_of_a_plug_in_has_to_raise_its_own_version_alone():
    old, new = measured(), measured(-2.0)
    assert all(name in guard.refusal(old, new) for name in (FLOW, SHARED))
    theirs = new.model_copy(update={"plugins": {"flow": {"file": "maf.py", "commit": ""}}})
    assert FLOW in guard.refusal(old, theirs)
    assert SHARED not in guard.refusal(old, theirs)


@given(figure=st.floats(allow_nan=True, allow_infinity=True))
def test_what_is_not_finite_equals_itself_alone(figure):
    assert not guard.moved(measured(figure), measured(figure))
    for other in (float("nan"), float("inf"), -float("inf")):
        same = figure == other or (figure != figure and other != other)
        assert bool(guard.moved(measured(figure), measured(other))) is not same


def test_a_failure_an_array_or_a_metric_more_is_a_move():
    base = measured()
    more = {"metrics": {**base.metrics, "gap": base.metrics["test_ll"]}}
    others = [base.model_copy(update=change) for change in (more, {"status": "failed"})]
    for other in (*others, measured(array=(5.0, 0.5, 0.75)), measured(array=())):
        assert guard.moved(base, other)
        assert guard.moved(other, base)


def test_a_case_that_fails_now_is_refused_whatever_was_raised(tmp_path):
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
    figures, operators, version, pace, tmp_path
):
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


def test_one_version_with_two_sets_of_figures_is_a_fault(tmp_path):
    history = [measured(), measured(-1.5, flow=2), measured(dim=3), measured()]
    assert not list(guard.contradictions(history))
    for again in (measured(-1.5), measured(operators=4), measured(-1.25, flow=2)):
        assert len(list(guard.contradictions([*history, again]))) == 1
    base = renewed(tmp_path, measured())
    store.write_part(base, [(measured(-1.5), {})])
    assert len(list(faults(base))) == 1


def test_a_version_that_was_lowered_again_has_the_figures_it_had(tmp_path):
    base = renewed(tmp_path, measured())
    renew(folder(tmp_path / "raised", measured(-1.5, flow=2)), base)
    with pytest.raises(ValueError, match="version"):
        renew(folder(tmp_path / "other", measured(-1.75)), base)
    assert renew(folder(tmp_path / "back", measured()), base) == 1


def test_a_raised_shared_version_names_the_cases_that_moved(tmp_path):
    base = renewed(tmp_path, *(measured(dim=dim) for dim in (2, 3, 4)))
    after = [measured(-1.25 if dim == 3 else -1.5, shared=2, dim=dim) for dim in (2, 3, 4)]
    verdict = compare(base, folder(tmp_path / "new", *after))
    labels = {failure.case for failure in verdict.failures if failure.metric}
    assert len(verdict.failures) == 3
    assert set(verdict.raised[SHARED]) == labels
    assert len(labels) == 2


def test_parts_that_a_base_commit_has_otherwise_are_named(tmp_path):
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


def test_a_part_that_is_gone_is_a_fault_and_ends_a_comparison(tmp_path):
    base = renewed(tmp_path, measured())
    for version, log_prob in ((2, -1.5), (3, -1.75)):
        renew(folder(tmp_path / f"{version}", measured(log_prob, flow=version)), base)
    untouched = shutil.copytree(base, tmp_path / "untouched")
    lost = store.tables(base)[1]
    lost.unlink()
    with pytest.warns(UserWarning, match=lost.name):
        (fault,) = faults(base)
    assert lost.name in fault
    with pytest.raises(ValueError, match=lost.name):
        compare(base, untouched)


def test_a_case_is_measured_as_if_it_were_the_first():
    """What an earlier case has drawn, trained or solved must not be missing among operators."""
    import_module("torchdiffeq")  # which makes tensors as it is imported, once a process
    one = {"solvers": {"euler": [0.5]}, "gradients": ["backprop"], "dtypes": ["float64"]}
    cases = gradient_cases(flows=["cnf"], **one, updates=[1], seconds=0, reference=1e-2)
    ((_, first),), ((_, second),) = (dispatched(study_of(cases[0]), cases) for _ in range(2))
    assert first.notes[OPERATORS] == second.notes[OPERATORS]
    assert first.metrics == second.metrics
    assert not first.failure


def test_the_suite_ci_has_every_study_family_and_module_of_drawn_data():
    entries = suite.read("ci").studies
    assert {entry["study"] for entry in entries} == set(studies)
    assert any("*" in str(entry.get("flows")) for entry in entries if entry["study"] == "density")
    listed = {name for entry in entries for name in entry.get("datasets", ())}
    modules = {datasets.registry.module_of(name) for name in datasets.registry}
    drawn = {module for module in modules if not hasattr(import_module(module), "files")}
    assert drawn == {datasets.registry.module_of(name) for name in listed}


def test_the_baseline_is_sound_and_of_the_suite_ci():
    assert not list(faults(ROOT / "baseline"))
    records = store.read(ROOT / "baseline").values()
    assert all(OPERATORS in record.notes for record in records if record.status == "done")


def test_a_move_has_its_old_and_new_figures_and_no_direction():
    (comparison,) = guard.judge([("case", measured(2.0), measured(1.0, operators=5))])
    assert (comparison.outcome, comparison.metric) == ("moved", "test_ll, operators")
    assert comparison.change.startswith("test_ll 2 → 1 (−1); ")
    assert comparison.operators == "aten.mm.default 3 → 5"


@given(factor=st.floats(0.25, 4), figure=st.floats(-5, 5), operators=st.integers(0, 9))
def test_the_headline_says_which_flow_costs_what_and_whether_its_values_moved(
    factor, figure, operators
):
    before, after = measured(2.0), measured(figure, operators)
    for side, flops in ((before, 1000.0), (after, 1000 * factor)):
        side.metrics = {**side.metrics, "log_prob_flops": Values.of("log_prob_flops", flops)}
    moves = guard.moved(before, after)
    headlines = list(guard.headlines([("case", before, after)]))
    assert len(headlines) == bool(moves)
    for line in headlines:
        assert line.startswith("maf ")
        assert (f"log_prob FLOPs × {factor:.2f}" in line) == ("log_prob_flops" in moves)
        assert ("computes other values" in line) == ("test_ll" in moves)
        assert ("values unchanged" in line) == ("test_ll" not in moves)
