"""Costs grow with D as the docstrings say, and every family learns a Gaussian it can represent."""

from __future__ import annotations

import inspect
import math
import re

import pytest
import torch

import flows
from benchmarks.measure.operations import Operations
from flows.continuous.flow_matching import FlowMatching
from flows.preprocessing import Whitening

STATED = re.compile(r"Growth in D at fixed width: log_prob (\d), sampling (\d)\.")
DIMS = (256, 1024)
SIZES = {"hidden": 4, "depth": 1, "layers": 1}
OURS = flows.own()


def _stated(name: str) -> tuple[int, int]:
    match = STATED.search(inspect.getdoc(flows.members[name].factory) or "")
    assert match, f"the docstring of {name} does not say how its cost grows with D"
    return int(match[1]), int(match[2])


def _flops(name: str, dim: int) -> tuple[float, float]:
    """FLOPs of log_prob of two rows and of two samples, an evaluation of the field for an ODE."""
    torch.manual_seed(0)
    flow = flows.build(name, dim, **flows.members[name].applicable(SIZES))
    if flows.members.module_of(name).startswith("flows.continuous"):
        flow = flow.using(solver={"method": "euler", "step_size": 1.0})
    x = torch.randn(2, dim)
    counts = []
    for call in (lambda: flow.log_prob(x), lambda: flow.sample(2)):
        with torch.no_grad(), flows.count_nfe(flow) as nfe, Operations() as operations:
            call()
        counts.append(operations.flops / max(1, nfe.forward))
    return counts[0], counts[1]


@pytest.mark.parametrize("name", OURS)
def test_growth_is_as_stated(name: str) -> None:
    """The exponent of D between two large sizes, rounded, is the one of the docstring."""
    small, large = (_flops(name, dim) for dim in DIMS)
    for stated, low, high in zip(_stated(name), small, large, strict=True):
        measured = math.log(high / low) / math.log(DIMS[1] / DIMS[0])
        assert measured == pytest.approx(stated, abs=0.3)


TRAINED = {"hidden": 32, "depth": 2, "layers": 2}
STEPS = {"method": "rk4", "step_size": 0.25, "gradient": "backprop"}


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_a_narrow_gaussian_is_learned(name: str) -> None:
    """Maximum likelihood on N(0, 0.1² I₂) reaches the true 1.767 nats within 0.02."""
    torch.manual_seed(0)
    truth = torch.distributions.Normal(torch.zeros(2), 0.1)
    entropy = truth.entropy().sum().item()
    assert -entropy == pytest.approx(1.767, abs=1e-3)
    flow = flows.build(name, 2, **flows.members[name].applicable(TRAINED))
    solved = flows.members.module_of(name).startswith("flows.continuous")
    if solved:
        flow = flow.using(solver=STEPS)
    if isinstance(flow, FlowMatching):  # a regression in the data's units
        flow.prepend(Whitening.fit(truth.sample((1000,))))
    flow.initialize(truth.sample((1000,)))
    updates = 400
    optimiser = torch.optim.Adam(flow.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    for _ in range(updates):
        optimiser.zero_grad()
        flow.loss(truth.sample((256,))).backward()
        optimiser.step()
        schedule.step()
    x = truth.sample((5000,))
    # by steps that are controlled: those of the training may find too much, by whole nats
    exact = flow.using(trace="exact", solver={"method": "dopri5"} if solved else None)
    with torch.no_grad():  # against the truth of the same rows: without the noise of the test set
        gap = (truth.log_prob(x).sum(1) - exact.log_prob(x)).mean().item()
    assert -1e-3 < gap < 0.02, f"{-entropy - gap:.3f} nats"
