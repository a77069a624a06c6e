"""Training: reproducible, best weights kept, its own loss, faults reported."""

from __future__ import annotations

import math

import pytest
import torch

import flows
from benchmarks import datasets
from benchmarks.core.case import Case
from benchmarks.evaluation.settings import Scoring
from benchmarks.measure.calls import prepare
from benchmarks.training.loop import train
from benchmarks.training.settings import Training
from flows.preprocessing import FITS
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


def test_noise_and_batches_have_seeds_of_their_own():
    solver = {"method": "euler", "step_size": 0.5}
    options = {"hidden": 8, "solver": solver}
    first, noise, batches = (
        trained(case("ffjord", updates=2, options=options, seeds=seeds))[1].losses
        for seeds in ({}, {"noise": 1}, {"batches": 1})
    )
    assert len({first[0], noise[0], batches[0]}) == 3
    options = {"hidden": 8}  # its noise is of the global stream
    first, noise = (
        trained(case("flow_matching", updates=2, options=options, seeds=seeds))[1].losses
        for seeds in ({}, {"noise": 1})
    )
    assert first[0] != noise[0]


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


class Halved(flows.Flow):
    def loss(self, x, context=None):
        return super().loss(x, context) / 2


def test_a_flow_is_trained_by_its_own_loss():
    chosen, data = case(updates=1), datasets.load("8gaussians")
    losses = []
    for kind in (flows.Flow, Halved):
        flow = prepare(chosen, data.train.float())
        flow.__class__ = kind
        losses.append(train(flow, data, chosen, Training()).losses[0])
    assert losses[1] == pytest.approx(losses[0] / 2)


def test_a_preprocessing_is_counted():
    """Behind it ActNorm begins near the identity, and the flow's log-density counts it."""
    data = datasets.load("magic")
    x = data.test[:50].float()
    for name in FITS:
        flow = prepare(case(dim=10, dataset="magic"), data.train.float(), name)
        before = FITS[name](data.train.float())
        z, ladj = before(x)
        with torch.no_grad():
            for layer in flow.modules():
                if hasattr(layer, "log_scale"):
                    assert layer.log_scale.abs().max() < 0.2
                    layer.log_scale.zero_()
                    layer.shift.zero_()
            expected = flow.base.log_prob(z) + ladj
            torch.testing.assert_close(flow.log_prob(x), expected, rtol=1e-4, atol=1e-3)


def test_a_training_of_an_earlier_run_is_read():
    assert Training.model_validate({"whiten": True}) == WHITENED
    assert Training.model_validate({"whiten": False}) == Training()
    with pytest.raises(ValueError, match=r"'pca'.*none, standardize, whiten, radial"):
        Training(preprocessing="pca")
