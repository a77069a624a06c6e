"""Velocity fields by the call conventions of other libraries: their densities, known exactly.

What stands in for the libraries' classes has their signatures. The adapters are those of the page.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from flows import Flow
from flows.continuous import CNF

PAGE = Path(__file__).parent.parent / "docs" / "velocity_fields.md"
DIM = 3
MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
FACTOR = torch.tensor([[0.8, 0.0, 0.0], [0.3, 0.5, 0.0], [-0.2, 0.4, 1.2]], dtype=torch.float64)
TRUTH = MultivariateNormal(MEAN, scale_tril=FACTOR)


def velocity(t: Tensor, x: Tensor) -> Tensor:
    """E[x₁ - x₀ | (1 - t) x₀ + t x₁ = x] of noise N(0, I) and data N(m, S), t of each row (N,)."""
    s, eye, t = FACTOR @ FACTOR.T, torch.eye(DIM, dtype=x.dtype), t[:, None, None]
    covariance = t**2 * s + (1 - t) ** 2 * eye
    centred = x[:, :, None] - t * MEAN[:, None]
    return MEAN + ((t * s - (1 - t) * eye) @ torch.linalg.solve(covariance, centred))[:, :, 0]


class Torchcfm(nn.Module):
    """As torchcfm's ``MLP``: x and t in one tensor (N, D + 1)."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == DIM + 1
        return velocity(x[:, -1], x[:, :-1])


class TorchWrapper(nn.Module):
    """As torchcfm's ``torch_wrapper``, which makes its nets fields of torchdyn's."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, t: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result: Tensor = self.model(torch.cat([x, t.repeat(x.shape[0])[:, None]], 1))
        return result


class Torchdyn(nn.Module):
    """As the field of torchdyn's ``NeuralODE``: a scalar t, and arguments that may be empty."""

    def forward(self, t: Tensor, x: Tensor, args: dict[str, Any] = {}) -> Tensor:  # noqa: B006
        assert args == {}
        assert t.dim() == 0
        return velocity(t.expand(len(x)), x)


class FlowMatchingNet(nn.Module):
    """As a net of flow_matching's examples: t of each row, and a condition by keyword."""

    def forward(self, x: Tensor, t: Tensor, label: int | None = None) -> Tensor:
        assert label == 3
        assert t.shape == (len(x),)
        return velocity(t, x)


class ModelWrapper(nn.Module):
    """As flow_matching's ``ModelWrapper``, which its solvers call by keywords."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, t: Tensor, **extras: Any) -> Tensor:
        result: Tensor = self.model(x=x, t=t, **extras)
        return result


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The names that the page's blocks define."""
    space: dict[str, Any] = {"__name__": "velocity_fields"}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S):
        if "class Concatenated" in code or "class ByName" in code or "import torch\n" in code:
            exec(compile(code, PAGE.name, "exec"), space)
    return space


FIELDS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "torchcfm": lambda page: page["Concatenated"](Torchcfm()),
    "torchcfm, wrapped": lambda page: TorchWrapper(Torchcfm()),
    "torchdyn": lambda page: Torchdyn(),
    "flow_matching": lambda page: page["ByName"](FlowMatchingNet(), label=3),
    "flow_matching, wrapped": lambda page: page["ByName"](ModelWrapper(FlowMatchingNet()), label=3),
}


@pytest.mark.parametrize("trace", ["exact", "basis"])
@pytest.mark.parametrize("name", FIELDS)
def test_the_density_is_the_known_one(name: str, trace: str, page: dict[str, Any]) -> None:
    """That of N(m, S), at its own samples and far off; the noise of its samples is standard."""
    torch.manual_seed(0)
    x = torch.cat([TRUTH.sample((20,)), 3 * torch.randn(5, DIM, dtype=torch.float64)])
    solver = {"rtol": 1e-9, "atol": 1e-9}
    flow = Flow(CNF(FIELDS[name](page), t0=1.0, t1=0.0, trace=trace, solver=solver), dim=DIM)
    with torch.no_grad():
        torch.testing.assert_close(flow.log_prob(x), TRUTH.log_prob(x), atol=1e-6, rtol=0)
        z = torch.linalg.solve_triangular(FACTOR, (x - MEAN).T, upper=False).T
        square = flow.to_noise(x).square().sum(1)
    torch.testing.assert_close(square, z.square().sum(1), atol=1e-6, rtol=1e-6)
