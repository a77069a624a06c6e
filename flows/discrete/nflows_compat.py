"""nflows transforms repaired for today's torch, and made fair where a default is not.

nflows 0.14 dates from 2020. Each class but `Spline` is the nflows class of the same name with its
faults mended; the tests show each fault in the original. Two faults need no class: nflows' base
distribution cannot sample in float64, and its ``sample`` cannot draw in parts with a context
(`flows.Flow` has a base of its own and takes one context row for all).
"""

import copy
import math
from collections.abc import Iterable
from functools import partial
from typing import Any, Self

import torch
from nflows import transforms
from torch import Tensor, nn
from torch.nn import functional as F

from flows.bijection import Pair, concrete, masked_out
from flows.compiled import of_rows
from flows.functorch import compiling
from flows.linalg import widened


class CompositeTransform(transforms.CompositeTransform):
    """Parts in their order from data to noise.

    The original adds the log-determinants one by one, to zeros; here they are summed at once.
    """

    @staticmethod
    def _cascade(inputs: Tensor, funcs: Iterable[Any], context: Tensor | None) -> Any:
        ladjs = []
        for function in funcs:
            inputs, ladj = function(inputs, context)
            ladjs.append(of_rows(ladj))
        return inputs, torch.stack(ladjs).sum(0) if ladjs else inputs.new_zeros(len(inputs))


class ReversePermutation(transforms.ReversePermutation):
    """Columns in reverse; the original copies them by index, and adds up its gradient by index."""

    @staticmethod
    def _permute(inputs: Tensor, permutation: Tensor, dim: int) -> Pair:
        return inputs.flip(dim), inputs.new_zeros(len(inputs))


MISSED = 16  # error of a spline's inverse, at most, in roundings of the tail bound


