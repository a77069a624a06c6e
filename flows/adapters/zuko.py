"""zuko's flows as members, and any zuko flow as a Flow; zuko is imported when one is made."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.distributions import Independent, Normal

import flows
from flows.adapters.zuko_transforms import ZukoBase, ZukoODE, ZukoTransform
from flows.flow import Flow


def from_zuko(flow: nn.Module, dim: int, context_dim: int = 0) -> Flow:
    """A zuko flow as a Flow that shares its parameters: the same density, log_prob for log_prob.

    ``dim`` D and ``context_dim`` are those that the flow was made with. Noise that is not the
    standard normal is the Flow's ``base``. Raises TypeError for what is no zuko Flow, among them
    zuko's mixture GMM, and ValueError for another dimension. Rozet et al., Zuko: Normalizing flows
    in PyTorch, 2022, https://github.com/probabilists/zuko.
    """
    from zuko.flows.continuous import FFJTransform
    from zuko.lazy import Flow as ZukoFlow

    if not isinstance(flow, ZukoFlow):
        raise TypeError(f"from_zuko takes a zuko Flow, got {type(flow).__name__}")
    odes = [module for module in flow.modules() if isinstance(module, FFJTransform)]
    if not odes:  # one might never end
        _check_dimensions(flow, dim, context_dim)
    normal = _standard_normal(flow.base(), dim) and not any(True for _ in flow.base.parameters())
    transform = ZukoODE(flow, odes) if odes else ZukoTransform(flow)
    return Flow(transform, dim, context_dim, None if normal else ZukoBase(flow))


def _check_dimensions(flow: Any, dim: int, context_dim: int) -> None:
    """ValueError for a flow that has other dimensions."""
    like = next(iter((*flow.parameters(), *flow.buffers())), torch.empty(0))
    try:
        with torch.no_grad():
            context = like.new_zeros(1, context_dim) if context_dim else None
            flow(context).log_prob(like.new_zeros(1, dim))
    except RuntimeError as error:
        raise ValueError(
            f"this zuko flow does not take dim={dim} with context_dim={context_dim}: give those "
            "that it was made with"
        ) from error


def _standard_normal(base: Any, dim: int) -> bool:
    """Whether a distribution is N(0, I) in R^D with parameters of its own."""
    if not isinstance(base, Independent) or not isinstance(base.base_dist, Normal):
        return False
    loc, scale = base.base_dist.loc, base.base_dist.scale
    return base.event_shape == (dim,) and bool((loc == 0).all() and (scale == 1).all())


@flows.register("zuko_realnvp", uses=("hidden", "depth", "layers", "context_dim"), requires="zuko")
def zuko_realnvp(
    dim: int, *, hidden: int = 64, depth: int = 2, layers: int = 8, context_dim: int = 0
) -> Flow:
    """zuko's RealNVP: affine couplings over alternating halves, without normalisation between.

    z_a = x_a, z_b = x_b ⊙ s(x_a) + t(x_a) with ln s within ±ln 1000. log_prob and sampling cost
    O(N L (D H + ℓ H²)) alike, the log-determinant O(N L D). ValueError below two columns. Dinh
    et al., Density estimation using Real NVP, 2017, arXiv:1605.08803.

    Growth in D at fixed width: log_prob 1, sampling 1.
    """
    from zuko.flows import RealNVP

    if dim < 2:
        raise ValueError(f"a coupling needs at least two columns, got dim={dim}: try 'zuko_maf'")
    flow = RealNVP(dim, context_dim, transforms=layers, hidden_features=[hidden] * depth)
    return from_zuko(flow, dim, context_dim)


@flows.register("zuko_maf", uses=("hidden", "depth", "layers", "context_dim"), requires="zuko")
def zuko_maf(
    dim: int, *, hidden: int = 64, depth: int = 2, layers: int = 5, context_dim: int = 0
) -> Flow:
    """zuko's MAF: affine in each column given those before it, the order reversed by layers.

    log_prob costs O(N L (D H + ℓ H²)), a sample D times that; the log-determinant O(N L D). At
    D = 1 without a context there is nothing to condition on, and no network. Papamakarios et al.,
    Masked Autoregressive Flow for Density Estimation, 2017, arXiv:1705.07057.

    Growth in D at fixed width: log_prob 1, sampling 2.
    """
    from zuko.flows import MAF

    flow = MAF(dim, context_dim, transforms=layers, hidden_features=[hidden] * depth)
    return from_zuko(flow, dim, context_dim)


@flows.register("zuko_nsf", uses=("hidden", "depth", "layers", "context_dim"), requires="zuko")
def zuko_nsf(
    dim: int,
    *,
    hidden: int = 64,
    depth: int = 2,
    layers: int = 5,
    context_dim: int = 0,
    bins: int = 8,
) -> Flow:
    """zuko's NSF: autoregressive rational-quadratic splines on [-5, 5], the identity outside.

    log_prob costs O(N L (D H + ℓ H² + D K H)) with K ``bins``, a sample D times that. At D = 1
    without a context there is no network. Durkan et al., Neural Spline Flows, 2019,
    arXiv:1906.04032.

    Growth in D at fixed width: log_prob 1, sampling 2.
    """
    from zuko.flows import NSF

    flow = NSF(dim, context_dim, bins=bins, transforms=layers, hidden_features=[hidden] * depth)
    return from_zuko(flow, dim, context_dim)


@flows.register("zuko_cnf", uses=("hidden", "depth", "context_dim"), requires="zuko")
def zuko_cnf(
    dim: int,
    *,
    hidden: int = 64,
    depth: int = 2,
    context_dim: int = 0,
    exact: bool = True,
    atol: float = 1e-6,
    rtol: float = 1e-5,
    frequencies: int = 3,
    activation: Literal["elu", "tanh"] = "elu",
) -> Flow:
    """zuko's CNF: one ELU network for all of time, its trace exact or Hutchinson's estimate.

    The network sees the time by sines and cosines of ``frequencies``, 0 for a field without time;
    ``activation`` is "elu" or "tanh".

    An evaluation costs O(N (D H + ℓ H²)) for the field, its exact trace D vector-Jacobian
    products, the estimate one. log_prob takes NFE evaluations, a sample as many of the field alone.
    The error is the largest over the batch; for the log-determinant ``atol`` is a hundred times
    looser, and ELU's slope has a kink, so that log p is off by some dozen times the tolerance. Chen
    et al., Neural Ordinary Differential Equations, 2018, arXiv:1806.07366.

    Growth in D at fixed width: log_prob 2, sampling 1.
    """
    from zuko.flows import CNF

    activations = {"elu": nn.ELU, "tanh": nn.Tanh}
    if activation not in activations:
        raise ValueError(f"zuko_cnf has no activation {activation!r}; choose from: elu, tanh")
    sizes: dict[str, Any] = {"hidden_features": [hidden] * depth, "freqs": frequencies}
    sizes["activation"] = activations[activation]
    flow = CNF(dim, context_dim, exact=exact, atol=atol, rtol=rtol, **sizes)
    return from_zuko(flow, dim, context_dim)
