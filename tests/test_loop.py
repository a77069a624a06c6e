"""The training loop: reproducible, counted, validated, scheduled, and what ends a training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import flows
from benchmarks import datasets
from benchmarks.analysis.inference import standard_error
from benchmarks.core.case import Case
from benchmarks.measure.calls import prepare
from benchmarks.training.loop import train
from benchmarks.training.schedules import drops, share
from benchmarks.training.settings import Training
from flows.continuous import SolveError
from flows.training import PATIENCE, TrainingError
from measuring import cases_of
from trainings import trained


def fitted(flow="realnvp", options=None, seeds=None, **settings):
    """Train a small flow for 20 updates; return it and its history."""
    case = Case(
        study="density", flow=flow, dim=2, dataset="8gaussians", batch=64, updates=20,
        options=options or {"hidden": 16, "layers": 2}, **({"seeds": seeds} if seeds else {}),
    )  # fmt: skip
    data, training = datasets.load("8gaussians"), Training(**settings)
    built = prepare(case, data.train.float(), training.preprocessing)
    return built, train(built, data, case, training)


def test_the_first_update_that_can_be_solved_is_counted():
    """Where the first cannot be, whose weights give no finite step, the FLOPs are not nought."""
    calls = []

    class Unsolvable(flows.Flow):
        def loss(self, x, context=None):
            calls.append(len(x))
            if len(calls) <= 3:  # the count before the loop; count and update of the first
                raise SolveError("the step underflows")
            return super().loss(x, context)

    settings = Training(validation_rows=50, validations=2)
    expected = trained("realnvp", settings)[1]
    history = trained("realnvp", settings, kind=Unsolvable)[1]
    assert history.skipped == 1
    assert history.counts == expected.counts
    assert history.flops()[-1] == expected.flops()[-1] > 0


def test_validation_errors_are_clustered_where_rows_are_dependent():
    data = datasets.load("patches3")
    case = Case(study="density", flow="gaussian", dim=8, batch=8, dataset="patches3")
    flow = prepare(case.model_copy(update={"flow": "maf"}), data.train.float())
    history = train(flow, data, case, Training(validation_rows=500))
    with torch.no_grad():
        log_prob = flow.log_prob(data.val[:500].float()).numpy()
    groups = data.val_groups[:500].numpy()
    assert history.validation_se == [pytest.approx(standard_error(log_prob, groups))]
    assert history.validation_se[0] > 1.5 * standard_error(log_prob)


def test_what_a_training_counts_of_itself_is_what_it_did():
    settings = Training(validation_rows=200, validations=2)
    _, history = trained("realnvp", settings)
    assert history.updates == 17
    assert history.evaluations == (0, 0)
    assert history.flops()[-1] == pytest.approx(17 * sum(history.counts[0].flops))
    _, solved = trained("ffjord", settings)
    assert solved.evaluations == (17 * 8, 0)  # four a step of rk4, two steps, no adjoint
    assert solved.flops()[-1] == pytest.approx(17 * sum(solved.counts[0].flops))
    for one in (history, solved):
        curves, metrics = one.arrays(), one.metrics()
        for name, total in (("flops", "train_flops"), ("cpu_seconds", "train_cpu_seconds")):
            curve = curves[f"validation_{name}"]
            assert len(curve) == len(one.validated)
            assert curve[0] == 0
            assert (np.diff(curve) > 0).all()
            assert curve[-1] == metrics[total]


def test_the_likelihood_finishes_a_training_by_regression():
    settings = Training(schedule="wsd", decay=0.3, finish="likelihood", validation_rows=200)
    _, history = trained("flow_matching", settings)
    first, last = history.counts
    regression, likelihood = 12, 5
    assert (first.update, last.update) == (0, regression)
    assert (first.evaluations, last.evaluations) == ((0, 0), (8, 0))
    assert history.update_evaluations == [(0, 0)] * regression + [(8, 0)] * likelihood
    expected = regression * sum(first.flops) + likelihood * sum(last.flops)
    assert history.flops()[-1] == pytest.approx(expected)
    with pytest.raises(ValueError, match="wsd"):
        Training(finish="likelihood")


def test_patience_ends_a_training_that_gets_no_better():
    settings = Training(patience=3, validate_every=1, learning_rate=1e-30, validation_rows=50)
    _, history = trained("realnvp", settings)
    assert (history.stopped, history.updates) == ("patience", 4)


def test_schedules_are_what_their_names_say():
    cosine = [share(Training(warmup=4), update, 100, 0) for update in (0, 1, 50, 100)]
    assert cosine == pytest.approx([0.25, 0.5 * 0.5 * (1 + math.cos(0.01 * math.pi)), 0.5, 0])
    plateau, seen = Training(schedule="plateau", patience=30), []
    state = 0
    for waiting in [*range(31), 0, *range(31)]:  # a better validation takes nothing back
        state = drops(plateau, state, waiting)
        seen.append(share(plateau, 0, 1, state))
    assert [seen.index(value) for value in (1, 0.1, 0.01)] == [0, 11, 21]
    assert set(seen[21:]) == {0.01}
    with pytest.raises(ValueError, match="patience"):
        Training(schedule="plateau")


def test_a_time_limit_ends_a_training_and_the_last_weights_are_validated():
    settings = Training(time_limit=1e-9, validation_rows=50)
    _, history = trained("realnvp", settings)
    assert (history.stopped, history.updates, history.validated) == ("time", 1, [0, 1])


def test_training_is_the_same_from_the_same_seeds_and_another_from_others():
    runs = [fitted(learning_rate=1e-2, seeds={"init": seed})[1] for seed in (0, 0, 1)]
    assert runs[0].losses == runs[1].losses != runs[2].losses
    assert runs[0].validation_ll[-1] > runs[0].validation_ll[0] + 0.02


def test_fresh_rows_of_a_set_that_is_not_drawn_are_refused_before_any_run():
    options = {
        "flows": ["realnvp"],
        "datasets": ["8gaussians", "magic"],
        "training": {"fresh": True},
    }
    with pytest.raises(ValueError, match=r"magic.*fresh = false"):
        cases_of("density", options)


def test_the_best_validated_weights_stay():
    settings = {"learning_rate": 1.0, "schedule": "constant", "validations": 20}
    flow, history = fitted(**settings)
    best = max(history.validation_ll)
    data = datasets.load("8gaussians").val.float()[:2000]
    with torch.no_grad():
        assert flow.log_prob(data).mean().item() == pytest.approx(best, rel=1e-5)
    assert best > history.validation_ll[-1]


def test_a_training_without_a_finite_loss_fails_and_says_so():
    class Lossless(flows.Flow):
        def loss(self, x, context=None):
            return math.nan * super().loss(x, context)

    with pytest.raises(TrainingError, match=f"{PATIENCE} updates in a row.*nan"):
        trained("realnvp", Training(), kind=Lossless, updates=2 * PATIENCE)


def test_an_unsolvable_ode_is_skipped_and_told():
    options = {"hidden": 8, "solver": {"max_steps": 1}}
    with pytest.raises(TrainingError, match="limit of 1 steps"):
        fitted("ffjord", options)


def test_a_training_of_an_earlier_run_is_read():
    assert Training.model_validate({"whiten": True}) == Training(preprocessing="whiten")
    assert Training.model_validate({"whiten": False}) == Training()
    with pytest.raises(ValueError, match=r"'pca'.*none, standardize, whiten, radial"):
        Training(preprocessing="pca")
