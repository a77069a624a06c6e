"""The search and the frontier: equal effort, choices by validation, budgets in updates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.core.frame import load
from benchmarks.core.study import registry
from benchmarks.execution.run import run
from benchmarks.execution.suite import Suite
from benchmarks.execution.tasks import Shard, bound, tasks
from benchmarks.studies.frontier.figures import view
from benchmarks.studies.frontier.rows import finals, labelled
from benchmarks.training.search import Space, configurations, ranked
from runs import SCORING, Silent

SPACE = Space(
    learning_rate=(1e-4, 1e-2),
    preprocessing=("standardize", "radial"),
    options={"hidden": (8, 16, 32), "layers": (1, 2)},
)
RUNGS = [{"seconds": 0.05, "configurations": 3}, {"seconds": 0.15, "configurations": 2}]


def small(**values) -> Suite:
    """A suite of two families, whose budgets are a few updates."""
    frontier = {
        "study": "frontier",
        "datasets": ["8gaussians"],
        "baselines": ["gaussian"],
        "rate_seconds": 0.02,
        "rungs": RUNGS,
        "extension": {"seconds": 0.3, "seeds": 1, "labels": [], "best": 1},
        "sizes": {"hidden": 8, "layers": 1},
        "batch": 32,
        "training": {"schedule": "wsd", "warmup": 2, "validation_rows": 100},
        "scoring": SCORING,
        "flows": [
            "realnvp",
            {"flow": "nice", "space": SPACE.model_dump(exclude={"preprocessing"})},
        ],
    }
    given = {"seeds": (0, 1), "threads": 1, "studies": (frontier,), **values}
    return Suite(name="small", about="for a test", **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rungs": RUNGS[::-1]}, "rise"),
        ({"rungs": [RUNGS[0], {"seconds": 0.2, "configurations": 9}]}, "takes some of"),
        ({"extension": {"seconds": 0.1, "seeds": 1, "best": 1}}, "rise"),
        ({"extension": {"seconds": 9, "seeds": 1, "best": 1, "labels": ["maf"]}}, "'maf'.*nice"),
        ({"extension": {"seconds": 9, "seeds": 1}}, "no family"),
        ({"flows": [{"flow": "nice", "space": {"preprocessing": ["pca"]}}]}, "'pca'.*radial"),
        ({"flows": [{"flow": "nice", "space": {"learning_rate": [1, 0.1]}}]}, "lower end first"),
        ({"flows": [{"flow": "nice", "space": {"options": {"hidden": []}}}]}, "'hidden' has no"),
    ],
)
def test_contradictions_are_refused(change, message):
    (study,) = small().studies
    with pytest.raises(ValueError, match=message):
        small(studies=({**study, **change},)).cases()


@given(count=st.integers(1, 40), seed=st.integers(0, 1000))
def test_configurations_fill_their_space(count, seed):
    """Reproducibly, within its ends, and even in the logarithm of the learning rate."""
    chosen = configurations(SPACE, count, seed)
    assert chosen == configurations(SPACE, count, seed)
    assert [one.number for one in chosen] == list(range(count))
    places = np.sort([math.log10(one.learning_rate) + 4 for one in chosen]) / 2
    assert places[0] >= -1e-3
    assert places[-1] <= 1 + 1e-3
    assert np.abs(places - (np.arange(count) + 0.5) / count).max() < 3 / count
    if count >= 12:
        for name, values in SPACE.options.items():
            assert {one.options[name] for one in chosen} == set(values)
        assert {one.preprocessing for one in chosen} == set(SPACE.preprocessing)


@given(st.lists(st.floats(), max_size=20))
def test_ranks_are_by_falling_likelihood_of_what_has_one(scores):
    order = ranked(scores)
    values = [scores[number] for number in order]
    assert values == sorted(values, reverse=True)
    assert sorted(order) == [n for n, score in enumerate(scores) if math.isfinite(score)]


@pytest.fixture(scope="module")
def frame(tmp_path_factory, worker):
    folder = tmp_path_factory.mktemp("frontier")
    suite, progress = small(), Silent()
    after = run(suite, folder, progress, worker=worker)
    assert len(after.done) == len(after.cases)
    assert not list(folder.glob("checkpoints/*"))
    return load(folder)


def test_every_family_has_the_same_number_of_trials(frame):
    trials = frame[frame["setting.stage"] == "trial"].groupby(["flow", "setting.seconds"])
    assert trials.size().tolist() == [3, 2] * 2


def test_budgets_are_updates_by_the_rate_that_was_measured(frame):
    """And all cases of a configuration read them from one record."""
    rates = frame[frame["setting.stage"] == "rate"]
    trained = frame[frame["setting.stage"].isin(["trial", "final"]) & (frame["status"] == "done")]
    for _, row in trained.iterrows():
        (rate,) = row["setting.rates"]
        assert row["updates"] == row["train_updates"] == max(1, int(rate * row["setting.seconds"]))
        same = (rates["flow"] == row["flow"]) & (rates["update_rate"] == rate)
        assert rates[same]["option.hidden"].tolist() == [row["option.hidden"]]


def test_what_goes_on_is_best_by_validation(frame):
    done = frame[frame["status"] == "done"]
    for _, rows in done[done["flow"] != "gaussian"].groupby("flow"):
        trials = rows[rows["setting.stage"] == "trial"]
        first, second = (trials[trials["setting.seconds"] == r["seconds"]] for r in RUNGS)
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
    long = frame[frame["setting.seconds"] == 0.3].set_index("flow")
    last = frame[(frame["setting.seconds"] == 0.15) & (frame["setting.stage"] == "final")]
    best = last.groupby("flow")["val_ll"].mean().idxmax()
    assert long["status"].to_dict() == {
        flow: "done" if flow == best else "skipped" for flow in ("realnvp", "nice")
    }


def test_a_choice_that_stays_is_not_measured_again(tmp_path, worker):
    """Another search of one family, or another rule, gives longer finals other keys and no work."""
    study = small().studies[0] | {"baselines": [], "rungs": RUNGS[:1]}
    rule = {"seconds": 0.1, "seeds": 1, "labels": ["realnvp", "nice"]}
    longs = []
    for other, best in (("nice", 0), ({"flow": "nice", "space": {"learning_rate": [1, 2]}}, 1)):
        changes = {"flows": ["realnvp", other], "extension": {**rule, "best": best}}
        run(small(seeds=(0,), studies=(study | changes,)), tmp_path, Silent(), worker=worker)
        rows = load(tmp_path)
        longs.append(rows[rows["setting.seconds"] == 0.1].set_index("flow"))
    before, after = longs
    assert (before["key"] != after["key"]).all()
    assert after["notes"].iloc[0]["same_as"] == before["key"].iloc[0]
    same = (before["block"] == after["block"]) & (before["val_ll"] == after["val_ll"])
    assert same.to_dict() == {"realnvp": True, "nice": False}


def test_tables_and_figures_are_of_all_finals(frame):
    study = registry["frontier"]
    cited = {key for table in study.tables(frame) for keys in table.rows_from for key in keys}
    stages = frame[(frame["setting.stage"] != "rate") & (frame["status"] == "done")]
    assert cited >= set(stages["key"])
    assert [figure.name for figure in study.figures(frame)] == ["frontier"]


def test_what_a_split_does_to_all_models_is_in_no_difference(frame):
    shifted = frame.assign(test_ll=frame["test_ll"] + 7.0 * frame["data_seed"])
    frames = [registry["frontier"].tables(rows)[0].frame for rows in (frame, shifted)]
    before, after = (own.set_index("model").sort_index() for own in frames)
    lags = before.filter(regex=r"^behind.*\.0\.15$")
    assert lags.notna().to_numpy().any()
    np.testing.assert_allclose(lags, after[lags.columns], atol=1e-9)
    assert (after["half.0.15"] > before["half.0.15"]).all()


def test_a_budget_of_fewer_splits_has_all_means_over_these(frame):
    table = registry["frontier"].tables(frame)[0]
    assert table.columns["test_ll.0.3"].label == "0.3 s, 1 split"
    first = frame[(frame["data_seed"] == 0) & (frame["flow"] == "gaussian")]
    means = table.frame.set_index("model")["test_ll.0.3"].dropna()
    assert len(means) == 2
    assert means["gaussian"] == first["test_ll"].mean()


def test_a_mean_that_few_test_rows_decide_is_said_to_be(frame):
    assert "few test rows" not in registry["frontier"].tables(frame)[0].note
    last = frame[(frame["setting.seconds"] == 0.15) & (frame["setting.stage"] == "final")]
    flow, seed = last[["flow", "seed"]].iloc[-1]
    wild = frame[frame["setting.seconds"] != 0.3].copy()
    wild.loc[(wild["flow"] == flow) & (wild["seed"] == seed), "test_ll_se"] *= 100
    note = registry["frontier"].tables(wild)[0].note
    assert f"Decided by few test rows: {flow} (" in note
    assert f"on split {seed})." in note


def test_a_model_far_below_the_others_does_not_flatten_the_figure():
    means = np.array([0.0, -1.0, -1.5, -2.0, -100.0])
    lines = [np.array([[1.0], [mean], [0.1]]) for mean in means]
    low, high = view(lines, np.array([-3.0, -50.0]))
    assert -10 < low < -3 < 0.1 < high < 1


@pytest.mark.parametrize("stages", [["rate"], ["rate", "trial"], [None]])
def test_a_run_that_was_cut_off_says_nothing_yet(frame, stages):
    early = frame[frame["setting.stage"].replace({np.nan: None}).isin(stages)]
    early = early.dropna(axis="columns", how="all")
    study = registry["frontier"]
    assert len(early)
    assert not study.figures(early)
    assert len(study.tables(early)) == (stages != ["rate"])


@pytest.mark.parametrize("count", [2, 3])
def test_a_shard_has_all_that_its_cases_need(count):
    cases = small(studies=(*small().studies, {**small().studies[0], "datasets": ["moons"]})).cases()
    shards = [Shard(number + 1, count).part(cases) for number in range(count)]
    assert sorted(c.key for part in shards for c in part) == sorted(c.key for c in cases)
    for part in shards:
        keys = {case.key for case in part}
        assert all(keys.issuperset(case.needs) for case in part)
    for group in bound(tasks(cases)):
        keys = {case.key for task in group for case in task.cases}
        assert all(keys.issuperset(case.needs) for task in group for case in task.cases)
