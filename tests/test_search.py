"""The search: equal effort, a race, choices by validation, courses by CPU seconds, one answer."""

import itertools
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import flows
from benchmarks import datasets
from benchmarks.cli.choose import (
    Ledger,
    as_json,
    continued,
    entrants,
    race_of,
    suite_of,
    with_another_race,
)
from benchmarks.core import store
from benchmarks.core.case import Case, Seeds
from benchmarks.core.frame import load
from benchmarks.core.study import registry
from benchmarks.datasets.tables import admit
from benchmarks.execution.plan import write_plan
from benchmarks.execution.run import Asked, contention, run
from benchmarks.execution.suite import Suite
from benchmarks.studies.search import study as search
from benchmarks.studies.search.figures import figures, view
from benchmarks.studies.search.tables import finals, labelled, parted
from benchmarks.training import checkpoint
from benchmarks.training.loop import train
from benchmarks.training.settings import Training
from benchmarks.training.state import prepared
from flows.training import STEPS, VALIDATIONS, Course
from flows.tuning import BATCHES, EPOCH, LEVELS, batch, tuning
from runs import SCORING, Silent

OPTIONS = {"hidden": (8, 16, 32), "layers": (1, 2)}
SPACE = {"learning_rate": (1e-4, 1e-2), "options": OPTIONS}
RUNGS = [
    {"seconds": 4, "configurations": 3},
    {"seconds": 12, "configurations": 2},
    {"seconds": 24, "families": 1, "seeds": 1},
]
UNSCORED = {"seeds": 0}
COURSE = {"schedule": "course", "decay": 0.4, "warmup": 2, "validation_rows": 100}


def small(**values) -> Suite:
    """A suite of two families, whose budgets are a few updates."""
    entry = {"study": "search", "datasets": ["8gaussians"], "baselines": ["gaussian"]}
    entry |= {"flows": [{"flow": name, "space": SPACE} for name in ("realnvp", "nice")]}
    entry |= {"unit": "updates", "rungs": RUNGS, "sizes": {"depth": 1}, "batch": 32}
    entry |= {"training": COURSE, "scoring": SCORING | {"continuation": 0}}
    given = {"seeds": (0, 1), "threads": 1, "studies": (entry,), **values}
    return Suite(name="small", about="for a test", **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rungs": RUNGS[::-1]}, "rise"),
        ({"rungs": [RUNGS[0], {"seconds": 20, "configurations": 9}]}, "takes some of"),
        ({"rungs": [{"seconds": 5, "families": 1}]}, "after a rung with finals"),
        ({"rungs": [RUNGS[0], RUNGS[1] | UNSCORED, RUNGS[2]]}, "after a rung with finals"),
        ({"rungs": [RUNGS[0] | UNSCORED]}, "last rung has to have finals"),
        ({"rungs": [RUNGS[0], RUNGS[1] | {"families": 1}]}, "with one configuration"),
        ({"rungs": [*RUNGS[:2], {"seconds": 99, "labels": ["nice"]}]}, "has to give families"),
        ({"rungs": [*RUNGS[:2], RUNGS[2] | {"labels": ["maf"]}]}, "'maf'.*nice"),
        ({"race": True}, "has to give families"),
        ({"training": {"schedule": "wsd"}}, "no budget of a search"),
        ({"flows": [{"flow": "nice", "space": {"preprocessing": ["pca"]}}]}, "'pca'.*radial"),
        ({"flows": [{"flow": "nice", "space": {"learning_rate": [1, 0.1]}}]}, "lower end first"),
        ({"flows": [{"flow": "nice", "space": {"options": {"hidden": []}}}]}, "'hidden' has no"),
    ],
)
def test_contradictions_are_refused(change, message):
    (study,) = small().studies
    with pytest.raises(ValueError, match=message):
        small(studies=({**study, **change},)).cases()


