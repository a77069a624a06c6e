"""FrEIA's blocks as members, and any FrEIA network of vectors as a Flow.

Ardizzone et al., Framework for Easily Invertible Architectures, 2018-2022,
https://github.com/vislearn/FrEIA. Its 0.2 has no splines, and no distributions: the noise is
N(0, I), and training by likelihood as its readme has it.
"""

from collections.abc import Mapping
from functools import partial
from itertools import chain, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from flows.adapters.library import LibraryTransform, family, numpy_seeded
from flows.flow import Flow
from flows.registry import SIZES, Sizes


class FreiaTransform(LibraryTransform):
    """A Bijection made of a FrEIA network, which it holds whole: x is its data, z its output.

    A context is the network's one condition. The Lipschitz constants of residual layers are
    corrected before each pass in training with a gradient, where FrEIA asks for
    ``lipschitz_correction`` before each update; their log-determinant takes gradients, so that they
    have a graph even where gradients are off.
    """

    def __init__(self, network: nn.Module) -> None:
        from FrEIA.modules import ActNorm, IResNetLayer

        super().__init__(network, (IResNetLayer,), ActNorm)
        self.network: Any = network

    def _run(self, x: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        contexts, graph = [] if context is None else [context], torch.is_grad_enabled()
        if not inverse and self.training and graph:
            for layer in self.random:
                layer.lipschitz_correction()
        with self.seeded(), torch.set_grad_enabled(graph or self.estimated):
            y, ladj = self.network(x if graph else x.detach(), c=contexts, rev=inverse)
        ladj = x.new_zeros(len(x)) + ladj  # which is a number where it is the same for all rows
        return (y, ladj) if graph else (y.detach(), ladj.detach())


def from_freia(network: nn.Module, dim: int, context_dim: int = 0) -> Flow:
    """A FrEIA network as a Flow that shares its parameters, its output the noise N(0, I).

    ``network`` is a SequenceINN, or a GraphINN with one input and one output, of vectors of ``dim``
    D columns; with ``context_dim`` > 0 its one condition is the context. Raises TypeError for
    another type.
    """
    from FrEIA.framework import GraphINN, SequenceINN

    if not isinstance(network, SequenceINN | GraphINN):
        raise TypeError(
            f"from_freia takes a SequenceINN or a GraphINN, got {type(network).__name__}"
        )
    return Flow(FreiaTransform(network), dim, context_dim)


# name -> (class of FrEIA.modules, its options)
BLOCKS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "nice": ("NICECouplingBlock", {}),
    "realnvp": ("RNVPCouplingBlock", {}),
    "glow": ("GLOWCouplingBlock", {}),
    "gin": ("GINCouplingBlock", {}),
    "one_sided": ("AffineCouplingOneSided", {}),
    "all_in_one": ("AllInOneBlock", {"permute_soft": True}),
    "iresnet": ("IResNetLayer", {}),
}


def _subnet(sizes: Sizes, inputs: int, outputs: int) -> nn.Module:
    """The network of a coupling: ReLU between layers, as FrEIA's readme has it."""
    widths = [inputs, *sizes.widths]
    layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
    return nn.Sequential(*chain.from_iterable(layers), nn.Linear(widths[-1], outputs))


def _family(name: str, kind: str, options: Mapping[str, Any]) -> None:
    """Register the family of a block; a fixed permutation follows each that makes none itself."""
    coupled = kind != "IResNetLayer"
    between = ", a random permutation after each" if coupled else ", its log-determinant random"
    uses = SIZES if coupled else SIZES[:-1]  # a coupling takes a condition

    @family(f"freia_{name}", "FrEIA", uses, least=1 + coupled, about=f"FrEIA's {kind}{between}.")
    def flow(dim: int, sizes: Sizes) -> Flow:
        from FrEIA import modules
        from FrEIA.framework import SequenceINN

        arguments: dict[str, Any] = dict(options)
        if coupled:
            arguments["subnet_constructor"] = partial(_subnet, sizes)
        else:
            arguments |= {"internal_size": sizes.hidden, "n_internal_layers": sizes.depth - 1}
        if sizes.context_dim:
            arguments |= {"cond": 0, "cond_shape": (sizes.context_dim,)}
        network = SequenceINN(dim)
        with numpy_seeded():
            for _ in range(sizes.layers):
                network.append(getattr(modules, kind), **arguments)
                if coupled and name != "all_in_one":
                    network.append(modules.PermuteRandom)
        return from_freia(network, dim, sizes.context_dim)


for _name, (_kind, _options) in BLOCKS.items():
    _family(_name, _kind, _options)
