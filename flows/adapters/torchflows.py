"""torchflows' flows as members, and any torchflows flow of vectors as a Flow.

Its planar, radial and Sylvester flows run from noise to data alone: they are no Bijections, and no
members. Nabergoj and Štrumbelj, torchflows, https://github.com/davidnabergoj/torchflows.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor, nn

import flows
from flows.adapters.noise import OwnNoise
from flows.counting import NFE, new_solve
from flows.flow import Flow


class TorchflowsTransform(OwnNoise):
    """A Bijection made of that of a torchflows flow, which it holds whole: the same direction.

    ActNorm is set by the first batch that passes in training, or by `initialize`, and stays as it
    is loaded: torchflows would set it anew, as it saves no mark. Evaluations of an ODE's field are
    counted. torchflows' ``fit`` adds penalties of the layers to the loss; here it is the likelihood
    alone, as for every flow.
    """

    def __init__(self, flow: nn.Module, context_dim: int = 0) -> None:
        super().__init__()
        from torchflows.bijections.continuous.base import ContinuousBijection
        from torchflows.bijections.finite.autoregressive.layers import ActNorm
        from torchflows.bijections.finite.residual.iterative import (
            InvertibleResNetBlock,
            ResFlowBlock,
        )

        self.flow: Any = flow
        self.context_dim = context_dim
        self.counters: list[NFE] = []
        self._number = 0
        modules = list(flow.modules())
        self.norms: Any = [m for m in modules if isinstance(m, ActNorm)]
        fields = [m.f for m in modules if isinstance(m, ContinuousBijection)]
        random = InvertibleResNetBlock, ResFlowBlock
        self._estimated = any(hasattr(field, "reuse_noise") for field in fields) or any(
            isinstance(module, random) for module in modules
        )
        for field in fields:
            field.register_forward_hook(self._count)
        self._register_load_state_dict_pre_hook(self._keep)

    @property
    def estimated(self) -> bool:
        """Whether the log-determinant is a random estimate."""
        return self._estimated

    def initialize(self, x: Tensor) -> None:
        """Set ActNorm from x (N, D), by a pass in training; with a context, one of zeros."""
        mode = self.training
        context = x.new_zeros(len(x), self.context_dim) if self.context_dim else None
        if self.norms:
            self.train()
            self.forward(x, context)
            self.train(mode)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to noise: (N, D) -> (N, D), (N,)."""
        return self._run(self.flow.bijection.forward, x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data: (N, D) -> (N, D), (N,)."""
        return self._run(self.flow.bijection.inverse, z, context)

    def _run(self, call: Any, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        self._number = new_solve()
        with self.seeded(x):
            y, ladj = call(x, context=context)
        return y, ladj

    def _count(self, field: nn.Module, inputs: Any, output: Any) -> None:
        for nfe in self.counters:
            nfe.of(self._number).forward += 1

    def _keep(self, *_: Any) -> None:
        """Leave ActNorm as it is loaded."""
        for norm in self.norms:
            norm.first_training_batch_pass = False


class TorchflowsBase(nn.Module):
    """The base of a torchflows flow that is not N(0, I)."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base = base

    def log_prob(self, z: Tensor) -> Tensor:
        """(N, D) -> (N,) nats."""
        log_prob: Tensor = self.base.log_prob(z)
        return log_prob

    def rsample(self, like: Tensor) -> Tensor:
        """Samples of the shape of ``like`` (n, D)."""
        samples: Tensor = self.base.sample((len(like),))
        return samples


def from_torchflows(flow: nn.Module, dim: int, context_dim: int = 0) -> Flow:
    """A torchflows flow as a Flow that shares its parameters: log_prob for log_prob.

    ``flow`` is a ``Flow``, or a ``ContinuousFlow``, whose log_prob is the first of the tuple that
    it returns, of events of shape (``dim``,). Its base is the Flow's if it is not a fixed N(0, I).
    Raises TypeError for another type and ValueError for another shape.
    """
    from torchflows.base_distributions.gaussian import DiagonalGaussian
    from torchflows.flows import Flow as TorchflowsFlow

    if not isinstance(flow, TorchflowsFlow):
        raise TypeError(f"from_torchflows takes a torchflows Flow, got {type(flow).__name__}")
    if tuple(flow.event_shape) != (dim,):
        raise ValueError(
            f"this torchflows flow has events of shape {tuple(flow.event_shape)}, not ({dim},)"
        )
    base = flow.base
    normal = isinstance(base, DiagonalGaussian) and not any(
        bool(tensor.any()) or tensor.requires_grad for tensor in (base.loc, base.log_scale)
    )
    transform = TorchflowsTransform(flow, context_dim)
    return Flow(transform, dim, context_dim, None if normal else TorchflowsBase(base))


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


def _family(name: str, uses: tuple[str, ...], about: str, path: str, least: int) -> None:
    """Register the family of a class at a dotted path, with sizes as torchflows takes them."""
    module, _, kind = path.rpartition(".")
    own_width = 12 if name in RESIDUAL else 64

    def factory(
        dim: int, *, hidden: int = own_width, depth: int = 2, layers: int = 2, context_dim: int = 0
    ) -> Flow:
        from torchflows.flows import ContinuousFlow
        from torchflows.flows import Flow as TorchflowsFlow

        if dim < least:
            raise ValueError(f"torchflows_{name} needs {least} columns or more, got dim={dim}")
        model: Any = ContinuousFlow if name in CONTINUOUS else TorchflowsFlow
        given: dict[str, Any] = {}
        if name in AUTOREGRESSIVE:
            given = {"conditioner_kwargs": {"n_hidden": hidden, "n_layers": depth + 1}}
            given["context_shape"] = (context_dim,) if context_dim else None
        elif name in RESIDUAL:
            given = {"layer_kwargs": {"hidden_size": hidden}}
        elif name == "ot_flow":
            given = {"time_derivative_kwargs": {"hidden_size": hidden}}
        else:
            given = {"nn_kwargs": {"hidden_size": hidden, "n_hidden_layers": depth - 1}}
        if name not in CONTINUOUS:
            given["n_layers"] = layers
        bijection = getattr(import_module(module), kind)((dim,), **given)
        return from_torchflows(model(bijection), dim, context_dim)

    factory.__doc__ = f"torchflows' {kind}: {about}."
    flows.register(f"torchflows_{name}", uses=uses, requires="torchflows")(factory)


for _name, (_kind, _about, _least) in AUTOREGRESSIVE.items():
    _path = f"{FINITE}.autoregressive.architectures.{_kind}"
    _family(_name, ("hidden", "depth", "layers", "context_dim"), _about, _path, _least)
for _name, (_kind, _about) in RESIDUAL.items():
    _path = f"{FINITE}.residual.architectures.{_kind}"
    _family(_name, ("hidden", "layers"), _about, _path, 1)
for _name, (_kind, _about) in CONTINUOUS.items():
    _uses = ("hidden",) if _name == "ot_flow" else ("hidden", "depth")
    _family(_name, _uses, _about, f"torchflows.bijections.continuous.{_kind}", 1)