def test_a_rung_without_seeds_is_for_the_search_alone():
    (study,) = small().studies
    plans = [{**study, "rungs": rungs} for rungs in (RUNGS[:2], [RUNGS[0] | UNSCORED, RUNGS[1]])]
    every, some = ({c.key: c for c in small(studies=(plan,)).cases()} for plan in plans)
    missing = [every[key].settings for key in every.keys() - some.keys()]
    assert some.keys() <= every.keys()
    assert {(s["stage"], s["seconds"]) for s in missing} == {("final", RUNGS[0]["seconds"])}


@given(count=st.integers(1, 40), name=st.sampled_from(["nice", "realnvp", "maf"]))
def test_configurations_begin_with_what_works_and_fill_their_space(count, name):
    """Reproducibly, within its ends, even in the logarithm of the rate, each family its own."""
    entrant = search.Entrant(flow=name, space=search.Space(learning_rate=(1e-4, 1e-2)))
    chosen = search.configurations(entrant, 5, "8gaussians", count)
    first, others = chosen[0], chosen[search.FIRST :]
    known = tuning(name, 5)
    assert chosen == search.configurations(entrant, 5, "8gaussians", count)
    assert first.options == known.working
    assert first.training["learning_rate"] == known.rate
    rates = [one.training["learning_rate"] for one in others]
    places = np.sort([math.log10(rate) + 4 for rate in rates]) / 2
    if others:
        assert places[0] >= -1e-3
        assert places[-1] <= 1 + 1e-3
        even = (np.arange(len(others)) + 0.5) / len(others)
        assert np.abs(places - even).max() < 3 / len(others)
    for one, rate in zip(others, rates, strict=True):
        place = (math.log10(rate) + 4) / 2
        assert ("lr" in one.edges) == (min(place, 1 - place) < search.EDGE)
        levels = {option: values for option, values in known.options.items() if len(values) > 2}
        ends = {n for n, values in levels.items() if one.options[n] in (values[0], values[-1])}
        assert set(one.edges) - {"lr"} == ends
    assert {one.training["learning_rate"] for one in chosen[: search.FIRST]} == {known.rate}
    if count > 20:
        for option, values in known.options.items():
            assert {one.options[option] for one in others} == set(values)


def test_families_have_points_of_their_own_and_a_data_set_says_what_suits_it():
    maf, realnvp = (search.Entrant(flow=name) for name in ("maf", "realnvp"))
    draws = [search.configurations(own, 5, "8gaussians", 6) for own in (maf, realnvp)]
    first, second = ({one.training["learning_rate"] for one in d[search.FIRST :]} for d in draws)
    assert first.isdisjoint(second)
    (foremost,) = search.configurations(maf, 3, "patches2", 1)
    assert (foremost.training["preprocessing"],) == datasets.load("patches2").suits


@pytest.mark.parametrize(("spread", "first"), [(0.0, "marginal+whiten"), (1.0, "radial")])
def test_a_table_begins_with_the_map_of_a_gaussian_that_leads_by_far(spread, first, tmp_path):
    rng, name = np.random.default_rng(0), str(tmp_path / "table.csv")
    rows = rng.normal(size=(1000, 8)) * np.exp(spread * rng.normal(size=(1000, 1)))
    pd.DataFrame(rows).to_csv(name, index=False)
    admit(name)
    assert search.preprocessings(name)[0] == first


@pytest.mark.parametrize("name", flows.own())
@pytest.mark.parametrize("dim", [2, 5])
def test_what_works_of_a_flow_can_be_built_and_is_among_what_there_is(name, dim):
    known = tuning(name, dim)
    assert all(known.working[option] in levels for option, levels in known.options.items())
    assert {o for o in LEVELS if o in flows.members[name].defaults} <= set(known.options)
    options = {**known.fixed, **known.working, "hidden": 8}
    member = flows.members[name]
    flows.build(name, dim, **{n: v for n, v in options.items() if n in member.defaults})


