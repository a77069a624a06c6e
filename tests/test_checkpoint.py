"""Checkpoints: a training that was cut off comes to the result that it would have had."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from benchmarks.core.study import registry
from benchmarks.training import checkpoint as checkpoints
from benchmarks.training import loop
from benchmarks.training.settings import Training
from measuring import cases_of
from trainings import OPTIONS, CutOff, trained

SETTINGS = {
    "cosine": {"learning_rate": 1e-2, "optimizer": "adamw", "weight_decay": 0.1},
    "plateau": {"schedule": "plateau", "patience": 2, "validate_every": 2, "keep": "last"},
    "fresh": {"fresh": True, "warmup": 5, "schedule": "constant"},
}


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The checkpoint of whatever case is trained, written after every update."""
    path = tmp_path / "x-0.safetensors"
    monkeypatch.setattr(checkpoints, "slot", lambda case: path)
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    return path


def cut_off(flow: str, settings: Training, until: int = 6) -> None:
    with pytest.raises(CutOff):
        trained(flow, settings, until)


@pytest.mark.parametrize("flow", OPTIONS)
@pytest.mark.parametrize("how", SETTINGS)
def test_a_training_that_was_cut_off_twice_comes_to_the_same(flow, how, path):
    settings = Training(preprocessing="whiten", validation_rows=200, **SETTINGS[how])
    weights, history = trained(flow, settings)
    path.unlink()
    cut_off(flow, settings, 6)
    cut_off(flow, settings, 15)
    torch.manual_seed(1)  # whatever ran in between
    again, resumed = trained(flow, settings)
    assert resumed.losses == history.losses
    assert resumed.validation_ll == history.validation_ll
    assert resumed.evaluations == history.evaluations
    assert resumed.observations == history.observations
    assert list(resumed.flops()) == list(history.flops())
    spent = [*resumed.validation_cpu_seconds, resumed.cpu_seconds]  # before the cuts too
    assert spent == sorted(spent)
    assert spent[0] == 0 < spent[1]
    assert all(torch.equal(again[name], weights[name]) for name in weights)


@pytest.mark.parametrize("flow", OPTIONS)
def test_a_longer_training_goes_on_from_the_plateau_of_a_shorter_one(flow, path):
    settings = Training(schedule="wsd", warmup=3, validate_every=3, validation_rows=200)
    weights, history = trained(flow, settings, updates=20)
    for file in path.parent.iterdir():
        file.unlink()
    trained(flow, settings, updates=10)  # its rate falls from update 8 on
    path.unlink()
    again, longer = trained(flow, settings, until=7, updates=20)  # which it does not come to
    assert longer.losses == history.losses
    assert longer.validation_ll == history.validation_ll
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    path.unlink()
    with pytest.raises(CutOff):  # the plateau of 16 updates is too long for this one
        trained(flow, settings, until=7, updates=10)


def rewritten(path, change) -> None:
    """Change the state and the tensors of a checkpoint, its checksum with them."""
    with safe_open(path, "pt") as file:
        content = json.loads(file.metadata()["state"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dict)
    change(content, tensors)
    path.write_bytes(checkpoints.packed(content, tensors))


def flipped(path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def widened(content, tensors) -> None:
    name = next(name for name in tensors if name.startswith("flow.") and tensors[name].dim() == 2)
    tensors[name] = tensors[name].repeat(2, 1)


DAMAGE = {
    "half": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "a bit": flipped,
    "metadata": lambda path: path.write_bytes(save({"order": torch.zeros(1)}, {"state": "{"})),
    **{
        name: lambda path, change=change: rewritten(path, change)
        for name, change in {
            "shape": widened,
            "stream": lambda content, tensors: tensors.pop("stream.batches"),
            "random state": lambda content, tensors: tensors["stream.batches"].zero_(),
            "history": lambda content, tensors: content["history"].update(losses=3),
            "scalars": lambda content, tensors: content["scalars"].clear(),
        }.items()
    },
}


@pytest.fixture(scope="module")
def through():
    """Weights and history of a training that was never cut off."""
    return trained("realnvp", Training(validation_rows=200))


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_checkpoint_that_does_not_fit_starts_the_training_anew(damage, through, path):
    """With a warning that names it; nothing of it is in the result."""
    settings, (weights, history) = Training(validation_rows=200), through
    cut_off("realnvp", settings)
    damage(path)
    with pytest.warns(UserWarning, match=r"x-0\.safetensors.*anew"):
        again, resumed = trained("realnvp", settings)
    assert resumed.losses == history.losses
    assert all(torch.equal(again[name], weights[name]) for name in weights)


SMALL: dict[str, dict[str, Any]] = {
    "nfe": {"flows": ["cnf"], "tolerances": [0.1], "checks": 3, "updates": 7},
    "numerics": {"part": "gradients", "flows": ["cnf"], "solvers": {"rk4": [0.5]}, "updates": [7]},
}


@pytest.mark.parametrize("name", SMALL)
def test_studies_that_train_resume(name, tmp_path, monkeypatch):
    """A training that is at its end is not made again, and gives the same figures."""
    study = registry[name]
    sizes = {"hidden": 4, "depth": 2, "layers": 1}
    training = {"validations": 2, "validation_rows": 20}
    about = {"datasets": ["8gaussians"], "batch": 16, "sizes": sizes, "seconds": 0}
    options = {**about, "training": training, **SMALL[name]}
    cases = cases_of(name, options)
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    monkeypatch.setattr(
        checkpoints, "slots", {case.key: tmp_path / f"{case.key}.safetensors" for case in cases}
    )
    first = dict(study.measure(cases))
    assert [path.name[:16] for path in tmp_path.iterdir()] == [cases[0].key]
    monkeypatch.setattr(loop, "update", None)  # which would be called for one more update
    for key, result in study.measure(cases):
        assert not result.failure
        assert result.metrics.keys() == first[key].metrics.keys()
        for metric in result.metrics.keys() - {"train_process_seconds", "train_cpu_seconds"}:
            assert result.metrics[metric] == first[key].metrics[metric]
        for array, values in result.arrays.items():
            assert array.endswith("seconds") or np.array_equal(values, first[key].arrays[array])


def test_a_training_goes_on_where_no_checkpoint_can_be_written(path, monkeypatch):
    """To the same result, and says so once, whatever the number of checkpoints."""
    settings = Training(validation_rows=200, **SETTINGS["cosine"])
    weights, _ = trained("realnvp", settings)
    path.unlink()
    (path.parent / "file").write_bytes(b"")
    monkeypatch.setattr(checkpoints, "slot", lambda case: path.parent / "file" / path.name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        again, _ = trained("realnvp", settings)
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    (text,) = {str(warning.message) for warning in caught}
    assert len(caught) == 1
    assert str(path.parent / "file") in text
