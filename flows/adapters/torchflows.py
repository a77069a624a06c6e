"""torchflows' flows as members, and any torchflows flow of vectors as a Flow.

Its planar, radial and Sylvester flows, which run from noise to data alone, and its architectures
for images are left out. Nabergoj and Štrumbelj, https://github.com/davidnabergoj/torchflows.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from flows.adapters.library import LibraryTransform, base_of, family
from flows.counting import NFE, new_solve
from flows.flow import Flow
from flows.registry import SIZES, Sizes


class TorchflowsTransform(LibraryTransform):
    """A Bijection made of that of a torchflows flow, which it holds whole: the same direction.

    ActNorm is set by the first batch that passes in training, or by `initialize`, and stays as it
    is loaded: torchflows would set it anew. Evaluations of an ODE's field are counted. The loss is
    the likelihood alone; torchflows' ``fit`` adds penalties of the layers to it.
    """

    def __init__(self, flow: nn.Module, context_dim: int = 0) -> None:
        from torchflows.bijections.continuous.base import ContinuousBijection
        from torchflows.bijections.finite.autoregressive.layers import ActNorm
        from torchflows.bijections.finite.residual import iterative

        estimated = (iterative.InvertibleResNetBlock, iterative.ResFlowBlock)
        super().__init__(flow, estimated, ActNorm)
        fields = [m.f for m in flow.modules() if isinstance(m, ContinuousBijection)]
        self.estimated |= any(hasattr(field, "reuse_noise") for field in fields)
        self.flow: Any = flow
        self.context_dim = context_dim
        self.counters: list[NFE] = []
        self._number = 0
        for field in fields:
            field.register_forward_hook(self._count)
        self._register_load_state_dict_pre_hook(self._keep)

    def initialize(self, x: Tensor) -> None:
        """Set ActNorm from x (N, D), by a pass in training; with a context, one of zeros."""
        mode = self.training
        context = x.new_zeros(len(x), self.context_dim) if self.context_dim else None
        if self.norms:
            self.train()
            self.forward(x, context)
            self.train(mode)

    def _run(self, x: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        bijection, self._number = self.flow.bijection, new_solve()
        with self.seeded():
            y, ladj = (bijection.inverse if inverse else bijection.forward)(x, context=context)
        return y, ladj

    def _count(self, field: nn.Module, inputs: Any, output: Any) -> None:
        for nfe in self.counters:
            nfe.of(self._number).forward += 1

    def _keep(self, *_: Any) -> None:
        """Leave ActNorm as it is loaded."""
        for norm in self.norms:
            norm.first_training_batch_pass = False


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
    base = base_of(flow.base, DiagonalGaussian, by_shape=True)
    return Flow(TorchflowsTransform(flow, context_dim), dim, context_dim, base)


# name -> (class, what it is, columns that it needs, its own options)
AUTOREGRESSIVE: dict[str, tuple[str, str, int, Mapping[str, int]]] = {
    "nice": ("NICE", "couplings by a shift", 2, {}),
    "realnvp": ("RealNVP", "affine couplings", 1, {}),
    "inverse_realnvp": ("InverseRealNVP", "affine couplings, inverted", 2, {}),
    "maf": ("MAF", "affine, each column given those before", 2, {}),
    "iaf": ("IAF", "its inverse: log_prob in D passes", 2, {}),
    "umnn_maf": ("UMNNMAF", "integrals of positive networks, autoregressive", 2, {}),
}
TRANSFORMERS: Mapping[str, tuple[str, str, Mapping[str, int]]] = {  # each in the three `WAYS`
    "nsf": ("RQNSF", "rational-quadratic splines", {}),
    "lrs": ("LRS", "linear rational splines", {}),
    "deep_sf": ("DeepSF", "deep sigmoids", {}),
    "dense_sf": ("DenseSF", "dense sigmoids", {"units": 8}),  # of their layers
    "deep_dense_sf": ("DeepDenseSF", "deep dense sigmoids", {"units": 8, "transforms": 2}),
}
WAYS = {
    "coupling": ("Coupling", "couplings by {}"),
    "ar": ("MaskedAutoregressive", "autoregressive {}"),
    "iaf": ("InverseAutoregressive", "autoregressive {}, inverted: log_prob in D passes"),
}
for _name, (_kind, _about, _own) in TRANSFORMERS.items():
    for _way, (_prefix, _line) in WAYS.items():
        AUTOREGRESSIVE[f"{_name}_{_way}"] = (_prefix + _kind, _line.format(_about), 2, _own)
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


def _family(name: str, path: str, about: str, *uses: str, **described: Any) -> None:
    """Register the family of a class at a dotted path below torchflows' bijections."""
    module, _, kind = path.rpartition(".")
    line = f"torchflows' {kind}: {about}."

    @family(f"torchflows_{name}", "torchflows", uses or SIZES, about=line, **described)
    def flow(dim: int, sizes: Sizes, **options: int) -> Flow:
        from torchflows.flows import ContinuousFlow
        from torchflows.flows import Flow as TorchflowsFlow

        args = _arguments(path, sizes, options)
        if sizes.context_dim:
            args["context_shape"] = (sizes.context_dim,)
        bijection = getattr(import_module(f"torchflows.bijections.{module}"), kind)((dim,), **args)
        model: Any = ContinuousFlow if path.startswith("continuous.") else TorchflowsFlow
        return from_torchflows(model(bijection), dim, sizes.context_dim)


def _arguments(path: str, sizes: Sizes, options: Mapping[str, int]) -> dict[str, Any]:
    """What a class's constructor takes for these sizes and the family's own options."""
    if path.startswith("finite.autoregressive."):
        names = {"units": "hidden_size", "transforms": "n_hidden_layers"}
        units = {names[option]: value for option, value in options.items()}
        network = {"n_hidden": sizes.hidden, "n_layers": sizes.depth + 1}
        args = {"n_layers": sizes.layers, "conditioner_kwargs": network}
        return args | ({"transformer_kwargs": units} if units else {})
    if path.startswith("finite.residual."):
        return {"n_layers": sizes.layers, "layer_kwargs": {"hidden_size": sizes.hidden}}
    if path == "continuous.otflow.OTFlowBijection":
        return {"time_derivative_kwargs": {"hidden_size": sizes.hidden}}
    network = {"hidden_size": sizes.hidden, "n_hidden_layers": sizes.depth - 1}
    steps = {"n_steps": options["euler_steps"]} if options else {}
    return {"nn_kwargs": network, **steps}


for _name, (_kind, _about, _least, _own) in AUTOREGRESSIVE.items():
    _path = f"finite.autoregressive.architectures.{_kind}"
    _family(_name, _path, _about, least=_least, layers=2, options=_own)
for _name, (_kind, _about) in RESIDUAL.items():
    _path = f"finite.residual.architectures.{_kind}"
    _family(_name, _path, _about, "hidden", "layers", hidden=12, layers=2)
for _name, (_kind, _about) in CONTINUOUS.items():
    _uses = ("hidden",) if _name == "ot_flow" else ("hidden", "depth")
    _steps = {"euler_steps": 150} if _name == "ddnf" else {}
    _family(_name, f"continuous.{_kind}", _about, *_uses, options=_steps)