@given(st.integers(50, 10**7), st.integers(0, 1000))
def test_a_batch_grows_with_the_rows_within_its_bounds(rows: int, more: int) -> None:
    least, most = BATCHES
    assert least <= batch(rows) <= min(batch(rows + more), most)
    assert batch(rows) in BATCHES or EPOCH <= rows / batch(rows) < 2 * EPOCH


@pytest.fixture(scope="module")
def frame(tmp_path_factory, worker):
    folder = tmp_path_factory.mktemp("search")
    suite, progress = small(), Silent()
    after = run(suite, folder, progress, worker=worker)
    assert len(after.done) == len(after.cases)
    assert not list(folder.glob("checkpoints/*"))
    return load(folder)


def test_every_family_has_the_same_number_of_trials(frame):
    trials = frame[frame["setting.stage"] == "trial"].groupby(["flow", "setting.seconds"])
    assert trials.size().tolist() == [3, 2] * 2


def test_budgets_are_updates(frame):
    trained = frame[frame["setting.stage"].notna() & (frame["status"] == "done")]
    early = np.array([bool(notes["course"]["returned"]) for notes in trained["notes"]])
    assert (trained["train_updates"] <= trained["setting.seconds"]).all()
    assert (trained["train_updates"] == trained["setting.seconds"])[~early].all()


def test_what_goes_on_is_best_by_validation(frame):
    done = frame[frame["status"] == "done"]
    for _, rows in done[done["flow"] != "gaussian"].groupby("flow"):
        trials = rows[rows["setting.stage"] == "trial"]
        first, second = (trials[trials["setting.seconds"] == r["seconds"]] for r in RUNGS[:2])
        order = first.sort_values("val_ll", ascending=False)["setting.configuration"]
        promoted = second.sort_values("setting.place")["setting.configuration"]
        assert promoted.tolist() == order.tolist()[:2]
        for rung in (first, second):
            best = rung.loc[rung["val_ll"].idxmax()]
            same = rows["setting.seconds"] == best["setting.seconds"]
            chosen = rows[same & (rows["setting.stage"] == "final")]
            assert set(chosen["setting.configuration"]) == {best["setting.configuration"]}
            assert sorted(chosen["seed"]) == [0, 1]


def test_only_finals_look_at_test_rows(frame):
    scored = set(frame.dropna(subset=["test_ll"])["setting.stage"].fillna("baseline"))
    assert scored == {"final", "baseline"}
    assert len(finals(labelled(frame))) == 2 + 2 * 2 * 2 + 1


def test_the_longer_budget_is_for_the_best_by_validation(frame):
    long = frame[frame["setting.seconds"] == 24].set_index("flow")
    last = frame[(frame["setting.seconds"] == 12) & (frame["setting.stage"] == "final")]
    best = last.groupby("flow")["val_ll"].mean().idxmax()
    expected = dict.fromkeys(("realnvp", "nice"), "skipped") | {best: "done"}
    assert long["status"].to_dict() == expected


def test_tables_and_figures_are_of_all_finals(frame):
    study = registry["search"]
    cited = {key for table in study.tables(frame) for keys in table.rows_from for key in keys}
    stages = frame[frame["status"] == "done"]
    assert cited >= set(stages["key"])
    assert [figure.name for figure in study.figures(frame)] == ["frontier"]


def test_a_baseline_has_the_preprocessing_that_validates_best(frame):
    fits = frame[frame["updates"] == 0].assign(flow="mixture", key=lambda f: f["key"] + "-0")
    better = fits.assign(val_ll=fits["val_ll"] + 1, key=fits["key"] + "-1")
    one = pd.concat([frame, fits, better.assign(**{"setting.preprocessing": "radial"})])
    both = pd.concat([one, one.assign(dataset="moons")], ignore_index=True)
    sets = {table.name: table for table in registry["search"].tables(both)}
    names = {name: set(table.frame["model"]) for name, table in sets.items() if len(table.frame)}
    assert names["frontier-sets"] == {"realnvp", "nice", "gaussian", "mixture"}
    assert "mixture after radial" in names["frontier-moons"]
    assert "mixture" not in names["frontier-moons"]
    assert names["frontier-trials-moons"] >= {"mixture", "mixture after radial"}


