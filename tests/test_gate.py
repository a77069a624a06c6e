"""The gate: injected regressions of every kind are found, and harmless reruns pass."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nflows.transforms import CompositeTransform
from scipy import stats
from torch import nn
from typer.testing import CliRunner

import flows
from benchmarks import store
from benchmarks.calls import measured
from benchmarks.case import Case, Seeds
from benchmarks.cli import app
from benchmarks.gate import compare, quality, rendering, sides, times
from benchmarks.gate.baseline import renew
from benchmarks.gate.comparison import LEVEL, Verdict
from benchmarks.gate.sides import Entry
from benchmarks.holm import holm
from benchmarks.store import Record, Values
from flows.bijection import Bijection

cli = CliRunner()
HERE = {"cpu": "a processor", "cores": 2, "system": "Linux", "threads": 1}
SIMULATED = 200
Metrics = dict[str, float | list[float]]
Factory = Callable[[int], Bijection | flows.Flow]


def record(case: Case, metrics: Metrics, **fields) -> Record:
    """A record of a case as a run would have written it."""
    values = {name: Values.of(name, value) for name, value in metrics.items()}
    about = {"versions": {"torch": "2.13.0"}, "machine": HERE, "status": "done", **fields}
    return Record(case=case, key=case.key, fingerprint="f", metrics=values, **about)


def cost(dim: int = 2, flops: float = 100, **fields) -> Record:
    """A record of counts and times."""
    case = {"threads": 1, "settings": {"seconds": 1.0}, **fields.pop("case", {})}
    metrics = {"log_prob_flops": flops, "log_prob_seconds": [0.2] * 9, "reference_seconds": [0.1]}
    return record(Case(study="cost", flow="realnvp", dim=dim, batch=4, **case), metrics, **fields)


def density(seed: int, test_ll: float, se: float = 0.01, flow: str = "maf") -> Record:
    """A record of a trained flow."""
    case = Case(study="density", flow=flow, dim=6, batch=4, seeds=Seeds.of(seed), dataset="magic")
    return record(case, {"test_ll": test_ll, "test_ll_se": se})


def folder(path: Path, *records: Record) -> Path:
    """A results folder of these records."""
    for each in records:
        store.write(path, each)
    return path


@pytest.fixture
def gate(tmp_path) -> Callable[..., Verdict]:
    """Compares two lists of records; the folders are base and new, then base2 and new2, ..."""
    made = itertools.count(1)

    def judge(base: list[Record], new: list[Record], **options) -> Verdict:
        number = next(made)
        suffix = "" if number == 1 else str(number)
        sides = folder(tmp_path / f"base{suffix}", *base), folder(tmp_path / f"new{suffix}", *new)
        return compare(*sides, **options)

    return judge


def outcomes(verdict: Verdict) -> dict[str, str]:
    """What became of each metric that did not stay, or "case"."""
    told = [c for c in verdict.comparisons if c.outcome not in ("stayed", "incomparable")]
    return {found.metric or "case": found.outcome for found in told}


# exact counts, of calls that are really counted


class Detour(nn.Module):
    """A layer that multiplies by a matrix once more than it has to."""

    def __init__(self, layer: nn.Module, dim: int) -> None:
        super().__init__()
        self.layer, self.mix = layer, nn.Linear(dim, dim)

    def forward(self, x, context=None):
        return self.layer(x + 0 * self.mix(x), context)

    def inverse(self, z, context=None):
        return self.layer.inverse(z, context)


def solved(dim: int, *, steps: int = 4, hidden: int = 8) -> flows.Flow:
    """A CNF on so many Euler steps."""
    solver = {"method": "euler", "step_size": 1 / steps, "gradient": "backprop"}
    return flows.build("cnf", dim, hidden=hidden, depth=1, solver=solver)


def coupled(dim: int, *, detour: bool = False) -> CompositeTransform:
    """Two couplings, one of them with a detour."""
    layers = [flows.build("realnvp", dim, hidden=8, layers=1).transform for _ in range(2)]
    return CompositeTransform([Detour(layers[0], dim) if detour else layers[0], layers[1]])


@pytest.fixture
def counted(monkeypatch) -> Callable[[Factory], Record]:
    """Counts the calls of a flow that is registered as "subject"."""
    flows.names()
    case = Case(study="cost", flow="subject", dim=3, batch=4, settings={"seconds": 0.0})

    def count(factory: Factory) -> Record:
        monkeypatch.setattr(flows.members, "_members", dict(flows.members._members))
        flows.register("subject", uses=())(lambda dim: factory(dim))
        ((_, result),) = measured([case])
        assert not result.failure
        return record(case, dict(result.metrics))

    return count


REGRESSIONS: dict[str, tuple[Factory, Factory, set[str]]] = {
    "the same again": (solved, solved, set()),
    "a slower layer": (
        coupled, lambda dim: coupled(dim, detour=True), {"log_prob_flops", "step_flops"},
    ),
    "one more evaluation of f": (
        solved, lambda dim: solved(dim, steps=5), {"log_prob_nfe", "step_nfe", "log_prob_flops"},
    ),
    "a wider net": (
        solved, lambda dim: solved(dim, hidden=9), {"parameters", "log_prob_flops", "step_flops"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_counts_of_a_changed_flow_fail(kind, counted, gate):
    before, after, expected = REGRESSIONS[kind]
    verdict = gate([counted(before)], [counted(after)])
    worse = {c.metric for c in verdict.failures}
    assert expected <= worse
    assert bool(worse) == bool(expected)
    assert {c.kind for c in verdict.failures} <= {"exact"}


def test_counts_do_not_depend_on_threads_machine_or_time_spent(gate):
    elsewhere = {"threads": 2, "settings": {"seconds": 60.0}}
    machine = {**HERE, "cpu": "another"}
    verdict = gate([cost()], [cost(case=elsewhere, machine=machine)])
    assert not verdict.failures
    (time,) = (c for c in verdict.comparisons if c.kind == "time")
    assert (time.outcome, "another" in time.note) == ("incomparable", True)
    assert "log_prob_flops" in outcomes(gate([cost()], [cost(flops=101, case=elsewhere)]))


def test_a_side_with_several_numbers_of_threads_is_compared_by_them(gate):
    both = [cost(flops=n, case={"threads": n}) for n in (1, 2)]
    assert not gate(both, both).failures


def test_a_better_count_fails_until_the_baseline_is_renewed(gate, tmp_path):
    verdict = gate([cost()], [cost(flops=99)])
    assert outcomes(verdict) == {"log_prob_flops": "better"}
    assert "renew the baseline" in verdict.failures[0].note
    renew(tmp_path / "new", tmp_path / "base")
    assert not compare(tmp_path / "base", tmp_path / "new").failures


def test_evaluations_of_an_adaptive_solver_are_no_exact_counts(gate):
    def solve(method: str, nfe: float) -> Record:
        options = {"solver": {"method": method}}
        case = Case(study="cost", flow="cnf", dim=2, batch=4, options=options)
        return record(case, {"log_prob_nfe": nfe, "parameters": 5.0, "rate_flops": 2 * nfe})

    assert outcomes(gate([solve("rk4", 20)], [solve("rk4", 26)]))["log_prob_nfe"] == "worse"
    verdict = gate([solve("dopri5", 20)], [solve("dopri5", 26)])
    assert outcomes(verdict) == {
        "log_prob_nfe": "unjudged",
        "rate_flops": "worse",  # one evaluation costs the same whatever the solver does
    }


# cases


@pytest.mark.parametrize(
    ("new", "fails", "expected"),
    [
        ([cost(2), cost(3)], False, []),
        ([cost(2), cost(3), cost(4)], False, ["appeared"]),
        ([cost(2)], True, ["vanished"]),
        ([cost(2), cost(4)], True, ["vanished", "appeared"]),  # renamed
        ([cost(2), cost(3, status="failed", reason="diverged")], True, ["failed"]),
        ([cost(2), cost(3), cost(4, status="timeout")], True, ["failed"]),
    ],
)
def test_cases_that_vanish_or_fail_fail_the_gate(gate, new, fails, expected):
    verdict = gate([cost(2), cost(3)], new)
    assert [c.outcome for c in verdict.told] == expected
    assert bool(verdict.failures) == fails


def test_a_case_may_vanish_where_that_is_allowed(gate):
    for pattern in ("cost realnvp D=3", "*D=3"):
        verdict = gate([cost(2), cost(3)], [cost(2)], allow=[pattern])
        assert not verdict.failures
        assert outcomes(verdict) == {"case": "vanished"}


def test_what_failed_before_does_not_fail_the_gate_again(gate):
    broken = cost(3, status="failed")
    assert not gate([cost(2), broken], [cost(2), broken]).failures


def test_a_measurement_that_a_case_lost_has_vanished(gate):
    less = cost()
    del less.metrics["log_prob_flops"]
    assert outcomes(gate([cost()], [less])) == {"log_prob_flops": "vanished"}


def test_records_that_are_no_longer_planned_have_vanished(gate, tmp_path):
    """A case that was taken out of a suite leaves its record in the folder."""
    plan = {"name": "ci", "cases": [{"key": cost(2).key, "study": "cost"}]}
    folder(tmp_path / "new", cost(2), cost(3))
    (tmp_path / "new" / "suite.json").write_text(json.dumps(plan))
    assert outcomes(gate([cost(2), cost(3)], [])) == {"case": "vanished"}


# qualities


def entry(group: str, seed: int, metrics: Metrics, place: str = "here") -> Entry:
    """A case as the judges see it."""
    values = {name: Values.of(name, value) for name, value in metrics.items()}
    return Entry(f"{group} seed {seed}", group, str(seed), "done", "", values, place)


def test_a_worse_likelihood_fails_and_one_within_the_error_does_not(gate):
    base = [density(seed, -5.0 + 0.01 * seed) for seed in range(4)]
    moved = [density(seed, -5.3 + 0.012 * seed) for seed in range(4)]
    verdict = gate(base, moved)
    assert outcomes(verdict) == {"test_ll": "worse"}
    assert verdict.failures[0].change.startswith("−0.29")
    noisy = [density(seed, -5.0 + 0.01 * seed + 0.05 * (-1) ** seed) for seed in range(4)]
    verdict = gate(base, noisy)
    assert not outcomes(verdict)
    assert "±" in verdict.unresolved[0].change


def test_one_seed_is_judged_by_the_error_over_the_test_set(gate):
    assert outcomes(gate([density(0, -5.0)], [density(0, -5.1)])) == {"test_ll": "worse"}
    assert outcomes(gate([density(0, -5.0)], [density(0, -4.9)])) == {"test_ll": "better"}
    assert not outcomes(gate([density(0, -5.0)], [density(0, -5.02)]))
    for worse in (-6.0, float("nan")):
        unknown = [density(0, value, float("nan")) for value in (-5.0, worse)]
        verdict = gate([unknown[0]], [unknown[1]])
        assert outcomes(verdict) == {"test_ll": "unjudged"}
        assert "NaN" not in rendering.as_json(verdict)


def test_seeds_are_paired_where_both_sides_have_the_same_ones():
    old = {str(seed): value for seed, value in enumerate([-5.0, -7.0, -9.0])}
    new = {seed: value - 0.1 + 0.001 * int(seed) for seed, value in old.items()}
    paired = quality.difference(old, new, (0.0, 0.0))
    moved = [new[seed] - old[seed] for seed in old]
    assert paired.p == pytest.approx(stats.ttest_1samp(moved, 0).pvalue)
    other = {f"{seed}'": value for seed, value in new.items()}
    apart = quality.difference(old, other, (0.0, 0.0))
    assert apart.value == pytest.approx(paired.value)
    assert apart.p > 0.5 > 0.001 > paired.p


def test_counts_that_all_move_by_one_step_are_no_certainty():
    old, new = ({str(seed): n for seed in range(3)} for n in (14.0, 20.0))
    assert quality.difference(old, new, (0.0, 0.0)).p > LEVEL


def test_holm_is_the_closed_test_of_bonferroni():
    """A hypothesis is rejected if every set that it is in has a p-value below level / size."""
    generator = np.random.default_rng(0)
    for _ in range(50):
        p = generator.uniform(size=5) ** 3
        for index, adjusted in enumerate(holm(p)):
            sets = [s for s in range(1, 32) if s >> index & 1]
            members = [[i for i in range(5) if s >> i & 1] for s in sets]
            worst = max(min(1.0, len(m) * min(p[i] for i in m)) for m in members)
            assert adjusted == pytest.approx(worst)


def simulated_qualities(generator, shift: float, groups: int = 8, seeds: int = 4):
    """The outcomes for trained flows whose seeds scatter by 0.02 nats on both sides."""
    sides: list[list[Entry]] = [[], []]
    for group in range(groups):
        for seed in range(seeds):
            for side, mean in zip(sides, (0.0, shift if group == 0 else 0.0), strict=True):
                value = mean + 0.02 * generator.standard_normal()
                side.append(entry(f"flow {group}", seed, {"test_ll": value}))
    return list(quality.judge(*sides))


def test_noise_of_seeds_raises_few_alarms_and_a_worse_likelihood_one():
    generator = np.random.default_rng(1)
    found = [simulated_qualities(generator, 0.0) for _ in range(SIMULATED)]
    assert sum(any(c.fails for c in run) for run in found) <= 0.05 * SIMULATED
    found = [simulated_qualities(generator, -1.0) for _ in range(20)]
    assert sum(run[0].fails for run in found) >= 18


# times


def simulated_times(generator, slowdown: float, works: int = 8, samples: int = 20):
    """The outcomes for works of 4 % noise, on a machine whose speed differs from run to run."""
    pairs = []
    speeds = generator.uniform(0.5, 2, size=2)
    for work in range(works):
        sides = []
        for speed, factor in zip(speeds, (1.0, slowdown if work == 0 else 1.0), strict=True):
            noise = np.exp(0.04 * generator.standard_normal((2, samples)))
            noise[:, 0] *= 3  # once, something else took the processor
            seconds = {"log_prob_seconds": speed * factor, "reference_seconds": 0.3 * speed}
            values = {n: list(s * noise[i]) for i, (n, s) in enumerate(seconds.items())}
            sides.append(entry(f"work {work}", 0, values))
        pairs.append(tuple(sides))
    return list(times.judge(pairs, 1.1))


def test_noise_of_times_raises_few_alarms_and_a_slower_layer_one():
    generator = np.random.default_rng(2)
    found = [simulated_times(generator, 1.0) for _ in range(SIMULATED)]
    assert sum(any(c.fails for c in run) for run in found) <= 0.05 * SIMULATED
    found = [simulated_times(generator, 1.2) for _ in range(50)]
    assert sum(run[0].fails for run in found) >= 48
    found = [simulated_times(generator, 1 / 1.2) for _ in range(50)]
    assert sum(run[0].outcome == "better" for run in found) >= 48
    assert not any(c.fails for run in found for c in run)


def timed(
    seconds: list[float], *, place: str = "here", reference: float | list[float] = 1.0
) -> Entry:
    return entry("work", 0, {"log_prob_seconds": seconds, "reference_seconds": reference}, place)


@pytest.mark.parametrize(
    ("new", "outcome", "said"),
    [
        (timed(list(np.linspace(1.25, 1.3, 9))), "worse", "× 1.259"),
        (timed(list(np.linspace(1.06, 1.07, 9))), "stayed", "× 1.052"),  # surely, but by little
        (timed([1.0, 1.0, 1.0, 1.0, 1.3, 1.3, 1.3, 1.3, 1.3]), "stayed", "× 1.284"),  # by chance
        (timed(list(np.linspace(2.0, 2.1, 9)), reference=2.0), "stayed", "× 1.012"),  # slow machine
        (timed(list(np.linspace(1.25, 1.3, 9)), place="there"), "incomparable", "there"),
        (timed(list(np.linspace(1.25, 1.3, 9)), place=""), "incomparable", "not known"),
        (timed([2.0]), "incomparable", "too few samples (9 against 1)"),
        (timed([2.0] * 9, reference=[1.0, 1.0, 1.3]), "incomparable", "too noisy"),
    ],
)
def test_a_time_is_worse_by_a_factor_and_a_rank_test_on_one_machine(new, outcome, said):
    old = timed(list(np.linspace(1.0, 1.025, 9)))
    if new.metrics["log_prob_seconds"].values[0] == 1.0:
        old = timed([0.98, 0.99, 1.0, 1.01, 1.0125, 1.1, 1.29, 1.31, 1.32])
    (found,) = times.judge([(old, new)], 1.1)
    assert found.outcome == outcome
    assert said in found.change + found.note
    assert found.fails == (outcome == "worse")


def test_a_rate_is_worse_where_it_falls():
    rates = [list(np.linspace(100, 101, 9)), list(np.linspace(80, 81, 9))]
    old, new = (entry("work", 0, {"sample_rate": r, "reference_seconds": 1.0}) for r in rates)
    (found,) = times.judge([(old, new)], 1.1)
    assert (found.outcome, found.change) == ("worse", "× 1.248")


# the command


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
    records, said = OTHER[what]
    base, new = folder(tmp_path / "base", cost()), folder(tmp_path / "new", *records)
    result = cli.invoke(app, ["compare", str(base), str(new)])
    assert (result.exit_code, said in result.stderr) == (2, True)


def test_a_factor_below_one_and_a_file_that_cannot_be_written_are_wrong_usage(tmp_path):
    base = str(folder(tmp_path / "base", cost()))
    for option, said in (("--factor=0.9", "0.9"), (f"--json={tmp_path}", "directory")):
        result = cli.invoke(app, ["compare", base, base, option])
        assert result.exit_code == 2
        assert said in result.stderr


def test_a_renewed_baseline_equals_its_source_and_keeps_no_times(tmp_path):
    broken = cost(4, status="failed")
    source, target = folder(tmp_path / "ci", cost(2), cost(3), broken), tmp_path / "base"
    result = cli.invoke(app, ["baseline", "update", str(source), "--target", str(target)])
    assert (result.exit_code, "3 records" in result.stdout) == (0, True)
    assert not compare(target, source).failures
    kept = store.read(target).values()
    assert {name for each in kept for name in each.metrics} == {"log_prob_flops"}


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
    (pin,) = re.findall(r"^deps = torch==(\d+\.\d+)\.\*$", (root / "tox.ini").read_text(), re.M)
    assert sides.read(root / "results" / "baseline").torch == {pin}
