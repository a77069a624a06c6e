"""Checkpoints: a training that was cut off comes to the result that it would have had."""

from __future__ import annotations

import copy
import math

import pytest
import torch

import flows
from benchmarks import datasets
from benchmarks.core.case import Case
from benchmarks.measure.preparing import prepare
from benchmarks.training import checkpoint as checkpoints
from benchmarks.training.loop import train
from benchmarks.training.schedules import drops, share
from benchmarks.training.settings import Training

RK4 = {"method": "rk4", "step_size": 0.5, "gradient": "backprop"}
OPTIONS = {
    "realnvp": {"hidden": 8, "layers": 2},
    "glow": {"hidden": 8, "layers": 2},
    "ffjord": {"hidden": 8, "solver": RK4},  # noise of its own
    "flow_matching": {"hidden": 8, "solver": RK4},  # noise of torch's global stream
}
SETTINGS = {
    "cosine": {"learning_rate": 1e-2, "optimizer": "adamw", "weight_decay": 0.1},
    "plateau": {"schedule": "plateau", "patience": 2, "validate_every": 2, "keep": "last"},
    "fresh": {"fresh": True, "warmup": 5, "schedule": "constant"},
}


class CutOff(Exception):
    """The end of a training from outside."""


def trained(flow: str, settings: Training, checkpoint=None, until: int | None = None):
    """A flow of fresh weights, trained, or cut off before an update."""
    case = Case(
        study="density",
        flow=flow,
        dim=2,
        dataset="8gaussians",
        batch=1500,  # 20,000 rows are no multiple, and are shuffled anew
        updates=17,
        options=OPTIONS[flow],
    )
    data = datasets.load("8gaussians")
    built = prepare(case, data.train.float(), settings.whiten)

    def observe(update: int) -> None:
        if update == until:
            raise CutOff

    history = train(built, data, case, settings, observe=observe, checkpoint=checkpoint)
    return built.state_dict(), history


@pytest.mark.parametrize("flow", OPTIONS)
@pytest.mark.parametrize("how", SETTINGS)
def test_a_training_that_was_cut_off_twice_comes_to_the_same(flow, how, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    settings = Training(whiten=True, validation_rows=200, **SETTINGS[how])
    weights, history = trained(flow, settings)
    for until in (6, 15):
        with pytest.raises(CutOff):
            trained(flow, settings, tmp_path / "x.safetensors", until)
    torch.manual_seed(1)  # whatever ran in between
    again, resumed = trained(flow, settings, tmp_path / "x.safetensors")
    assert resumed.losses == history.losses
    assert resumed.validation_ll == history.validation_ll
    assert resumed.evaluations == history.evaluations
    assert list(resumed.flops()) == list(history.flops())
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_a_checkpoint_that_cannot_be_read_is_told_and_trained_anew(tmp_path):
    path, settings = tmp_path / "x.safetensors", Training(validation_rows=200)
    path.write_bytes(b"half of a checkp")
    with pytest.warns(UserWarning, match="x.safetensors cannot be read"):
        _, history = trained("realnvp", settings, path)
    assert history.losses == trained("realnvp", settings)[1].losses


def test_what_a_training_counts_of_itself_is_what_it_did():
    settings = Training(validation_rows=200, validations=2)
    _, history = trained("realnvp", settings)
    assert history.updates == 17
    assert history.evaluations == (0, 0)
    assert history.flops()[-1] == pytest.approx(17 * sum(history.step_flops))
    _, solved = trained("ffjord", settings)
    assert solved.evaluations == (17 * 8, 0)  # four a step of rk4, two steps, no adjoint
    assert solved.flops()[-1] == pytest.approx(17 * sum(solved.step_flops))
    assert solved.validation_evaluations[-1] == solved.evaluations


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