def test_runs_stand_side_by_side(frame):
    both = pd.concat([frame.assign(run=name) for name in "ab"], ignore_index=True)
    models = registry["search"].tables(both)[0].frame["model"]
    names = ("realnvp", "nice", "gaussian")
    assert sorted(models) == sorted(f"{name} ({run})" for name in names for run in "ab")


def test_what_a_split_does_to_all_models_is_in_no_difference(frame):
    shifted = frame.assign(test_ll=frame["test_ll"] + 7.0 * frame["data_seed"])
    frames = [registry["search"].tables(rows)[0].frame for rows in (frame, shifted)]
    before, after = (own.set_index("model").sort_index() for own in frames)
    lags = before.filter(regex=r"^behind.*\.12$")
    assert lags.notna().to_numpy().any()
    np.testing.assert_allclose(lags, after[lags.columns], atol=1e-9)
    assert (after["half.12"] > before["half.12"]).all()


def test_a_budget_of_fewer_splits_has_all_means_over_these(frame):
    table = registry["search"].tables(frame)[0]
    assert table.columns["test_ll.24"].label == "24 s, 1 split"
    first = frame[(frame["data_seed"] == 0) & (frame["flow"] == "gaussian")]
    means = table.frame.set_index("model")["test_ll.24"].dropna()
    assert len(means) == 2
    assert means["gaussian"] == first["test_ll"].mean()


def test_a_mean_that_few_test_rows_decide_is_said_to_be(frame):
    assert "worst" not in registry["search"].tables(frame)[0].frame
    last = frame[(frame["setting.seconds"] == 12) & (frame["setting.stage"] == "final")]
    flow, seed = last[["flow", "seed"]].iloc[-1]
    wild = frame[frame["setting.seconds"] != 24].assign(arrays=None, array_hashes=None)
    wild.loc[(wild["flow"] == flow) & (wild["seed"] == seed), "test_ll_se"] *= 100
    worst = registry["search"].tables(wild)[0].frame.set_index("model")["worst"].dropna()
    assert list(worst.index) == [flow]
    assert worst[flow].endswith(f"over split {seed}")


def test_a_model_far_below_the_others_does_not_flatten_the_figure():
    means = np.array([0.0, -1.0, -1.5, -2.0, -100.0])
    lines = [np.array([[1.0], [mean], [0.1]]) for mean in means]
    low, high = view(lines, np.array([-3.0, -50.0]))
    assert -10 < low < -3 < 0.1 < high < 1


@pytest.mark.parametrize("stages", [["trial"], [None]])
def test_a_run_that_was_cut_off_says_nothing_yet(frame, stages):
    early = frame[frame["setting.stage"].replace({np.nan: None}).isin(stages)]
    early = early.dropna(axis="columns", how="all")
    study = registry["search"]
    assert len(early)
    assert not study.figures(early)
    assert study.tables(early)


