"""The training loop: FLOPs, validation errors, schedules, and what ends a training."""

from __future__ import annotations

import copy
import math

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
from trainings import OPTIONS, trained


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


def test_flops_are_unknown_where_no_update_can_be_solved():
    class Unsolvable(flows.Flow):
        def loss(self, x, context=None):
            raise SolveError("the step underflows")

    history = trained("realnvp", Training(validation_rows=50), kind=Unsolvable)[1]
    assert history.skipped == history.updates == 17
    assert math.isnan(history.metrics()["train_flops"])


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


def test_a_validation_that_is_not_finite_has_no_error():
    data = datasets.load("8gaussians")
    case = Case(study="density", flow="realnvp", dim=2, batch=8, options=OPTIONS["realnvp"])
    flow = prepare(case, data.train.float())
    with torch.no_grad():
        next(flow.parameters()).fill_(math.nan)
    history = train(flow, data, case, Training(validation_rows=50))
    assert history.validation_ll == [-math.inf]
    assert math.isnan(history.validation_se[0])


def test_what_a_training_counts_of_itself_is_what_it_did():
    settings = Training(validation_rows=200, validations=2)
    _, history = trained("realnvp", settings)
    assert history.updates == 17
    assert history.evaluations == (0, 0)
    assert history.flops()[-1] == pytest.approx(17 * sum(history.counts[0].flops))
    _, solved = trained("ffjord", settings)
    assert solved.evaluations == (17 * 8, 0)  # four a step of rk4, two steps, no adjoint
    assert solved.flops()[-1] == pytest.approx(17 * sum(solved.counts[0].flops))
    assert solved.validation_evaluations[-1] == solved.evaluations


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


def test_the_objective_is_what_is_minimised():
    case = Case(
        study="modes", flow="realnvp", dim=2, batch=64, updates=1, options=OPTIONS["realnvp"]
    )
    data = datasets.load("8gaussians")
    flow = prepare(case, data.train.float())
    before = copy.deepcopy(flow.state_dict())

    def objective(flow: flows.Flow, x: torch.Tensor) -> torch.Tensor:
        return sum((p.square().sum() for p in flow.parameters()), torch.zeros(()))

    train(flow, data, case, Training(keep="last", learning_rate=1e-3), objective=objective)
    for name, value in flow.named_parameters():
        moved = (value - before[name]) * before[name].sign()
        assert (moved[before[name] != 0] < 0).all()  # Adam's first step is one against the sign
