"""torchflows' flows as members.

Its planar, radial and Sylvester flows run from noise to data alone: they are no Bijections, and no
members. Nor are architectures of images. Nabergoj and Štrumbelj, torchflows,
https://github.com/davidnabergoj/torchflows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import flows
from flows.adapters.torchflows import from_torchflows
from flows.flow import Flow

# name -> (class, what it is, columns that it needs)
AUTOREGRESSIVE: Mapping[str, tuple[str, str, int]] = {
    "nice": ("NICE", "couplings by a shift", 2),
    "realnvp": ("RealNVP", "affine couplings", 1),
    "inverse_realnvp": ("InverseRealNVP", "affine couplings, inverted", 2),
    "maf": ("MAF", "affine, each column given those before", 2),
    "iaf": ("IAF", "its inverse: log_prob in D passes", 2),
    "nsf_coupling": ("CouplingRQNSF", "couplings by rational-quadratic splines", 2),
    "nsf_ar": ("MaskedAutoregressiveRQNSF", "the same, autoregressive", 2),
    "nsf_iaf": ("InverseAutoregressiveRQNSF", "its inverse: log_prob in D passes", 2),
    "lrs_coupling": ("CouplingLRS", "couplings by linear rational splines", 2),
    "lrs_ar": ("MaskedAutoregressiveLRS", "the same, autoregressive", 2),
    "lrs_iaf": ("InverseAutoregressiveLRS", "its inverse: log_prob in D passes", 2),
    "deep_sf_coupling": ("CouplingDeepSF", "couplings by deep sigmoids", 2),
    "deep_sf_ar": ("MaskedAutoregressiveDeepSF", "the same, autoregressive", 2),
    "deep_sf_iaf": ("InverseAutoregressiveDeepSF", "its inverse: log_prob in D passes", 2),
    "dense_sf_coupling": ("CouplingDenseSF", "couplings by dense sigmoids", 2),
    "dense_sf_ar": ("MaskedAutoregressiveDenseSF", "the same, autoregressive", 2),
    "dense_sf_iaf": ("InverseAutoregressiveDenseSF", "its inverse: log_prob in D passes", 2),
    "deep_dense_sf_coupling": ("CouplingDeepDenseSF", "couplings by deep dense sigmoids", 2),
    "deep_dense_sf_ar": ("MaskedAutoregressiveDeepDenseSF", "the same, autoregressive", 2),
    "deep_dense_sf_iaf": ("InverseAutoregressiveDeepDenseSF", "its inverse", 2),
    "umnn_maf": ("UMNNMAF", "integrals of positive networks, autoregressive", 2),
}
RESIDUAL = {  # networks of the first two have as many hidden layers as units
    "iresnet": ("InvertibleResNet", "its log-determinant a truncated random series"),
    "resflow": ("ResFlow", "its log-determinant a random estimate"),
    "proximal_resflow": ("ProximalResFlow", "steps of a proximal network"),
}
CONTINUOUS = {
    "ffjord": ("ffjord.FFJORD", "one step of rk4, its trace by new Gaussian noise at each stage"),
    "rnode": ("rnode.RNODE", "as its FFJORD, with a penalty in its own fit"),
    "ddnf": ("ddnf.DDNF", "150 Euler steps, its trace by new Gaussian noise at each"),
    "ot_flow": ("otflow.OTFlowBijection", "one step of rk4 along a potential, its trace exact"),
}
FINITE = "torchflows.bijections.finite"
CONDITIONAL = ("hidden", "depth", "layers", "context_dim")


def _build(path: str, dim: int, context_dim: int = 0, least: int = 1, **given: Any) -> Flow:
    """The flow of a class at a dotted path; ValueError for fewer columns than ``least``."""
    from torchflows.flows import ContinuousFlow
    from torchflows.flows import Flow as TorchflowsFlow

    module, _, kind = path.rpartition(".")
    if dim < least:
        raise ValueError(f"torchflows' {kind} needs {least} columns or more, got dim={dim}")
    model: Any = ContinuousFlow if ".continuous." in path else TorchflowsFlow
    if context_dim:
        given["context_shape"] = (context_dim,)
    return from_torchflows(
        model(getattr(import_module(module), kind)((dim,), **given)), dim, context_dim
    )


def _register(name: str, uses: tuple[str, ...], about: str, factory: Callable[..., Flow]) -> None:
    factory.__doc__ = f"torchflows' {about}."
    flows.register(f"torchflows_{name}", uses=uses, requires="torchflows")(factory)


def _autoregressive(name: str, kind: str, least: int) -> Callable[..., Flow]:
    """The factory of an autoregressive family.

    ``units`` are those of a dense sigmoid's layers; a deep one composes ``transforms`` of them.
    """
    path = f"{FINITE}.autoregressive.architectures.{kind}"

    def plain(
        dim: int,
        *,
        hidden: int = 64,
        depth: int = 2,
        layers: int = 2,
        context_dim: int = 0,
        **given: Any,
    ) -> Flow:
        network = {"n_hidden": hidden, "n_layers": depth + 1}
        given |= {"n_layers": layers, "conditioner_kwargs": network}
        return _build(path, dim, context_dim, least, **given)

    def dense(
        dim: int,
        *,
        hidden: int = 64,
        depth: int = 2,
        layers: int = 2,
        context_dim: int = 0,
        units: int = 8,
    ) -> Flow:
        sizes = {"hidden": hidden, "depth": depth, "layers": layers, "context_dim": context_dim}
        return plain(dim, **sizes, transformer_kwargs={"hidden_size": units})

    def deep_dense(
        dim: int,
        *,
        hidden: int = 64,
        depth: int = 2,
        layers: int = 2,
        context_dim: int = 0,
        units: int = 8,
        transforms: int = 2,
    ) -> Flow:
        sizes = {"hidden": hidden, "depth": depth, "layers": layers, "context_dim": context_dim}
        transformer = {"hidden_size": units, "n_hidden_layers": transforms}
        return plain(dim, **sizes, transformer_kwargs=transformer)

    return {"dense": dense, "deep_dense": deep_dense}.get(name.partition("_sf")[0], plain)


def _residual(kind: str) -> Callable[..., Flow]:
    path = f"{FINITE}.residual.architectures.{kind}"

    def factory(dim: int, *, hidden: int = 12, layers: int = 2) -> Flow:
        return _build(path, dim, n_layers=layers, layer_kwargs={"hidden_size": hidden})

    return factory


def _continuous(name: str, path: str) -> Callable[..., Flow]:
    path = f"torchflows.bijections.continuous.{path}"

    def potential(dim: int, *, hidden: int = 64) -> Flow:
        return _build(path, dim, time_derivative_kwargs={"hidden_size": hidden})

    def runge_kutta(dim: int, *, hidden: int = 64, depth: int = 2, **given: Any) -> Flow:
        network = {"hidden_size": hidden, "n_hidden_layers": depth - 1}
        return _build(path, dim, nn_kwargs=network, **given)

    def euler(dim: int, *, hidden: int = 64, depth: int = 2, euler_steps: int = 150) -> Flow:
        return runge_kutta(dim, hidden=hidden, depth=depth, n_steps=euler_steps)

    return {"ot_flow": potential, "ddnf": euler}.get(name, runge_kutta)


for _name, (_kind, _about, _least) in AUTOREGRESSIVE.items():
    _register(_name, CONDITIONAL, f"{_kind}: {_about}", _autoregressive(_name, _kind, _least))
for _name, (_kind, _about) in RESIDUAL.items():
    _register(_name, ("hidden", "layers"), f"{_kind}: {_about}", _residual(_kind))
for _name, (_path, _about) in CONTINUOUS.items():
    _uses = ("hidden",) if _name == "ot_flow" else ("hidden", "depth")
    _kind = _path.rpartition(".")[2]
    _register(_name, _uses, f"{_kind}: {_about}", _continuous(_name, _path))
