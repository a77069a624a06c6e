"""Invertible linear layers, repaired."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from nflows import transforms
from torch import Tensor, nn
from torch.nn import functional as F

from flows.linalg import widened

_solve_upper = partial(torch.linalg.solve_triangular, upper=True)
_solve_unit_lower = partial(torch.linalg.solve_triangular, upper=False, unitriangular=True)


class _Linear:
    """Mixin of the linear layers: an optional cache that follows the parameters.

    The original keeps its cached weight after an edit, a loaded state or a change of dtype, and
    a second backward pass through it fails. Here it serves calls without gradient alone, and is
    renewed when a parameter has changed (except through ``.data``, which leaves no trace).
    """

    def forward(self: Any, inputs: Tensor, context: Any = None) -> tuple[Tensor, Tensor]:
        """Data to noise: (N, D) -> (N, D), (N,)."""
        original: Any = super()
        return _fresh(self, original.forward, self.forward_no_cache, inputs)

    def inverse(self: Any, inputs: Tensor, context: Any = None) -> tuple[Tensor, Tensor]:
        """Noise to data: (N, D) -> (N, D), (N,)."""
        original: Any = super()
        return _fresh(self, original.inverse, self.inverse_no_cache, inputs)


def _fresh(
    layer: Any,
    cached: Callable[[Tensor], tuple[Tensor, Tensor]],
    direct: Callable[[Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
) -> tuple[Tensor, Tensor]:
    plain = not layer.using_cache or torch.is_grad_enabled()
    if plain or any(p.is_inference() for p in layer.parameters()):
        return direct(x)
    state = [(p.data_ptr(), p._version, p.dtype) for p in layer.parameters()]
    if state != getattr(layer, "cached_state", None):
        layer.cache.invalidate()
        layer.cached_state = state
    return cached(x)


class NaiveLinear(_Linear, transforms.NaiveLinear):
    """A dense W with a determinant by LU, O(D³), in every pass and both directions.

    The original's inverse calls torch.solve, which is gone, and its constructor torch.qr.
    """

    def __init__(self, features: int) -> None:
        super().__init__(features, orthogonal_initialization=False)
        nn.init.orthogonal_(self._weight)

    def forward_no_cache(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) -> (N, D), (N,); O(D³ + N D²)."""
        outputs = F.linear(inputs, self._weight, self.bias)
        return outputs, self.logabsdet().expand(len(outputs))

    def inverse_no_cache(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) -> (N, D), (N,); O(D³ + N D²)."""
        outputs = widened(torch.linalg.solve, self._weight, (inputs - self.bias).T).T
        return outputs, (-self.logabsdet()).expand(len(outputs))

    def weight_inverse_and_logabsdet(self) -> tuple[Tensor, Tensor]:
        """W⁻¹ (D, D) and log |det W|; O(D³)."""
        return self.weight_inverse(), self.logabsdet()

    def weight_inverse(self) -> Tensor:
        """W⁻¹ (D, D); O(D³)."""
        return widened(torch.linalg.inv, self._weight)

    def logabsdet(self) -> Tensor:
        """log |det W|, a scalar; O(D³)."""
        return widened(lambda weight: torch.linalg.slogdet(weight)[1], self._weight)


class LULinear(_Linear, transforms.LULinear):
    """W = L U with a log-determinant in O(D), inverted by two triangular solves, O(N D²).

    The original calls torch.triangular_solve, deprecated
    (https://github.com/bayesiains/nflows/pull/58), and builds its identity in float32 on the CPU
    whatever the parameters are. It writes L and U by index, entry by entry.
    """

    _unit: Tensor
    _places: Tensor

    def __init__(self, features: int) -> None:
        super().__init__(features)
        unit = torch.stack([torch.eye(features), torch.zeros(features, features)])
        self.register_buffer("_unit", unit.flatten(), persistent=False)
        rows, columns = torch.cat(
            [
                torch.tril_indices(features, features, -1),
                torch.triu_indices(features, features, 1) + torch.tensor([[features], [0]]),
                torch.arange(features) + torch.tensor([[features], [0]]),
            ],
            1,
        )
        self.register_buffer("_places", rows * features + columns, persistent=False)

    def forward_no_cache(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) -> (N, D), (N,)."""
        lower, upper, diagonal = self._factors()
        outputs = F.linear(F.linear(inputs, upper), lower, self.bias)
        return outputs, diagonal.log().sum().expand(len(inputs))

    def inverse_no_cache(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) -> (N, D), (N,)."""
        outputs = self._solve((inputs - self.bias).T).T
        return outputs, (-self.logabsdet()).expand(len(inputs))

    def weight_inverse(self) -> Tensor:
        """W⁻¹ (D, D); O(D³)."""
        return self._solve(torch.eye(self.features).to(self.bias))

    def _create_lower_upper(self) -> tuple[Tensor, Tensor]:
        return self._factors()[:2]

    def _factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """L (D, D), U (D, D) and the diagonal of U (D,)."""
        diagonal = self.upper_diag
        entries = torch.cat([self.lower_entries, self.upper_entries, diagonal])
        both = self._unit.scatter(0, self._places, entries)
        lower, upper = both.view(2, self.features, self.features).unbind()
        return lower, upper, diagonal

    def _solve(self, right: Tensor) -> Tensor:
        lower, upper = self._create_lower_upper()
        half = widened(_solve_unit_lower, lower, right)
        return widened(_solve_upper, upper, half)


class QRLinear(_Linear, transforms.QRLinear):
    """W = Q R, Q of Householder reflections: O(N D² + K N D), log-determinant O(D).

    The original calls torch.triangular_solve, deprecated, and builds its identity in float32 on
    the CPU whatever the parameters are.
    """

    def inverse_no_cache(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) -> (N, D), (N,)."""
        half, _ = self.orthogonal.inverse(inputs - self.bias)
        outputs = widened(_solve_upper, self._create_upper(), half.T).T
        return outputs, (-self.logabsdet()).expand(len(outputs))

    def weight_inverse(self) -> Tensor:
        """W⁻¹ (D, D); O(D³ + K D²)."""
        identity = torch.eye(self.features).to(self.bias)
        upper = widened(_solve_upper, self._create_upper(), identity)
        inverse: Tensor = self.orthogonal(upper)[0]
        return inverse


class SVDLinear(_Linear, transforms.SVDLinear):
    """W = U S Vᵀ, U and V of Householder reflections: O(K N D), log-determinant O(D)."""


class HouseholderSequence(transforms.HouseholderSequence):
    """An orthogonal W of K Householder reflections: O(K N D), log-determinant 0.

    With K > 2D the original starts with reflections of length zero, and gives NaN; its ``matrix``
    is of float32 on the CPU whatever the parameters are.
    """

    def __init__(self, features: int, num_transforms: int) -> None:
        if num_transforms > 2 * features:
            raise ValueError(
                f"{num_transforms} reflections are more than twice the {features} columns: "
                f"{features} reach every orthogonal matrix"
            )
        super().__init__(features, num_transforms)

    def matrix(self) -> Tensor:
        """W (D, D); O(K D²)."""
        matrix: Tensor = self.inverse(torch.eye(self.features).to(self.q_vectors))[0]
        return matrix
