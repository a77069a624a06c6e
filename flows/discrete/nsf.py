"""Neural spline flows: rational-quadratic splines by couplings or by masked nets."""

import math
from functools import partial
from itertools import chain
from typing import Any

import flows
from flows.discrete import nflows_compat as compat
from flows.discrete.autoregressive import made_options
from flows.discrete.coupling import coupling
from flows.discrete.glow import LinearName, linear_layer
from flows.discrete.nflows_compat import ActNorm, CompositeTransform
from flows.registry import SIZES, Sizes


def _spline(bins: int, tail_bound: float) -> dict[str, Any]:
    """nflows' options of a spline; ValueError for invalid ones."""
    most = round(1 / compat.NARROWEST) - 1
    if isinstance(bins, bool) or not isinstance(bins, int) or not 2 <= bins <= most:
        raise ValueError(f"a spline needs bins to be a whole number from 2 to {most}, got {bins!r}")
    if not isinstance(tail_bound, int | float) or not 0 < tail_bound < math.inf:
        raise ValueError(f"a spline needs tail_bound to be a positive number, got {tail_bound!r}")
    return {"num_bins": bins, "tail_bound": float(tail_bound)}


@flows.register("nsf_coupling", uses=SIZES)
def nsf_coupling(
    dim: int,
    *,
    sizes: Sizes = Sizes(),
    bins: int = 8,
    tail_bound: float = 5.0,
    linear: LinearName = "lu",
) -> CompositeTransform:
    """NSF (C): spline couplings, with ActNorm and a linear layer before each.

    z_a = x_a, and z_b is a spline of x_b with ``bins`` K whose knots depend on x_a, inside
    ±``tail_bound``; x_b outside. log_prob and sampling cost O(N L (D H K + ℓ H²)) and the linear
    layer of that name, as in Glow; the log-determinant O(N L D K). Durkan et al., Neural Spline
    Flows, 2019, arXiv:1906.04032.
    Growth in D at fixed width: log_prob 2, sampling 2.
    """
    splines = _spline(bins, tail_bound)
    kind = partial(compat.PiecewiseRationalQuadraticCouplingTransform, tails="linear", **splines)
    layers = range(sizes.layers)
    steps = ((ActNorm(dim), *linear_layer(linear, dim), coupling(kind, dim, sizes)) for _ in layers)
    return CompositeTransform(chain.from_iterable(steps))


@flows.register("nsf_ar", uses=SIZES)
def nsf_ar(
    dim: int,
    *,
    sizes: Sizes = Sizes(),
    bins: int = 8,
    tail_bound: float = 5.0,
    linear: LinearName = "lu",
) -> CompositeTransform:
    """NSF (AR): splines by masked nets, with ActNorm and a linear layer before each.

    z_i is a spline of x_i with ``bins`` K whose knots depend on x_<i, inside ±``tail_bound``; x_i
    outside. log_prob is one pass, O(N L (D H K + ℓ H²)) and the linear layer of that name, as in
    Glow; sampling takes D passes, one a column; the log-determinant O(N L D K). Durkan et al.,
    Neural Spline Flows, 2019, arXiv:1906.04032.
    Growth in D at fixed width: log_prob 2, sampling 2.
    """
    kind = compat.MaskedPiecewiseRationalQuadraticAutoregressiveTransform
    options = made_options(sizes) | _spline(bins, tail_bound)
    layers = range(sizes.layers)
    steps = ((ActNorm(dim), *linear_layer(linear, dim), kind(dim, **options)) for _ in layers)
    return CompositeTransform(chain.from_iterable(steps))
