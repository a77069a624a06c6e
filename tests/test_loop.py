"""The training loop: reproducible, counted, validated, scheduled, resumed from checkpoints."""

import math
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import flows
from benchmarks import datasets
from benchmarks.analysis.inference import standard_error
from benchmarks.core.case import Case
from benchmarks.core.study import registry
from benchmarks.measure.calls import prepare
from benchmarks.training import checkpoint as checkpoints
from benchmarks.training import loop
from benchmarks.training.loop import train
from benchmarks.training.settings import Training
from flows.continuous import SolveError
from flows.training import PATIENCE, TrainingError
from measuring import cases_of

RK4 = {"method": "rk4", "step_size": 0.5, "gradient": "backprop"}
OPTIONS = {
    "realnvp": {"hidden": 8, "layers": 2},
    "glow": {"hidden": 8, "layers": 2},
    "ffjord": {"hidden": 8, "solver": RK4},  # noise of its own
    "flow_matching": {"hidden": 8, "solver": RK4},  # noise of torch's global stream
}


class CutOff(Exception):
    """The end of a training from outside."""


def trained(flow: str, settings: Training, until=None, kind=None, updates: int = 17):
    """Train fresh weights of a flow, of another class if given; return weights and history.

    With ``until`` the training is cut off before that update.
    """
    about: dict[str, Any] = {"study": "density", "flow": flow, "dim": 2, "dataset": "8gaussians"}
    about["batch"] = 1500  # of which 20,000 rows are no multiple; they are shuffled anew
    case = Case(**about, updates=updates, options=OPTIONS[flow])
    data = datasets.load("8gaussians")
    built = prepare(case, data.train.float(), settings.preprocessing)
    built.__class__ = kind or type(built)

    def observe(update: int) -> tuple[int, float] | None:
        if update == until:
            raise CutOff
        return (update, update / 2) if update % 5 == 0 else None

    history = train(built, data, case, settings, observe=observe)
    return built.state_dict(), history


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
    assert "train_nfe" not in history.metrics()
    assert history.flops()[-1] == pytest.approx(17 * sum(history.counts[0].flops))
    _, solved = trained("ffjord", settings)
    assert solved.update_evaluations == 17 * [(8, 0)]  # four a step of rk4, two steps, no adjoint
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
    cosine = [Training(warmup=4).share(update, 100, 0) for update in (0, 1, 50, 100)]
    assert cosine == pytest.approx([0.25, 0.5 * 0.5 * (1 + math.cos(0.01 * math.pi)), 0.5, 0])
    plateau, seen = Training(schedule="plateau", patience=30), []
    state = 0
    for waiting in [*range(31), 0, *range(31)]:  # a better validation takes nothing back
        state = plateau.drops(state, waiting)
        seen.append(plateau.share(0, 1, state))
    assert [seen.index(value) for value in (1, 0.1, 0.01)] == [0, 11, 21]
    assert set(seen[21:]) == {0.01}
    with pytest.raises(ValueError, match="patience"):
        Training(schedule="plateau")


def test_a_time_limit_ends_a_training_and_the_last_weights_are_validated():
    settings = Training(time_limit=1e-9, validation_rows=50)
    _, history = trained("realnvp", settings)
    assert (history.stopped, history.updates, history.validated) == ("time", 1, [0, 1])


def test_fresh_rows_of_a_set_that_is_not_drawn_are_refused_before_any_run():
    options = {"flows": ["realnvp"], "training": {"fresh": True}}
    with pytest.raises(ValueError, match=r"magic.*fresh = false"):
        cases_of("density", options | {"datasets": ["8gaussians", "magic"]})


def test_the_best_validated_weights_stay():
    settings = Training(learning_rate=1.0, schedule="constant", validations=20)
    weights, history = trained("realnvp", settings, updates=20)
    flow = flows.build("realnvp", 2, **OPTIONS["realnvp"])
    flow.load_state_dict(weights)
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


def test_an_unsolvable_ode_is_skipped_and_told(monkeypatch):
    monkeypatch.setitem(OPTIONS, "ffjord", {"hidden": 8, "solver": {"max_steps": 1}})
    with pytest.raises(TrainingError, match="limit of 1 steps"):
        trained("ffjord", Training(), updates=20)


def test_a_preprocessing_is_known_or_refused():
    with pytest.raises(ValueError, match=r"'pca'.*none, standardize, whiten, radial"):
        Training(preprocessing="pca")
    assert Training(preprocessing="logit+whiten").preprocessing == "logit+whiten"
    with pytest.raises(ValueError, match=r"'none' in 'none\+whiten'"):
        Training(preprocessing="none+whiten")


SETTINGS = {
    "cosine": {"learning_rate": 1e-2, "optimizer": "adamw", "weight_decay": 0.1},
    "plateau": {"schedule": "plateau", "patience": 2, "validate_every": 2, "keep": "last"},
    "fresh": {"fresh": True, "warmup": 5, "schedule": "constant"},
}


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The checkpoint of whatever case is trained, written after every update."""
    path = tmp_path / "x-0.pt"
    monkeypatch.setattr(checkpoints, "slot", lambda case: path)
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    return path


def cut_off(flow: str, settings: Training, until: int = 6) -> None:
    with pytest.raises(CutOff):
        trained(flow, settings, until)


@pytest.mark.parametrize(
    ("flow", "how"),
    [*((flow, "cosine") for flow in OPTIONS), ("realnvp", "plateau"), ("flow_matching", "fresh")],
)
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
    assert resumed.update_evaluations == history.update_evaluations
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


def rewritten(change, path) -> None:
    content = checkpoints.unpacked(path.read_bytes())
    change(content)
    path.write_bytes(checkpoints.packed(content))


def flipped(path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def widened(content) -> None:
    name = next(name for name, value in content["flow"].items() if value.dim() == 2)
    content["flow"][name] = content["flow"][name].repeat(2, 1)


DAMAGE = {
    "half": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "a bit": flipped,
    "owner": partial(rewritten, lambda content: content.update(owner="another training")),
    "shape": partial(rewritten, widened),
    "stream": partial(rewritten, lambda content: content["streams"].pop("batches")),
    "random state": partial(rewritten, lambda content: content["streams"]["batches"].zero_()),
    "history": partial(rewritten, lambda content: content.update(history='{"losses": 3}')),
    "scalars": partial(rewritten, lambda content: content["scalars"].pop("score")),
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
    with pytest.warns(UserWarning, match=r"x-0\.pt.*anew"):
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
    study = registry[name].part(SMALL[name])
    options = {"datasets": ["8gaussians"], "batch": 16, "seconds": 0, **SMALL[name]}
    options |= {"sizes": {"hidden": 4, "depth": 2, "layers": 1}}
    options |= {"training": {"validations": 2, "validation_rows": 20}}
    cases = cases_of(name, options)
    slots = {case.key: tmp_path / f"{case.key}.pt" for case in cases}
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "slots", slots)
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
