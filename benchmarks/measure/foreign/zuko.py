"""zuko, as it is, without our adapter: couplings, autoregressive flows and the CNF.

Layers and depth are ours, and the width of discrete flows is that with the number of parameters
nearest to ours. The CNF has the field and the weights of ours: zuko's own transform takes any
field. It integrates the exact trace by D vector-Jacobian products, its gradient is that of the
adaptive checkpoint adjoint, and its error is the largest over the batch. Rozet et al., Zuko:
Normalizing flows in PyTorch, 2022, https://github.com/probabilists/zuko.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.measure.foreign import Built, Call, width

PACKAGES = ("torch", "zuko")
EXTRA = "zuko"
FAMILIES = ("realnvp", "maf", "nsf_coupling", "nsf_ar", "cnf")


def build(request: Mapping[str, Any]) -> Built:
    """Build the counterpart of our flow of the same family; ValueError for a field without one."""
    import torch

    from benchmarks.measure.memory import saved_bytes

    torch.manual_seed(request["seed"])
    to = {"device": request["device"], "dtype": getattr(torch, request["dtype"])}
    x = torch.tensor(request["x"]).to(**to)
    continuous = request["family"] == "cnf"
    arrays = request["ours" if continuous else "theirs"]
    weights = {name: torch.tensor(value) for name, value in arrays.items()}
    facts: dict[str, Any] = {"same_weights": continuous, "compiles": False}
    if continuous:
        flow = _cnf(request, weights)
    else:
        masked = request["family"] in ("maf", "nsf_ar") and request["dim"] > 1
        count = cache(lambda n: _masked(request, n) if masked else _count(_discrete(request, n)))
        facts["hidden"] = width(count, request["parameters"])
        flow = _discrete(request, facts["hidden"])
        if weights:
            flow.load_state_dict(weights)
    flow.to(**to)
    facts["parameters"] = _count(flow)

    def log_prob() -> Any:
        with torch.no_grad():
            return flow().log_prob(x)

    def gradient() -> None:
        flow.zero_grad()
        (-flow().log_prob(x).mean()).backward()

    def sample() -> Any:
        with torch.no_grad():
            return flow().sample((len(x),))

    def waiting(work: Callable[[], Any]) -> Callable[[], Any]:
        """The work, done when it returns on a GPU too."""

        def run() -> Any:
            result = work()
            torch.cuda.synchronize(x.device)
            return result

        return run if x.is_cuda else work

    def flat(result: None) -> dict[str, np.ndarray]:
        return {"gradient": torch.cat([p.grad.flatten() for p in flow.parameters()]).cpu().numpy()}

    calls = {
        "log_prob": Call(waiting(log_prob), lambda result: {"log_prob": result.cpu().numpy()}),
        "gradient": Call(waiting(gradient), flat),
        "sample": Call(waiting(sample), lambda result: {"sample": result.cpu().numpy()}),
        "weights": Call(
            flow.state_dict, lambda state: {name: v.cpu().numpy() for name, v in state.items()}
        ),
        "saved": Call(
            lambda: saved_bytes(gradient, (*flow.parameters(), *flow.buffers())),
            lambda result: {"bytes": np.asarray(result)},
        ),
    }
    return Built(calls, facts, flow.zero_grad)


def _count(flow: Any) -> int:
    return sum(parameter.numel() for parameter in flow.parameters())


def _masked(request: Mapping[str, Any], size: int) -> int:
    """Count the parameters of masked nets by their shapes: zuko makes a mask in O(D³)."""
    options, dim = request["options"], request["dim"]
    outputs = dim * (3 * options["bins"] - 1 if request["family"] == "nsf_ar" else 2)
    shapes = pairwise([dim, *[size] * options["depth"], outputs])
    return int(options["layers"] * sum(n * m + m for n, m in shapes))


def _discrete(request: Mapping[str, Any], size: int) -> Any:
    import torch
    from zuko.distributions import DiagNormal
    from zuko.flows import MAF, NSF, RealNVP
    from zuko.flows.coupling import GeneralCouplingTransform
    from zuko.lazy import Flow, UnconditionalDistribution
    from zuko.transforms import MonotonicRQSTransform

    family, options, dim = request["family"], request["options"], request["dim"]
    sizes = {"hidden_features": [size] * options["depth"]}
    if family in ("realnvp", "maf", "nsf_ar"):
        kind: Any = {"realnvp": RealNVP, "maf": MAF, "nsf_ar": NSF}[family]
        more = {"bins": options["bins"]} if family == "nsf_ar" else {}
        return kind(dim, transforms=options["layers"], **more, **sizes)
    bins = options["bins"]
    splines = {"univariate": MonotonicRQSTransform, "shapes": [(bins,), (bins,), (bins - 1,)]}
    columns = torch.arange(dim) % 2
    layers = [
        GeneralCouplingTransform(dim, mask=columns == layer % 2, **splines, **sizes)
        for layer in range(options["layers"])
    ]
    base = UnconditionalDistribution(DiagNormal, torch.zeros(dim), torch.ones(dim), buffer=True)
    return Flow(layers, base)


def _cnf(request: Mapping[str, Any], weights: Mapping[str, Any]) -> Any:
    """Return a zuko flow of the transform by our field, with our weights in our order."""
    import torch
    from torch import nn
    from zuko.distributions import DiagNormal
    from zuko.lazy import Flow, LazyTransform, UnconditionalDistribution
    from zuko.transforms import FreeFormJacobianTransform

    options, dim = request["options"], request["dim"]
    solver = options["solver"]
    taken = {"activation": ("tanh",), "time": ("concat", "ignore"), "layers": (1,)}
    for name, values in taken.items():
        if options[name] not in values:
            raise ValueError(f"this field has no counterpart of {name} = {options[name]!r}")

    class Field(LazyTransform):  # type: ignore[misc]  # zuko has no annotations here
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList()
            for inputs, outputs in pairwise([dim, *[options["hidden"]] * options["depth"], dim]):
                layer = nn.Linear(inputs, outputs)
                if options["time"] == "concat":
                    layer.shift = nn.Parameter(torch.zeros(outputs))
                self.layers.append(layer)

        def rate(self, t: Any, x: Any) -> Any:
            for place, layer in enumerate(self.layers):
                x = layer(x if place == 0 else torch.tanh(x))
                x = x + layer.shift * t if hasattr(layer, "shift") else x
            return x

        def forward(self, c: Any = None) -> Any:
            how = {"atol": solver["atol"], "rtol": solver["rtol"]}
            return FreeFormJacobianTransform(self.rate, phi=self.parameters(), **how)

    field = Field()
    parts = {re.sub(r".*(layers\.\d+\.\w+)$", r"\1", name): part for name, part in weights.items()}
    field.load_state_dict(parts)
    base = UnconditionalDistribution(DiagNormal, torch.zeros(dim), torch.ones(dim), buffer=True)
    return Flow(field, base)
