"""Toy densities in the plane, exact: by formula, or by quadrature with an error below 1e-9.

Source of all but `25gaussians`: `lib/toy_data.py` of Grathwohl et al., FFJORD: Free-form Continuous
Dynamics for Scalable Reversible Generative Models, 2018, arXiv:1810.01367. The formulas are theirs.
Here every draw comes from one torch.Generator and rows are independent: places, angles and arms are
drawn, where theirs are even grids or equal shares. `25gaussians`, which shows mode dropping: Lin,
Khetan, Fanti and Oh, PacGAN, 2018, arXiv:1712.04086. Its columns are independent, so that an affine
coupling stays at a Gaussian; those of `25gaussians_turned` are not, and its modes differ in weight.

Samplers take (n, generator) and return (n, 2); log densities are (n, 2) -> (n,), nats.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets import bounds, drawn, normal, register, uniform

FFJORD = "Synthetic {} after FFJORD's toy_data.py (arXiv:1810.01367)"
PACGAN = (
    "Synthetic 5 x 5 grid of Gaussians, spacing 2, standard deviation 0.05, each as likely "
    "(arXiv:1712.04086)"
)
TURNED = "Synthetic grid of 25gaussians, turned by 30 degrees, with weights from 1 to 3"
CHUNK = 4096  # rows per block of distances to all nodes of a curve


def _legendre(nodes: int) -> tuple[Tensor, Tensor]:
    """Nodes in [-1, 1] and weights of Gauss-Legendre quadrature."""
    at, weight = np.polynomial.legendre.leggauss(nodes)
    return torch.tensor(at), torch.tensor(weight)


class Gaussians(NamedTuple):
    """N(centre, spread^2 I) about ``centres`` (K, 2), equally likely without ``weights`` (K,)."""

    centres: Tensor
    spread: float
    weights: Tensor | None = None

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        if self.weights is None:
            k = torch.randint(len(self.centres), (n,), generator=generator)
        else:
            k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        return self.centres[k] + self.spread * normal(generator, n, 2)

    def log_prob(self, x: Tensor) -> Tensor:
        square = (x[:, None, :] - self.centres.to(x)).square().sum(-1)
        constant = math.log(len(self.centres) * 2 * math.pi * self.spread**2)
        exponents = -square / (2 * self.spread**2)
        if self.weights is not None:
            exponents += (len(self.centres) * self.weights).log().to(x)
        return torch.logsumexp(exponents, dim=1) - constant


ANGLES = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
SCALE = 1.414  # FFJORD's literal, not sqrt(2)
CIRCLE = Gaussians(4.0 / SCALE * torch.stack((ANGLES.cos(), ANGLES.sin()), dim=1), 0.5 / SCALE)


@cache
def circle_entropy(step: float = 0.05, half_width: float = 6.5) -> float:
    """Integrate by the trapezoid rule in the plane; error below 1e-12 (tested)."""
    line = step * torch.arange(-round(half_width / step), round(half_width / step) + 1).double()
    log_p = CIRCLE.log_prob(torch.cartesian_prod(line, line))
    return -(step**2) * float((log_p.exp() * log_p).sum())


LINE = torch.arange(-4.0, 5.0, 2.0, dtype=torch.float64)
GRID = Gaussians(torch.cartesian_prod(LINE, LINE), 0.05)


def grid_log_prob(x: Tensor) -> Tensor:
    """Exact log density of the grid, a line at a time."""
    square = (x[:, :, None] - LINE.to(x)).square()
    axis_log_densities = torch.logsumexp(-square / (2 * GRID.spread**2), dim=2)
    constant = math.log(len(GRID.centres) * 2 * math.pi * GRID.spread**2)
    return axis_log_densities.sum(dim=1) - constant


def grid_entropy() -> float:
    """Entropy without overlap, which is below 1e-80 nats at 40 standard deviations."""
    return math.log(len(GRID.centres)) + math.log(2 * math.pi * math.e * GRID.spread**2)


TURN = torch.tensor([[3**0.5, 1.0], [-1.0, 3**0.5]], dtype=torch.float64) / 2  # by 30 degrees
WEIGHTS = (1 + 7 * torch.arange(25, dtype=torch.float64) % 25 / 12) / 50
UNEVEN = Gaussians(GRID.centres @ TURN, GRID.spread, WEIGHTS)


def uneven_entropy() -> float:
    """Entropy without overlap, as that of the grid."""
    return grid_entropy() - math.log(25) - float(torch.xlogy(WEIGHTS, WEIGHTS).sum())


def board_sample(n: int, generator: torch.Generator) -> Tensor:
    """Uniform on 8 squares of side 2 in [-4, 4)^2."""
    x1 = 4 * uniform(generator, n) - 2
    row = torch.randint(2, (n,), generator=generator)
    x2 = uniform(generator, n) - 2 * row + x1.floor() % 2
    return 2 * torch.stack((x1, x2), dim=1)


def board_log_prob(x: Tensor) -> Tensor:
    """Exact log density: -ln 32 on the squares, -inf elsewhere."""
    on_board = ((x >= -4) & (x < 4)).all(dim=1)
    filled = (x / 2).floor().sum(dim=1) % 2 == 0
    outside = torch.full_like(x[:, 0], -math.inf)
    return torch.where(on_board & filled, -math.log(32), outside)


class Rings(NamedTuple):
    """Equally likely circles about 0, plus N(0, spread^2 I)."""

    radii: tuple[float, ...]
    spread: float

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        ring = torch.randint(len(self.radii), (n,), generator=generator)
        radius = torch.tensor(self.radii, dtype=torch.float64)[ring]
        angle = 2 * math.pi * uniform(generator, n)
        circle = radius[:, None] * torch.stack((angle.cos(), angle.sin()), dim=1)
        return circle + self.spread * normal(generator, n, 2)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log density; over the angle it is a Bessel function."""
        r, radius = x.norm(dim=1, keepdim=True), torch.tensor(self.radii).to(x)
        bessel = torch.special.i0e(r * radius / self.spread**2).log()
        ring_log_densities = bessel - (r - radius).square() / (2 * self.spread**2)
        constant = math.log(len(self.radii) * 2 * math.pi * self.spread**2)
        return torch.logsumexp(ring_log_densities, dim=1) - constant


