"""Families of other libraries at the sizes that the kit judges them at, and nflows' own families.

The discrete flows of this project are nflows' transforms with their faults mended. `register` adds
those of nflows as they are; no study measures them.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from nflows import transforms as t
from nflows.flows import MaskedAutoregressiveFlow, SimpleRealNVP
from nflows.nn.nets import ResidualNet
from nflows.utils import create_alternating_binary_mask as mask

import flows
from flows.registry import Library

SIZES = {"hidden": 16, "depth": 2, "layers": 2, "context_dim": 0}  # small: a fault stands out
SIGMOIDS = {"layers": 1, "hidden": 4}
SLOW = {  # smaller ones, by the beginning of a family's name
    "zuko_cnf": {"hidden": 8, "depth": 1, "frequencies": 1},
    "zuko_naf": {"hidden": 8, "depth": 1},
    "zuko_unaf": {"layers": 1, "hidden": 4, "depth": 1},
    "torchflows_iresnet": {"hidden": 3},
    "torchflows_resflow": {"hidden": 3},
    "torchflows_proximal_resflow": {"hidden": 6},
    "torchflows_ddnf": {"euler_steps": 15},
    "torchflows_deep_sf": SIGMOIDS,
    "torchflows_dense_sf": {**SIGMOIDS, "units": 2},
    "torchflows_deep_dense_sf": {**SIGMOIDS, "units": 2, "transforms": 1},
    "torchflows_umnn_maf": SIGMOIDS,
}
TAILS: Any = {"tails": "linear", "tail_bound": 3.0}  # of splines
Build = Callable[[int, int, int], Any]  # of D, width and number of layers


def library(name: str) -> Library:
    """A library with its families; ValueError, with the remedy, if there is none of this name."""
    register()
    libraries = {library.name: library for library in flows.members.libraries()}
    if name not in libraries:
        raise ValueError(f"unknown library {name!r}; choose from: {', '.join(libraries)}")
    if fault := libraries[name].fault:
        raise ValueError(f"{name} {fault}: {libraries[name].remedy}")
    return libraries[name]


def options(family: str) -> dict[str, Any]:
    """The sizes at which a family is judged."""
    smaller = (sizes for prefix, sizes in SLOW.items() if family.startswith(prefix))
    return {**flows.members[family].applicable(SIZES), **next(smaller, {})}


def register() -> None:
    """Register nflows' own families, under names that begin with ``nflows_``."""
    for name, build in dict(_families()).items():
        factory = partial(_built, build)
        factory.__doc__ = f"nflows' own {name}."
        factory.__module__ = __name__
        flows.register(f"nflows_{name}", uses=("hidden", "layers"), requires="nflows")(factory)


def _built(build: Build, dim: int, *, hidden: int = 16, layers: int = 2) -> flows.Flow:
    return flows.Flow(build(dim, hidden, layers), dim, 0)


def _families() -> Iterator[tuple[str, Build]]:
    yield "realnvp", lambda *sizes: SimpleRealNVP(*sizes, 1)._transform
    yield ("nice", lambda *sizes: SimpleRealNVP(*sizes, 1, use_volume_preserving=True)._transform)
    yield "maf", lambda *sizes: MaskedAutoregressiveFlow(*sizes, 1)._transform
    yield "glow", _glow
    for spline in ("Linear", "Quadratic", "Cubic", "RationalQuadratic"):
        name = "nsf" if spline == "RationalQuadratic" else spline.lower()
        kind = getattr(t, f"Piecewise{spline}CouplingTransform")
        yield f"{name}_coupling", partial(_couplings, partial(kind, **TAILS))
    splines = partial(t.MaskedPiecewiseRationalQuadraticAutoregressiveTransform, **TAILS)
    yield "nsf_ar", partial(_autoregressive, partial(splines, num_blocks=1))
    affine = partial(t.MaskedAffineAutoregressiveTransform, num_blocks=1)
    yield "iaf", partial(_autoregressive, lambda *sizes: t.InverseTransform(affine(*sizes)))
    yield "lu", lambda dim, *_: t.LULinear(dim)
    yield "lu_cached", lambda dim, *_: t.LULinear(dim, using_cache=True)
    yield "naive_linear", lambda dim, *_: t.NaiveLinear(dim)
    yield "qr", lambda dim, *_: t.QRLinear(dim, num_householder=2)
    yield "svd", lambda dim, *_: t.SVDLinear(dim, num_householder=2)
    yield "leaky_relu", lambda dim, *_: t.CompositeTransform([t.LULinear(dim), t.LeakyReLU()])


def _glow(dim: int, hidden: int, layers: int) -> Any:
    net = partial(ResidualNet, hidden_features=hidden, num_blocks=1)
    parts: list[Any] = []
    for k in range(layers):
        coupling = t.AffineCouplingTransform(mask(dim, k % 2 == 0), net)
        parts += [t.ActNorm(dim), t.LULinear(dim), coupling]
    transform = t.CompositeTransform(parts)
    transform(1.5 * torch.randn(128, dim))  # initialises ActNorm
    return transform


def _couplings(kind: Any, dim: int, hidden: int, layers: int) -> Any:
    net = partial(ResidualNet, hidden_features=hidden, num_blocks=1)
    parts = [kind(mask(dim, k % 2 == 0), net) for k in range(layers)]
    return t.CompositeTransform(parts)


def _autoregressive(kind: Callable[[int, int], Any], dim: int, hidden: int, layers: int) -> Any:
    parts = [(t.ReversePermutation(dim), kind(dim, hidden)) for _ in range(layers)]
    return t.CompositeTransform([part for pair in parts for part in pair])
