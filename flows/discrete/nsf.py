"""Neural spline flows: rational-quadratic splines by couplings or by masked nets."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from torch import nn

import flows
from flows.discrete import nflows_compat as compat
from flows.discrete.autoregressive import made_options
from flows.discrete.coupling import LinearName, coupling, linear_layer
from flows.discrete.nflows_compat import ActNorm, CompositeTransform
from flows.registry import SIZES, Group, Sizes, check_positive, check_whole


@dataclass(frozen=True)
class Splines(Group):
    """The splines of a layer, by bins inside ±``tail_bound``, and the linear layer before it."""

    bins: int = 8
    tail_bound: float = 5.0
    linear: LinearName = "lu"

    def options(self) -> dict[str, Any]:
        """nflows' options of a spline; ValueError for invalid ones."""
        check_whole(2, round(1 / compat.NARROWEST) - 1, bins=self.bins)
        check_positive(tail_bound=self.tail_bound)
        return {"num_bins": self.bins, "tail_bound": float(self.tail_bound)}


@flows.register("nsf_coupling", uses=SIZES)
def nsf_coupling(
    dim: int, *, sizes: Sizes = Sizes(), splines: Splines = Splines()
) -> CompositeTransform:
    """NSF (C): spline couplings, with ActNorm and a linear layer before each.

    z_a = x_a, and z_b is a spline of x_b with ``bins`` K whose knots depend on x_a, inside
    ±``tail_bound``; x_b outside. log_prob and sampling cost O(N L (D H K + ℓ H²)) and the linear
    layer of that name, as in Glow; the log-determinant O(N L D K). Durkan et al., Neural Spline
    Flows, 2019, arXiv:1906.04032.
    Growth in D at fixed width: log_prob 2, sampling 2.
    """
    kind = partial(compat.PiecewiseRationalQuadraticCouplingTransform, **splines.options())
    return _stacked(dim, sizes, splines, partial(coupling, kind, dim, sizes))


@flows.register("nsf_ar", uses=SIZES)
def nsf_ar(dim: int, *, sizes: Sizes = Sizes(), splines: Splines = Splines()) -> CompositeTransform:
    """NSF (AR): splines by masked nets, with ActNorm and a linear layer before each.

    z_i is a spline of x_i with ``bins`` K whose knots depend on x_<i, inside ±``tail_bound``; x_i
    outside. log_prob is one pass, O(N L (D H K + ℓ H²)) and the linear layer of that name, as in
    Glow; sampling takes D passes, one a column; the log-determinant O(N L D K). Durkan et al.,
    Neural Spline Flows, 2019, arXiv:1906.04032.
    Growth in D at fixed width: log_prob 2, sampling 2.
    """
    kind = compat.MaskedPiecewiseRationalQuadraticAutoregressiveTransform
    options = made_options(sizes) | splines.options()
    return _stacked(dim, sizes, splines, partial(kind, dim, **options))


def _stacked(
    dim: int, sizes: Sizes, splines: Splines, step: Callable[[], nn.Module]
) -> CompositeTransform:
    layers = range(sizes.layers)
    steps = ((ActNorm(dim), *linear_layer(splines.linear, dim), step()) for _ in layers)
    return CompositeTransform(chain.from_iterable(steps))
