"""Fixed Bijections that are fitted to training data and precede a learned flow, whatever it is.

Each is counted: after `Flow.prepend` a density is one of the raw data.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from nflows.transforms import CompositeTransform
from scipy import special
from torch import Tensor, nn

from flows.bijection import parts as bijections
from flows.linalg import widened

ALPHA = 0.05  # of an interval of the logit: its margin on either side of a column's bounds
SHIFT = 0.01  # of the logarithm, over the median distance from the bound
SKEWNESS = 1.0  # from which on a column has a long tail
IDENTITY = 6.0  # standard deviations within which tails are not compressed
KERNEL = 0.1  # bandwidth of the density of log radii, or of a column, over their standard deviation
KNOTS = 100  # of a curve, at most: quantiles of the radii, or of a column
RADII = 20_000  # quantiles that the kernel density is made of, where there are more rows
QUANTILES = 5_000  # the same of a column

Map = Callable[[Tensor], Tensor]


class Preprocessing(nn.Module):
    """A Bijection without parameters that is fitted to data.

    ``fit(x, support)`` makes one for data (N, D), in float64, and bounds (2, D) of its columns,
    infinite where there is none. It raises ValueError that names the column for values outside of
    them, and where the spread is missing that is to become one. ``columnwise`` are those that map
    each column by itself, and so its bounds too.
    """

    columnwise: ClassVar[bool] = False

    @classmethod
    def fit(cls, x: Tensor, support: Tensor | None = None) -> Self:
        raise NotImplementedError


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

    columnwise = True

    @classmethod
    def fit(cls, x: Tensor, support: Tensor | None = None) -> Self:
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
    """z = C⁻¹ (x - mean) with C Cᵀ the covariance, ``factor`` (D, D) its lower triangular C."""

    @classmethod
    def fit(cls, x: Tensor, support: Tensor | None = None) -> Self:
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


class _Columns(Preprocessing):
    """z = f((x - shift) / factor) in the columns that are ``active``; the others stay.

    f is monotone, and between its ``edges`` what a class says; beyond them it is its tangent, so
    that the map is a bijection of all of R^D, once continuously differentiable. All three buffers
    are (D,).
    """

    columnwise = True
    edges: ClassVar[tuple[float, float]] = (-1e12, 1e12)
    maps: ClassVar[tuple[Map, Map, Map]]  # f, its inverse, and the logarithm of its slope
    shift: Tensor
    factor: Tensor
    active: Tensor

    def __init__(self, shift: Tensor, factor: Tensor, active: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", shift)
        self.register_buffer("factor", factor)
        self.register_buffer("active", active)
        edges = torch.tensor(self.edges, dtype=torch.float64)
        self.ends: list[float] = self.maps[0](edges).tolist()

    @classmethod
    def _of(cls, x: Tensor, shift: Tensor, factor: Tensor, active: Tensor) -> Self:
        """In the dtype and on the device of x; what is not active is neither shifted nor scaled."""
        shift, factor = torch.where(active, shift, 0.0), torch.where(active, factor, 1.0)
        return cls(shift.to(x), factor.to(x), active.to(x.device))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        function, _, log_slope = self.maps
        u = (x - self.shift) / self.factor
        most = torch.finfo(x.dtype).max  # of float16 below the edges
        v = u.clamp(*(min(max(edge, -most), most) for edge in self.edges))
        rate = log_slope(v)
        z = function(v) + (u - v) * rate.exp()
        ladj = torch.where(self.active, rate - self.factor.log(), 0.0)
        return torch.where(self.active, z, x), ladj.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        _, inverse, log_slope = self.maps
        w = z.clamp(*self.ends)
        v = inverse(w)
        rate = log_slope(v)
        x = self.shift + (v + (z - w) * (-rate).exp()) * self.factor
        ladj = torch.where(self.active, self.factor.log() - rate, 0.0)
        return torch.where(self.active, x, z), ladj.sum(1)


class Logit(_Columns):
    """z = logit(α + (1 - 2α) (x - a) / (b - a)) of the columns with two finite bounds a < b.

    α = 0.05, as in Dinh, Sohl-Dickstein and Bengio, Density estimation using Real NVP, 2016,
    arXiv:1605.08803 (Papamakarios et al. 2017, arXiv:1705.07057, have 1e-6 for MNIST). So an
    interval wider by α / (1 - 2α), a share of 0.056, on either side goes to the line, and what
    a density has there is mass outside the support, which the kit reports. Within 1e-4 of its ends,
    at |z| > 9.2, and beyond them the map is a line: densities are finite, and all but zero, there.
    """

    edges = (1e-4, 1 - 1e-4)
    maps = (torch.logit, torch.sigmoid, lambda v: -v.log() - (-v).log1p())

    @classmethod
    def fit(cls, x: Tensor, support: Tensor | None = None) -> Self:
        """All bounds are 0 and 1 if there are none."""
        lower, upper = _bounds(x, support, (0.0, 1.0))
        factor = (upper - lower) / (1 - 2 * ALPHA)
        return cls._of(x, lower - ALPHA * factor, factor, torch.isfinite(factor))

    def outside(self, x: Tensor) -> Tensor:
        """Whether values (N, D) leave their bounds, beyond rounding: (N, K) of K such columns."""
        u = ((x - self.shift) / self.factor)[:, self.active]
        return (u - 0.5).abs() > 0.5 - ALPHA + 10 * torch.finfo(x.dtype).eps


class Log(_Columns):
    """z = log((x - a) / m + 0.01) of positive columns with a long tail.

    Those have a lower bound a and no upper one, or no bound and positive values alone (a = 0), and
    a skewness above one that the logarithm brings nearer to zero. m is the median of x - a, its
    mean where that is zero. So a density may reach 0.01 m below a; farther, and from 1e12 m on, the
    map is a line.
    """

    edges = (1e-6, 1e12)
    maps = (torch.log, torch.exp, lambda v: -v.log())

    @classmethod
    def fit(cls, x: Tensor, support: Tensor | None = None) -> Self:
        lower, upper = _bounds(x, support, (-torch.inf, torch.inf))
        data = x.detach().double().cpu()
        positive = torch.isfinite(lower) | (data > 0).all(0)
        rise = data - torch.where(torch.isfinite(lower), lower, 0.0)
        median = rise.median(0).values
        scale = torch.where(median > 0, median, rise.mean(0))
        before, after = (_skewness(column) for column in (rise, (rise / scale + SHIFT).log()))
        active = positive & torch.isinf(upper) & (before > SKEWNESS) & (before > after.abs())
        return cls._of(x, (data - rise)[0] - SHIFT * scale, scale, active)


class Asinh(_Columns):
    """z = asinh((x - median) / scale) of each column: tails of any weight become short.

    The scale is the interquartile range over that of N(0, 1), or the standard deviation where that
    is zero. From 1e12 scales on the map is a line.
    """

    maps = (torch.asinh, torch.sinh, lambda v: -torch.hypot(v, torch.ones_like(v)).log())

    @classmethod
    def fit(cls, x: Tensor, support: Tensor | None = None) -> Self:
        spread = Standardization.fit(x).factor.double().cpu()
        quarters = torch.from_numpy(np.quantile(_checked(x).numpy(), [0.25, 0.5, 0.75], 0))
        scale = (quarters[2] - quarters[0]) / 1.349
        scale = torch.where(scale > 0, scale, spread)
        return cls._of(x, quarters[1], scale, scale > 0)


def _tail(u: Tensor) -> Tensor:
    return (u.abs() - IDENTITY).relu()


class Clip(_Columns):
    """z = u within six standard deviations, and sign(u) (6 + log(1 + |u| - 6)) beyond.

    u = (x - mean) / standard deviation of each column: tails are compressed, and stay invertible.
    From 1e12 standard deviations on the map is a line.
    """

    maps = (
        lambda v: v.clamp(-IDENTITY, IDENTITY) + v.sign() * _tail(v).log1p(),
        lambda w: w.clamp(-IDENTITY, IDENTITY) + w.sign() * _tail(w).expm1(),
        lambda v: -_tail(v).log1p(),
    )

    @classmethod
    def fit(cls, x: Tensor, support: Tensor | None = None) -> Self:
        scaling = Standardization.fit(x)
        return cls(scaling.mean, scaling.factor, scaling.factor > 0)


class _Curves(Preprocessing):
    """Monotone curves, rational-quadratic between ``knots`` and lines beyond them.

    Once continuously differentiable. ``knots`` are (3, K) for one curve of values (N,), (3, D, K)
    for D curves of values (D, N): places, images and slopes, all of them rising or positive.
    Gregory and Delbourgo, Piecewise Rational Quadratic Interpolation to Monotonic Data, 1982.
    """

    knots: Tensor

    def __init__(self, knots: Tensor) -> None:
        super().__init__()
        self.register_buffer("knots", knots)

    def _image(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images of x, and the slopes there."""
        return self._curve(x, self._bin(x, 0))

    def _source(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """What has the image y, and the slopes there."""
        at = self._bin(y, 1)
        x0, y0, w, h, d0, d1 = at
        chord = h / w
        rise = (y - y0).clamp(h.new_zeros(()), h)
        bend = rise * (d0 + d1 - 2 * chord)
        a, b, c = h * (chord - d0) + bend, h * d0 - bend, -chord * rise
        root = (b**2 - 4 * a * c).clamp(min=torch.finfo(y.dtype).tiny).sqrt()
        sources = x0 + (2 * c / (-b - root)).clamp(0, 1) * w
        beyond = y - y0 - rise  # of the ends, where the curve is a line
        sources = sources + beyond / torch.where(beyond < 0, d0, d1)
        images, slope = self._curve(sources, at)
        return sources - (images - y) / slope, slope  # less what rounding has spoilt of the root

    def _bin(self, value: Tensor, axis: int) -> tuple[Tensor, ...]:
        """The corner, width, height and slopes of each value's bin along an axis of the knots."""
        edges = self.knots[axis, ..., 1:-1].contiguous()
        index = torch.searchsorted(edges, value.detach(), right=True)
        knots: Any = self.knots
        curve = [torch.arange(n, device=value.device)[:, None] for n in value.shape[:-1]]
        x0, y0, d0 = knots[(slice(None), *curve, index)]
        x1, y1, d1 = knots[(slice(None), *curve, index + 1)]
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


class RadialGaussianization(_Curves):
    """z' = z r'/r with r = ‖z‖ and log r' a monotone curve of log r: the direction stays.

    r' is distributed as the norm of D normal numbers, so that data that is elliptically symmetric
    with heavy tails, such as patches of images, becomes normal. The curve is of slope one towards
    the origin and a line beyond the last knot; ``knots`` (3, K) are log r, log r' and the slope.
    Lyu and Simoncelli, Nonlinear Extraction of Independent Components of Natural Images Using
    Radial Gaussianization, Neural Computation 21, 2009.
    """

    @classmethod
    def fit(cls, x: Tensor, support: Tensor | None = None) -> Self:
        """From whitened data, by a kernel density of log r."""
        data = _checked(x)
        half_dim = data.shape[1] / 2
        radii = data.square().sum(1)
        logs = _thinned((0.5 * radii[radii > 0].log()).sort().values.numpy(), RADII)
        spread = logs.std() if len(logs) else 0.0
        if not spread > max(1e-9, 10 * torch.finfo(x.dtype).eps):
            raise ValueError("cannot map radii: all rows are at one distance from their mean")

        def chi(below: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """log r' of D normal numbers, and the logarithm of its density."""
            halves = special.gammaincinv(half_dim, below), special.gammainccinv(half_dim, above)
            half = np.where(below < above, *halves)  # half the square of r'
            log_density = np.log(2) + half_dim * np.log(half) - half - special.gammaln(half_dim)
            return 0.5 * np.log(2 * half), log_density

        places = np.quantile(logs, np.linspace(0, 1, KNOTS))
        knots = _knots(logs, places, spread, chi, lambda first, last: (1.0, min(1.0, last)))
        return cls(torch.from_numpy(knots).to(x))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logs = _log_radius(x)
        images, slope = self._image(logs)
        growth = images - logs
        return x * growth.exp()[:, None], x.shape[1] * growth + slope.log()

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logs = _log_radius(z)
        sources, slope = self._source(logs)
        growth = sources - logs
        return z * growth.exp()[:, None], z.shape[1] * growth - slope.log()


class MarginalGaussianization(_Curves):
    """Each column by a monotone curve of its own to about N(0, 1), and a line beyond the data.

    ``knots`` are (3, D, K). The marginal step of Chen and Gopinath, Gaussianization, NeurIPS 2000.
    """

    columnwise = True

    @classmethod
    def fit(cls, x: Tensor, support: Tensor | None = None) -> Self:
        """By a kernel density of each column."""
        Standardization.fit(x)  # refuses what has no spread
        curves = [_normal_curve(np.sort(column)) for column in _checked(x).T.numpy()]
        most = max(curve.shape[1] for curve in curves)
        knots = np.stack([_lengthened(curve, most) for curve in curves], 1)
        return cls(torch.from_numpy(knots).to(x))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        images, slope = self._image(x.T.contiguous())
        return images.T, slope.log().sum(0)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        sources, slope = self._source(z.T.contiguous())
        return sources.T, -slope.log().sum(0)


def _normal_curve(column: np.ndarray) -> np.ndarray:
    """Knots (3, K) of the curve that takes a rising column (N,) to N(0, 1)."""
    spread = column.std()

    def normal(below: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = np.where(below < above, special.ndtri(below), -special.ndtri(above))
        return z, -0.5 * (z**2 + np.log(2 * np.pi))

    places = np.quantile(column, np.linspace(0, 1, KNOTS), method="nearest")
    values = _thinned(column, QUANTILES)
    return _knots(values, places, spread, normal, lambda *slopes: np.minimum(slopes, 1 / spread))


def _knots(
    values: np.ndarray,
    places: np.ndarray,
    spread: float,
    target: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    ends: Callable[[float, float], Any],
) -> np.ndarray:
    """Knots (3, K) of the curve that takes values (N,) of this spread to another distribution.

    By a kernel density of them, at those rising ``places`` that are half a bandwidth apart.
    ``target`` gives, for the masses below and above, the image and the logarithm of its density,
    by the mass that has the digits. ``ends`` gives, for the slopes at the first and the last of
    them, those of the lines from a spread farther out.
    """
    bandwidth = KERNEL * spread
    x = _apart(places, bandwidth / 2)
    steps = (x[:, None] - values) / bandwidth
    below, above = special.ndtr(steps).mean(1), special.ndtr(-steps).mean(1)
    density = np.exp(-0.5 * steps**2).mean(1) / (bandwidth * np.sqrt(2 * np.pi))
    images, log_density = target(below, above)
    knots = np.stack([x, images, density / np.exp(log_density)])
    (x0, y0, steep), way = knots[:, [0, -1]], np.array([-spread, spread])
    slopes = np.array(ends(*steep))
    low, high = np.stack([x0 + way, y0 + way * (steep + slopes) / 2, slopes], 1)
    return np.column_stack([low, knots, high])


def _log_radius(x: Tensor) -> Tensor:
    return 0.5 * x.square().sum(1).clamp(min=torch.finfo(x.dtype).tiny).log()


def _thinned(values: np.ndarray, most: int) -> np.ndarray:
    """Rising values (N,), or as many of them at equal distances in rank."""
    return values[np.linspace(0, len(values) - 1, min(len(values), most)).round().astype(int)]


def _apart(values: np.ndarray, gap: float) -> np.ndarray:
    """Those of rising values that are at least a gap above the one before."""
    result = [values[0]]
    for value in values[1:]:
        if value - result[-1] >= gap:
            result.append(value)
    return np.array(result)


def _lengthened(knots: np.ndarray, count: int) -> np.ndarray:
    """The same curve (3, K) by ``count`` knots, more of them on the line at its upper end."""
    x, y, slope = knots[:, -1]
    ways = (x - knots[0, -2]) * np.arange(1, count - knots.shape[1] + 1)
    return np.column_stack([knots, [x + ways, y + slope * ways, np.full_like(ways, slope)]])


def _skewness(x: Tensor) -> Tensor:
    """Of each column of data (N, D); NaN where it is constant."""
    centred = x - x.mean(0)
    return centred.pow(3).mean(0) / centred.square().mean(0).pow(1.5)


def _bounds(x: Tensor, support: Tensor | None, otherwise: tuple[float, float]) -> Tensor:
    """Bounds (2, D) of data (N, D) in float64, ``otherwise`` where there is no support.

    ValueError for another shape, an empty interval, and values outside, with their column.
    """
    data, dim = _checked(x), x.shape[1]
    if support is None:
        support = torch.tensor(otherwise)[:, None].expand(2, dim)
    if support.shape != (2, dim):
        raise ValueError(
            f"a support has lower and upper bounds, (2, {dim}), got shape {tuple(support.shape)}"
        )
    bounds: Tensor = support.detach().cpu().to(x.dtype).double()  # rounded as the data is
    least, most = data.amin(0), data.amax(0)
    wrong = ~((bounds[0] <= least) & (most <= bounds[1]) & (bounds[0] < bounds[1]))
    for column in torch.nonzero(wrong).flatten().tolist():
        lower, upper = bounds[:, column].tolist()
        raise ValueError(
            f"column {column} has values from {least[column]:g} to {most[column]:g}, outside of "
            f"its support from {lower:g} to {upper:g}: give its bounds, or infinity, as support"
        )
    return bounds


def _checked(x: Tensor) -> Tensor:
    """Data (N, D) in float64; ValueError for too few rows, and for values that are not finite."""
    if x.dim() != 2 or len(x) <= x.shape[1]:
        raise ValueError(
            f"a preprocessing of (N, D) data needs more rows than columns, got {tuple(x.shape)}"
        )
    if x.is_complex():
        raise ValueError(
            "a preprocessing is of real data: give real and imaginary parts as columns"
        )
    data = x.detach().double().cpu()
    if not bool(torch.isfinite(data).all()):
        raise ValueError("cannot fit a preprocessing: the data has NaN or infinity")
    return data


FITS: dict[str, tuple[type[Preprocessing], ...]] = {  # what each step is made of, in turn
    "standardize": (Standardization,),
    "whiten": (Whitening,),
    "radial": (Whitening, RadialGaussianization),
    "logit": (Logit,),
    "log": (Log,),
    "marginal": (Asinh, MarginalGaussianization),
    "clip": (Clip,),
}


def check(name: str, *others: str) -> str:
    """The name of a preprocessing, steps joined by "+", or one of the others; else ValueError."""
    for step in () if name in others else name.split("+"):
        if step not in FITS:
            of = f" in {name!r}" if step != name else ""
            raise ValueError(
                f"unknown preprocessing {step!r}{of}; choose from: {', '.join([*others, *FITS])}, "
                "or join some of these steps by '+'"
            )
    return name


def fit(name: str, x: Tensor, support: Tensor | None = None) -> nn.Module:
    """The Bijection of a name, fitted to training data x (N, D), for `Flow.prepend`.

    "standardize": each column to mean zero and variance one; "whiten": all of them to covariance
    one; "radial": whitened, then the distance from the origin made that of normal numbers
    (`RadialGaussianization`); "logit": bounded columns to the line (`Logit`); "log": the logarithm
    of positive columns with a long tail (`Log`); "marginal": each column to about N(0, 1)
    (`MarginalGaussianization`); "clip": standardized, with compressed tails (`Clip`). Names joined
    by "+", as in "logit+whiten", are steps, each fitted to the output of the one before.

    ``support`` (2, D) are the lower and upper bounds of each column, infinite where there is none.
    Steps that map each column by itself carry it along; after "whiten" and "radial" no column has
    bounds. Without any "logit" takes 0 and 1.

    Raises ValueError for an unknown name, too few rows, NaN, values outside of the support, and
    data without the spread that is to become one.
    """
    steps = [[kind.fit for kind in FITS[step]] for step in check(name).split("+")]
    return _chain([partial(_chain, step) for step in steps], x, support)


def _chain(steps: Sequence[Callable[..., nn.Module]], x: Tensor, support: Any) -> nn.Module:
    """Fit each step to the output of those before, the bounds (2, D) of columns carried along."""
    parts: list[nn.Module] = []
    for step in steps:
        if parts:
            x = parts[-1](x)[0]
            if support is not None:
                support, ends = support.to(x), [[-torch.inf], [torch.inf]]
                apart = all(getattr(part, "columnwise", False) for part in bijections(parts[-1]))
                support = parts[-1](support)[0] if apart else x.new_tensor(ends).expand_as(support)
        parts.append(step(x, support))
    return parts[0] if len(parts) == 1 else CompositeTransform(parts)
