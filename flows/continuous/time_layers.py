"""Affine layers whose weights depend on time: how t enters a vector field, by name.

The kinds are those of FFJORD's released code (Grathwohl et al., FFJORD, 2018, arXiv:1810.01367).
At any one t each of them is an affine map of x, and ``at(t)`` is that map: the closed form of a
trace is made of these. ``of_rows(t, x)`` has one t for each row.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Ignore(nn.Linear):
    """W x + b, whatever t is."""

    steady = True  # whether the weight is the same at every t

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (out, in) and bias (out,) in force at time t."""
        return self.weight, self.bias

    def of_rows(self, t: Tensor, x: Tensor) -> Tensor:
        """(N, in) -> (N, out) with a time for each row, (N, 1)."""
        return F.linear(x, self.weight, self.bias)


class Concat(Ignore):
    """W x + b + v t: a linear layer of x and t together."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.shift = nn.Parameter(torch.empty(outputs).uniform_(-1, 1) / (inputs + 1) ** 0.5)

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (out, in) and bias (out,) in force at time t."""
        return self.weight, self.bias + self.shift * t

    def of_rows(self, t: Tensor, x: Tensor) -> Tensor:
        """(N, in) -> (N, out) with a time for each row, (N, 1)."""
        return super().of_rows(t, x) + self.shift * t


class Squash(Ignore):
    """(W x + b) σ(a t + c)."""

    steady = False

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.gate = nn.Linear(1, outputs)

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (out, in) and bias (out,) in force at time t."""
        gate = torch.sigmoid(self.gate(t.reshape(1)))
        return self.weight * gate[:, None], self.bias * gate

    def of_rows(self, t: Tensor, x: Tensor) -> Tensor:
        """(N, in) -> (N, out) with a time for each row, (N, 1)."""
        return super().of_rows(t, x) * torch.sigmoid(self.gate(t))


class ConcatSquash(Concat):
    """(W x + b) σ(a t + c) + v t."""

    steady = False

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.gate = nn.Linear(1, outputs)

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (out, in) and bias (out,) in force at time t."""
        gate = torch.sigmoid(self.gate(t.reshape(1)))
        return self.weight * gate[:, None], self.bias * gate + self.shift * t

    def of_rows(self, t: Tensor, x: Tensor) -> Tensor:
        """(N, in) -> (N, out) with a time for each row, (N, 1)."""
        gate = torch.sigmoid(self.gate(t))
        return F.linear(x, self.weight, self.bias) * gate + self.shift * t


class Hyper(nn.Module):
    """W(t) x + b(t): all weights are the output of a small network of t.

    Its last layer starts without weight, so that W and b start as those of a linear layer.
    """

    steady = False

    def __init__(self, inputs: int, outputs: int, width: int = 8) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.net = nn.Sequential(
            nn.Linear(1, width), nn.Tanh(), nn.Linear(width, outputs * (inputs + 1))
        )
        last = self.net[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]  # a Linear
        nn.init.uniform_(last.bias, -(inputs**-0.5), inputs**-0.5)  # type: ignore[arg-type]  # too

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (out, in) and bias (out,) in force at time t; with a leading N for t (N, 1)."""
        weights = self.net(t.reshape(-1, 1)).unflatten(1, (self.outputs, self.inputs + 1))
        weights = weights if t.dim() else weights[0]
        return weights[..., :-1], weights[..., -1]

    def of_rows(self, t: Tensor, x: Tensor) -> Tensor:
        """(N, in) -> (N, out) with a time for each row, (N, 1)."""
        weight, bias = self.at(t)
        return (weight @ x[:, :, None])[..., 0] + bias


class Blend(nn.Module):
    """(1 - t) (W₀ x + b₀) + t (W₁ x + b₁): from one linear layer at t = 0 to another at t = 1."""

    steady = False

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.start, self.end = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (out, in) and bias (out,) in force at time t."""
        start, end = self.start, self.end
        return torch.lerp(start.weight, end.weight, t), torch.lerp(start.bias, end.bias, t)

    def of_rows(self, t: Tensor, x: Tensor) -> Tensor:
        """(N, in) -> (N, out) with a time for each row, (N, 1)."""
        return torch.lerp(self.start(x), self.end(x), t)


TimeName = Literal["ignore", "concat", "squash", "concatsquash", "hyper", "blend"]

TIME: dict[TimeName, type[nn.Module]] = {
    "ignore": Ignore,
    "concat": Concat,
    "squash": Squash,
    "concatsquash": ConcatSquash,
    "hyper": Hyper,
    "blend": Blend,
}
