"""Training: reproducible, best weights kept, its own loss, faults reported."""

from __future__ import annotations

import math

import pytest
import torch

import flows
from benchmarks import datasets
from benchmarks.core.case import Case
from benchmarks.evaluation.scoring import Scoring
from benchmarks.measure.calls import prepare
from benchmarks.training.loop import train
from benchmarks.training.settings import Training
from flows.training import PATIENCE, TrainingError
from measuring import cases_of

SMALL = Scoring(rows=600, checked_rows=300, chunk=300, grid=30, samples=50)
WHITENED = Training(preprocessing="whiten")


def case(flow="realnvp", **changes) -> Case:
    values = {
        "study": "density", "flow": flow, "dim": 2, "dataset": "8gaussians", "batch": 64,
        "updates": 25, "options": {"hidden": 16, "layers": 2} if flow in flows.names() else {},
        "settings": {"training": WHITENED.model_dump(), "scoring": SMALL.model_dump()},
    }  # fmt: skip
    return Case(**{**values, **changes})


def trained(chosen: Case, **settings):
    data = datasets.load(str(chosen.dataset))
    training = Training(**settings)
    flow = prepare(chosen, data.train.float(), training.preprocessing)
    return flow, train(flow, data, chosen, training)


def test_training_is_the_same_from_the_same_seeds_and_another_from_others():
    cases = (case(), case(), case(seeds={"init": 1}))
    runs = [trained(chosen, learning_rate=1e-2)[1] for chosen in cases]
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
    flow, history = trained(
        case(updates=20), learning_rate=1.0, schedule="constant", validations=20
    )
    best = max(history.validation_ll)
    data = datasets.load("8gaussians").val.float()[:2000]
    with torch.no_grad():
        assert flow.log_prob(data).mean().item() == pytest.approx(best, rel=1e-5)
    assert best > history.validation_ll[-1]


def test_a_training_without_a_finite_loss_fails_and_says_so():
    chosen, data = case(), datasets.load("8gaussians")
    flow = prepare(chosen, data.train.float())
    with torch.no_grad():
        next(flow.parameters()).fill_(math.nan)
    with pytest.raises(TrainingError, match=f"{PATIENCE} updates in a row.*nan"):
        train(flow, data, chosen, Training())


def test_an_unsolvable_ode_is_skipped_and_told():
    options = {"hidden": 8, "solver": {"max_steps": 1}}
    with pytest.raises(TrainingError, match="limit of 1 steps"):
        trained(case("ffjord", options=options))


def test_a_training_of_an_earlier_run_is_read():
    assert Training.model_validate({"whiten": True}) == WHITENED
    assert Training.model_validate({"whiten": False}) == Training()
    with pytest.raises(ValueError, match=r"'pca'.*none, standardize, whiten, radial"):
        Training(preprocessing="pca")
