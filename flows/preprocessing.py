"""Fixed Bijections that are fitted to training data and precede a learned flow, whatever it is.

Each is counted: after `Flow.prepend` a density is one of the raw data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Self

import numpy as np
import torch
from nflows.transforms import CompositeTransform
from scipy import special
from torch import Tensor, nn

from flows.linalg import widened

KERNEL = 0.1  # bandwidth of the density of log radii, over their standard deviation
KNOTS = 100  # of the curve, at most: quantiles of the radii
RADII = 20_000  # quantiles that the kernel density is made of, where there are more rows


class Preprocessing(nn.Module):
    """A Bijection without parameters that is fitted to data."""


class _Affine(Preprocessing):
    """An affine map: ``mean`` (D,), and a ``factor`` of the data's spread."""

    mean: Tensor
    factor: Tensor

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("factor", factor)


class Standardization(_Affine):
    """z = (x - mean) / factor of each column: a Bijection; ``factor`` is (D,)."""

    @classmethod
    def fit(cls, x: Tensor) -> Self:
        """From data (N, D), in float64; ValueError for a column that is constant."""
        data = _checked(x)
        scale, mean = torch.std_mean(data, 0)
        constant = scale <= 10 * torch.finfo(x.dtype).eps * data.square().mean(0).sqrt()
        for column in torch.nonzero(constant).flatten().tolist():
            raise ValueError(f"cannot standardize: column {column} is constant")
        return cls(mean.to(x), scale.to(x))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x - self.mean) / self.factor, -self.factor.log().sum().expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.mean + z * self.factor, self.factor.log().sum().expand(len(z))


class Whitening(_Affine):
    """z = C⁻¹ (x - mean) with C Cᵀ the covariance: a Bijection without parameters.

    ``factor`` (D, D) is the lower triangular C. The log-determinant -Σ log C_ii is counted, so
    densities stay densities of the raw data.
    """

    @classmethod
    def fit(cls, x: Tensor) -> Self:
        """From data (N, D), in float64; ValueError where the covariance is singular."""
        data = _checked(x)
        covariance = data.T.cov().reshape(x.shape[1], x.shape[1])
        factor, info = torch.linalg.cholesky_ex(covariance)
        # rounding of a column that the others determine: in the factorisation, and in the data
        rounding = 10 * len(covariance) * torch.finfo(data.dtype).eps * covariance.diagonal()
        rounding += (10 * torch.finfo(x.dtype).eps) ** 2 * data.square().mean(0)
        within = torch.nonzero(factor.diagonal().square() <= rounding).flatten().tolist()
        if info.item() or within:
            column = info.item() - 1 if info.item() else within[0]
            raise ValueError(f"cannot whiten: the covariance is singular at column {column}")
        return cls(data.mean(0).to(x), factor.to(x))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        solve = partial(torch.linalg.solve_triangular, upper=False)
        z = widened(solve, self.factor, (x - self.mean).T).T
        return z, (-self._logdet()).expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.mean + z @ self.factor.T, self._logdet().expand(len(z))

    def _logdet(self) -> Tensor:
        return self.factor.diagonal().log().sum()


