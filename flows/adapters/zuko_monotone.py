"""zuko's flows of other monotone maps of each column: networks, polynomials, mixtures, circles."""

from __future__ import annotations

import flows
from flows.adapters.zuko import from_zuko
from flows.flow import Flow

SIZES = ("hidden", "depth", "layers", "context_dim")


@flows.register("zuko_nice", uses=SIZES, requires="zuko")
def zuko_nice(
    dim: int, *, hidden: int = 64, depth: int = 2, layers: int = 8, context_dim: int = 0
) -> Flow:
    """zuko's NICE, which is affine by default and thus the same flow as its RealNVP.

    ValueError below two columns. Dinh et al., NICE, 2014, arXiv:1410.8516.
    """
    from zuko.flows import NICE

    if dim < 2:
        raise ValueError(f"a coupling needs at least two columns, got dim={dim}: try 'zuko_maf'")
    flow = NICE(dim, context_dim, transforms=layers, hidden_features=[hidden] * depth)
    return from_zuko(flow, dim, context_dim)


@flows.register("zuko_naf", uses=SIZES, requires="zuko")
def zuko_naf(
    dim: int,
    *,
    hidden: int = 64,
    depth: int = 2,
    layers: int = 3,
    context_dim: int = 0,
    signal: int = 16,
) -> Flow:
    """zuko's NAF: a monotone network in each column, given ``signal`` features of those before it.

    Width and depth are those of the network that gives the features, and of the monotone one.
    Between layers a soft clip to [-11, 11]. The inverse is bisection on [-10, 10], so columns are
    to be standardised; outside it is none. In ``eval()`` zuko passes no parameters to it, and its
    gradient is then that of the data alone. Huang et al., 2018, arXiv:1804.00779.
    """
    from zuko.flows import NAF

    width = {"hidden_features": [hidden] * depth}
    monotone = {"hidden_features": [max(hidden, 2)] * depth}  # its units work in pairs
    flow = NAF(dim, context_dim, layers, signal=signal, network=monotone, **width)
    return from_zuko(flow, dim, context_dim)


@flows.register("zuko_unaf", uses=SIZES, requires="zuko")
def zuko_unaf(
    dim: int,
    *,
    hidden: int = 64,
    depth: int = 2,
    layers: int = 3,
    context_dim: int = 0,
    signal: int = 16,
) -> Flow:
    """zuko's UNAF: the integral of a positive network in each column, by 32 nodes of Gauss.

    What `zuko_naf` says of sizes, the soft clip, the inverse and ``eval()`` holds here. A sample
    costs some thousand evaluations of the integrand. Wehenkel and Louppe, Unconstrained Monotonic
    Neural Networks, 2019, arXiv:1908.05164.
    """
    from zuko.flows import UNAF

    width = {"hidden_features": [hidden] * depth}
    flow = UNAF(dim, context_dim, layers, signal=signal, network=width, **width)
    return from_zuko(flow, dim, context_dim)


@flows.register("zuko_sospf", uses=SIZES, requires="zuko")
def zuko_sospf(
    dim: int,
    *,
    hidden: int = 64,
    depth: int = 2,
    layers: int = 3,
    context_dim: int = 0,
    degree: int = 4,
    polynomials: int = 3,
) -> Flow:
    """zuko's SOSPF: the integral of a sum of squared polynomials in each column.

    Between layers a soft clip to [-11, 11]; the inverse is bisection on [-10, 10], so columns are
    to be standardised. Jaini et al., Sum-of-Squares Polynomial Flow, 2019, arXiv:1905.02325.
    """
    from zuko.flows import SOSPF

    sizes = {"transforms": layers, "hidden_features": [hidden] * depth}
    shape = {"degree": degree, "polynomials": polynomials}
    return from_zuko(SOSPF(dim, context_dim, **shape, **sizes), dim, context_dim)


@flows.register("zuko_bpf", uses=SIZES, requires="zuko")
def zuko_bpf(
    dim: int,
    *,
    hidden: int = 64,
    depth: int = 2,
    layers: int = 3,
    context_dim: int = 0,
    degree: int = 16,
) -> Flow:
    """zuko's BPF: a Bernstein polynomial in each column on [-5, 5], linear outside.

    The inverse is bisection. Sick et al., 2020, arXiv:2004.00464.
    """
    from zuko.flows import BPF

    sizes = {"transforms": layers, "hidden_features": [hidden] * depth}
    return from_zuko(BPF(dim, context_dim, degree=degree, **sizes), dim, context_dim)


@flows.register("zuko_gf", uses=SIZES, requires="zuko")
def zuko_gf(
    dim: int,
    *,
    hidden: int = 64,
    depth: int = 2,
    layers: int = 3,
    context_dim: int = 0,
    components: int = 8,
) -> Flow:
    """zuko's GF: a mixture's distribution function in each column, rotations between.

    Width and depth are those of the network of a context; without one there is none. The inverse is
    bisection on [-10, 10], so columns are to be standardised. Meng et al., Gaussianization Flows,
    2020, arXiv:2003.01941.
    """
    from zuko.flows import GF

    sizes = {"hidden_features": [hidden] * depth} if context_dim else {}
    flow = GF(dim, context_dim, transforms=layers, components=components, **sizes)
    return from_zuko(flow, dim, context_dim)


@flows.register("zuko_ncsf", uses=SIZES, requires="zuko")
def zuko_ncsf(
    dim: int,
    *,
    hidden: int = 64,
    depth: int = 2,
    layers: int = 3,
    context_dim: int = 0,
    bins: int = 8,
) -> Flow:
    """zuko's NCSF: circular splines for angles in [-π, π), where its noise is uniform.

    Other values are taken modulo 2π, so that it is a density on the torus and not on R^D.
    Rezende et al., Normalizing Flows on Tori and Spheres, 2020, arXiv:2002.02428.
    """
    from zuko.flows import NCSF

    sizes = {"transforms": layers, "hidden_features": [hidden] * depth}
    return from_zuko(NCSF(dim, context_dim, bins=bins, **sizes), dim, context_dim)
