"""Likelihoods of libraries: equal updates, equal seconds, peers by our batches, and tables."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import flows
import peer_processes
from benchmarks import datasets
from benchmarks.core.case import Case
from benchmarks.core.study import Result, registry
from benchmarks.measure.foreign import peers
from benchmarks.studies.architectures import TRAITS, Group, GroupMember, architectures
from benchmarks.studies.library_likelihoods.tables import STAGES, comparisons
from benchmarks.training.foreign import ForeignTraining
from benchmarks.training.state import initial_state, prepared
from measuring import cases_of, frame_of
from records import record_result

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own notices, and absent peers

STUDY = registry["library_likelihoods"]
MEMBERS = [(name, member) for name, rows in architectures().items() for member in rows]


def cases(seeds: tuple[int, ...] = (0,), **changes: Any) -> list[Case]:
    """The study's cases, small."""
    options = {
        "groups": [{"name": "discrete", "members": ["realnvp", "maf"]}],
        "datasets": ["8gaussians"],
        "sizes": {"depth": 2, "layers": 2},
        "parameters": 4000,
        "batch": 16,
        "updates": 2,
        "seconds": 1,
        "rate_seconds": 1e-6,
        "rows": 20,
        "tolerance": 1e-3,
        "training": {"preprocessing": "standardize", "validations": 1, "validation_rows": 20},
        **changes,
    }
    return cases_of("library_likelihoods", options, seeds=seeds)


@pytest.mark.parametrize("name", architectures())
def test_every_member_of_an_architecture_trains(name: str) -> None:
    """To a finite likelihood, at a size that is equal within 5 %, and the reference is ours."""
    block = [case for case in cases(groups=[name]) if case.settings["stage"] == "updates"]
    assert block[0].roles["place"] == 0
    assert block[0].flow in flows.own()
    for case in block:
        metrics = STUDY.result(case).metrics
        assert np.isfinite([metrics["test_ll"], metrics["val_ll"]]).all()
        assert metrics["train_updates"] == 2
        assert metrics["parameters"] == pytest.approx(4000, rel=0.05)


@pytest.mark.parametrize(("name", "member"), MEMBERS)
def test_what_is_written_of_a_member_is_so(name: str, member: str) -> None:
    """Its name; and its normalisation, linear layers and activations by the modules that it has."""
    row = architectures()[name][member]
    (entry,) = [entry for entry in Group(name=name).members if entry.name == member]
    assert set(TRAITS) <= set(row) <= {*TRAITS, *GroupMember.model_fields}
    if entry.by or not entry.usable():
        return
    flow = flows.build(entry.flow, 4, **entry.complete({"hidden": 8, "depth": 2, "layers": 2}, 4))
    kinds = {type(module).__name__ for module in flow.modules()}
    assert ("ActNorm" in kinds) == row["normalisation"].startswith("ActNorm")
    assert bool({"LULinear", "_LULinear"} & kinds) == row["mixing"].endswith("LU")
    assert any(isinstance(m, nn.Tanh) for m in flow.modules()) == (row["network"] == "tanh")


def test_seconds_become_updates_by_the_rate_of_a_member() -> None:
    """That is measured alone, once for all seeds; without it there is nothing to train."""
    rate, *trainings = cases(seeds=(0, 1))[:5]
    assert [case.settings["stage"] for case in trainings] == 2 * list(STAGES)
    assert [STUDY.alone(case) for case in (rate, *trainings)] == [True, *4 * [False]]
    timed = trainings[1].changed(settings={**trainings[1].settings, "seconds": 2.5})
    record = record_result(rate, Result({"update_rate": 7.9}))
    assert STUDY.resolved(timed, [record]).updates == 19
    with pytest.raises(ValueError, match="rate of updates is not known: failed"):
        STUDY.resolved(timed, [record.model_copy(update={"status": "failed"})])


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Case:
    """A case of a Gaussian in a process of its own."""
    monkeypatch.setattr(peers, "peer", lambda _: peer_processes)
    members = ["realnvp", {"flow": "realnvp", "by": "gauss"}]
    listed = cases(groups=[{"name": "peer", "members": members}], updates=40)
    (case,) = [c for c in listed if c.settings.get("by") and c.settings["stage"] == "updates"]
    return case


