"""Checkpoints: a training that was cut off comes to the result that it would have had."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

import flows
from benchmarks import datasets
from benchmarks.analysis.stats import standard_error
from benchmarks.core.case import Case
from benchmarks.core.study import Common, registry
from benchmarks.measure.preparing import prepare
from benchmarks.training import checkpoint as checkpoints
from benchmarks.training import loop
from benchmarks.training.loop import train
from benchmarks.training.schedules import drops, share
from benchmarks.training.settings import Training
from flows.continuous import SolveError

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


def trained(flow: str, settings: Training, until: int | None = None, kind: type | None = None):
    """Train fresh weights of a flow, of another class if given; return weights and history.

    With ``until`` the training is cut off before that update.
    """
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

    built.__class__ = kind or type(built)

    def observe(update: int) -> tuple[int, float] | None:
        if update == until:
            raise CutOff
        return (update, update / 2) if update % 5 == 0 else None

    history = train(built, data, case, settings, observe=observe)
    return built.state_dict(), history


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The checkpoint of whatever case is trained, written after every update."""
    path = tmp_path / "x.safetensors"
    monkeypatch.setattr(checkpoints, "slot", lambda case: path)
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    return path


def cut_off(flow: str, settings: Training, until: int = 6) -> None:
    with pytest.raises(CutOff):
        trained(flow, settings, until)


@pytest.mark.parametrize("flow", OPTIONS)
@pytest.mark.parametrize("how", SETTINGS)
def test_a_training_that_was_cut_off_twice_comes_to_the_same(flow, how, path):
    settings = Training(whiten=True, validation_rows=200, **SETTINGS[how])
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
    assert all(torch.equal(again[name], weights[name]) for name in weights)


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


def without(prefix: str):
    def change(content, tensors) -> None:
        tensors.pop(next(name for name in tensors if name.startswith(prefix)))

    return change


DAMAGE = {
    "half": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "empty": lambda path: path.write_bytes(b""),
    "a bit": flipped,
    "metadata": lambda path: path.write_bytes(save({"order": torch.zeros(1)}, {"state": "{"})),
    **{
        name: lambda path, change=change: rewritten(path, change)
        for name, change in {
            "shape": widened,
            "weights": without("flow."),
            "best": without("best."),
            "moments": without("optimiser."),
            "stream": without("stream."),
            "order": without("order"),
            "history": lambda content, tensors: content["history"].update(losses=3),
            "scalars": lambda content, tensors: content["scalars"].clear(),
            "random state": lambda c, tensors: tensors["stream.batches"].zero_(),
            "foreign": lambda content, tensors: tensors.update({"flow.new": torch.zeros(2)}),
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
    with pytest.warns(UserWarning, match=r"x\.safetensors.*anew"):
        again, resumed = trained("realnvp", settings)
    assert resumed.losses == history.losses
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_a_second_training_of_a_case_does_not_resume_from_the_first(path):
    trained("realnvp", Training(validation_rows=200))
    with pytest.warns(UserWarning, match="another training"):
        _, history = trained("realnvp", Training(validation_rows=200, learning_rate=0.1))
    path.unlink()
    assert trained("realnvp", Training(validation_rows=200, learning_rate=0.1))[1].losses == (
        history.losses
    )


def test_a_case_that_no_plan_lists_has_a_file_beside_its_blocks(tmp_path, monkeypatch):
    planned, other = (Case(study="x", flow="maf", dim=dim, batch=1) for dim in (2, 3))
    assert checkpoints.slot(planned) is None
    monkeypatch.setitem(checkpoints.slots, planned.key, tmp_path / "a-1.safetensors")
    assert checkpoints.slot(planned) == tmp_path / "a-1.safetensors"
    beside = checkpoints.slot(other)
    assert beside.parent == tmp_path
    assert beside.name.startswith("a-1-")
    assert beside.suffix == ".safetensors"


SMALL: dict[str, dict[str, Any]] = {
    "nfe": {"flows": ["cnf"], "tolerances": [0.1], "checks": 3, "updates": 7},
    "gradients": {"flows": ["cnf"], "solvers": {"rk4": [0.5]}, "updates": [7]},
}


@pytest.mark.parametrize("name", SMALL)
def test_studies_that_train_resume(name, tmp_path, monkeypatch):
    """A training that is at its end is not made again, and gives the same figures."""
    study, common = registry[name], Common()
    sizes = {"hidden": 4, "depth": 2, "layers": 1}
    training = {"validations": 2, "validation_rows": 20}
    about = {"datasets": ["8gaussians"], "batch": 16, "sizes": sizes, "seconds": 0}
    given = {**about, "training": training, **SMALL[name]}
    cases = list(study.cases(study.Options.model_validate(given), common))
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    monkeypatch.setattr(
        checkpoints, "slots", {case.key: tmp_path / f"{case.key}.safetensors" for case in cases}
    )
    first = dict(study.measure(cases))
    assert [path.name[:16] for path in tmp_path.iterdir()] == [cases[0].key]
    monkeypatch.setattr(loop, "_update", None)  # which would be called for one more update
    for key, result in study.measure(cases):
        assert not result.failure
        assert result.metrics.keys() == first[key].metrics.keys()
        for metric in result.metrics.keys() - {"train_seconds"}:
            assert result.metrics[metric] == first[key].metrics[metric]
        for array, values in result.arrays.items():
            assert np.array_equal(values, first[key].arrays[array])


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
    assert history.step_flops == expected.step_flops
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
        each = flow.log_prob(data.val[:500].float()).numpy()
    groups = data.val_groups[:500].numpy()
    assert history.validation_se == [pytest.approx(standard_error(each, groups))]
    assert history.validation_se[0] > 1.5 * standard_error(each)


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