@cache
def rings_entropy(rings: Rings, nodes: int = 600) -> float:
    """Integrate by Gauss-Legendre over the radius; error below 1e-10 (tested)."""
    end = max(rings.radii) + 12 * rings.spread
    at, weight = _legendre(nodes)
    r = end / 2 * (at + 1)
    log_p = rings.log_prob(torch.stack((r, torch.zeros_like(r)), dim=1))
    return -float((end / 2 * weight * 2 * math.pi * r * log_p.exp() * log_p).sum())


def upper_moon(u: Tensor) -> Tensor:
    """Half a circle of radius 2: (n,) in [0, 1] -> (n, 2)."""
    return torch.stack((2 * (math.pi * u).cos() - 1, 2 * (math.pi * u).sin() - 0.2), dim=1)


def lower_moon(u: Tensor) -> Tensor:
    """The other half, that of the upper one turned about (0, 0.3): (n,) -> (n, 2)."""
    return torch.tensor([0.0, 0.6]).to(u) - upper_moon(u)


def roll(u: Tensor) -> Tensor:
    """The spiral of radius t / 5 at the angle t from 1.5 pi to 4.5 pi: (n,) -> (n, 2)."""
    t = 1.5 * math.pi * (1 + 2 * u)
    return t[:, None] / 5 * torch.stack((t.cos(), t.sin()), dim=1)


