"""A field at one time and batch, with its Jacobian in float64, the reference of estimates."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

import flows
from benchmarks.core.case import Case
from benchmarks.measure.calls import prepare
from flows.continuous.cnf import CNF
from flows.continuous.point import Point
from flows.continuous.trace import Mode, Trace


@dataclass(frozen=True)
class Subject:
    """A field at one time t and batch x (N, D), and its Jacobian there in float64, (N, D, D)."""

    field: Any
    t: Tensor
    x: Tensor
    jacobian: Tensor

    @classmethod
    def of(cls, case: Case) -> Self:
        """Build the field of a case, weight matrices times the gain, at normal rows and t = 0.5."""
        generator = torch.Generator().manual_seed(case.seeds.data)
        x = torch.randn(case.batch, case.dim, generator=generator, dtype=getattr(torch, case.dtype))
        field, x = field_of(prepare(case, x)), x.to(case.device)
        with torch.no_grad():
            for parameter in field.parameters():
                parameter.mul_(case.settings["gain"] if parameter.dim() > 1 else 1)
            t = torch.tensor(0.5).to(x)
            double = Point(copy.deepcopy(field).double(), t.double(), x.double(), None)
            return cls(field, t, x, formed(double))

    @property
    def point(self) -> Point:
        """A new evaluation, which shares nothing with earlier ones."""
        return Point(self.field, self.t, self.x, None)

    @property
    def norm(self) -> float:
        """Root mean square over rows of the Jacobian's Frobenius norm, the unit of errors."""
        return self.jacobian.square().sum((1, 2)).mean().sqrt().item()

    def error(self, traces: Tensor) -> Tensor:
        """Return relative errors of traces (..., N) of the rows."""
        return (traces.double() - torch.einsum("nii->n", self.jacobian)) / self.norm

    def errors(self, trace: Trace, draws: int, seed: int, elements: int) -> Iterator[Tensor]:
        """Yield relative errors (draws, N) of estimates, each draw with its own noise.

        Rows are repeated to at most so many ``elements`` of noise at once, to bound the memory.
        """
        generator = torch.Generator().manual_seed(seed)
        at_once = max(1, elements // (self.x.numel() * trace.probes))
        for start in range(0, draws, at_once):
            x = self.x.repeat(min(at_once, draws - start), 1)
            noise = trace.draw(self.field, x, generator)
            estimates = trace.rate(Point(self.field, self.t, x, None), noise)[1]
            yield self.error(estimates.view(-1, len(self.x)))

    def variance(self, trace: Trace, matrices: Tensor) -> Tensor:
        """Return Hutchinson's variance (N,) by its closed formula, for matrices (N, K, K)."""
        squared = ((matrices + matrices.mT) / 2 / self.norm).square()
        diagonal = torch.einsum("nii->n", squared) if trace.noise == "rademacher" else 0
        return 2 * (squared.sum((1, 2)) - diagonal) / trace.probes


def field_of(flow: flows.Flow) -> nn.Module:
    """Return the vector field of a flow's first ODE; ValueError if it has none."""
    for module in flow.modules():
        if isinstance(module, CNF):
            return module.field
    raise ValueError("a trace needs a flow with a vector field, such as 'cnf'")


def formed(point: Point, mode: Mode = "backward") -> Tensor:
    """Form the Jacobian (N, D, D) by D products in one vectorised pass."""
    units = torch.eye(point.width).to(point.x)[:, None].expand(-1, len(point.x), -1)
    if mode == "forward":
        return point.jvp(units).permute(1, 2, 0)
    point.linearize()
    return point.vjp(units).transpose(0, 1)
