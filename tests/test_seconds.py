"""Seconds of a training: updates that leave it as it is, and the sum over its evaluations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from benchmarks.evaluation.speed import timed
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import datasets
from benchmarks.core.study import Common
from benchmarks.training import seconds
from benchmarks.training.loop import train
from benchmarks.training.settings import Training
from benchmarks.training.state import SNAPSHOTS, prepared

costs = st.floats(1e-6, 1e-2)
evaluations = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=30)


@given(costs, costs, costs, evaluations, evaluations)
def test_costs_that_are_linear_are_found(update, forward, backward, some, of_all):
    """Wherever the evaluations of the updates lie that were timed, within their span."""
    spanning = [(0, 0), (200, 0), (0, 200), *some]
    cost = lambda f, b: update + f * forward + b * backward  # noqa: E731
    medians = [[f, b, cost(f, b), 3] for f, b in spanning]
    result = seconds.seconds_of(medians, np.array(of_all))
    np.testing.assert_allclose(result, [cost(f, b) for f, b in of_all], rtol=1e-6)


@given(costs, st.integers(1, 50))
def test_updates_of_one_cost_have_that_cost(cost, count):
    result = seconds.seconds_of([[0, 0, cost, 9]], np.zeros((count, 2)))
    np.testing.assert_allclose(result, np.full(count, cost))


@pytest.mark.parametrize("flow", ["realnvp", "glow", "cnf", "ffjord"])
def test_a_training_that_is_kept_is_timed_at_weights_it_went_through(flow):
    options = {"hidden": 8} if flow in ("cnf", "ffjord") else {"hidden": 8, "layers": 2}
    case = Common(threads=1).case(
        study="density", flow=flow, dim=2, options=options, dataset="8gaussians", batch=16,
        updates=12, settings={"training": Training(validations=6, validation_rows=50).model_dump()},
    )  # fmt: skip
    data = datasets.load("8gaussians")
    model, settings = prepared(case, data)
    history = train(model, data, case, settings)
    kept = seconds.kept(model, history)
    assert {0, 12} <= history.snapshots.keys()
    assert 3 <= len(history.snapshots) <= SNAPSHOTS + 1
    assert kept[seconds.EVALUATIONS].sum(0).tolist() == list(history.evaluations)
    for updates in seconds.updates(case, data, kept).values():
        before = {n: p.detach().clone() for n, p in updates.state.flow.named_parameters()}
        updates()
        updates()
        assert len(updates.calls) == 2
        assert all(row and all(seconds > 0 for *_, seconds in row) for row in updates.calls)
        if flow != "glow":  # ActNorm takes its first values from data
            after = dict(updates.state.flow.named_parameters())
            assert all(torch.equal(before[n], after[n]) for n in before)
    result = timed(case, data, kept, 0.05)
    until = result.arrays["validation_seconds"]
    assert len(until) == len(history.validated)
    assert until[0] == 0
    assert (np.diff(until) > 0).all()
    assert until[-1] == pytest.approx(result.metrics["train_seconds"])
    total = sum(count for *_, count in result.notes["update_seconds"])
    assert total >= 3 * len(history.snapshots)