class _Coupling(transforms.coupling.CouplingTransform):
    """Mixin of the couplings: one permutation brings the columns that stay to the front.

    The original selects, and later writes, both groups of columns by index, and adds up the
    gradients by index.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name in ("_order", "_places"):
            self.register_buffer(name, None, persistent=False)
        self._arrange()

    def _arrange(self) -> None:
        self._order = torch.cat([self.identity_features, self.transform_features])
        self._places = torch.argsort(self._order)
        order, columns = self._order.tolist(), range(self.features)
        halves = [*columns[order[0] :: 2], *columns[1 - order[0] :: 2]]
        self._first = order[0] if halves == order else None

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._arrange()

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Pair:
        return self._couple("forward", inputs, context)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> Pair:
        return self._couple("inverse", inputs, context)

    def _couple(self, direction: str, x: Tensor, context: Tensor | None) -> Pair:
        if self.unconditional_transform is not None or x.dim() != 2:  # images
            return getattr(super(), direction)(x, context)
        transform = getattr(self, f"_coupling_transform_{direction}")
        if compiling() and self._first is not None:  # an index is a slow copy
            kept, changed = x[:, self._first :: 2], x[:, 1 - self._first :: 2]
            changed, ladj = transform(changed, self.transform_net(kept, context))
            return _alternating(*((changed, kept) if self._first else (kept, changed))), ladj
        sizes = (len(self.identity_features), len(self.transform_features))
        kept, changed = x.index_select(1, self._order).split(sizes, 1)
        changed, ladj = transform(changed, self.transform_net(kept, context))
        return torch.cat([kept, changed], 1).index_select(1, self._places), ladj


def _alternating(even: Tensor, odd: Tensor) -> Tensor:
    """The columns of two tensors in turn, the first ones first: (N, D or less) -> (N, D)."""
    pair = (even, F.pad(odd, (0, even.shape[1] - odd.shape[1])))
    if torch.is_grad_enabled():
        both = torch.stack(pair, 2).flatten(1)
    else:  # by columns, as all else is then
        both = torch.stack([part.T for part in pair], 1).flatten(0, 1).T
    return both[:, : even.shape[1] + odd.shape[1]]


class AffineCouplingTransform(_Coupling, transforms.AffineCouplingTransform):
    """Affine coupling with scale exp(2 tanh(u / 2)), between 0.135 and 7.39, and 1 at u = 0.

    The original's scale, sigmoid(u + 2) + 0.001, is at most 1.001 and can only contract
    (https://github.com/bayesiains/nflows/issues/49).
    """

    def _coupling_transform_forward(self, inputs: Tensor, transform_params: Tensor) -> Pair:
        shift, log_scale = self._shift_and_log_scale(transform_params)
        return torch.addcmul(shift, inputs, log_scale.exp()), log_scale.flatten(1).sum(1)

    def _coupling_transform_inverse(self, inputs: Tensor, transform_params: Tensor) -> Pair:
        shift, log_scale = self._shift_and_log_scale(transform_params)
        return (inputs - shift) / log_scale.exp(), -log_scale.flatten(1).sum(1)

    def _shift_and_log_scale(self, raw: Tensor) -> Pair:
        shift, unconstrained = raw.split(self.num_transform_features, 1)
        return shift, 2 * torch.tanh(unconstrained / 2)


class AdditiveCouplingTransform(_Coupling, transforms.AdditiveCouplingTransform):
    """Additive coupling; the original multiplies by ones, and sums their logarithms."""

    def _coupling_transform_forward(self, inputs: Tensor, transform_params: Tensor) -> Pair:
        return inputs + transform_params, inputs.new_zeros(len(inputs))

    def _coupling_transform_inverse(self, inputs: Tensor, transform_params: Tensor) -> Pair:
        return inputs - transform_params, inputs.new_zeros(len(inputs))


class _Masked(transforms.autoregressive.AutoregressiveTransform):
    """Mixin of the autoregressive maps: a net that starts at zero, and its empty weights."""

    iterative = "D passes"
    structural_zeros = property(masked_out)

    def __init__(self, features: int, hidden: int, **net: Any) -> None:
        super().__init__(features, hidden, use_residual_blocks=False, **net)
        nn.init.zeros_(self.autoregressive_net.final_layer.weight)
        nn.init.zeros_(self.autoregressive_net.final_layer.bias)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> Pair:
        """Noise to data, a pass a column: (N, D) -> (N, D), (N,)."""
        x, ladj = torch.zeros_like(inputs), inputs.new_zeros(len(inputs))
        for _ in range(inputs.shape[1]):
            x, ladj = self._elementwise_inverse(inputs, self.autoregressive_net(x, context))
        return x, ladj


class MaskedAffineAutoregressiveTransform(_Masked, transforms.MaskedAffineAutoregressiveTransform):
    """Affine autoregressive map with scale softplus(u + 0.540) + 0.001, which is 1 at u = 0.

    The original starts by contracting every column by 0.69.
    """

    def _elementwise_forward(self, inputs: Tensor, parameters: Tensor) -> Pair:
        scale, shift = self._scale_and_shift(parameters)
        return torch.addcmul(shift, inputs, scale), scale.log().sum(1)

    def _elementwise_inverse(self, inputs: Tensor, parameters: Tensor) -> Pair:
        scale, shift = self._scale_and_shift(parameters)
        return (inputs - shift) / scale, -scale.log().sum(1)

    def _scale_and_shift(self, parameters: Tensor) -> Pair:
        scale, shift = parameters.unflatten(1, (self.features, 2)).unbind(2)
        return F.softplus(scale + math.log(math.expm1(1 - self._epsilon))) + self._epsilon, shift


NARROWEST = 1e-3  # share of the interval that each bin has at least, in width and in height
FLATTEST = 1e-3  # smallest slope at a knot
UNIT_SLOPE = math.log(math.expm1(1 - FLATTEST))  # softplus of it, plus FLATTEST, is one


class Spline:
    """y(x) on [-bound, bound] by K bins, and y = x outside, for each entry of x apart.

    ``raw`` (..., 3K - 1) holds unconstrained widths, heights and inner slopes; zeros are the
    identity. Both directions return the result and log |dy/dx| or log |dx/dy|, shaped as x. The
    points ±bound belong to the tails, so that no rounding of the last knot matters, and every
    entry goes the same way, so that torch.func can map it. Durkan et al., Neural Spline Flows,
    2019, arXiv:1906.04032, equations 4 to 8.
    """

    def __init__(self, raw: Tensor, bound: float) -> None:
        bins = (raw.shape[-1] + 1) // 3
        sizes, slopes = raw.split((2 * bins, bins - 1), -1)
        inner = FLATTEST + F.softplus(slopes + UNIT_SLOPE)
        knots = _knots(sizes.unflatten(-1, (2, bins)), bound)
        self.bound = bound
        # (..., 3, K + 1): x, y and slope at each knot
        self.table = torch.cat([knots, F.pad(inner, (1, 1), value=1.0)[..., None, :]], -2)

    def double(self) -> Self:
        """The same curve, evaluated in float64."""
        other = copy.copy(self)
        other.table = self.table.double()
        return other

    def forward(self, x: Tensor) -> Pair:
        """y and log dy/dx."""
        inside, x0, y0, w, h, s, d0, d1 = self._bin(x, 0)
        rise, slope = _curve((x.clamp(-self.bound, self.bound) - x0) / w, h, s, d0, d1)
        return torch.where(inside, y0 + rise, x), torch.where(inside, slope.log(), 0.0)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x, log dx/dy, and by how much y(x) misses y: rounding may spoil the quadratic's root."""
        inside, x0, y0, w, h, s, d0, d1 = self._bin(y, 1)
        above = y.clamp(-self.bound, self.bound) - y0
        bend = above * (d0 + d1 - 2 * s)
        a, b, c = h * (s - d0) + bend, h * d0 - bend, -s * above
        root = (b**2 - 4 * a * c).clamp(min=torch.finfo(y.dtype).tiny).sqrt()
        theta = (2 * c / (-b - root)).clamp(0, 1)
        rise, slope = _curve(theta, h, s, d0, d1)
        ladj = torch.where(inside, -slope.log(), 0.0)
        return torch.where(inside, x0 + theta * w, y), ladj, (rise - above).abs()

    def _bin(self, value: Tensor, axis: int) -> tuple[Tensor, ...]:
        """Whether a value lies inside; its bin's corner, width, height, chord and slopes."""
        index = (value[..., None] >= self.table[..., axis, 1:-1]).sum(-1)
        ends = torch.stack((index, index + 1), -1)[..., None, :].expand(*index.shape, 3, 2)
        x0, x1, y0, y1, d0, d1 = self.table.gather(-1, ends).flatten(-2).unbind(-1)
        w, h = x1 - x0, y1 - y0
        return value.abs() < self.bound, x0, y0, w, h, h / w, d0, d1


def _knots(raw: Tensor, bound: float) -> Tensor:
    """Positions of K + 1 knots from -bound to bound: (..., K) -> (..., K + 1).

    The softmax is written out: torch's own is several times slower on the CPU where K is small.
    Like that one it is of float32 under autocast.
    """
    bins = raw.shape[-1]
    half, device = raw.dtype in (torch.bfloat16, torch.float16), raw.device.type
    if half and torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        raw = raw.float()
    knots = (raw - raw.detach().amax(-1, keepdim=True)).exp_().cumsum(-1)
    knots = knots / knots[..., -1:]
    least = 2 * bound * NARROWEST
    options: Any = {"dtype": knots.dtype, "device": knots.device}
    lowest = torch.linspace(least - bound, bins * least - bound, bins, **options)
    knots = torch.add(lowest, knots, alpha=2 * bound - bins * least)
    knots = F.pad(knots, (1, -1), value=-bound)
    return F.pad(knots, (0, 1), value=bound)


def _curve(theta: Tensor, h: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Pair:
    """Rise above the bin's lower corner at the share theta of its width, and the slope there."""
    rest = 1 - theta
    square, mixed = theta * theta, theta * rest
    denominator = torch.addcmul(s, torch.sub(d0 + d1, s, alpha=2), mixed)
    rise = h * torch.addcmul(s * square, d0, mixed) / denominator
    slopes = torch.addcmul(torch.addcmul(d1 * square, s, mixed, value=2), d0, rest * rest)
    ratio = s / denominator
    return rise, slopes * ratio * ratio


class _Splined:
    """A rational-quadratic spline with linear tails in place of nflows' own.

    The original's inverse asserts that a discriminant is not negative, which rounding may make it
    (https://github.com/bayesiains/nflows/issues/87), misses its point by some 1e-3 where bins are
    steep, runs off its table at a wide tail bound, and cannot be mapped by torch.func. Here the
    entries whose inverse misses are solved again in float64, and ``fallbacks`` counts them.
    """

    num_bins: int
    tail_bound: float
    fallbacks = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"tails": "linear", **options})

    def _spline(self, x: Tensor, raw: Tensor, inverse: bool = False) -> Pair:
        """(N, d), (N, d (3K - 1)) -> (N, d), (N,)."""
        spline = Spline(raw.unflatten(1, (-1, 3 * self.num_bins - 1)), self.tail_bound)
        if not inverse:
            y, slope = spline.forward(x)
            return y, slope.sum(1)
        if x.dtype != torch.float64 and compiling():  # one path for all entries
            y, slope, _ = spline.double().inverse(x.double())
            return y.to(x), slope.to(x).sum(1)
        y, slope, missed = spline.inverse(x)
        off = ~(missed <= MISSED * torch.finfo(x.dtype).eps * self.tail_bound)
        if x.dtype != torch.float64 and concrete(off) and bool(off.any()):
            self.fallbacks += int(off.sum())
            exact, exact_slope, _ = spline.double().inverse(x.double())
            y, slope = torch.where(off, exact.to(y), y), torch.where(off, exact_slope.to(y), slope)
        return y, slope.sum(1)

    _coupling_transform = _elementwise = _spline


