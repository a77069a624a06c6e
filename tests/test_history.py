"""The history: snapshots of results, the file that is merged, trends and their steps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.core.metrics import METRICS
from benchmarks.gate.comparison import LEVEL
from benchmarks.history import file
from benchmarks.history.snapshot import Figures, Quality, Snapshot, of_folder
from benchmarks.history.steps import FACTOR, Step, steps
from benchmarks.history.trends import trends
from flows.registry import Declared
from gate_records import cost, density, folder
from repositories import commit, git

START = datetime(2026, 1, 1, tzinfo=UTC)
COUNT, TIME = "log_prob_flops", "log_prob_seconds"
QUIET = {"other_cores": 0.0}


def snapshot(place: int, **figures: Any) -> Snapshot:
    """A snapshot of one case at the commit of a place."""
    case = Figures(key="k", label="cost maf D=2", **figures)
    return Snapshot(
        commit=f"{place:08x}{0:032}",
        date=START + timedelta(hours=place),
        torch="2.13",
        place="a machine, torch 2.13",
        cases=(case,),
    )


def found(snapshots: Sequence[Snapshot]) -> list[Step]:
    """The steps of snapshots in any order."""
    mixed = random.Random(0).sample(snapshots, len(snapshots))
    history = file.ordered(mixed, Path("/"))
    return steps(history, trends(history.snapshots))


def places(changes: Sequence[Step]) -> list[int]:
    """The places of the commits at which steps were found."""
    return [int(change.after.snapshot.name, 16) for change in changes]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_every_change_of_a_count_is_a_step(counts: list[int]) -> None:
    changes = found([snapshot(i, exact={COUNT: n}) for i, n in enumerate(counts)])
    assert places(changes) == [i for i in range(1, len(counts)) if counts[i] != counts[i - 1]]
    assert [(c.old, c.new) for c in changes] == [
        (counts[i - 1], counts[i]) for i in places(changes)
    ]
    assert all(change.better == (change.new < change.old) for change in changes)


@given(
    counts=st.lists(st.integers(0, 3), min_size=2, max_size=12),
    versions=st.lists(st.tuples(st.integers(1, 2), st.integers(1, 2)), min_size=12, max_size=12),
)
def test_a_raised_number_starts_a_line_instead_of_a_step(
    counts: list[int], versions: list[tuple[int, int]]
) -> None:
    """A version that of counts, a pace too that of times; steps lie within one version alone."""
    snapshots = [
        snapshot(i, versions={"flow maf": Declared(*versions[i])}, exact={COUNT: n},
                 times={TIME: 1.0})
        for i, n in enumerate(counts)
    ]  # fmt: skip
    count, time = trends(snapshots)
    assert len(count.stretches) == len({versions[i][0] for i in range(len(counts))})
    assert len(time.stretches) == len({versions[i] for i in range(len(counts))})
    for change in found(snapshots):
        ends = [int(point.snapshot.name, 16) for point in (change.before, change.after)]
        assert versions[ends[0]][0] == versions[ends[1]][0]


def test_another_file_torch_or_machine_starts_a_line_too() -> None:
    base = snapshot(0, exact={COUNT: 100}, times={TIME: 1.0}, files={"file a.py": "0"})
    changes = [
        snapshot(1, exact={COUNT: 99}, times={TIME: 2.0}, files={"file a.py": "1"}),
        snapshot(1, exact={COUNT: 99}, times={TIME: 2.0}, files={"file a.py": "0"}).model_copy(
            update={"torch": "2.14", "place": "a machine, torch 2.14"}
        ),
    ]
    for change in changes:
        assert [len(t.cuts) for t in trends([base, change])] == [1, 1]
        assert found([base, change]) == []
    elsewhere = changes[0].model_copy(update={"cases": base.cases, "place": "another"})
    assert [len(trend.cuts) for trend in trends([base, elsewhere])] == [0, 1]


def quality(place: int, value: float, error: float | None = 0.01, **seeds: float) -> Snapshot:
    """A snapshot of a test log-likelihood, of a single seed or of several."""
    values = {name: Quality(v) for name, v in seeds.items()} or {"0": Quality(value, error)}
    return snapshot(place, quality={"test_ll": values})


def test_a_quality_steps_where_its_errors_do_not_explain_it() -> None:
    noise = random.Random(1)
    flat = [quality(i, -2 + noise.gauss(0, 0.01)) for i in range(30)]
    assert found(flat) == []
    step = [quality(i, -2 - 0.2 * (i >= 20) + noise.gauss(0, 0.01)) for i in range(30)]
    assert places(found(step)) == [20]
    assert not found(step)[0].better
    assert found(step)[0].change.startswith("−0.")
    drift = [quality(i, -2 - 0.01 * i) for i in range(30)]  # no two neighbours differ
    assert len(found(drift)) in (2, 3, 4, 5)


def test_a_quality_of_no_known_error_is_tested_by_ranks() -> None:
    for length, expected in ((20, [10]), (2, [])):
        values = [quality(i, -2.0 - (2 * i >= length), None) for i in range(length)]
        assert places(found(values)) == expected


def test_alarms_among_qualities_are_at_the_level() -> None:
    """Of thirty commits without a step, many times over; within three standard errors."""
    noise, number = random.Random(2), 40
    histories = ([quality(i, noise.gauss(0, 0.01)) for i in range(30)] for _ in range(number))
    alarms = sum(bool(found(snapshots)) for snapshots in histories)
    assert alarms <= number * LEVEL + 3 * (number * LEVEL * (1 - LEVEL)) ** 0.5


def times(values: Sequence[float], caution: str = "") -> list[Snapshot]:
    """A snapshot for each ratio of a time to the reference workload."""
    return [snapshot(i, times={TIME: v}, caution=caution) for i, v in enumerate(values)]


def test_times_step_beyond_a_factor_where_they_may_be_quoted() -> None:
    noise = random.Random(3)
    flat = [noise.lognormvariate(0, 0.05) for _ in range(30)]
    slower = [value * (1.3 if i >= 15 else 1) for i, value in enumerate(flat)]
    assert found(times(flat)) == []
    (change,) = found(times(slower))
    assert abs(places([change])[0] - 15) <= 1
    assert not change.better
    assert found(times(slower, "other work ran on the machine")) == []
    for change, expected in ((0.9, []), (1.1, [15])):  # of the least that is shown
        steady = [FACTOR ** (change * (i >= 15)) for i in range(30)]
        assert places(found(times(steady))) == expected


def test_a_quiet_time_replaces_a_doubtful_one_and_stays() -> None:
    values = [
        snapshot(0, times={TIME: 1.0}),
        snapshot(0, times={TIME: 2.0}, caution="other work"),
        snapshot(1, times={TIME: 3.0}, caution="other work"),
        snapshot(1, times={TIME: 4.0}),
    ]
    (trend,) = trends(values)
    assert [point.value for point in trend.points] == [1.0, 4.0]


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=4))
def test_neither_order_nor_repetition_of_lines_matters(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], again: list[int]
) -> None:
    snapshots = [snapshot(i, exact={COUNT: i}) for i in range(6)]
    path = tmp_path_factory.mktemp("history") / "h.jsonl"
    path.write_text("".join(f"{snapshots[i].line()}\n" for i in (*order, *again)))
    assert file.read(path, path.parent).snapshots == snapshots
    assert file.append(path, [s.line() for s in snapshots]) == []


def test_git_merges_the_lines_of_two_branches_without_a_conflict(tmp_path: Path) -> None:
    path = tmp_path / "results" / "history" / "history.jsonl"
    root = Path(__file__).parent.parent
    (tmp_path / ".gitattributes").write_text((root / ".gitattributes").read_text())
    lines = [snapshot(i, exact={COUNT: i}).line() for i in range(4)]
    file.append(path, lines[:1])
    commit(tmp_path, "one")
    git(tmp_path, "checkout", "-qb", "other")
    file.append(path, [lines[1], lines[3]])
    commit(tmp_path, "other")
    git(tmp_path, "checkout", "-q", "main")
    file.append(path, [lines[2], lines[3]])
    commit(tmp_path, "main")
    git(tmp_path, "merge", "-q", "-m", "both", "other")
    assert [s.line() for s in file.read(path, tmp_path).snapshots] == lines


def test_commits_are_in_the_order_of_git_whatever_their_dates(tmp_path: Path) -> None:
    commits = [commit(tmp_path, str(i)) for i in range(4)]
    dated = [
        snapshot(9 - i, exact={COUNT: i}).model_copy(update={"commit": c})
        for i, c in enumerate(commits)
    ]
    history = file.ordered(dated[::-1], tmp_path)
    assert [s.commit for s in history.snapshots] == commits
    names = [step.name for step in steps(history, trends(history.snapshots))]
    assert names == [c[:8] for c in commits[1:]]
    apart = file.ordered([dated[0], dated[3]], tmp_path)
    assert steps(apart, trends(apart.snapshots))[0].name == f"{commits[0][:8]}..{commits[3][:8]}"


def test_a_folder_is_a_snapshot_at_the_commit_of_its_records(tmp_path: Path) -> None:
    name = commit(tmp_path, "first")
    about = {"commit": name[:12], "shared": QUIET}
    records = [
        cost(2, 100, **about),
        *(density(seed, -2.0 - seed).model_copy(update={"commit": name[:12]}) for seed in range(3)),
        cost(3, **about).model_copy(update={"status": "failed", "reason": "too wide"}),
    ]
    taken = of_folder(folder(tmp_path / "run", *records), tmp_path)
    assert (taken.commit, taken.subject, taken.dirty) == (name, "first", False)
    assert list(taken.failed.values()) == ["failed: too wide"]
    by_label = {figures.label.split()[0]: figures for figures in taken.cases}
    assert by_label["cost"].exact == {COUNT: 100}
    assert by_label["cost"].times == {TIME: pytest.approx(2.0)}
    assert by_label["cost"].caution == "no reference workload was timed beside it"  # once alone
    seeds = by_label["density"].quality["test_ll"].values()
    assert sorted(seed.value for seed in seeds) == [-4.0, -3.0, -2.0]
    assert {metric for f in taken.cases for metric in (*f.exact, *f.quality, *f.times)} <= {
        *METRICS
    }
    assert Snapshot.model_validate_json(taken.line()) == taken