class RadialGaussianization(Preprocessing):
    """z' = z r'/r with r = ‖z‖ and log r' a monotone curve of log r: the direction stays.

    r' is distributed as the norm of D normal numbers, so that data that is elliptically symmetric
    with heavy tails, such as patches of images, becomes normal. The curve is rational-quadratic
    between ``knots``, once continuously differentiable, of slope one towards the origin and a line
    beyond the last knot. Lyu and Simoncelli, Nonlinear Extraction of Independent
    Components of Natural Images Using Radial Gaussianization, Neural Computation 21, 2009; Gregory
    and Delbourgo, Piecewise Rational Quadratic Interpolation to Monotonic Data, 1982.
    """

    knots: Tensor

    def __init__(self, knots: Tensor) -> None:
        """``knots`` (3, K): log r, log r' and the slope there, all of them rising or positive."""
        super().__init__()
        self.register_buffer("knots", knots)

    @classmethod
    def fit(cls, z: Tensor) -> Self:
        """From whitened data (N, D), by a kernel density of log r, in float64.

        ValueError where all rows are at one distance from the origin.
        """
        data = _checked(z)
        dim = data.shape[1]
        radii = data.square().sum(1)
        logs = (0.5 * radii[radii > 0].log()).sort().values.numpy()
        logs = logs[np.linspace(0, len(logs) - 1, min(len(logs), RADII)).round().astype(int)]
        spread = logs.std() if len(logs) else 0.0
        if not spread > 1e-9:
            raise ValueError("cannot map radii: all rows are at one distance from their mean")
        bandwidth = KERNEL * spread
        x = _apart(np.quantile(logs, np.linspace(0, 1, KNOTS)), bandwidth / 2)
        steps = (x[:, None] - logs) / bandwidth
        below, above = special.ndtr(steps).mean(1), special.ndtr(-steps).mean(1)
        density = np.exp(-0.5 * steps**2).mean(1) / (bandwidth * np.sqrt(2 * np.pi))
        half = np.where(  # half the square of r', each from the tail that has the digits
            below < above, special.gammaincinv(dim / 2, below), special.gammainccinv(dim / 2, above)
        )
        # the logarithm of the density of log r' of D normal numbers
        normal = np.log(2) + dim / 2 * np.log(half) - half - special.gammaln(dim / 2)
        knots = np.stack([x, 0.5 * np.log(2 * half), density / np.exp(normal)])
        ends = [_beyond(knots[:, 0], -spread, 1.0), _beyond(knots[:, -1], spread, 1.0)]
        return cls(torch.from_numpy(np.column_stack([ends[0], knots, ends[1]])).to(z))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logs = _log_radius(x)
        images, slope = self._curve(logs, self._bin(logs, 0))
        growth = images - logs
        return x * growth.exp()[:, None], x.shape[1] * growth + slope.log()

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logs = _log_radius(z)
        at = self._bin(logs, 1)
        x0, y0, w, h, d0, d1 = at
        chord = h / w
        rise = (logs - y0).clamp(h.new_zeros(()), h)
        bend = rise * (d0 + d1 - 2 * chord)
        a, b, c = h * (chord - d0) + bend, h * d0 - bend, -chord * rise
        root = (b**2 - 4 * a * c).clamp(min=torch.finfo(z.dtype).tiny).sqrt()
        sources = x0 + (2 * c / (-b - root)).clamp(0, 1) * w
        beyond = logs - y0 - rise  # of the ends, where the curve is a line
        sources = sources + beyond / torch.where(beyond < 0, d0, d1)
        images, slope = self._curve(sources, at)
        sources = sources - (images - logs) / slope  # what rounding has spoilt of the root
        growth = sources - logs
        return z * growth.exp()[:, None], z.shape[1] * growth - slope.log()

    def _bin(self, value: Tensor, axis: int) -> tuple[Tensor, ...]:
        """The corner, width, height and slopes of each value's bin along an axis of the knots."""
        index = torch.searchsorted(self.knots[axis, 1:-1].contiguous(), value.detach(), right=True)
        x0, y0, d0 = self.knots[:, index]
        x1, y1, d1 = self.knots[:, index + 1]
        return x0, y0, x1 - x0, y1 - y0, d0, d1

    def _curve(self, x: Tensor, at: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The curve and its slope at x, in its bin."""
        x0, y0, w, h, d0, d1 = at
        chord = h / w
        theta = ((x - x0) / w).clamp(0, 1)
        beyond = x - x0 - theta * w
        more, both = 1 - theta, theta * (1 - theta)
        below = chord + (d0 + d1 - 2 * chord) * both
        y = y0 + h * (chord * theta**2 + d0 * both) / below
        slope = chord**2 * (d1 * theta**2 + 2 * chord * both + d0 * more**2) / below**2
        return y + beyond * torch.where(beyond < 0, d0, d1), slope


def _log_radius(x: Tensor) -> Tensor:
    return 0.5 * x.square().sum(1).clamp(min=torch.finfo(x.dtype).tiny).log()


def _apart(values: np.ndarray, gap: float) -> np.ndarray:
    """Those of rising values that are at least a gap above the one before."""
    kept = [values[0]]
    for value in values[1:]:
        if value - kept[-1] >= gap:
            kept.append(value)
    return np.array(kept)


def _beyond(knot: np.ndarray, way: float, slope: float) -> np.ndarray:
    """A knot farther out, by way, from which the curve is a line of at most the given slope."""
    x, y, steep = knot
    slope = slope if way < 0 else min(slope, steep)
    return np.array([x + way, y + way * (steep + slope) / 2, slope])


def _checked(x: Tensor) -> Tensor:
    """Data (N, D) in float64; ValueError for too few rows, and for values that are not finite."""
    if x.dim() != 2 or len(x) <= x.shape[1]:
        raise ValueError(
            f"a preprocessing of (N, D) data needs more rows than columns, got {tuple(x.shape)}"
        )
    data = x.detach().double().cpu()
    if not bool(torch.isfinite(data).all()):
        raise ValueError("cannot fit a preprocessing: the data has NaN or infinity")
    return data


def _radial(x: Tensor) -> nn.Module:
    whitening = Whitening.fit(x)
    radial = RadialGaussianization.fit(whitening(x)[0])
    composed: nn.Module = CompositeTransform([whitening, radial])
    return composed


FITS: dict[str, Callable[[Tensor], nn.Module]] = {
    "standardize": Standardization.fit,
    "whiten": Whitening.fit,
    "radial": _radial,
}


def fit(name: str, x: Tensor) -> nn.Module:
    """The Bijection of a name, fitted to training data x (N, D), for `Flow.prepend`.

    "standardize": each column to mean zero and variance one; "whiten": all of them to covariance
    one; "radial": whitened, then the distance from the origin made that of normal numbers
    (`RadialGaussianization`). Raises ValueError for an unknown name, too few rows, NaN, and data
    without the spread that is to become one.
    """
    if name not in FITS:
        raise ValueError(f"unknown preprocessing {name!r}; choose from: {', '.join(FITS)}")
    return FITS[name](x)