class PiecewiseRationalQuadraticCouplingTransform(
    _Coupling, _Splined, transforms.PiecewiseRationalQuadraticCouplingTransform
):
    """Spline coupling; ``mask``, net factory, ``num_bins`` and ``tail_bound`` as in nflows."""


class MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
    _Splined, _Masked, transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform
):
    """Spline autoregressive map; ``num_bins`` and ``tail_bound`` as in nflows."""


_solve_upper = partial(torch.linalg.solve_triangular, upper=True)
_solve_unit_lower = partial(torch.linalg.solve_triangular, upper=False, unitriangular=True)


class _Linear(transforms.linear.Linear):
    """Mixin of the linear layers: the cache of the original serves no call.

    It keeps its weight after an edit, a loaded state or a change of dtype, and a second backward
    pass through it fails. The inverse weights of the originals are made of a float32 identity on
    the CPU, or by functions that are gone.
    """

    weight_inverse_and_logabsdet = transforms.linear.Linear.weight_inverse_and_logabsdet

    def weight_inverse(self) -> Tensor:
        return widened(torch.linalg.inv, self.weight())

    def forward(self, inputs: Tensor, context: Any = None) -> Pair:
        return self.forward_no_cache(inputs)

    def inverse(self, inputs: Tensor, context: Any = None) -> Pair:
        return self.inverse_no_cache(inputs)


