"""normflows' flows as members, and any normflows model as a Flow.

Its layers run from noise to data, the opposite of a Bijection: `forward` here is its ``inverse``.
Its radial flow and its planar one with tanh have no inverse, and so no density of data; these, and
layers that are stochastic or for images, are left out. Stimper et al., normflows: A PyTorch Package
for Normalizing Flows, 2023, arXiv:2302.12014.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from flows.adapters.library import LibraryTransform, base_of, family
from flows.flow import Flow
from flows.registry import SIZES, Sizes


class NormflowsTransform(LibraryTransform):
    """A Bijection made of the layers of a normflows model, which it holds whole.

    Log-determinants are summed in the dtype of x, as ``log_prob`` and ``sample`` of the model sum
    them; its ``forward_and_log_det`` and ``inverse_and_log_det`` sum in float32 whatever x is. In
    training the constants of Lipschitz layers are renewed before each pass with a gradient, where
    normflows asks for ``update_lipschitz`` after each update.
    """

    def __init__(self, model: nn.Module) -> None:
        from normflows.flows import ActNorm, Residual

        super().__init__(model, (Residual,), ActNorm)
        self.model: Any = model

    def _run(self, x: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        if not inverse and self.estimated and self.training and torch.is_grad_enabled():
            from normflows.utils import update_lipschitz

            update_lipschitz(self.model, 5)
        layers = self.model.flows
        calls = layers if inverse else [layer.inverse for layer in reversed(layers)]
        arguments, ladj = {} if context is None else {"context": context}, x.new_zeros(len(x))
        with self.seeded():
            for call in calls:
                x, part = call(x, **arguments)
                ladj = ladj + part
        return x, ladj


def from_normflows(model: nn.Module, dim: int, context_dim: int = 0) -> Flow:
    """A normflows model as a Flow that shares its parameters: log_prob for log_prob.

    ``model`` is a NormalizingFlow, or a ConditionalNormalizingFlow where ``context_dim`` > 0, of
    vectors of ``dim`` D columns. Its base is the Flow's if it is not a fixed N(0, I). The loss is
    the model's ``forward_kld``. Raises TypeError for what is neither.
    """
    import normflows

    kind = normflows.ConditionalNormalizingFlow if context_dim else normflows.NormalizingFlow
    if not isinstance(model, kind):
        raise TypeError(f"from_normflows takes a {kind.__name__}, got {type(model).__name__}")
    base = base_of(model.q0, normflows.distributions.DiagGaussian)
    return Flow(NormflowsTransform(model), dim, context_dim, base)


PLAIN = ("hidden", "depth", "layers")
USES = {"planar": ("layers",), **dict.fromkeys(("maf", "nsf_coupling", "nsf_ar"), SIZES)}
COUPLED = "nice", "realnvp", "glow", "nsf_coupling", "ncsf_coupling"  # which need two columns
ABOUT = {
    "nice": """normflows' coupling block without scale, the halves swapped after each.

    Dinh et al., 2014, arXiv:1410.8516.""",
    "realnvp": """normflows' affine coupling block, the halves swapped after each, as in its readme.

    Dinh et al., 2017, arXiv:1605.08803.""",
    "glow": """normflows' Glow for vectors: coupling by a sigmoid, an LU layer and ActNorm.

    ActNorm is set by the first batch that passes, data or noise; ``initialize`` gives it data. The
    model's ``reverse_kld`` would give it noise. Kingma and Dhariwal, 2018, arXiv:1807.03039.""",
    "maf": """normflows' MaskedAffineAutoregressive, whose sampling is one pass, and an LU layer.

    So log_prob takes D passes: normflows runs it in the direction of an IAF. Papamakarios et al.,
    2017, arXiv:1705.07057.""",
    "nsf_coupling": """normflows' coupled rational-quadratic splines on [-3, 3], and an LU layer.

    Durkan et al., 2019, arXiv:1906.04032.""",
    "nsf_ar": """normflows' autoregressive rational-quadratic splines on [-3, 3], and an LU layer.

    log_prob is one pass, a sample D. Durkan et al., 2019, arXiv:1906.04032.""",
    "ncsf_coupling": """normflows' circular coupled splines for angles in [-π, π), masked in turn.

    Other values are taken modulo 2π, so that it is a density on the torus and not on R^D. Rezende
    et al., Normalizing Flows on Tori and Spheres, 2020, arXiv:2002.02428.""",
    "ncsf_ar": "normflows' circular autoregressive splines for angles, as its coupled ones.",
    "residual": """normflows' residual flow of Lipschitz networks, and ActNorm.

    The log-determinant is exact at D = 2 in ``eval()``, and else a random estimate of a power
    series. Chen et al., 2019, arXiv:1906.02735.""",
    "planar": """normflows' planar flow with leaky ReLU, its only planar one with an inverse.

    Rezende and Mohamed, 2015, arXiv:1505.05770.""",
}


