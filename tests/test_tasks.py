"""Tasks of a plan: shards that every host finds alike, balance, and the time that is expected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.execution import suite
from benchmarks.execution.plan import Shard, budget, dealt, tasks, wall_seconds

budgets = st.lists(st.floats(0.01, 1000), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def cases():
    """The cases of a suite of every study."""
    return suite.read("smoke").cases()


@given(budgets, st.integers(1, 12))
def test_dealing_loses_nothing_and_is_near_the_lower_bound(given_budgets, count):
    hands = dealt(given_budgets, count)
    assert sorted(index for hand in hands for index in hand) == list(range(len(given_budgets)))
    longest = max(sum(given_budgets[i] for i in hand) for hand in hands)
    bound = max(sum(given_budgets) / count, *given_budgets)
    assert longest <= (4 / 3) * bound * (1 + 1e-9) + max(given_budgets) / 3


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_a_partition_that_keeps_blocks_whole(cases, count):
    parts = [Shard(number, count).part(cases) for number in range(1, count + 1)]
    assert sorted(c.key for part in parts for c in part) == sorted(c.key for c in cases)
    place = {case.key: number for number, part in enumerate(parts) for case in part}
    for task in tasks(cases):
        assert len({place[case.key] for case in task.cases}) == 1
    assert [c.key for c in parts[0]] == [c.key for c in cases if place[c.key] == 0]


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "a/b", "1/2/3", "-1/2", "1.5/2"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ValueError, match="K/N"):
        Shard.of(text)


def test_more_jobs_shorten_what_runs_side_by_side_alone(cases):
    total = sum(budget(case) for case in cases)
    walls = [wall_seconds(cases, jobs) for jobs in (1, 2, 4, 1000)]
    assert walls[0] == pytest.approx(total)
    assert walls == sorted(walls, reverse=True)
    alone = sum(task.budget for task in tasks(cases) if task.alone)
    assert walls[-1] > alone > 0