class NaiveLinear(_Linear, transforms.NaiveLinear):
    """A dense W with a determinant by LU, O(D³), in every pass and both directions.

    The original's inverse calls torch.solve, which is gone, and its constructor torch.qr.
    """

    def __init__(self, features: int) -> None:
        super().__init__(features, orthogonal_initialization=False)
        nn.init.orthogonal_(self._weight)

    def forward_no_cache(self, inputs: Tensor) -> Pair:
        outputs = F.linear(inputs, self._weight, self.bias)
        return outputs, self.logabsdet().expand(len(outputs))

    def inverse_no_cache(self, inputs: Tensor) -> Pair:
        outputs = widened(torch.linalg.solve, self._weight, (inputs - self.bias).T).T
        return outputs, (-self.logabsdet()).expand(len(outputs))

    def logabsdet(self) -> Tensor:
        return widened(lambda weight: torch.linalg.slogdet(weight)[1], self._weight)


class LULinear(_Linear, transforms.LULinear):
    """W = L U with a log-determinant in O(D), inverted by two triangular solves, O(N D²).

    The original calls torch.triangular_solve, deprecated
    (https://github.com/bayesiains/nflows/pull/58), and writes L and U by index, entry by entry.
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

    def forward_no_cache(self, inputs: Tensor) -> Pair:
        lower, upper, diagonal = self._factors()
        outputs = F.linear(F.linear(inputs, upper), lower, self.bias)
        return outputs, diagonal.log().sum().expand(len(inputs))

    def inverse_no_cache(self, inputs: Tensor) -> Pair:
        right = (inputs - self.bias).T
        lower, upper, _ = self._factors()
        outputs = widened(_solve_upper, upper, widened(_solve_unit_lower, lower, right)).T
        return outputs, (-self.logabsdet()).expand(len(inputs))

    def _factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """L (D, D), U (D, D) and the diagonal of U (D,)."""
        diagonal = self.upper_diag
        entries = torch.cat([self.lower_entries, self.upper_entries, diagonal])
        both = self._unit.scatter(0, self._places, entries)
        lower, upper = both.view(2, self.features, self.features).unbind()
        return lower, upper, diagonal


class QRLinear(_Linear, transforms.QRLinear):
    """W = Q R, Q of Householder reflections: O(N D² + K N D), log-determinant O(D).

    The original calls torch.triangular_solve, deprecated.
    """

    def inverse_no_cache(self, inputs: Tensor) -> Pair:
        half, _ = self.orthogonal.inverse(inputs - self.bias)
        outputs = widened(_solve_upper, self._create_upper(), half.T).T
        return outputs, (-self.logabsdet()).expand(len(outputs))


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
        return self.inverse(torch.eye(self.features).to(self.q_vectors))[0]


class ActNorm(transforms.ActNorm):
    """ActNorm of rows that ``initialize`` alone sets, and that refuses what it cannot normalise.

    The original initialises itself in the first forward pass in training mode, from whatever
    comes, and turns a constant column or a single row into NaN
    (https://github.com/bayesiains/nflows/issues/4).
    """

    initialized: Any

    def __init__(self, features: int) -> None:
        super().__init__(features)
        del self.initialized  # a buffer, which forward would read back at every call
        self.initialized = True  # keeps the original from initialising in forward

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Pair:
        outputs = torch.addcmul(self.shift, inputs, self.scale)
        return outputs, self.log_scale.sum().expand(len(inputs))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> Pair:
        return (inputs - self.shift) / self.scale, (-self.log_scale.sum()).expand(len(inputs))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Make the outputs of x (N, D) have mean 0 and variance 1; ValueError if they cannot."""
        if len(x) < 2:
            raise ValueError(f"ActNorm needs at least two rows to initialise, got {len(x)}")
        sd, mean = torch.std_mean(x, 0)
        if unusable := torch.nonzero(~(sd > 0) | ~torch.isfinite(sd)).flatten().tolist():
            raise ValueError(
                f"ActNorm cannot scale columns {unusable}: constant or not finite in {len(x)} rows"
            )
        self.log_scale.copy_(-sd.log())
        self.shift.copy_(-mean / sd)
