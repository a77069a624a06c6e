"""Couplings and autoregressive maps, repaired."""

from __future__ import annotations

import math
from typing import Any

import torch
from nflows import transforms
from torch import Tensor, nn
from torch.nn import functional as F

from flows.bijection import concrete
from flows.discrete.splines import Spline

MISSED = 16  # error of a spline's inverse, at most, in roundings of the tail bound


class _Coupling:
    """Mixin of the couplings: one permutation brings the columns that stay to the front.

    The original selects, and later writes, both groups of columns by index, and adds up the
    gradients by index.
    """

    identity_features: Any
    transform_features: Any

    def __init__(self: Any, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name in ("_order", "_places"):
            self.register_buffer(name, None, persistent=False)
        self._arrange()

    def _arrange(self) -> None:
        self._order = torch.cat([self.identity_features, self.transform_features])
        self._places = torch.argsort(self._order)

    def _load_from_state_dict(self: Any, *args: Any) -> None:
        super()._load_from_state_dict(*args)  # type: ignore[misc]  # of nn.Module
        self._arrange()

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to noise: (N, D) -> (N, D), (N,)."""
        return self._couple("forward", inputs, context)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data: (N, D) -> (N, D), (N,)."""
        return self._couple("inverse", inputs, context)

    def _couple(
        self: Any, direction: str, x: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if self.unconditional_transform is not None or x.dim() != 2:  # images
            images: tuple[Tensor, Tensor] = getattr(super(), direction)(x, context)
            return images
        sizes = (len(self.identity_features), len(self.transform_features))
        kept, changed = x.index_select(1, self._order).split(sizes, 1)
        transform = getattr(self, f"_coupling_transform_{direction}")
        changed, ladj = transform(changed, self.transform_net(kept, context))
        return torch.cat([kept, changed], 1).index_select(1, self._places), ladj


class AffineCouplingTransform(_Coupling, transforms.AffineCouplingTransform):
    """Affine coupling with scale exp(2 tanh(u / 2)), between 0.135 and 7.39, and 1 at u = 0.

    The original's scale, sigmoid(u + 2) + 0.001, is at most 1.001 and can only contract
    (https://github.com/bayesiains/nflows/issues/49). Dinh et al., Density estimation using Real
    NVP, 2017, arXiv:1605.08803.
    """

    def _coupling_transform_forward(
        self, inputs: Tensor, transform_params: Tensor
    ) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._shift_and_log_scale(transform_params)
        return torch.addcmul(shift, inputs, log_scale.exp()), log_scale.flatten(1).sum(1)

    def _coupling_transform_inverse(
        self, inputs: Tensor, transform_params: Tensor
    ) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._shift_and_log_scale(transform_params)
        return (inputs - shift) / log_scale.exp(), -log_scale.flatten(1).sum(1)

    def _shift_and_log_scale(self, transform_params: Tensor) -> tuple[Tensor, Tensor]:
        shift, unconstrained = transform_params.split(self.num_transform_features, 1)
        return shift, 2 * torch.tanh(unconstrained / 2)


class AdditiveCouplingTransform(_Coupling, transforms.AdditiveCouplingTransform):
    """Additive coupling; the original multiplies by ones, and sums their logarithms."""

    def _coupling_transform_forward(
        self, inputs: Tensor, transform_params: Tensor
    ) -> tuple[Tensor, Tensor]:
        return inputs + transform_params, inputs.new_zeros(len(inputs))

    def _coupling_transform_inverse(
        self, inputs: Tensor, transform_params: Tensor
    ) -> tuple[Tensor, Tensor]:
        return inputs - transform_params, inputs.new_zeros(len(inputs))


class _Masked:
    """Mixin of the autoregressive maps: a net that starts at zero, and its empty weights."""

    autoregressive_net: Any
    _elementwise_inverse: Any
    iterative = True  # a pass a column

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data, a pass a column: (N, D) -> (N, D), (N,)."""
        x, ladj = torch.zeros_like(inputs), inputs.new_zeros(len(inputs))
        for _ in range(inputs.shape[1]):
            x, ladj = self._elementwise_inverse(inputs, self.autoregressive_net(x, context))
        return x, ladj

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

    def _elementwise_forward(self, inputs: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self._scale_and_shift(parameters)
        return torch.addcmul(shift, inputs, scale), scale.log().sum(1)

    def _elementwise_inverse(self, inputs: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self._scale_and_shift(parameters)
        return (inputs - shift) / scale, -scale.log().sum(1)

    def _scale_and_shift(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = parameters.unflatten(1, (self.features, 2)).unbind(2)
        return F.softplus(scale + math.log(math.expm1(1 - self._epsilon))) + self._epsilon, shift


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
        if x.dtype != torch.float64 and torch.compiler.is_compiling():  # one path for all entries
            y, slope, _ = spline.double().inverse(x.double())
            return y.to(x), slope.to(x).sum(1)
        y, slope, missed = spline.inverse(x)
        off = ~(missed <= MISSED * torch.finfo(x.dtype).eps * self.tail_bound)
        if x.dtype != torch.float64 and concrete(off) and bool(off.any()):
            self.fallbacks += int(off.sum())
            exact, exact_slope, _ = spline.double().inverse(x.double())
            y, slope = torch.where(off, exact.to(y), y), torch.where(off, exact_slope.to(y), slope)
        return y, slope.sum(1)


class PiecewiseRationalQuadraticCouplingTransform(
    _Coupling, _Splined, transforms.PiecewiseRationalQuadraticCouplingTransform
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
