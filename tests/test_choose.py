"""The chooser: its plan, trainings by the clock, choices by validation, one answer from records."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
import time
from contextlib import suppress
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, reject
from hypothesis import strategies as st

import flows
from benchmarks import datasets
from benchmarks.cli.choose import earlier, suite_of
from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.frame import load
from benchmarks.core.study import Skipped, registry
from benchmarks.datasets.tables import admit
from benchmarks.execution.run import Asked, run
from benchmarks.execution.suite import Suite
from benchmarks.studies.choose import plan
from benchmarks.studies.choose.plan import SPACES, Deadline, Plan, entrants
from benchmarks.studies.choose.ranking import choices
from benchmarks.training import schedules
from benchmarks.training.loop import train
from benchmarks.training.schedules import Clock, share
from benchmarks.training.settings import Training
from runs import SCORING, Silent


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory, worker):
    """A results folder of two families and two baselines on a table with a column of steps."""
    root = tmp_path_factory.mktemp("choose")
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(2, 5, (600, 2)), columns=["mass", "flux"])
    table["angle"] = rng.integers(0, 9, 600) + 0.25
    table.to_csv(root / "my.csv", index=False)
    name = f"{root / 'my.csv'}:columns=angle,mass"
    study = {
        "study": "choose",
        "datasets": [name],
        "flows": ["realnvp", {"flow": "nice", "space": {"preprocessing": ["radial"]}}],
        "baselines": ["gaussian"],
        "configurations": 2,
        "seconds": 0.1,
        "final_seconds": 0.2,
        "sizes": {"hidden": 8, "layers": 2},
        "batch": 32,
        "training": {"schedule": "wsd", "validations": 3, "validation_rows": 50},
        "scoring": {**SCORING, "seconds": 0, "continuation": 0},
        "minutes": 2,
        "left_out": ["glow"],
    }
    with datasets.registry.temporary():
        suite = Suite(name="choose", threads=1, studies=(study,))
        after = run(suite, root / "out", Silent(), Asked(keep_weights=True), worker=worker)
        assert len(after.done) == len(after.cases) == 1 + 2 * 2 + 2
        yield root / "out"


def test_the_clock_ends_every_training(folder):
    frame = load(folder)
    trained = frame[frame["setting.stage"].notna()]
    assert (trained["train_updates"] > 0).all()
    assert (trained["train_process_seconds"] < trained["setting.seconds"] + 0.2).all()
    for _, row in trained.iterrows():
        validated = store.arrays(row, "validated")["validated"]
        assert validated[0] == 0
        assert validated[-1] == row["train_updates"]


def test_a_training_by_the_clock_ends_where_few_rows_are_learned_by_heart(monkeypatch):
    """It goes back to its best weights, from where the rate falls, and is the better for it."""
    rng = np.random.default_rng(0)
    rows = torch.as_tensor(rng.normal(size=(90, 3)))
    data = datasets.Dataset("few", 3, rows[:30], rows[30:60], rows[60:], "", "")
    scores, ends, updates = {}, {}, {}
    for patience in (0, 2):
        now = itertools.count(time.monotonic(), 0.01)  # a clock of its own: each look takes as long
        monkeypatch.setattr(schedules.time, "monotonic", lambda now=now: next(now))
        options = flows.members["nsf_coupling"].complete({"hidden": 32, "layers": 2})
        case = Case(
            study="choose", flow="nsf_coupling", dim=3, batch=30, updates=1, options=options
        )
        settings = Training(
            schedule="wsd", clock=10, validations=20, learning_rate=0.01, patience=patience
        )
        history = train(flows.build("nsf_coupling", 3, **options), data, case, settings)
        monkeypatch.undo()
        scores[patience], updates[patience] = max(history.validation_ll), history.updates
        ends[patience] = history.validation_ll[-1]
        assert history.stopped == ("patience" if patience else "")
    assert updates[2] < updates[0] / 2
    assert scores[2] >= scores[0]
    assert ends[2] > ends[0]


def test_finals_have_the_configuration_that_is_best_by_validation(folder):
    frame = load(folder)
    assert set(frame.dropna(subset=["test_ll"])["setting.stage"].fillna("")) == {"", "final"}
    for _, rows in frame[frame["updates"] > 0].groupby("flow"):
        trials = rows[rows["setting.stage"] == "trial"]
        (final,) = rows[rows["setting.stage"] == "final"]["setting.configuration"]
        assert final == trials.loc[trials["val_ll"].idxmax(), "setting.configuration"]


def test_the_ranking_is_by_validation_and_the_answer_names_its_first(folder):
    frame = load(folder)
    (choice,) = choices(frame)
    assert [ranked.name for ranked in choice.baselines] == ["gaussian"]
    vals = [ranked.val for ranked in choice.flows]
    assert vals == sorted(vals, reverse=True)
    first, second = choice.flows
    assert first.standing is None
    assert second.standing is not None
    assert choice.answer.startswith(first.name)
    warned = " ".join(choice.warnings)
    for word in ("'angle'", "9 values at spacing 1 from 0.25", "600 rows", "glow"):
        assert word in warned
    sd = pd.read_csv(folder.parent / "my.csv")[["angle", "mass"]].std().prod()
    assert first.raw == pytest.approx(first.test.value - math.log(sd), abs=0.05)
    low, high = first.interval
    assert low < first.test.value < high
    case = store.read_one(folder, first.row["key"]).case
    entry = json.loads(json.dumps(first.as_json(case, None), allow_nan=False))
    assert entry["flow"] == first.name
    assert entry["options"]["hidden"] == 8
    study = registry["choose"]
    assert [figure.name for figure in study.figures(frame)] == [f"choose-{choice.data}"]
    assert len(study.tables(frame)[0].frame) == 3


def test_a_family_without_a_final_is_named(folder):
    """A final that the end of the time cuts off has no record."""
    frame = load(folder)
    last = choices(frame)[0].flows[-1]
    (choice,) = choices(frame[frame["key"] != last.row["key"]])
    assert last.name not in choice.answer
    assert any(line.startswith("Cut off") and last.name in line for line in choice.warnings)
    better = frame[frame["key"] != last.row["key"]].copy()
    trials = (better["flow"] == last.name) & (better["setting.stage"] == "trial")
    better.loc[trials, "val_ll"] = better["val_ll"].max() + 1
    assert f"without {last.name}, cut off and better in trials" in choices(better)[0].answer


def test_kept_weights_are_the_density_of_raw_rows_that_was_scored(folder):
    (choice,) = choices(load(folder))
    for ranked in choice.flows:
        flow = flows.load(folder / "weights" / ranked.row["key"])
        data = datasets.load(choice.data)
        assert data.scaling is not None
        raw, _ = data.scaling.inverse(data.test)
        own = flow.log_prob(raw.to(flow.reference())).mean().item()
        assert own == pytest.approx(ranked.raw, abs=1e-3)


@pytest.mark.system
def test_the_command_answers_within_its_minutes(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "my.npz", X=rng.normal(size=(800, 3)), y=rng.integers(0, 2, 800))
    how = ["--flow", "nice", "--flow", "realnvp", "--json", "a.json"]
    for minutes in (0.75, 2, 6):  # a machine that is busy needs more, and the command says so
        begun = time.monotonic()
        command = [sys.executable, "-m", "benchmarks", "choose", "my.npz", *how]
        command += ["--minutes", str(minutes)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert time.monotonic() - begun < 60 * minutes
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "a.json").read_text())
    assert {entry["flow"] for entry in content["ranking"]} == {"nice", "realnvp"}
    assert content["target"] is None
    report = (tmp_path / "results" / "choose-my" / "report" / "report.md").read_text()
    assert content["ranking"][0]["flow"] in report.partition("What these records say")[2][:200]


def test_a_second_run_of_a_question_goes_on_with_the_plan_of_the_first(tmp_path, worker):
    """Its finals get the seconds of those that there are; another question is a plan of its own."""
    rng = np.random.default_rng(0)
    pd.DataFrame(rng.normal(2, 5, (300, 2)), columns=["mass", "flux"]).to_csv(tmp_path / "my.csv")
    name, out = str(tmp_path / "my.csv:columns=mass,flux"), tmp_path / "out"
    listed = entrants(2, ["realnvp", "nice"])
    plan = Plan(families=2, configurations=1, places=1, trial=0.1, final=0.3)
    with datasets.registry.temporary():
        admit(name)
        assert earlier(out, name, 1.5, listed) is None
        suite = suite_of(name, 1.5, plan, listed)
        run(suite, out, Silent(), worker=worker)
        before = earlier(out, name, 1.5, listed)
        assert before is not None
        assert (before.plan, before.seconds) == (plan, plan.final)
        trained = load(out).dropna(subset=["setting.label", "val_ll"])
        assert before.best[1] == trained["val_ll"].max()
        assert earlier(out, name, 2, listed) is None
        assert earlier(out, name, 1.5, listed[::-1]) is None
        after = run(suite, out, Silent(), Asked(keep_weights=True), worker=worker)
        kept = {path.name for path in (out / "weights").iterdir()}
        finals = {c.key for c in after.cases if c.settings.get("stage") == "final"}
        assert kept == finals
        assert not Asked(keep_weights=True).wanted(suite, after)
        assert after.done == {case.key for case in after.cases}