class Arcs(NamedTuple):
    """Equally likely curves over [0, 1], plus N(0, spread^2 I)."""

    curves: tuple[Callable[[Tensor], Tensor], ...]
    spread: float
    nodes: int  # of the quadrature along a curve: less than a spread apart

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        u = uniform(generator, n)
        k = torch.randint(len(self.curves), (n,), generator=generator)
        places = torch.stack([curve(u) for curve in self.curves])[k, torch.arange(n)]
        return places + self.spread * normal(generator, n, 2)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density by Gauss-Legendre along the curves.

        Within 10 spreads of the curves the error is below 1e-9 (tested by twice the nodes).
        """
        at, weight = (a.to(x) for a in _legendre(self.nodes))
        centres = torch.cat([curve((at + 1) / 2) for curve in self.curves])
        constant = math.log(len(self.curves) * 2 * 2 * math.pi * self.spread**2)
        weights = weight.log().repeat(len(self.curves)) - constant
        parts = []
        for part in torch.split(x, CHUNK):
            # cdist by a product of matrices loses half the digits
            distance = torch.cdist(part, centres, compute_mode="donot_use_mm_for_euclid_dist")
            square = distance.square() / self.spread**2
            parts.append(torch.logsumexp(weights - square / 2, dim=1))
        return torch.cat(parts)


@cache
def arcs_entropy(arcs: Arcs, step: float = 0.25, margin: float = 9.0) -> float:
    """Integrate by the trapezoid rule in the plane; error below 1e-10 (tested).

    ``step`` and ``margin``, the width of the rim beyond the curves, are in spreads.
    """
    u = torch.linspace(0, 1, 1000, dtype=torch.float64)
    places = torch.cat([curve(u) for curve in arcs.curves])
    low, high = places.amin(dim=0), places.amax(dim=0)
    h, rim = step * arcs.spread, margin * arcs.spread
    x, y = (
        torch.arange(float(low[i]) - rim, float(high[i]) + rim, h, dtype=torch.float64)
        for i in (0, 1)
    )
    log_p = arcs.log_prob(torch.cartesian_prod(x, y))
    return -(h**2) * float((log_p.exp() * log_p).sum())


ARM_END = 3 * math.pi  # of the spirals' angle
ARM_WIDTH, ARM_SPREAD = 0.5 / 3, 0.1  # of the uniform and the Gaussian blur of the spirals
ARM_NODES = 420  # of the quadrature along an arm: less than a spread apart


def spirals_sample(n: int, generator: torch.Generator) -> Tensor:
    """Two arms, r = sqrt(U) 3 pi: +-(-r cos r + U/2, r sin r + U/2) / 3 + 0.1 N(0, I)."""
    r = uniform(generator, n).sqrt() * ARM_END
    arm = torch.stack((-r * r.cos(), r * r.sin()), dim=1) + 0.5 * uniform(generator, n, 2)
    sign = 2.0 * torch.randint(2, (n, 1), generator=generator) - 1
    return sign * arm / 3 + ARM_SPREAD * normal(generator, n, 2)


def spirals_log_prob(x: Tensor, nodes: int = ARM_NODES) -> Tensor:
    """Log density by Gauss-Legendre along an arm.

    Within 10 spreads of the arms the error is below 1e-9 (tested by twice the nodes).
    """
    places, weights = (a.to(x) for a in _arm(nodes))
    parts = []
    for part in torch.split(x, CHUNK // 2):
        both = torch.stack((part, -part))  # the arms are point reflections of each other
        arm_log_densities = sum(_log_blur(both[..., i, None] - places[:, i]) for i in (0, 1))
        parts.append(torch.logsumexp(weights.log() + arm_log_densities, dim=-1).logsumexp(dim=0))
    return torch.cat(parts) - math.log(2)


@cache
def spirals_entropy(step: float = 0.25, margin: float = 9.0, nodes: int = ARM_NODES) -> float:
    """Integrate by the trapezoid rule in the plane; error below 1e-10 (tested).

    ``step`` and ``margin``, the width of the rim beyond the arms, are in spreads. On a grid the
    density is a product of matrices, since the blur is one along x times one along y.
    """
    places, weights = _arm(nodes)
    h, end = step * ARM_SPREAD, ARM_END / 3 + ARM_WIDTH + margin * ARM_SPREAD
    line = h * torch.arange(-round(end / h), round(end / h) + 1, dtype=torch.float64)
    x, y = (_log_blur(line[:, None] - places[:, i]).exp() for i in (0, 1))
    one = (x * weights) @ y.T
    density = (one + one.flip(0, 1)) / 2
    return -(h**2) * float(torch.xlogy(density, density).sum())


def _arm(nodes: int) -> tuple[Tensor, Tensor]:
    """Return nodes (K, 2) along the first arm and their weights (K,), which sum to 1."""
    at, weight = _legendre(nodes)
    r = ARM_END / 2 * (at + 1)
    places = torch.stack((-r * r.cos(), r * r.sin()), dim=1) / 3
    return places, weight * r / ARM_END  # r's density is 2 r / ARM_END^2


def _log_blur(distance: Tensor) -> Tensor:
    """Log density of U(0, WIDTH) + N(0, SPREAD^2), on the side of its centre without loss."""
    near = torch.minimum(distance, ARM_WIDTH - distance) / ARM_SPREAD
    upper = torch.special.log_ndtr(near)
    lower = torch.special.log_ndtr(near - ARM_WIDTH / ARM_SPREAD)
    log_prob: Tensor = upper + torch.log1p(-(lower - upper).exp()) - math.log(ARM_WIDTH)
    return log_prob


BLADES, BLADE_SCALE = 5, 2.0  # of the pinwheel
RATE = 0.25  # of the turn, RATE e^r
MEAN, SPREADS = 1.0, (0.3, 0.1)  # along a blade; along it and across
SECTOR = 2 * math.pi / BLADES
HALVINGS, NEWTON = 16, 4  # steps to a place on a blade from its angle
LARGEST = 30.0  # place along a blade, a hundred spreads out, beyond which the turn is constant


def pinwheel_sample(n: int, generator: torch.Generator) -> Tensor:
    """2 (r, s) turned by -(2 pi k / 5 + e^r / 4), r ~ N(1, 0.3^2), s ~ N(0, 0.1^2)."""
    noise = normal(generator, n, 2)
    r, s = MEAN + SPREADS[0] * noise[:, 0], SPREADS[1] * noise[:, 1]
    blade = torch.randint(BLADES, (n,), generator=generator)
    angle = blade * SECTOR + RATE * r.exp()
    cos, sin = angle.cos(), angle.sin()
    return BLADE_SCALE * torch.stack((r * cos + s * sin, s * cos - r * sin), dim=1)


def pinwheel_log_prob(x: Tensor) -> Tensor:
    """Log density, the sum over the place on each blade that was turned to x.

    A turn leaves the radius alone, so the place on a blade is one angle, the root of an equation.
    Far across the blades, where s e^r < -4, the turn folds the plane: what is folded under is left
    out, 2e-9 of the mass (tested).
    """
    log_p = _of_polar(x.norm(dim=1) / BLADE_SCALE, torch.atan2(x[:, 1], x[:, 0]))
    return log_p - 2 * math.log(BLADE_SCALE)


@cache
def pinwheel_entropy(radii: int = 200, angles: int = 160, end: float = 3.4) -> float:
    """Integrate by Gauss-Legendre over the radius and trapezoids over the angle.

    The error is below 1e-7 (tested), mostly of the folds.
    """
    at, weight = _legendre(radii)
    radius, turn = end / 2 * (at + 1), torch.arange(angles).double() * (SECTOR / angles)
    pairs = torch.cartesian_prod(radius, turn)
    log_p = _of_polar(pairs[:, 0], pairs[:, 1]).view(radii, angles)
    over_angles = 2 * math.pi * (log_p.exp() * log_p).mean(1)
    return 2 * math.log(BLADE_SCALE) - float((end / 2 * weight * radius * over_angles).sum())


def _of_polar(radius: Tensor, angle: Tensor) -> Tensor:
    """Log density before scaling at (radius, angle), each (n,): (n,)."""
    radius, angle = radius[:, None], angle[:, None]
    start = fold(radius)
    first = ((start - _turn(radius, start) - angle) / SECTOR).ceil()
    target = angle + SECTOR * (first + torch.arange(BLADES).to(first))
    low, high = _halved(start, start + 2 * math.pi, lambda p: p - _turn(radius, p) < target)
    place = (low + high) / 2
    for _ in range(NEWTON):
        step = (place - _turn(radius, place) - target) / slope(radius, place)
        place = torch.minimum(torch.maximum(place - step, low), high)
    r, s = radius * place.cos(), radius * place.sin()
    square = ((r - MEAN) / SPREADS[0]).square() + (s / SPREADS[1]).square()
    constant = math.log(BLADES * 2 * math.pi * SPREADS[0] * SPREADS[1])
    return torch.logsumexp(-square / 2 - slope(radius, place).abs().log(), dim=1) - constant


def fold(radius: Tensor) -> Tensor:
    """Return the place after which a turned blade has no fold; the slowest if it has none."""
    cos = 2 * radius / (1 + (1 + 4 * radius.square()).sqrt())
    slowest = -cos.acos()
    return _halved(slowest, torch.zeros_like(slowest), lambda p: slope(radius, p) < 0)[1]


def _halved(low: Tensor, high: Tensor, below: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Halve an interval towards the end of the set on which ``below`` holds."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside = below(middle)
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    return low, high


def slope(radius: Tensor, place: Tensor) -> Tensor:
    """Derivative of a turned place by the place, which is also the turn's Jacobian determinant."""
    return 1 + radius * place.sin() * _turn(radius, place)