def trained(settings, rows=300, flow="maf", updates=1, threads=1):
    """A flow trained on few rows by settings, and the history."""
    x = torch.as_tensor(np.random.default_rng(0).normal(size=(rows, 3)) @ np.triu(np.ones((3, 3))))
    data = datasets.Dataset("few", 3, x[: rows // 3], x[rows // 3 : -rows // 3], x[-100:], "", "")
    options = flows.members[flow].complete({"hidden": 32, "layers": 2})
    own = Training.model_validate(COURSE | settings).model_dump()
    about = {"study": "search", "flow": flow, "dim": 3, "batch": 32, "threads": threads}
    about |= {"options": options, "settings": {"training": own}, "seeds": Seeds.of(0)}
    case = Case(**about, updates=updates)
    model, training = prepared(case, data)
    return model, train(model, data, case, training)


@pytest.mark.parametrize("rate", [1e-3, 3e-2])
def test_a_course_by_seconds_is_repeated_bit_for_bit_from_its_decisions(rate):
    first, history = trained({"cpu_seconds": 0.4, "learning_rate": rate})
    course = json.loads(json.dumps(history.course))
    second, again = trained({"led": course, "learning_rate": rate})
    states = [model.state_dict() for model in (first, second)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert history.metrics()["val_ll"] == again.metrics()["val_ll"]
    assert history.losses == again.losses
    assert history.validation_ll == again.validation_ll
    assert course == again.course


def test_a_course_spends_its_seconds_and_validates_in_time():
    _, history = trained({"cpu_seconds": 1.0, "learning_rate": 1e-4}, rows=900)
    assert not history.course["returned"]
    assert 1.0 <= history.cpu_seconds < 1.2
    assert len(history.course["falls"]) == STEPS
    assert len(history.validated) >= VALIDATIONS[0]
    assert history.validated[0] == 0


@pytest.mark.parametrize("limits", [(200.0, 400.0), (400.0, 150.0)])
def test_a_course_ends_by_the_clock_and_a_longer_one_goes_on_from_it(limits, tmp_path, monkeypatch):
    """A clock that moves at each look alone, as on a machine that is busy elsewhere."""
    clock, slots = itertools.count(), iter((tmp_path / "a-0.pt", tmp_path / "b-0.pt"))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    settings, histories = {"cpu_seconds": 1e6, "learning_rate": 1e-4}, []
    for limit, decay, slot in zip(limits, (0.0, 0.4), slots, strict=True):
        monkeypatch.setattr(checkpoint, "slot", lambda case, slot=slot: slot)
        histories.append(trained(settings | {"time_limit": limit, "decay": decay})[1])
    short, longer = histories
    assert 50 < short.updates <= limits[0]
    assert short.updates < longer.updates
    assert longer.losses[: short.updates] == short.losses
    assert len(longer.course["falls"]) == STEPS
    assert longer.course["falls"][0] < 0.85 * longer.updates  # what was spent before counts
    assert "train_seconds" not in longer.metrics()


def test_a_course_that_overfits_goes_back_and_is_the_better_for_it():
    _, history = trained({"learning_rate": 2e-2}, rows=90, flow="nsf_coupling", updates=1000)
    assert history.course["returned"]
    assert history.updates < 1000
    assert history.metrics()["val_ll"] >= max(history.validation_ll) - 1e-6


@given(
    amount=st.floats(1, 100),
    decay=st.floats(0.01, 0.99),
    cost=st.lists(st.floats(0.01, 3), min_size=5, max_size=60),
)
def test_the_rate_of_a_course_falls_with_what_is_spent(amount, decay, cost):
    course, update, factors = Course(amount, decay, epoch=1), 0, []
    while not course.ended(update):
        course.begin(update)
        factors.append((course.spent, course.factor))
        course.spent += cost[update % len(cost)]
        update += 1
    for spent, factor in factors:
        part = (spent - course.plateau) / (amount - course.plateau)
        assert factor == 1 if part < 0 else abs(1 - factor - math.sqrt(part)) < 1.01 / STEPS**0.5
    assert course.updates == update


@pytest.mark.parametrize(
    ("settings", "threads", "message"),
    [
        ({"cpu_seconds": 1}, 2, "threads = 2.*one thread"),
        ({"schedule": "wsd", "cpu_seconds": 1}, 1, "'wsd' has no cpu_seconds"),
        ({"led": {"updates": 3}}, 1, "validated is missing"),
    ],
)
def test_a_course_that_cannot_be_counted_is_refused(settings, threads, message):
    with pytest.raises(ValueError, match=message):
        trained(settings, threads=threads)


RACE = [
    {"seconds": 3, "configurations": 2, "families": 4},
    {"seconds": 8, "configurations": 2, "families": 2},
    {"seconds": 10, "configurations": 1, "families": 1},  # 4 of which would be of the fall
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, worker):
    """A results folder of a race of four families on a table with a column of steps."""
    root = tmp_path_factory.mktemp("choose")
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(2, 5, (600, 2)), columns=["mass", "flux"])
    table["angle"] = rng.integers(0, 9, 600) + 0.25
    table.to_csv(root / "my.csv", index=False)
    name = f"{root / 'my.csv'}:columns=angle,mass"
    changes = {"datasets": [name], "race": True, "rungs": RACE, "left_out": ["glow"]}
    changes |= {"flows": ["realnvp", "nice", "maf", "iaf"], "sizes": {"hidden": 8, "layers": 2}}
    (study,) = small().studies
    study |= changes
    with datasets.registry.temporary():
        suite = small(studies=(study,), seeds=(0,))
        after = run(suite, root / "out", Silent(), Asked(keep_weights=True), worker=worker)
        assert len(after.done) == len(after.cases) == 1 + 4 * 2 + 4 * 2 + 4
        yield root / "out"


def test_half_of_the_families_go_on_and_then_the_best_from_their_weights(folder):
    frame = load(folder)
    done = frame[(frame["status"] == "done") & frame["setting.stage"].notna()]
    by_rung = done.groupby("setting.seconds")
    first, second, last = (by_rung.get_group(rung["seconds"]) for rung in RACE)
    best = first.groupby("flow")["val_ll"].max().sort_values(ascending=False)
    assert set(second["flow"]) >= set(best.index[:2])
    leader = second.loc[second["val_ll"].idxmax()]
    assert leader["flow"] in set(last["flow"])
    for _, row in last.iterrows():
        same = second["setting.configuration"] == row["setting.configuration"]
        (before,) = second[same & (second["flow"] == row["flow"])].index
        losses = [store.arrays(own, "losses")["losses"] for own in (second.loc[before], row)]
        np.testing.assert_array_equal(losses[0], losses[1][: len(losses[0])])
    skipped = frame[frame["status"] == "skipped"]
    assert skipped["reason"].str.match("dropped out after .* behind if both|of .* go on").all()


@pytest.mark.slow
def test_a_race_by_updates_is_equal_for_any_number_of_jobs(folder, tmp_path):
    suite = Suite.model_validate(json.loads((folder / "suite.json").read_text())["suite"])
    with datasets.registry.temporary():
        admit(suite.studies[0]["datasets"][0])
        run(suite, tmp_path / "out", Silent(), Asked(jobs=2))
        frames = [load(path).set_index("key").sort_index() for path in (folder, tmp_path / "out")]
    columns = ["status", "val_ll", "test_ll", "train_updates"]
    pd.testing.assert_frame_equal(*(frame[columns] for frame in frames))


@pytest.mark.system
def test_what_another_job_takes_is_measured_for_each_family():
    (study,) = small().studies
    study |= {"unit": "cpu_seconds", "rungs": [{"seconds": 9, "configurations": 2}]}
    suite = small(studies=(study,))
    worth = contention(suite, suite.cases(), 0.2, limit=1.1)
    assert worth.keys() == {"realnvp", "nice"}
    assert all(min(pair) > 0 for pair in worth.values())


def test_the_ranking_is_by_validation_and_the_answer_names_its_first(folder):
    frame = load(folder)
    (choice,) = parted(frame)[1]
    assert choice.baselines["model"].tolist() == ["gaussian"]
    assert choice.flows["val_ll"].is_monotonic_decreasing
    first = choice.flows.iloc[0]
    assert first["model"] in choice.answer
    assert {*choice.dropped, *choice.flows["model"]} == {"realnvp", "nice", "maf", "iaf"}
    warned = " ".join(choice.warnings)
    for word in ("'angle'", "9 values at spacing 1 from 0.25", "600 rows", "glow"):
        assert word in warned
    sd = pd.read_csv(folder.parent / "my.csv")[["angle", "mass"]].std().prod()
    assert first["test_ll_raw"] == pytest.approx(first["test_ll"] - math.log(sd), abs=0.05)
    answer = json.loads(json.dumps(as_json(choice, folder, None), allow_nan=False))
    assert answer["ranking"][0]["flow"] == first["model"]
    bare = frame.assign(arrays=None, array_hashes=None)  # as packed without them
    (other,) = parted(bare)[1]
    names = ["test_ll", "half"]
    np.testing.assert_allclose(other.ranking[names], choice.ranking[names], rtol=0.03)
    assert all(figure.draw() for figure in figures(bare))
    assert answer["ranking"][0]["options"]["hidden"] == 8
    assert Path(answer["ranking"][0]["weights"]).is_dir()
    study = registry["search"]
    assert [figure.name for figure in study.figures(frame)] == [f"choose-{choice.data}"]
    assert len(study.tables(frame)[0].frame) == len(choice.flows) + 1


def test_a_baseline_that_is_ahead_or_level_is_the_first_sentence(folder):
    frame = load(folder)
    rows = frame["flow"] == "gaussian"
    ahead = frame.assign(val_ll=frame["val_ll"] + 100.0 * rows)
    (choice,) = parted(ahead)[1]
    level = choice.baselines["standing"].iloc[0] == "level"
    text = "level with the best" if level else "ahead of every"
    assert choice.answer.startswith(f"A Gaussian is {text} flow")
    (choice,) = parted(frame.assign(val_ll=frame["val_ll"] - 100.0 * rows))[1]
    level = choice.baselines["standing"].iloc[0] == "level"
    first = choice.flows["model"].iloc[0]
    assert choice.answer.startswith("A Gaussian is level" if level else f"Take {first}")


def test_kept_weights_are_the_density_of_raw_rows_that_was_scored(folder):
    (choice,) = parted(load(folder))[1]
    for _, row in choice.flows.iterrows():
        flow = flows.load(folder / "weights" / row["key"])
        data = datasets.load(choice.data)
        raw, _ = data.scaling.inverse(data.test)
        score = flow.log_prob(raw.to(flow.reference())).mean().item()
        assert score == pytest.approx(row["test_ll_raw"], abs=1e-3)


@given(seconds=st.floats(1, 1e5), jobs=st.integers(1, 64), families=st.integers(1, 12))
def test_the_rungs_of_a_race_fit_into_its_seconds(seconds, jobs, families):
    racers = [search.Entrant(flow=name) for name in flows.own()][:families]
    first, second, last = rungs = race_of(racers, seconds, jobs)["rungs"]
    assert search.SearchOptions(datasets=("moons",), race=True, rungs=rungs)
    assert last["configurations"] <= second["configurations"] <= first["configurations"]
    assert 1 <= first["families"] <= families
    assert second["families"] + len(second["labels"]) <= max(1, first["families"] // 2)
    assert last["families"] <= 2
    trials = math.ceil(first["families"] * first["configurations"] / jobs) * jobs
    assert trials * first["seconds"] <= seconds / 4 + 1e-6
    assert first["seconds"] < second["seconds"] < last["seconds"] <= seconds


def test_few_minutes_take_fewer_families_and_are_never_refused():
    counts = [len(race_of(search.FAMILIES, s, 2)["flows"]) for s in (1, 100, 300, 2000)]
    assert counts == sorted(counts)
    assert counts[0] == 1


@given(minutes=st.floats(1, 100), jobs=st.integers(1, 8), trainings=st.integers(1, 30))
def test_the_rungs_of_a_race_share_what_is_left_equally_and_once(minutes, jobs, trainings):
    ledger = Ledger(time.monotonic(), minutes, jobs)
    seconds, limit = ledger.seconds(9.0, 1.0, trainings)
    rounds = math.ceil(trainings / jobs)
    assert rounds * seconds * jobs == pytest.approx(max(0.0, ledger.left()), abs=0.5)
    assert rounds * limit <= ledger.wall
    assert ledger.seconds(9.0, 0.5, 1)[0] == seconds


def test_flows_of_ones_own_come_first_and_names_alone() -> None:
    every = [entrant.flow for entrant in entrants(3)]
    assert [e.flow for e in entrants(3, registered=["nice"])] == ["nice", *every]
    assert [e.flow for e in entrants(3, ["maf"], registered=["nice"])] == ["maf"]
    with pytest.raises(ValueError, match="nosuch"):
        entrants(3, ["nosuch"])


def test_a_race_goes_on_with_what_its_rungs_have_got(tmp_path, worker):
    rng = np.random.default_rng(0)
    pd.DataFrame(rng.normal(2, 5, (300, 2)), columns=["mass", "flux"]).to_csv(tmp_path / "my.csv")
    name, out = str(tmp_path / "my.csv:columns=mass,flux"), tmp_path / "out"
    with datasets.registry.temporary():
        admit(name)
        suite = suite_of(name, 0.1, 1, entrants(2, ["realnvp", "nice"]))
        (study,) = suite.studies
        study |= {"baselines": [], "sizes": {"hidden": 8, "layers": 2}, "scoring": SCORING}
        study |= {"rungs": [rung | {"seconds": 0.1 * (n + 1)} for n, rung in enumerate(RACE)]}
        suite = suite.model_copy(update={"studies": (study,)})
        registry["search"].purse = ledger = Ledger(time.monotonic(), 1.0, 1, before=49.0)
        try:
            run(suite, out, Silent(), worker=worker)
        finally:
            registry["search"].purse = None
        later = Ledger(time.monotonic(), 1.0, 1)
        later.resume(suite, out)
    finals = [r for r in store.read(out).values() if r.case.settings["stage"] == "final"]
    shares = {r.case.settings["share"] for r in finals if r.status == "done"}
    assert shares
    assert shares <= set(later.shares.values()) == set(ledger.shares.values())


def test_racers_that_were_left_out_race_for_what_is_left(tmp_path):
    name = str(tmp_path / "my.csv")
    pd.DataFrame(np.random.default_rng(0).normal(size=(300, 2))).to_csv(name, index=False)
    racers = entrants(2, ["realnvp", "nice", "maf", "iaf"])
    with datasets.registry.temporary():
        admit(name)
        first = suite = suite_of(name, 1.0, 1, racers)
        raced = [[entrant["flow"] for entrant in suite.studies[0]["flows"]]]
        assert with_another_race(suite, racers, 50.0, 1) is None
        while longer := with_another_race(suite, racers, 150.0, 1):
            assert {case.key for case in suite.cases()} < {case.key for case in longer.cases()}
            assert longer.studies[:-1] == suite.studies
            suite = longer
            raced.append([entrant["flow"] for entrant in suite.studies[-1]["flows"]])
        write_plan(suite, tmp_path)
        keys = [[case.key for case in each.cases()] for each in (continued(first, tmp_path), suite)]
        assert keys[0] == keys[1]
        assert continued(suite_of(name, 2.0, 1, racers), tmp_path).studies[1:] == ()
    assert raced == [["realnvp"], ["nice", "maf"], ["iaf"]]
    assert suite.studies[-1]["left_out"] == []


@pytest.mark.system
def test_the_command_answers_within_its_minutes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "my.npz", X=rng.normal(size=(800, 3)), y=rng.integers(0, 2, 800))
    how = ["--flow", "nice", "--flow", "realnvp", "--json", "a.json", "--minutes", "1"]
    command = [sys.executable, "-m", "benchmarks", "choose", "my.npz", *how]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "a.json").read_text())
    assert {entry["flow"] for entry in content["ranking"]} <= {"nice", "realnvp"}
    assert content["target"] is None
    code = done.stderr + done.stdout
    lines = code[code.index("import torch, flows") :].splitlines()[:3]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=tmp_path, check=True)
