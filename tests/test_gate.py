"""The gate: regressions are found, noise passes; its commands, and what it hands to other tools."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from benchmarks.analysis.criteria import LEVEL
from benchmarks.core import store
from benchmarks.core.case import Case, Seeds
from benchmarks.core.record import Record, Values
from benchmarks.execution.versions import dependencies
from benchmarks.gate import comparison, sources
from benchmarks.gate.baseline import renew
from benchmarks.gate.comparison import compare
from benchmarks.gate.sources import Entry
from documents import ROOT
from flows.registry import Declared
from records import HERE, Metrics, cost, density, folder, outcomes, record
from runs import flowgauge, refused


def test_counts_do_not_depend_on_threads_machine_or_time_spent(gate):
    elsewhere = {"threads": 2, "settings": {"seconds": 60.0}}
    machine = {**HERE, "cpu": "another"}
    verdict = gate([cost()], [cost(case=elsewhere, machine=machine)])
    assert not verdict.failures
    (time,) = (c for c in verdict.comparisons if c.kind == "time")
    assert (time.outcome, "another" in time.note) == ("incomparable", True)
    assert "log_prob_flops" in outcomes(gate([cost()], [cost(flops=101, case=elsewhere)]))


def test_evaluations_of_an_adaptive_solver_are_no_exact_counts(gate):
    def solve(method: str, nfe: float) -> Record:
        step = {"step_size": 0.25} if method == "rk4" else {}
        options = {"solver": {"method": method, **step}}
        case = Case(study="cost", flow="cnf", dim=2, batch=4, options=options)
        return record(case, {"log_prob_nfe": nfe, "parameters": 5.0, "rate_flops": 2 * nfe})

    assert outcomes(gate([solve("rk4", 20)], [solve("rk4", 26)]))["log_prob_nfe"] == "worse"
    verdict = gate([solve("dopri5", 20)], [solve("dopri5", 26)])
    # one evaluation costs the same whatever the solver does
    assert outcomes(verdict) == {"log_prob_nfe": "unjudged", "rate_flops": "worse"}


def test_records_of_an_earlier_version_are_said_to_be_old(gate):
    now = dependencies(cost().case).declared
    current = cost(declared=now)
    assert not gate([current], [current]).aged
    verdict = gate([current], [cost(declared=now | {"flow realnvp": Declared(99)})])
    assert list(verdict.aged.values()) == [1]
    assert any("older than the code" in line for line in verdict.summary)


def test_records_that_are_no_longer_planned_have_vanished(gate, tmp_path):
    """A case that was taken out of a suite leaves its record in the folder."""
    plan = {"name": "ci", "cases": [{"key": cost(2).key, "study": "cost"}]}
    folder(tmp_path / "new", cost(2), cost(3))
    (tmp_path / "new" / "suite.json").write_text(json.dumps(plan))
    assert outcomes(gate([cost(2), cost(3)], [])) == {"case": "vanished"}


SIMULATED = 200


def entry(group: str, seed: int, metrics: Metrics) -> Entry:
    """A case as the judges see it."""
    values = {name: Values.of(name, value) for name, value in metrics.items()}
    return Entry(f"{group} seed {seed}", group, str(seed), "done", "", values, "here")


def test_seeds_are_paired_where_both_sides_have_the_same_ones():
    old = {str(seed): value for seed, value in enumerate([-5.0, -7.0, -9.0])}
    new = {seed: value - 0.1 + 0.001 * int(seed) for seed, value in old.items()}
    paired = comparison.difference(old, new, {})
    moved = [new[seed] - old[seed] for seed in old]
    assert paired.p == pytest.approx(stats.ttest_1samp(moved, 0).pvalue)
    other = {f"{seed}'": value for seed, value in new.items()}
    apart = comparison.difference(old, other, {})
    assert apart.value == pytest.approx(paired.value)
    assert apart.p > 0.5 > 0.001 > paired.p


def test_counts_that_all_move_by_one_step_are_no_certainty():
    """Few prove nothing, nor do those that scatter as much; many do."""
    old, new = ({str(seed): n for seed in range(3)} for n in (14.0, 20.0))
    assert comparison.difference(old, new, {}, counts=True) is None
    assert comparison.difference(old, {**new, "0": 14.0}, {}, counts=True).p > LEVEL
    old, new = ({str(seed): n + seed for seed in range(6)} for n in (14.0, 20.0))
    assert comparison.difference(old, new, {}, counts=True).p < LEVEL


def simulated_qualities(generator, shift: float, seeds: int = 0):
    """The outcomes for trained flows whose seeds scatter by 0.02 nats on both sides.

    Each flow has 2 to 6 seeds unless it is said how many.
    """
    sides: list[list[Entry]] = [[], []]
    for group in range(8):
        for seed in range(seeds or generator.integers(2, 7)):
            for side, mean in zip(sides, (0.0, shift if group == 0 else 0.0), strict=True):
                value = mean + 0.02 * generator.standard_normal()
                metrics = {"test_ll": value, "test_ll_se": 0.02 * generator.random()}
                side.append(entry(f"flow {group}", seed, metrics))
    return list(comparison.judge_qualities(*sides))


def test_noise_of_seeds_raises_few_alarms_and_a_worse_likelihood_one():
    generator = np.random.default_rng(1)
    verdicts = [simulated_qualities(generator, 0.0) for _ in range(SIMULATED)]
    assert sum(any(c.fails for c in run) for run in verdicts) <= 0.05 * SIMULATED
    verdicts = [simulated_qualities(generator, -1.0, seeds=4) for _ in range(20)]
    assert sum(run[0].fails for run in verdicts) >= 18


def simulated_times(generator, slowdown: float):
    """The outcomes for works of 4 % noise, on a machine whose speed differs from run to run."""
    pairs = []
    speeds = generator.uniform(0.5, 2, size=2)
    for work in range(8):
        sides = []
        for speed, factor in zip(speeds, (1.0, slowdown if work == 0 else 1.0), strict=True):
            noise = np.exp(0.04 * generator.standard_normal((2, 20)))
            noise[:, 0] *= 3  # once, something else took the processor
            seconds = {"log_prob_seconds": speed * factor, "reference_seconds": 0.3 * speed}
            values = {n: list(s * noise[i]) for i, (n, s) in enumerate(seconds.items())}
            sides.append(entry(f"work {work}", 0, values))
        pairs.append(tuple(sides))
    return list(comparison.judge_times(pairs, 1.1))


def test_noise_of_times_raises_few_alarms_and_a_slower_layer_one():
    generator = np.random.default_rng(2)
    verdicts = [simulated_times(generator, 1.0) for _ in range(SIMULATED)]
    assert sum(any(c.fails for c in run) for run in verdicts) <= 0.05 * SIMULATED
    verdicts = [simulated_times(generator, 1.2) for _ in range(50)]
    assert sum(run[0].fails for run in verdicts) >= 48
    verdicts = [simulated_times(generator, 1 / 1.2) for _ in range(50)]
    assert sum(run[0].outcome == "better" for run in verdicts) >= 48
    assert not any(c.fails for run in verdicts for c in run)


def timed(seconds: list[float], reference: float | list[float] = 1.0) -> Entry:
    return entry("work", 0, {"log_prob_seconds": seconds, "reference_seconds": reference})


@pytest.mark.parametrize(
    ("new", "outcome", "words"),
    [
        (timed([1.4] * 9), "worse", "× 1.383"),
        (timed([1.0] * 4 + [1.3] * 5), "stayed", "× 1.284"),  # by chance
        (timed([2.0] * 9, reference=[1.0, 1.0, 1.3]), "incomparable", "too noisy"),
    ],
)
def test_a_time_is_worse_by_a_rank_test_too_and_on_a_quiet_machine(new, outcome, words):
    old = timed([0.98, 0.99, 1.0, 1.01, 1.0125, 1.1, 1.29, 1.31, 1.32])
    (verdict,) = comparison.judge_times([(old, new)], 1.1)
    assert verdict.outcome == outcome
    assert words in verdict.change + verdict.note
    assert verdict.fails == (outcome == "worse")


@pytest.mark.parametrize(("times", "outcome"), [(6, "worse"), (7, "incomparable")])
def test_a_time_that_no_test_could_find_worse_has_not_stayed(times: int, outcome: str) -> None:
    """Ranks of five samples have no p below 0.05 after the correction for seven tests."""
    pair = timed([1.0, 1.01, 1.02, 1.03, 1.04]), timed([10.0, 10.1, 10.2, 10.3, 10.4])
    verdicts = list(comparison.judge_times([pair] * times, 1.1))
    assert {each.outcome for each in verdicts} == {outcome}


def test_exit_status_and_the_three_outputs_agree(tmp_path):
    base = folder(tmp_path / "base", cost(2), cost(3), density(0, -5.0))
    new = folder(tmp_path / "new", cost(2), cost(3, flops=120), density(0, -5.005))
    files = tmp_path / "c.md", tmp_path / "c.json"
    result = flowgauge("compare", base, new, "--markdown", files[0], "--json", files[1], status=1)
    markdown, data = files[0].read_text(), json.loads(files[1].read_text())
    assert "FAILED: 1 failure" in result.stdout
    assert "Gate: FAILED: 1 failure" in markdown
    row = (
        r"| cost realnvp D=3 | log\_prob\_flops | 100 FLOP | 120 FLOP | +20 (+20.00%) | 🔴 worse |"
    )
    assert row in markdown
    assert "−0.005 ± 0.014" in markdown  # not resolved, and told with its error
    assert data["fails"]
    assert [c["metric"] for c in data["comparisons"] if c["fails"]] == ["log_prob_flops"]
    single = new / "records" / f"{cost(2).key}.json"
    assert not json.loads(flowgauge("compare", single, single, "--json", "-").stdout)["fails"]


def test_a_factor_below_one_and_a_file_that_cannot_be_written_are_wrong_usage(tmp_path):
    base = folder(tmp_path / "base", cost())
    for factor in ("0.9", "nan", "inf"):
        assert factor in refused("compare", base, base, f"--factor={factor}")
    assert "directory" in refused("compare", base, base, f"--json={tmp_path}")


def test_a_renewed_baseline_equals_its_source_and_keeps_no_times(tmp_path):
    broken = cost(4, status="failed")
    source, target = folder(tmp_path / "ci", cost(2), cost(3), broken), tmp_path / "base"
    result = flowgauge("baseline", "update", source, "--target", target)
    assert "3 records" in result.stdout
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
    (pin,) = re.findall(r"TORCH:==(\d+\.\d+)\.\*", (ROOT / "tox.ini").read_text())
    assert sources.read(ROOT / "results" / "baseline").facts["torch"] == pin


def maf(dim: int, *, seed: int = 0, cpu: str = "a", **metrics: float | list[float]) -> Record:
    case = Case(study="cost", flow="maf", dim=dim, batch=4, seeds=Seeds.of(seed))
    return record(case, metrics, machine={"cpu": cpu, "threads": 1})


BASE = [
    maf(2, log_prob_flops=100, parameters=7),
    maf(3, log_prob_flops=100),
    maf(4, log_prob_seconds=[0.2] * 9, reference_seconds=[0.1] * 9),
    *(maf(5, seed=seed, test_ll=-2.0 + 0.1 * seed) for seed in range(3)),
    maf(6, test_ll=1.5, test_ll_se=0.25, sample_rate=[10.0] * 5, reference_seconds=[0.1]),
]
NEW = [
    maf(2, log_prob_flops=110, parameters=7),
    maf(4, cpu="b", log_prob_seconds=[0.3, 0.4, 0.5, 0.6], reference_seconds=[0.2] * 9),
    *BASE[3:],
    maf(7, log_prob_flops=9),
]


def exported(place: Path, option: str, base: list[Record] = BASE, new: list[Record] = NEW) -> str:
    """The file that an option of ``flowgauge compare`` writes, where the gate fails."""
    file = place / "export"
    sides = [folder(place / "base", *base), folder(place / "new", *new)]
    flowgauge("compare", *sides, option, file, status=1)
    return file.read_text(encoding="utf-8")


def test_github_action_benchmark_reads_the_new_side(tmp_path):
    """customSmallerIsBetter: name and unit strings, value a number, range and extra strings."""
    items = json.loads(exported(tmp_path, "--github-benchmark"))
    for item in items:
        assert {"name", "unit", "value"} <= item.keys()
        assert item.keys() <= {"name", "unit", "value", "range", "extra"}
        assert isinstance(item["value"], int | float)
        assert all(isinstance(v, str) and v for k, v in item.items() if k != "value")
    named = {item["name"]: item for item in items}
    assert len(named) == len(items), "a name is a series: twice in a file, it is one"
    flops = "cost maf D=2: log_prob_flops"
    assert named[flops] == {"name": flops, "unit": "FLOP", "value": 110.0}
    assert named["cost maf D=7: log_prob_flops"]["value"] == 9  # new ones too
    time = named["cost maf D=4: log_prob_seconds"]
    assert (time["value"], time["unit"]) == (pytest.approx(2.25), "reference workloads")
    assert time["range"] == "± 0.375"
    likelihood = named["cost maf D=5: negative test_ll"]
    assert (likelihood["value"], likelihood["unit"]) == (pytest.approx(1.9), "nats")
    assert likelihood["range"] == "± 0.0577"  # over seeds
    assert named["cost maf D=6: negative test_ll"]["range"] == "± 0.25"  # over the test set
    assert named["cost maf D=6: inverse sample_rate"]["value"] == pytest.approx(1.0)


TAGS = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def check_junit(text: str) -> dict[tuple[str, str], str]:
    """How each test of JUnit's XML ended, as a dashboard reads it; the structure is asserted.

    That of the schema that Jenkins publishes: suites of cases, each with a name and a class and at
    most one of failure, error and skipped, and attributes that count them.
    """
    root = ElementTree.fromstring(text)
    assert (root.tag, {suite.tag for suite in root}) == ("testsuites", {"testsuite"})
    assert all(suite.get("name") for suite in root)
    ended = {}
    for test in (test for suite in root for test in suite):
        assert test.tag == "testcase"
        assert all(test.get(name) for name in ("name", "classname"))
        assert float(test.get("time", "0")) >= 0
        assert len(test) <= 1
        assert all(result.tag in TAGS.values() and result.get("message") for result in test)
        ended[test.get("classname"), test.get("name")] = test[0].tag if len(test) else "passed"
    for element in (root, *root):
        tests = list(element.iter("testcase"))
        assert int(element.get("tests", -1)) == len(tests)
        for attribute, tag in TAGS.items():
            number = sum(test.find(tag) is not None for test in tests)
            assert int(element.get(attribute, -1)) == number
    return ended


def test_junit_fails_where_the_gate_does(tmp_path):
    text = exported(tmp_path, "--junit")
    ended = check_junit(text)
    assert ended["flowgauge.exact", "cost maf D=2"] == "failure"
    assert ended["flowgauge.case", "cost maf D=3"] == "failure"  # vanished
    assert ended["flowgauge.time", "cost maf D=4"] == "skipped"  # another machine
    assert ended["flowgauge.quality", "cost maf D=5"] == "passed"
    failures = [key for key, end in ended.items() if end == "failure"]
    assert len(failures) == 2
    assert "+10.00%" in text


def test_what_a_flow_says_cannot_break_a_file(tmp_path):
    """Reasons of failures hold whatever an exception said: markup, colours, line ends."""
    reason = "]]> <b>\x1b[31m|no|\x00\ufffe &amp; `code`\nsecond"
    broken = BASE[0].model_copy(update={"status": "failed", "reason": reason})
    sides = [BASE[0]], [broken]
    assert set(check_junit(exported(tmp_path, "--junit", *sides)).values()) == {"failure"}
    lines = exported(tmp_path, "--markdown", *sides).splitlines()
    (row,) = [line for line in lines if "failed:" in line]
    assert row.replace("\\|", "").count("|") == 7
    assert "<b>" not in row