def test_a_peer_is_trained_by_our_batches_and_scored_in_the_space_of_the_data(peer: Case) -> None:
    """Its loss at a rate that changes nothing is that of our batches; its best is the Gaussian."""
    data = datasets.load("8gaussians", seed=0)
    still = {**peer.settings["training"], "learning_rate": 1e-12}
    frozen = peer.changed(settings={**peer.settings, "training": still})
    flow, settings = prepared(frozen, data)
    state = initial_state(flow, frozen, settings)
    with ExitStack() as stack:
        training = ForeignTraining(stack, frozen, data)
        expected = []
        for _ in range(3):
            rows = training.x[state.picks(len(data.train), frozen.batch).numpy()]
            expected.append(-training.flow.log_prob(rows).mean())
        assert training.train()["train_updates"] == frozen.updates
        np.testing.assert_allclose(training.losses[:3], expected, rtol=1e-5)
        quick = {**peer.settings["training"], "learning_rate": 0.5}
        fast = peer.changed(settings={**peer.settings, "training": quick})
        training = ForeignTraining(stack, fast, data)
        metrics = training.train()
        scale = data.train.std(0, correction=0)
        truth = torch.distributions.Normal(data.train.mean(0), scale)
        log_prob = truth.log_prob(data.test).sum(1).numpy()
        assert metrics["val_ll"] == pytest.approx(log_prob.mean(), abs=0.1)
        assert training.log_prob(data.test).mean() == pytest.approx(log_prob.mean(), abs=0.02)


def test_a_peer_has_a_rate_and_refuses_what_it_does_not_follow(peer: Case) -> None:
    rate = peer.changed(settings={**peer.settings, "stage": "rate", "seconds": 2})
    assert STUDY.result(rate).metrics == {"update_rate": 1.0, "step_compile_seconds": 2.0}
    patient = {**peer.settings["training"], "patience": 3}
    refused = peer.changed(settings={**peer.settings, "training": patient})
    with pytest.raises(ValueError, match="patience = 3"):
        STUDY.result(refused)


def test_differences_are_paired_with_the_first_of_a_group() -> None:
    """Of scores whose difference is known: the second is 0.5 ahead, give or take 0.01."""
    listed = cases(seeds=(0, 1, 2))
    noise = np.random.default_rng(0).normal(0, 0.01, len(listed))
    scores = {
        case.key: 3.0 * case.seeds.init + 0.5 * case.roles["place"] + error
        for case, error in zip(listed, noise, strict=True)
    }
    drawn = {"data": {"split": "drawn"}}
    results = {key: Result({"test_ll": score}, notes=drawn) for key, score in scores.items()}
    frame = frame_of(listed, results)
    first, other = comparisons(frame).to_dict("records")
    for stage in STAGES:
        assert pd.isna(first[f"{stage}.difference"])
        assert other[f"{stage}.difference"] == pytest.approx(0.5, abs=0.05)
        low, high = other[f"{stage}.difference.interval"]
        assert 0.4 < low < 0.5 < high < 0.6
        assert other[f"{stage}.stands"] == "ahead"
    table, *others = STUDY.tables(frame)
    assert not others  # the group is none of the architectures
    assert set(sum(table.rows_from, ())) == set(frame["key"])
    (figure,) = STUDY.figures(frame)
    assert len(figure.draw().axes) == len(STAGES)
    frame.loc[frame["setting.member"] == "maf", "status"] = "failed"
    assert comparisons(frame)["updates.test_ll"].tolist()[1] == "failed"


def test_a_group_names_what_is_wrong_with_it() -> None:
    """An architecture that there is not, and two members of one name."""
    with pytest.raises(ValueError, match=r"unknown architecture 'cnn'; .*realnvp"):
        Group.model_validate("cnn")
    with pytest.raises(ValueError, match="two members 'maf': give each a label"):
        Group.model_validate({"name": "g", "members": ["maf", "maf"]})
