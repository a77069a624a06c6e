"""normflows' flows as members, and any normflows model as a Flow.

Its layers run from noise to data, the opposite of a Bijection: `forward` here is its ``inverse``.
Its radial flow and its planar one with tanh have no inverse, and so no density of data; these, and
layers that are stochastic or for images, are left out. Stimper et al., normflows: A PyTorch Package
for Normalizing Flows, 2023, arXiv:2302.12014.
"""

import math
from collections.abc import Callable
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

        kinds = [type(module) for module in model.modules()]
        estimated = any(issubclass(kind, Residual) for kind in kinds)
        normalising = any(issubclass(kind, ActNorm) for kind in kinds)
        super().__init__(estimated=estimated, normalising=normalising)
        self.model: Any = model

    def _run(self, x: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        if not inverse and self.estimated and self.training and torch.is_grad_enabled():
            from normflows.utils import update_lipschitz

            update_lipschitz(self.model, 5)
        layers = self.model.flows
        calls = layers if inverse else [layer.inverse for layer in reversed(layers)]
        given, ladj = {} if context is None else {"context": context}, x.new_zeros(len(x))
        with self.seeded():
            for call in calls:
                x, part = call(x, **given)
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
Layers = Callable[[Any, int, Sizes], list[Any]]  # of one transformation, from noise to data


def _member(
    name: str, uses: tuple[str, ...] | None = None, least: int = 1, angles: bool = False
) -> Callable[[Layers], Layers]:
    """Register a family by the layers of one of its transformations, whose docstring it has.

    They are made of normflows, D and the sizes. The base is N(0, I), or of ``angles`` uniform on
    [-π, π].
    """

    def decorate(make: Layers) -> Layers:
        def flow(dim: int, sizes: Sizes) -> Flow:
            import normflows

            parts = [part for _ in range(sizes.layers) for part in make(normflows, dim, sizes)]
            base = normflows.distributions.DiagGaussian(dim, trainable=False)
            if angles:
                width = torch.full((dim,), 2 * math.pi)
                base = normflows.distributions.UniformGaussian(dim, range(dim), width)
            kind = "ConditionalNormalizingFlow" if sizes.context_dim else "NormalizingFlow"
            model = getattr(normflows, kind)(base, parts)
            return from_normflows(model, dim, sizes.context_dim)

        flow.__doc__ = make.__doc__
        family(f"normflows_{name}", "normflows", uses or SIZES, least=least)(flow)
        return make

    return decorate


def _halves(nf: Any, dim: int, sizes: Sizes, outputs: int) -> Any:
    """The network of a coupling: the first half of the columns, rounded up, to the second."""
    widths = [(dim + 1) // 2, *sizes.widths, outputs * (dim // 2)]
    return nf.nets.MLP(widths, init_zeros=True)


@_member("nice", PLAIN, least=2)
def _nice(nf: Any, dim: int, sizes: Sizes) -> list[Any]:
    """normflows' coupling block without scale, the halves swapped after each.

    Dinh et al., 2014, arXiv:1410.8516.
    """
    network = _halves(nf, dim, sizes, 1)
    return [nf.flows.AffineCouplingBlock(network, scale=False), nf.flows.Permute(dim, mode="swap")]


@_member("realnvp", PLAIN, least=2)
def _realnvp(nf: Any, dim: int, sizes: Sizes) -> list[Any]:
    """normflows' affine coupling block, the halves swapped after each, as its readme has it.

    Dinh et al., 2017, arXiv:1605.08803.
    """
    network = _halves(nf, dim, sizes, 2)
    return [nf.flows.AffineCouplingBlock(network), nf.flows.Permute(dim, mode="swap")]


@_member("glow", PLAIN, least=2)
def _glow(nf: Any, dim: int, sizes: Sizes) -> list[Any]:
    """normflows' Glow for vectors: coupling by a sigmoid, an LU layer and ActNorm.

    ActNorm is set by the first batch that passes, data or noise; ``initialize`` gives it data. The
    model's ``reverse_kld`` would give it noise. Kingma and Dhariwal, 2018, arXiv:1807.03039.
    """
    coupling = nf.flows.AffineCouplingBlock(_halves(nf, dim, sizes, 2), scale_map="sigmoid")
    return [coupling, nf.flows.InvertibleAffine(dim), nf.flows.ActNorm((dim,))]


@_member("maf")
def _maf(nf: Any, dim: int, sizes: Sizes) -> list[Any]:
    """normflows' MaskedAffineAutoregressive, whose sampling is one pass, and an LU layer.

    So log_prob takes D passes: normflows runs it in the direction of an IAF. Papamakarios et al.,
    2017, arXiv:1705.07057.
    """
    layer = nf.flows.MaskedAffineAutoregressive(
        dim, sizes.hidden, sizes.context_dim or None, num_blocks=sizes.depth
    )
    return [layer, nf.flows.LULinearPermute(dim)]


@_member("nsf_coupling", least=2)
def _nsf_coupling(nf: Any, dim: int, sizes: Sizes) -> list[Any]:
    """normflows' coupled rational-quadratic splines on [-3, 3], and an LU layer.

    Durkan et al., 2019, arXiv:1906.04032.
    """
    layer = nf.flows.CoupledRationalQuadraticSpline(
        dim, sizes.depth, sizes.hidden, sizes.context_dim or None
    )
    return [layer, nf.flows.LULinearPermute(dim)]


@_member("nsf_ar")
def _nsf_ar(nf: Any, dim: int, sizes: Sizes) -> list[Any]:
    """normflows' autoregressive rational-quadratic splines on [-3, 3], and an LU layer.

    log_prob is one pass, a sample D. Durkan et al., 2019, arXiv:1906.04032.
    """
    layer = nf.flows.AutoregressiveRationalQuadraticSpline(
        dim, sizes.depth, sizes.hidden, sizes.context_dim or None
    )
    return [layer, nf.flows.LULinearPermute(dim)]


@_member("ncsf_coupling", PLAIN, least=2, angles=True)
def _ncsf_coupling(nf: Any, dim: int, sizes: Sizes) -> list[Any]:
    """normflows' circular coupled splines for angles in [-π, π), two with opposite masks.

    Other values are taken modulo 2π, so that it is a density on the torus and not on R^D. Rezende
    et al., Normalizing Flows on Tori and Spheres, 2020, arXiv:2002.02428.
    """
    kind = nf.flows.CircularCoupledRationalQuadraticSpline
    given = dim, sizes.depth, sizes.hidden, range(dim)
    pair = [kind(*given, tail_bound=math.pi, reverse_mask=mirrored) for mirrored in (False, True)]
    return [*pair, nf.flows.PeriodicWrap(range(dim), math.pi)]


@_member("ncsf_ar", PLAIN, angles=True)
def _ncsf_ar(nf: Any, dim: int, sizes: Sizes) -> list[Any]:
    """normflows' circular autoregressive splines for angles, as its coupled ones."""
    kind = nf.flows.CircularAutoregressiveRationalQuadraticSpline
    spline = kind(dim, sizes.depth, sizes.hidden, range(dim), tail_bound=math.pi)
    return [spline, nf.flows.PeriodicWrap(range(dim), math.pi)]


@_member("residual", PLAIN)
def _residual(nf: Any, dim: int, sizes: Sizes) -> list[Any]:
    """normflows' residual flow of Lipschitz networks, and ActNorm.

    The log-determinant is exact at D = 2 in ``eval()``, and else a random estimate of a power
    series. Chen et al., 2019, arXiv:1906.02735.
    """
    network = nf.nets.LipschitzMLP([dim, *sizes.widths, dim], lipschitz_const=0.9)
    return [nf.flows.Residual(network), nf.flows.ActNorm((dim,))]


@_member("planar", uses=("layers",))
def _planar(nf: Any, dim: int, sizes: Sizes) -> list[Any]:
    """normflows' planar flow with leaky ReLU, the only one of its planar flows with an inverse.

    Rezende and Mohamed, 2015, arXiv:1505.05770.
    """
    return [nf.flows.Planar((dim,), act="leaky_relu")]
