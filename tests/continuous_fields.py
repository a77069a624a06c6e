"""Small fields that the tests of continuous flows solve, and the settings that they share."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from flows import Flow
from flows.continuous import CNF, MLPField
from flows.continuous.point import Point
from flows.continuous.trace import TRACES, Trace

OF_AN_MLP = [name for name in TRACES if name not in ("hollow", "bottleneck")]
DOPRI5 = {"rtol": 1e-9, "atol": 1e-9}


class Rowwise(nn.Module):
    """f(t, x) = function(x), which knows neither its trace nor a context."""

    def __init__(self, function: Callable[[Tensor], Tensor], dim: int = 2) -> None:
        super().__init__()
        self.function, self.dim = function, dim

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.function(x)


class Waves(nn.Module):
    """A user's field with its own parameters: f(t, x) = A sin(B x + c t)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(dim)
        self.dim = dim

        def parameter(*shape: int) -> nn.Parameter:
            values = torch.randn(*shape, generator=generator, dtype=torch.float64)
            return nn.Parameter(values / dim**0.5)

        self.a, self.b, self.c = parameter(dim, dim), parameter(dim, dim), parameter(dim)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.sin(x @ self.b.T + self.c * t) @ self.a.T


def moved(field: nn.Module, spread: float = 0.3) -> Any:
    """The field in float64, its parameters moved by normal noise of torch's stream."""
    field.double()
    with torch.no_grad():
        for parameter in field.parameters():
            parameter += spread * torch.randn_like(parameter)
    return field


def mlp_field(dim: int, *, spread: float = 0.3, **options: Any) -> MLPField:
    torch.manual_seed(0)
    return moved(MLPField(dim, **{"hidden": 8, **options}), spread)


def mlp_flow(dim: int = 3, *, trace: str = "exact", solver: Any = DOPRI5, **options: Any) -> Flow:
    cnf = CNF(mlp_field(dim, **options), trace=trace, solver=solver)
    return Flow(cnf, dim, options.get("context_dim", 0))


def rate_of(trace: Any, field: Any, t: Tensor, x: Tensor, context=None, noise=None) -> Any:
    return Trace.of(trace).rate(Point(field, t, x, context), noise)
