"""What the tests of nflows' transforms share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

Normal = Callable[..., Tensor]


def moved(transform: nn.Module, normal: Normal, spread: float = 0.3) -> nn.Module:
    """The transform with its parameters moved."""
    with torch.no_grad():
        for index, parameter in enumerate(transform.double().parameters()):
            parameter += spread * normal(*parameter.shape, seed=100 + index)
    return transform


def assert_bijection(transform: Any, x: Tensor, inverse: bool = True) -> None:
    z, ladj = transform.forward(x)
    for row in range(len(x)):
        jacobian = torch.autograd.functional.jacobian(
            lambda x: transform.forward(x[None])[0][0], x[row]
        )
        reference = torch.linalg.slogdet(jacobian)[1].item()
        assert ladj[row].item() == pytest.approx(reference, abs=1e-9)
    if inverse:
        back, opposite = transform.inverse(z)
        torch.testing.assert_close(back, x, atol=1e-8, rtol=0)
        torch.testing.assert_close(opposite, -ladj, atol=1e-8, rtol=0)