def _turn(radius: Tensor, place: Tensor) -> Tensor:
    """Angle of the turn; clamped where the density is zero anyway, so that it cannot overflow."""
    return RATE * (radius * place.cos()).clamp(max=LARGEST).exp()


RINGS = {"circles": Rings((3.0, 1.5), 0.24), "rings": Rings((3.0, 2.25, 1.5, 0.75), 0.08)}
ARCS = {"moons": Arcs((upper_moon, lower_moon), 0.2, 100), "swissroll": Arcs((roll,), 0.2, 240)}


def _register(name: str, *density: Any, about: str = FFJORD, **more: Any) -> None:
    register(name, dim=2)(drawn(name, about.format(name), *density, **more))


_register("8gaussians", CIRCLE.sample, CIRCLE.log_prob, circle_entropy, modes=CIRCLE.centres)
_register("25gaussians", GRID.sample, grid_log_prob, grid_entropy, modes=GRID.centres, about=PACGAN)
_uneven: dict[str, Any] = {"modes": UNEVEN.centres, "weights": WEIGHTS, "about": TURNED}
_register("25gaussians_turned", UNEVEN.sample, UNEVEN.log_prob, uneven_entropy, **_uneven)
_board = bounds((-4.0, 4.0), (-4.0, 4.0))
_register("checkerboard", board_sample, board_log_prob, lambda: math.log(32), support=_board)
_register("2spirals", spirals_sample, spirals_log_prob, spirals_entropy)
_register("pinwheel", pinwheel_sample, pinwheel_log_prob, pinwheel_entropy)
for _name, _rings in RINGS.items():
    _register(_name, _rings.sample, _rings.log_prob, partial(rings_entropy, _rings))
for _name, _arcs in ARCS.items():
    _register(_name, _arcs.sample, _arcs.log_prob, partial(arcs_entropy, _arcs))
