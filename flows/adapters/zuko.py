"""zuko's flows as members, and any zuko flow as a Flow; zuko is imported when one is made."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

import flows
from flows.counting import NFE
from flows.flow import Flow

TRACE_SCALE = 1e-2  # by which zuko multiplies the trace, so that its atol is looser for ladj
LIMIT = 70_000  # evaluations of a solve: zuko itself would go on for ever
CHECKED = 64  # evaluations between two looks for NaN, too few to be seen in the clock


class ZukoTransform(nn.Module):
    """A Bijection made of the transform of a zuko flow, which it holds whole."""

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow: Any = flow

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to noise: (N, D) -> (N, D), (N,)."""
        z, ladj = self.flow.transform(context).call_and_ladj(x)
        return z, ladj

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data: (N, D) -> (N, D), (N,)."""
        x, ladj = self.flow.transform(context).inv.call_and_ladj(z)
        return x, ladj


class ZukoODE(ZukoTransform):
    """The transform of a zuko flow with ODEs, ``odes`` its FFJTransforms.

    Evaluations are counted, noise is drawn from this module's own generator, and ``eval()`` leaves
    the gradient as it is: zuko would forget its parameters there. Raises RuntimeError, where zuko
    would never end, for a field that returns NaN or cannot be solved in 70,000 evaluations.
    """

    def __init__(self, flow: nn.Module, odes: list[Any]) -> None:
        super().__init__(flow)
        self.odes = odes
        self.counters: list[NFE] = []
        self.noise: int | None = None
        self.generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        self._solving, self._evaluations = False, 0
        for ode in odes:
            ode.ode.register_forward_hook(self._observe)
        self.train(self.training)

    @property
    def tolerance(self) -> float:
        """To which the log-determinant is solved: the larger of rtol and atol / 0.01."""
        return float(max(max(ode.rtol, ode.atol / TRACE_SCALE) for ode in self.odes))

    def train(self, mode: bool = True) -> ZukoODE:
        """Switch what is below, but not the ODEs, which in zuko's eval mode have no gradient."""
        super().train(mode)
        for ode in self.odes:
            ode.training = True
        return self

    def use(self, trace: str | None, solver: Any, noise: int | None) -> None:
        """Solve otherwise from now on; None keeps what is.

        Of a solver its tolerances count, for the log-determinant too. Raises ValueError for a
        trace other than "exact" and "hutchinson" and a method other than zuko's own, "dopri5".
        """
        if trace not in (None, "exact", "hutchinson"):
            raise ValueError(f"zuko has no trace {trace!r}; choose from: exact, hutchinson")
        chosen: Any = {} if solver is None else solver
        chosen = chosen if isinstance(chosen, Mapping) else dataclasses.asdict(chosen)
        if (method := chosen.get("method", "dopri5")) != "dopri5":
            raise ValueError(f"zuko has no method {method!r}; choose from: dopri5")
        for ode in self.odes:
            ode.exact = ode.exact if trace is None else trace == "exact"
            ode.rtol = chosen.get("rtol", ode.rtol)
            ode.atol = chosen["atol"] * TRACE_SCALE if "atol" in chosen else ode.atol
        self.noise = self.noise if noise is None else noise

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to noise: (N, D) -> (N, D), (N,)."""
        with self._solve(x):
            return super().forward(x, context) if len(x) else (x, x.new_zeros(0))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data: (N, D) -> (N, D), (N,)."""
        with self._solve(z):
            return super().inverse(z, context) if len(z) else (z, z.new_zeros(0))

    @contextlib.contextmanager
    def _solve(self, x: Tensor) -> Iterator[None]:
        """One forward solve, with zuko's global noise drawn from a seed of this module's."""
        self._solving, self._evaluations = True, 0
        try:
            with contextlib.ExitStack() as stack:
                if not all(ode.exact for ode in self.odes):
                    drawn = torch.randint(2**62, (), generator=self.generator)
                    devices = [x.device] if x.device.type == "cuda" else []
                    stack.enter_context(torch.random.fork_rng(devices))
                    torch.manual_seed(int(drawn) if self.noise is None else self.noise)
                yield
        finally:
            self._solving = False

    def _observe(self, net: nn.Module, inputs: Any, output: Tensor) -> None:
        """Count an evaluation of the field; RuntimeError for a solve that will not end."""
        for nfe in self.counters:
            nfe.forward += self._solving
            nfe.backward += not self._solving
        self._evaluations += 1
        if self._evaluations % CHECKED == 0 and not bool(torch.isfinite(output).all()):
            raise RuntimeError(
                "the field of a zuko ODE returned NaN or infinity: check its parameters, or lower "
                "the learning rate"
            )
        if self._solving and self._evaluations > LIMIT:
            raise RuntimeError(
                f"a zuko ODE passed {LIMIT} evaluations: the field is stiff or the tolerance too "
                "tight; raise rtol or atol"
            )


