"""Penalties on the path of a continuous flow: integrals beside log p, for training alone.

Finlay et al., How to Train Your Neural ODE, 2020, arXiv:2002.02798; Onken et al., OT-Flow, 2021,
arXiv:2006.00104.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from flows.continuous.point import Point
from flows.continuous.trace import Probes
from flows.counting import listening
from flows.flow import Flow
from flows.registry import check_choice


def kinetic(point: Point, probes: Probes) -> Tensor:
    """½ ‖f‖² of each row: straight paths at constant speed have the least of it."""
    return 0.5 * point.dx.square().sum(1)


def jacobian(point: Point, probes: Probes) -> Tensor:
    """An estimate of ‖∂f/∂x‖²_F of each row, the mean of ‖εᵀ ∂f/∂x‖² over the probes."""
    point.linearize()
    return torch.stack([point.vjp(probe).square().sum(1) for probe in probes]).mean(0)


def hjb(point: Point, probes: Probes) -> Tensor:
    """|∂Φ/∂t - ½ ‖∇Φ‖²|: how far a potential is from the Hamilton-Jacobi-Bellman equation.

    For fields f = -∇Φ that offer ``time_derivative(t, x)`` -> ∂Φ/∂t (N,).
    """
    field: Any = point.field
    if not hasattr(field, "time_derivative"):
        raise TypeError(f"regularizer 'hjb' needs a potential, but {type(field).__name__} has none")
    return (point.evaluate(field.time_derivative) - 0.5 * point.dx.square().sum(1)).abs()


Regularizer = Callable[[Point, Probes], Tensor]
REGULARIZERS: dict[str, Regularizer] = {"kinetic": kinetic, "jacobian": jacobian, "hjb": hjb}


def checked_weights(weights: Any) -> dict[str, float]:
    """Positive weights by name; ValueError for an unknown name or a negative weight."""
    for name, weight in dict(weights).items():
        check_choice("regularizer", name, REGULARIZERS)
        if not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise ValueError(f"the weight of regularizer {name!r} is from 0, got {weight!r}")
    return {name: float(weight) for name, weight in dict(weights).items() if weight > 0}


def collect(flow: nn.Module) -> AbstractContextManager[list[Tensor]]:
    """Collect the penalties (N,) of every solve within the block; elsewhere none is integrated."""
    return listening(flow, "penalties", [])


class Regularized(Flow):
    """A Flow that is trained on its negative log-likelihood and the penalties of its path."""

    objective = "likelihood and penalties"

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Mean of -log_prob plus the weighted integrals of the regularisers."""
        with collect(self) as penalties:
            log_prob = self.log_prob(x, context)
        return (torch.stack([-log_prob, *penalties]).sum(0)).mean()