def _layers(nf: Any, name: str, dim: int, sizes: Sizes) -> list[Any]:
    """The layers of one transformation of a family, made of normflows, from noise to data."""
    circular = {"ind_circ": range(dim), "tail_bound": math.pi}
    shape, context = (dim, sizes.depth, sizes.hidden), sizes.context_dim or None

    def coupling(outputs: int, **scale: Any) -> Any:
        """The first half of the columns, rounded up, to the second."""
        widths = [(dim + 1) // 2, *sizes.widths, outputs * (dim // 2)]
        return nf.flows.AffineCouplingBlock(nf.nets.MLP(widths, init_zeros=True), **scale)

    match name:
        case "nice":
            return [coupling(1, scale=False), nf.flows.Permute(dim, mode="swap")]
        case "realnvp":
            return [coupling(2), nf.flows.Permute(dim, mode="swap")]
        case "glow":
            layers = [coupling(2, scale_map="sigmoid"), nf.flows.InvertibleAffine(dim)]
            return [*layers, nf.flows.ActNorm((dim,))]
        case "maf":
            kind = partial(nf.flows.MaskedAffineAutoregressive, num_blocks=sizes.depth)
            return [kind(dim, sizes.hidden, context), nf.flows.LULinearPermute(dim)]
        case "nsf_coupling":
            spline = nf.flows.CoupledRationalQuadraticSpline(*shape, context)
            return [spline, nf.flows.LULinearPermute(dim)]
        case "nsf_ar":
            spline = nf.flows.AutoregressiveRationalQuadraticSpline(*shape, context)
            return [spline, nf.flows.LULinearPermute(dim)]
        case "ncsf_coupling":
            kind = partial(nf.flows.CircularCoupledRationalQuadraticSpline, *shape, **circular)
            pair = [kind(reverse_mask=mirrored) for mirrored in (False, True)]
            return [*pair, nf.flows.PeriodicWrap(range(dim), math.pi)]
        case "ncsf_ar":
            spline = nf.flows.CircularAutoregressiveRationalQuadraticSpline(*shape, **circular)
            return [spline, nf.flows.PeriodicWrap(range(dim), math.pi)]
        case "residual":
            network = nf.nets.LipschitzMLP([dim, *sizes.widths, dim], lipschitz_const=0.9)
            return [nf.flows.Residual(network), nf.flows.ActNorm((dim,))]
    return [nf.flows.Planar((dim,), act="leaky_relu")]


def _family(name: str, about: str) -> None:
    uses, least = USES.get(name, PLAIN), 1 + (name in COUPLED)

    @family(f"normflows_{name}", "normflows", uses, least=least, about=about)
    def flow(dim: int, sizes: Sizes) -> Flow:
        import normflows as nf

        parts = [part for _ in range(sizes.layers) for part in _layers(nf, name, dim, sizes)]
        base = nf.distributions.DiagGaussian(dim, trainable=False)
        if name.startswith("ncsf"):  # of angles: uniform on [-π, π]
            width = torch.full((dim,), 2 * math.pi)
            base = nf.distributions.UniformGaussian(dim, range(dim), width)
        kind = nf.ConditionalNormalizingFlow if sizes.context_dim else nf.NormalizingFlow
        return from_normflows(kind(base, parts), dim, sizes.context_dim)


for _name, _about in ABOUT.items():
    _family(_name, _about)
