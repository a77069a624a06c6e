"""Flows that are broken on purpose: the kit catches each, by the row that should."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from nflows.transforms import CompositeTransform
from torch import Tensor, nn

import flows
from broken_flows import BROKEN, Broken, Unused
from flows import Flow
from flows.conformance import ROWS
from flows.continuous import CNF, MLPField
from flows.continuous import trace as traces


def test_every_row_has_a_flow_that_it_catches() -> None:
    """But for the estimates', whose test is below."""
    rows = {row.name for row in ROWS} | {"interface"}
    assert {row for _, row in BROKEN.values()} == rows - {"estimated log-determinant"}


@pytest.mark.filterwarnings("ignore:.*triangular_solve is deprecated")
@pytest.mark.parametrize("label", BROKEN)
def test_a_broken_flow_is_caught(label: str) -> None:
    """By the row that should, which is not among the failures of the sound flow."""
    make, row = BROKEN[label]
    flow = make()
    result = flows.check(flow, context=torch.randn(40, 3) if flow.context_dim else None)
    assert row in {failed.name for failed in result.failed}, str(result)
    assert not result.passed


def test_a_sound_flow_passes_and_is_left_alone() -> None:
    """An instance is judged as it is, in copies: nothing of it changes."""
    flow = Flow(Broken(lambda y, ladj: (y, ladj)), 3)
    before = copy.deepcopy(flow.state_dict())
    result = flows.check(flow)
    assert result.passed, str(result)
    assert (result.flow, result.dim) == ("Broken", 3)
    for name, tensor in flow.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert tensor.dtype == torch.float32
    assert all(parameter.grad is None for parameter in flow.parameters())


def test_the_note_names_the_parameter() -> None:
    """A parameter without gradient, and one whose gradient is wrong."""
    rows = {row.name: row for row in flows.check(Flow(Unused(), 3)).failed}
    assert rows["parameters without gradient"].note == "transform.idle"
    assert rows["parameters without gradient"].value == 1
    cut = flows.check(Flow(Broken(lambda y, ladj: (y, ladj.detach())), 3))
    rows = {row.name: row for row in cut.failed}
    note = rows["gradient for parameters"].note
    assert "unconstrained_upper_diag" in note
    assert "bias" not in note


def test_a_biased_estimate_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hutchinson's estimate times 1.05 does not pass for an estimate of the log-determinant."""
    sound = traces.TRACES["hutchinson"]

    def biased(*args: Any) -> tuple[Tensor, Tensor]:
        dx, trace = sound.rate(*args)
        return dx, 1.05 * trace + 0.05

    torch.manual_seed(0)
    flow = Flow(CNF(MLPField(3, hidden=8), trace="hutchinson"), 3)
    assert flows.check(flow).passed
    monkeypatch.setitem(traces.TRACES, "hutchinson", replace(sound, rate=biased))
    assert {row.name for row in flows.check(flow).failed} == {"estimated log-determinant"}


def test_state_that_is_not_saved_is_caught() -> None:
    """A random permutation kept outside the state: another build of the name has another."""

    class Shuffled(nn.Module):
        def __init__(self, dim: int) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.arange(dim) / 10)
            self.order = torch.randperm(dim)

        def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return (x * self.scale.exp())[:, self.order], self.scale.sum().expand(len(x))

        def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            x = z[:, self.order.argsort()] / self.scale.exp()
            return x, -self.scale.sum().expand(len(z))

    @flows.register("shuffled", uses=())
    def _shuffled(dim: int) -> nn.Module:
        """Scales and forgets how it permuted."""
        return CompositeTransform([Shuffled(dim), Shuffled(dim)])

    result = flows.check("shuffled", dim=10)
    assert {row.name for row in result.failed} == {"state through safetensors"}, str(result)
