"""Couplings and autoregressive maps, repaired."""

from __future__ import annotations

import math
from typing import Any

import torch
from nflows import transforms
from torch import Tensor, nn

from flows.bijection import concrete
from flows.discrete.splines import Spline

MISSED = 16  # error of a spline's inverse, at most, in roundings of the tail bound


class AffineCouplingTransform(transforms.AffineCouplingTransform):
    """Affine coupling with scale exp(2 tanh(u / 2)), between 0.135 and 7.39, and 1 at u = 0.

    The original's scale, sigmoid(u + 2) + 0.001, is at most 1.001 and can only contract
    (https://github.com/bayesiains/nflows/issues/49). Dinh et al., Density estimation using Real
    NVP, 2017, arXiv:1605.08803.
    """

    def _scale_and_shift(self, transform_params: Tensor) -> tuple[Tensor, Tensor]:
        shift, unconstrained = transform_params.split(self.num_transform_features, 1)
        return torch.exp(2 * torch.tanh(unconstrained / 2)), shift


class _Masked:
    """Mixin of the autoregressive maps: a net that starts at zero, and its empty weights."""

    autoregressive_net: Any

    def _start_at_zero(self) -> None:
        nn.init.zeros_(self.autoregressive_net.final_layer.weight)
        nn.init.zeros_(self.autoregressive_net.final_layer.bias)

    @property
    def structural_zeros(self) -> set[str]:
        """Names of weights that their mask leaves no entry of, as at D = 1: no gradient comes."""
        layers = self.autoregressive_net.named_modules(prefix="autoregressive_net")
        return {f"{name}.weight" for name, m in layers if hasattr(m, "mask") and not m.mask.any()}


class MaskedAffineAutoregressiveTransform(_Masked, transforms.MaskedAffineAutoregressiveTransform):
    """Affine autoregressive map with scale softplus(u + 0.541) + 0.001, which is 1 at u = 0.

    The original starts by contracting every column by 0.69.
    Papamakarios et al., Masked Autoregressive Flow, 2017, arXiv:1705.07057.
    """

    def __init__(self, features: int, hidden: int, **net: Any) -> None:
        super().__init__(features, hidden, use_residual_blocks=False, **net)
        self._start_at_zero()

    def _unconstrained_scale_and_shift(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = parameters.unflatten(1, (self.features, 2)).unbind(2)
        return scale + math.log(math.expm1(1 - self._epsilon)), shift


class _Splined:
    """A rational-quadratic spline with linear tails in place of nflows' own.

    The original's inverse asserts that a discriminant is not negative, which rounding may make it
    (https://github.com/bayesiains/nflows/issues/87), misses its point by some 1e-3 where bins are
    steep, runs off its table at a wide tail bound, and cannot be mapped by torch.func. Here the
    entries whose inverse misses are solved again in float64, and ``fallbacks`` counts them.
    Durkan et al., Neural Spline Flows, 2019, arXiv:1906.04032.
    """

    tail_bound: float
    fallbacks = 0

    def _spline(self, x: Tensor, raw: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        """(N, d), (N, d, 3K - 1) -> (N, d), (N,)."""
        spline = Spline(raw, self.tail_bound)
        if not inverse:
            y, slope = spline.forward(x)
            return y, slope.sum(1)
        y, slope, missed = spline.inverse(x)
        off = ~(missed <= MISSED * torch.finfo(x.dtype).eps * self.tail_bound)
        if x.dtype != torch.float64 and concrete(off) and bool(off.any()):
            self.fallbacks += int(off.sum())
            exact, exact_slope, _ = spline.double().inverse(x.double())
            y, slope = torch.where(off, exact.to(y), y), torch.where(off, exact_slope.to(y), slope)
        return y, slope.sum(1)


class PiecewiseRationalQuadraticCouplingTransform(
    _Splined, transforms.PiecewiseRationalQuadraticCouplingTransform
):
    """Spline coupling; ``mask``, net factory, ``num_bins`` and ``tail_bound`` as in nflows."""

    def _coupling_transform(
        self, inputs: Tensor, transform_params: Tensor, inverse: bool = False
    ) -> tuple[Tensor, Tensor]:
        shape = (self.num_transform_features, 3 * self.num_bins - 1)
        return self._spline(inputs, transform_params.unflatten(1, shape), inverse)


class MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
    _Splined, _Masked, transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform
):
    """Spline autoregressive map; ``num_bins`` and ``tail_bound`` as in nflows."""

    def __init__(self, features: int, hidden: int, **net: Any) -> None:
        super().__init__(features, hidden, use_residual_blocks=False, tails="linear", **net)
        self._start_at_zero()

    def _elementwise(
        self, inputs: Tensor, autoregressive_params: Tensor, inverse: bool = False
    ) -> tuple[Tensor, Tensor]:
        shape = (inputs.shape[1], 3 * self.num_bins - 1)
        return self._spline(inputs, autoregressive_params.unflatten(1, shape), inverse)