def from_zuko(flow: nn.Module, dim: int, context_dim: int = 0) -> Flow:
    """A zuko flow as a Flow that shares its parameters: the same density, log_prob for log_prob.

    ``dim`` D and ``context_dim`` are those that the flow was made with. Raises TypeError for what
    is no zuko Flow, and ValueError where its base is not the standard normal in R^D, which is the
    noise of every Flow. Rozet et al., Zuko: Normalizing flows in PyTorch, 2022,
    https://github.com/probabilists/zuko.
    """
    from zuko.flows.continuous import FFJTransform
    from zuko.lazy import Flow as ZukoFlow

    if not isinstance(flow, ZukoFlow):
        raise TypeError(f"from_zuko takes a zuko Flow, got {type(flow).__name__}")
    base = flow.base()
    if not _standard_normal(base, dim) or any(True for _ in flow.base.parameters()):
        raise ValueError(
            f"a Flow has standard normal noise of dim={dim}, but this zuko flow has the base "
            f"{base}: give it UnconditionalDistribution(DiagNormal, zeros({dim}), ones({dim}), "
            "buffer=True)"
        )
    odes = [module for module in flow.modules() if isinstance(module, FFJTransform)]
    return Flow(ZukoODE(flow, odes) if odes else ZukoTransform(flow), dim, context_dim)


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
    """
    from zuko.flows import RealNVP

    if dim < 2:
        raise ValueError(f"a coupling needs at least two columns, got dim={dim}: try 'zuko_maf'")
    made = RealNVP(dim, context_dim, transforms=layers, hidden_features=[hidden] * depth)
    return from_zuko(made, dim, context_dim)


@flows.register("zuko_maf", uses=("hidden", "depth", "layers", "context_dim"), requires="zuko")
def zuko_maf(
    dim: int, *, hidden: int = 64, depth: int = 2, layers: int = 5, context_dim: int = 0
) -> Flow:
    """zuko's MAF: affine in each column given those before it, the order reversed by layers.

    log_prob costs O(N L (D H + ℓ H²)), a sample D times that; the log-determinant O(N L D). At
    D = 1 without a context there is nothing to condition on, and no network. Papamakarios et al.,
    Masked Autoregressive Flow for Density Estimation, 2017, arXiv:1705.07057.
    """
    from zuko.flows import MAF

    made = MAF(dim, context_dim, transforms=layers, hidden_features=[hidden] * depth)
    return from_zuko(made, dim, context_dim)


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
    """
    from zuko.flows import NSF

    made = NSF(dim, context_dim, bins=bins, transforms=layers, hidden_features=[hidden] * depth)
    return from_zuko(made, dim, context_dim)


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
) -> Flow:
    """zuko's CNF: one ELU network for all of time, its trace exact or Hutchinson's estimate.

    An evaluation costs O(N (D H + ℓ H²)) for the field, its exact trace D vector-Jacobian
    products, the estimate one. log_prob takes NFE evaluations, a sample the same. The error is the
    largest over the batch; for the log-determinant ``atol`` is a hundred times looser, and ELU's
    slope has a kink, so that log p is off by some dozen times the tolerance. Chen et al., Neural
    Ordinary Differential Equations, 2018, arXiv:1806.07366.
    """
    from zuko.flows import CNF

    sizes: dict[str, Any] = {"hidden_features": [hidden] * depth}
    made = CNF(dim, context_dim, exact=exact, atol=atol, rtol=rtol, **sizes)
    return from_zuko(made, dim, context_dim)
