"""normflows' flows as members.

Its radial flow and its planar one with tanh have no inverse, and so no density of data; layers that
are stochastic, or of images, are no members either. Stimper et al., normflows, 2023,
arXiv:2302.12014.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

import flows
from flows.adapters.normflows import from_normflows
from flows.flow import Flow

Make = Callable[..., list[Any]]  # the layers of one transformation, from noise to data


def family(
    name: str, *, uses: tuple[str, ...], least: int = 1, angles: bool = False
) -> Callable[[Make], Make]:
    """Register a family by what makes one of its transformations, whose docstring is the member's.

    It is given normflows, D, and the sizes by name. The base is N(0, I), or of ``angles`` uniform
    on [-π, π]. ValueError for fewer columns than ``least``.
    """

    def decorate(make: Make) -> Make:
        def factory(
            dim: int, *, hidden: int = 64, depth: int = 2, layers: int = 5, context_dim: int = 0
        ) -> Flow:
            import normflows

            if dim < least:
                raise ValueError(f"normflows_{name} needs {least} columns or more, got dim={dim}")
            sizes = {"hidden": hidden, "depth": depth, "context": context_dim or None}
            parts = [part for _ in range(layers) for part in make(normflows, dim, **sizes)]
            base = normflows.distributions.DiagGaussian(dim, trainable=False)
            if angles:
                width = torch.full((dim,), 2 * math.pi)
                base = normflows.distributions.UniformGaussian(dim, range(dim), width)
            kind = "ConditionalNormalizingFlow" if context_dim else "NormalizingFlow"
            model = getattr(normflows, kind)(base, parts)
            return from_normflows(model, dim, context_dim)

        factory.__doc__ = make.__doc__
        flows.register(f"normflows_{name}", uses=uses, requires="normflows")(factory)
        return make

    return decorate


PLAIN = ("hidden", "depth", "layers")
CONDITIONAL = (*PLAIN, "context_dim")


def _halves(nf: Any, dim: int, hidden: int, depth: int, outputs: int) -> Any:
    """The network of a coupling: the first half of the columns, rounded up, to the second."""
    sizes = [(dim + 1) // 2, *[hidden] * depth, outputs * (dim // 2)]
    return nf.nets.MLP(sizes, init_zeros=True)


@family("nice", uses=PLAIN, least=2)
def _nice(nf: Any, dim: int, hidden: int, depth: int, context: int | None) -> list[Any]:
    """normflows' coupling block without scale, the halves swapped after each.

    Dinh et al., 2014, arXiv:1410.8516.
    """
    network = _halves(nf, dim, hidden, depth, 1)
    return [nf.flows.AffineCouplingBlock(network, scale=False), nf.flows.Permute(dim, mode="swap")]


@family("realnvp", uses=PLAIN, least=2)
def _realnvp(nf: Any, dim: int, hidden: int, depth: int, context: int | None) -> list[Any]:
    """normflows' affine coupling block, the halves swapped after each, as its readme has it.

    Dinh et al., 2017, arXiv:1605.08803.
    """
    network = _halves(nf, dim, hidden, depth, 2)
    return [nf.flows.AffineCouplingBlock(network), nf.flows.Permute(dim, mode="swap")]


@family("glow", uses=PLAIN, least=2)
def _glow(nf: Any, dim: int, hidden: int, depth: int, context: int | None) -> list[Any]:
    """normflows' Glow for vectors: coupling by a sigmoid, an LU layer and ActNorm.

    ActNorm is set by the first batch that passes, data or noise; ``initialize`` gives it data. The
    model's ``reverse_kld`` would give it noise. Kingma and Dhariwal, 2018, arXiv:1807.03039.
    """
    coupling = nf.flows.AffineCouplingBlock(_halves(nf, dim, hidden, depth, 2), scale_map="sigmoid")
    return [coupling, nf.flows.InvertibleAffine(dim), nf.flows.ActNorm((dim,))]


@family("maf", uses=CONDITIONAL)
def _maf(nf: Any, dim: int, hidden: int, depth: int, context: int | None) -> list[Any]:
    """normflows' MaskedAffineAutoregressive, whose sampling is one pass, and an LU layer.

    So log_prob takes D passes: normflows runs it in the direction of an IAF. Papamakarios et al.,
    2017, arXiv:1705.07057.
    """
    layer = nf.flows.MaskedAffineAutoregressive(dim, hidden, context, num_blocks=depth)
    return [layer, nf.flows.LULinearPermute(dim)]


@family("nsf_coupling", uses=CONDITIONAL, least=2)
def _nsf_coupling(nf: Any, dim: int, hidden: int, depth: int, context: int | None) -> list[Any]:
    """normflows' coupled rational-quadratic splines on [-3, 3], and an LU layer.

    Durkan et al., 2019, arXiv:1906.04032.
    """
    layer = nf.flows.CoupledRationalQuadraticSpline(dim, depth, hidden, context)
    return [layer, nf.flows.LULinearPermute(dim)]


@family("nsf_ar", uses=CONDITIONAL)
def _nsf_ar(nf: Any, dim: int, hidden: int, depth: int, context: int | None) -> list[Any]:
    """normflows' autoregressive rational-quadratic splines on [-3, 3], and an LU layer.

    log_prob is one pass, a sample D. Durkan et al., 2019, arXiv:1906.04032.
    """
    layer = nf.flows.AutoregressiveRationalQuadraticSpline(dim, depth, hidden, context)
    return [layer, nf.flows.LULinearPermute(dim)]


@family("ncsf_coupling", uses=PLAIN, least=2, angles=True)
def _ncsf_coupling(nf: Any, dim: int, hidden: int, depth: int, context: int | None) -> list[Any]:
    """normflows' circular coupled splines for angles in [-π, π), two with opposite masks.

    Other values are taken modulo 2π, so that it is a density on the torus and not on R^D. Rezende
    et al., Normalizing Flows on Tori and Spheres, 2020, arXiv:2002.02428.
    """
    kind = nf.flows.CircularCoupledRationalQuadraticSpline
    sizes = dim, depth, hidden, range(dim)
    pair = [kind(*sizes, tail_bound=math.pi, reverse_mask=mirrored) for mirrored in (False, True)]
    return [*pair, nf.flows.PeriodicWrap(range(dim), math.pi)]


@family("ncsf_ar", uses=PLAIN, angles=True)
def _ncsf_ar(nf: Any, dim: int, hidden: int, depth: int, context: int | None) -> list[Any]:
    """normflows' circular autoregressive splines for angles, as its coupled ones."""
    kind = nf.flows.CircularAutoregressiveRationalQuadraticSpline
    spline = kind(dim, depth, hidden, range(dim), tail_bound=math.pi)
    return [spline, nf.flows.PeriodicWrap(range(dim), math.pi)]


@family("residual", uses=PLAIN)
def _residual(nf: Any, dim: int, hidden: int, depth: int, context: int | None) -> list[Any]:
    """normflows' residual flow of Lipschitz networks, and ActNorm.

    The log-determinant is exact at D = 2 in ``eval()``, and else a random estimate of a power
    series. Chen et al., 2019, arXiv:1906.02735.
    """
    network = nf.nets.LipschitzMLP([dim, *[hidden] * depth, dim], lipschitz_const=0.9)
    return [nf.flows.Residual(network), nf.flows.ActNorm((dim,))]


@family("planar", uses=("layers",))
def _planar(nf: Any, dim: int, hidden: int, depth: int, context: int | None) -> list[Any]:
    """normflows' planar flow with leaky ReLU, the one of its planar flows that has an inverse.

    Its radial flow has none, and so no density of data. Rezende and Mohamed, 2015,
    arXiv:1505.05770.
    """
    return [nf.flows.Planar((dim,), act="leaky_relu")]
