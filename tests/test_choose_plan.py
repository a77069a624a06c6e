"""The chooser's plan: all within its seconds, and what is left out where they become too few."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from unittest import mock

import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st

from benchmarks.core.case import Case
from benchmarks.core.study import Skipped, registry
from benchmarks.studies.choose import plan
from benchmarks.studies.choose.plan import SPACES, Deadline, Plan, entrants
from benchmarks.training.schedules import Clock, share
from benchmarks.training.settings import Training


@given(
    seconds=st.floats(20, 20_000),
    jobs=st.integers(1, 64),
    families=st.integers(1, 12),
    slow=st.floats(1, 8),
)
def test_a_plan_fits_into_its_seconds(seconds, jobs, families, slow):
    try:
        own = Plan.of(seconds, jobs, families, slow)
    except ValueError:
        assume(seconds < 400)
        reject()
    assert min(families, plan.FEWEST) <= own.families <= families
    trials = math.ceil(own.families * own.configurations / jobs) * (own.trial + plan.TRIAL * slow)
    finals = own.wall(jobs, slow)
    total = plan.STARTING * slow + trials + finals + plan.reserve(slow)
    assert total <= seconds + 1e-6
    assert own.trial >= plan.SHORTEST[0]
    assert own.final >= plan.SHORTEST[1]


def test_three_minutes_of_two_cores_take_five_families_on_a_busy_machine_too():
    for slow in (1.0, 4.0):
        assert Plan.of(170, 2, len(SPACES), slow).families >= 5


def test_flows_of_ones_own_come_first_and_names_alone() -> None:
    assert [e.flow for e in entrants(3, own=["nice"])] == ["nice", *SPACES]
    assert [e.flow for e in entrants(3, ["maf"], own=["nice"])] == ["maf"]
    with pytest.raises(ValueError, match="takes no context"):
        entrants(3, width=2, own=["ot_flow"])


@given(st.integers(50, 10**7), st.integers(0, 1000))
def test_a_batch_grows_with_the_rows_within_its_bounds(rows: int, more: int) -> None:
    own = plan.batch(rows)
    assert plan.BATCHES[0] <= own <= min(plan.batch(rows + more), plan.BATCHES[1])
    assert own in plan.BATCHES or rows / own == pytest.approx(plan.EPOCH, rel=0.42)  # √2


@given(
    rest=st.floats(1, 1000),
    jobs=st.integers(1, 8),
    scores=st.dictionaries(st.text(max_size=3), st.floats(-9, 9), min_size=1, max_size=9),
    slow=st.floats(1, 8),
)
def test_what_is_left_is_shared_equally_by_the_best(rest, jobs, scores, slow):
    shares = Deadline(0.0, jobs, slow).shares(rest, scores)
    (seconds,) = set(shares.values())
    kept = min(scores[label] for label in shares)
    assert all(scores[label] <= kept for label in scores.keys() - shares.keys())
    beside = plan.FINAL * slow
    cost = seconds * plan.CONTINUATION + beside
    assert math.ceil(len(shares) / jobs) * cost <= rest + 1e-6 or len(shares) == 1
    if len(shares) < len(scores):
        more = plan.final_seconds(rest, jobs, len(shares) + 1, beside)
        assert more < plan.SHORTEST[1]


def test_trials_that_are_late_leave_out_all_but_the_first_of_a_family():
    study, case = registry["choose"], Case(study="choose", flow="maf", dim=2, batch=1)
    trials = [case.changed(settings={"stage": "trial", "configuration": n}) for n in range(3)]
    kept = {}
    for ends in (1000.0, 20.0):
        study.deadline = Deadline(time.monotonic() + ends, 2, finals=60.0)
        kept[ends] = []
        for trial in trials:
            with suppress(Skipped):
                study.admit(trial)
                kept[ends].append(trial.settings["configuration"])
    study.deadline = None
    assert kept == {1000.0: [0, 1, 2], 20.0: [0]}


@given(passed=st.floats(0.001, 0.999), done=st.integers(0, 10_000))
def test_the_schedule_of_a_clock_follows_the_seconds(passed, done):
    clock = Clock(1000.0, time.monotonic() - 1000 * passed)
    updates = clock.updates(done)
    assert done < updates
    assert updates == pytest.approx((done + 1) / passed, rel=0.01, abs=1)
    if done > 1000:
        rate = share(Training(schedule="wsd"), done, updates, 0)
        assert (rate == 1) == (passed < 0.8) or abs(passed - 0.8) < 0.01
    assert Clock(1.0, time.monotonic() - 2).updates(done) == max(done, 1)


def test_the_validations_of_a_clock_come_once_each_and_none_after_the_other_if_they_are_late():
    clock = Clock(1000.0)
    assert [clock.validates(8), clock.validates(8)] == [True, False]
    clock.begun -= 600
    assert [clock.validates(8), clock.validates(8)] == [True, False]
    clock.begun -= 60
    assert clock.validates(8)


@given(best=st.floats(0.001, 0.999), waited=st.floats(0.001, 0.999), decay=st.floats(0.05, 0.95))
def test_a_clock_falls_as_that_of_a_shorter_training_and_never_ends_later(best, waited, decay):
    passed = 1000 * (best + (1 - best) * waited)
    with mock.patch.object(Clock, "passed", mock.PropertyMock(return_value=passed)):
        clock = Clock(1000.0, begun=0.0, best=1000 * best)
        fell = clock.fall(decay)
    assert fell == (passed < (1 - decay) * 1000)
    since = passed - clock.begun  # on the clock that it has become
    with mock.patch.object(Clock, "passed", mock.PropertyMock(return_value=since)):
        if fell:
            assert clock.share == pytest.approx(1 - decay)
            assert clock.seconds - since <= 1000 - passed + 1e-6
            assert clock.seconds - since <= 1000 * best * decay / (1 - decay) + 1e-6
            assert not clock.validates(10)
            assert not clock.fall(decay)


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_families_can_be_built_at_every_dimension(dim):
    names = [entrant.flow for entrant in entrants(dim)]
    assert set(names) <= set(SPACES)
    assert len(names) >= (1 if dim == 1 else plan.FEWEST)
    (other,) = entrants(dim, ["dense"])
    assert other.space.options == {}
    with pytest.raises(ValueError, match="nosuch"):
        entrants(dim, ["nosuch"])
