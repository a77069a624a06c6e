"""Velocity fields by the call conventions of other libraries: their densities, known exactly.

What stands in for the libraries' classes has their signatures. The adapters are those of the page,
and so are the trainings by the libraries themselves, where they are installed.
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
from torchdiffeq import odeint

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


def test_the_page_names_every_convention() -> None:
    """The table of adapters has the calls that are tested here."""
    text = PAGE.read_text()
    for call in ("MLP(cat([x, t], -1))", "torch_wrapper(net)(t, x)", "f(t, x, args={})"):
        assert f"`{call}`" in text
    assert "`velocity_model(x=..., t=..., **extras)`" in text


def _from_the_definition(space: dict[str, Any], x: Tensor) -> Tensor:
    """By torchdiffeq's fixed steps, with the trace of the dense Jacobian of every row."""
    net, one = space["net"], torch.tensor([1.0, 0.0], dtype=x.dtype)

    def rate(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        def field(row: Tensor) -> Tensor:
            result: Tensor = net(torch.cat([row, t[None]]))
            return result

        jacobians = torch.func.vmap(torch.func.jacrev(field))(state[0])
        return torch.func.vmap(field)(state[0]), torch.einsum("nii->n", jacobians)

    start, how = (x, torch.zeros_like(x[:, 0])), {"method": "rk4", "options": {"step_size": 0.02}}
    points, traces = odeint(rate, start, one, **how)
    return NOISE.log_prob(points[-1]).sum(1) + traces[-1]


def _by_flow_matching(space: dict[str, Any], x: Tensor) -> Tensor:
    """By its own solver of the likelihood."""
    from flow_matching.solver import ODESolver

    solver, noise = ODESolver(space["model"]), lambda z: NOISE.log_prob(z).sum(1)
    how = {"method": "dopri5", "step_size": None, "exact_divergence": True}
    log_prob: Tensor = solver.compute_likelihood(x, noise, rtol=1e-9, atol=1e-9, **how)[1]
    return log_prob


def _by_torchdyn(space: dict[str, Any], x: Tensor) -> Tensor:
    """By its NeuralODE, whose first column is minus the integral of the trace."""
    model = space["model"]
    model.atol = model.rtol = 1e-9
    z = model(torch.cat([torch.zeros(len(x), 1), x], 1))[1][-1].detach()
    return NOISE.log_prob(z[:, 1:]).sum(1) - z[:, 0]


NOISE = torch.distributions.Normal(0.0, 1.0)
TIGHT = {"rtol": 1e-9, "atol": 1e-9}
PACKAGES: dict[str, tuple[Callable[[dict[str, Any], Tensor], Tensor], dict[str, Any]]] = {
    # SELU has a kink, and so jumps in the trace, which cost adaptive steps their order
    "torchcfm": (_from_the_definition, {"method": "rk4", "step_size": 0.02}),
    "flow_matching.solver": (_by_flow_matching, TIGHT),
    "torchdyn.core": (_by_torchdyn, TIGHT),
}


@pytest.mark.filterwarnings("ignore")  # the packages' own notices
@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_trains_has_the_density_that_it_defines(
    package: str, page: dict[str, Any]
) -> None:
    """In float64, by the page's training; the rows are likelier for it."""
    pytest.importorskip(package, reason="the page trains by the package itself")
    blocks = re.findall(r"```python fragment\n(.*?)```", PAGE.read_text(), re.S)
    (code,) = (b for b in blocks if f"from {package.partition('.')[0]}" in b)
    torch.manual_seed(0)
    space = {**page, "data": torch.randn(64, 2) @ torch.tensor([[0.5, 0.3], [0.0, 0.4]]) + 1}
    exec(compile(code, PAGE.name, "exec"), {**space, "updates": 0}, untrained := {})
    exec(compile(code, PAGE.name, "exec"), space := {**space, "updates": 60})
    rows, (theirs, solver) = space["data"].double(), PACKAGES[package]
    first, flow = (s["flow"].double().using(solver=solver) for s in (untrained, space))
    with torch.no_grad():
        assert flow.log_prob(rows).mean() > first.log_prob(rows).mean() + 0.5
        log_prob = flow.log_prob(rows[:8])
    torch.set_default_dtype(torch.float64)
    try:
        expected = theirs(space, rows[:8])
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(log_prob, expected, atol=1e-6, rtol=0)
