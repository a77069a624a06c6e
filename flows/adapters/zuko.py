"""zuko's flows as members, and any zuko flow as a Flow; zuko is imported when one is made."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from flows.adapters.library import family, log_prob_within
from flows.continuous import Solver, Trace
from flows.counting import NFE, new_solve
from flows.flow import Flow
from flows.registry import Sizes
from flows.streams import Stream

EXACT = {Trace("exact"): True, Trace("hutchinson"): False}  # the traces that zuko has
TRACE_SCALE = 1e-2  # by which zuko multiplies the trace, so that its atol is looser for ladj
LIMIT = 70_000  # evaluations of a solve: zuko itself has no limit
CHECKED = 64  # evaluations between two looks for NaN, too few to be seen in the clock


class ZukoTransform(nn.Module):
    """A Bijection made of the transform of a zuko flow, which it holds whole."""

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow: Any = flow

    @property
    def iterative(self) -> bool:
        """Whether the inverse takes several passes."""
        return any(getattr(module, "passes", 1) > 1 for module in self.flow.modules())

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._call(x, self.flow.transform(context))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._call(z, self.flow.transform(context).inv)

    def to_noise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self._call(x, self.flow.transform(context), alone=True)

    def to_data(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self._call(z, self.flow.transform(context).inv, alone=True)

    def _call(self, x: Tensor, transform: Any, alone: bool = False) -> Any:
        """The image of x, ``alone`` or with the log-determinant."""
        if len(x) == 0:  # which zuko cannot reshape
            return x if alone else (x, x.new_zeros(0))
        return transform(x) if alone else transform.call_and_ladj(x)


class ZukoBase(nn.Module):
    """The noise of a zuko flow as a base density; its tensors are the flow's, which holds them."""

    def __init__(self, flow: Any) -> None:
        super().__init__()
        self._flow = (flow,)  # in a tuple: the transform registers and saves it

    def log_prob(self, z: Tensor) -> Tensor:
        """(N, D) -> (N,) nats; minus infinity outside of the support."""
        distribution = self._flow[0].base()
        return log_prob_within(distribution, z, distribution.mean.expand_as(z))

    def rsample(self, like: Tensor) -> Tensor:
        """Samples of the shape of ``like`` (n, D)."""
        return self._flow[0].base().rsample((len(like),))


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
        self._solving, self._evaluations, self._number = False, 0, 0
        for ode in odes:
            ode.ode.register_forward_hook(self._observe)
        self.train(self.training)

    @property
    def estimated(self) -> bool:
        """Whether the log-determinant is a random estimate."""
        return not all(ode.exact for ode in self.odes)

    @property
    def tolerance(self) -> float:
        """To which the log-determinant is solved: the larger of rtol and atol / 0.01."""
        return float(max(max(ode.rtol, ode.atol / TRACE_SCALE) for ode in self.odes))

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules but the ODEs, which have no gradient in zuko's eval mode."""
        super().train(mode)
        for ode in self.odes:
            ode.training = True
        return self

    def use(self, trace: Any, solver: Any, noise: int | None) -> None:
        """Change how the ODEs are solved; None keeps the present setting.

        Of a solver its tolerances count, for the log-determinant too; a mapping sets those that it
        has. Raises ValueError for a trace other than "exact" and "hutchinson" with one probe, and
        for a method other than zuko's own, "dopri5".
        """
        exact = None if trace is None else EXACT.get(Trace.of(trace))
        if trace is not None and exact is None:
            raise ValueError(f"zuko has no trace {trace!r}; choose from: exact, hutchinson")
        values: Mapping[str, Any] = {}
        if solver is not None:
            complete = Solver.of(solver)
            if complete.method != "dopri5":
                raise ValueError(f"zuko has no method {complete.method!r}; choose from: dopri5")
            values = solver if isinstance(solver, Mapping) else complete.plain()
        for ode in self.odes:
            ode.exact = ode.exact if exact is None else exact
            ode.rtol = values.get("rtol", ode.rtol)
            ode.atol = values["atol"] * TRACE_SCALE if "atol" in values else ode.atol
        self.noise = self.noise if noise is None else noise

    def _call(self, x: Tensor, transform: Any, alone: bool = False) -> Any:
        """One forward solve, with zuko's global noise drawn from a seed of this module's."""
        if torch.finfo(x.dtype).bits < 32:
            raise ValueError(
                f"a zuko ODE cannot be solved to its tolerance of {self.tolerance:g} in {x.dtype}: "
                "use float32 or float64"
            )
        stream: AbstractContextManager[Any] = nullcontext()
        if self.estimated:
            seed = torch.randint(2**62, (), generator=self.generator)
            stream = Stream(int(seed) if self.noise is None else self.noise)
        self._solving, self._evaluations, self._number = True, 0, new_solve()
        try:
            with stream:
                return super()._call(x, transform, alone)
        finally:
            self._solving = False

    def _observe(self, net: nn.Module, inputs: Any, output: Tensor) -> None:
        """Count an evaluation of the field; RuntimeError for a solve that will not end."""
        for nfe in self.counters:
            solve = nfe.of(self._number)
            solve.forward += self._solving
            solve.backward += not self._solving
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

    ``dim`` D and ``context_dim`` are those that the flow was made with. Noise that is not the
    standard normal is the Flow's ``base``. Raises TypeError for another type, such as zuko's
    mixture GMM, and ValueError for another dimension. Rozet et al., Zuko: Normalizing flows
    in PyTorch, 2022, https://github.com/probabilists/zuko.
    """
    from zuko.flows.continuous import FFJTransform
    from zuko.lazy import Flow as ZukoFlow

    if not isinstance(flow, ZukoFlow):
        raise TypeError(f"from_zuko takes a zuko Flow, got {type(flow).__name__}")
    odes = [module for module in flow.modules() if isinstance(module, FFJTransform)]
    base: Any = flow.base()
    fits = base.event_shape == (dim,)
    if fits and not odes:  # an ODE might never end
        like = next(iter((*flow.parameters(), *flow.buffers())), torch.empty(0))
        context = like.new_zeros(1, context_dim) if context_dim else None
        try:
            with torch.no_grad():
                flow(context).log_prob(like.new_zeros(1, dim))
        except RuntimeError:
            fits = False
    if not fits:
        raise ValueError(f"{dim=}, {context_dim=}: this zuko flow was made with others: give those")
    normal = isinstance(base, Independent) and isinstance(base.base_dist, Normal)
    if normal:
        loc, scale = base.base_dist.loc, base.base_dist.scale
        normal = bool((loc == 0).all() and (scale == 1).all())
    normal = normal and not any(True for _ in flow.base.parameters())
    transform = ZukoODE(flow, odes) if odes else ZukoTransform(flow)
    return Flow(transform, dim, context_dim, None if normal else ZukoBase(flow))


# name -> (class, columns that it needs, its layers, its own options)
FAMILIES: Mapping[str, tuple[str, int, int, Mapping[str, int]]] = {
    "realnvp": ("RealNVP", 2, 8, {}),
    "nice": ("NICE", 2, 8, {}),
    "maf": ("MAF", 1, 5, {}),
    "nsf": ("NSF", 1, 5, {"bins": 8}),
    "ncsf": ("NCSF", 1, 3, {"bins": 8}),
    "naf": ("NAF", 1, 3, {"signal": 16}),
    "unaf": ("UNAF", 1, 3, {"signal": 16}),
    "sospf": ("SOSPF", 1, 3, {"degree": 4, "polynomials": 3}),
    "bpf": ("BPF", 1, 3, {"degree": 16}),
    "gf": ("GF", 1, 3, {"components": 8}),
}
ABOUT = {
    "realnvp": """zuko's RealNVP: affine couplings of alternating halves, no normalisation between.

    Costs are those of `realnvp`; ln s is within ±ln 1000. ValueError below two columns. Dinh et
    al., Density estimation using Real NVP, 2017, arXiv:1605.08803.
    Growth in D at fixed width: log_prob 1, sampling 1.""",
    "nice": """zuko's NICE, which is affine by default and thus the same flow as its RealNVP.

    ValueError below two columns. Dinh et al., NICE, 2014, arXiv:1410.8516.""",
    "maf": """zuko's MAF: affine in each column given those before it, the order reversed by layers.

    Costs are those of `maf`. At D = 1 without a context there is nothing to condition on, and no
    network. Papamakarios et al., Masked Autoregressive Flow for Density Estimation, 2017,
    arXiv:1705.07057.
    Growth in D at fixed width: log_prob 1, sampling 2.""",
    "nsf": """zuko's NSF: autoregressive rational-quadratic splines on [-5, 5], identity outside.

    log_prob costs O(N L (D H + ℓ H² + D K H)) with K ``bins``, a sample D times that. At D = 1
    without a context there is no network. Durkan et al., Neural Spline Flows, 2019,
    arXiv:1906.04032.
    Growth in D at fixed width: log_prob 1, sampling 2.""",
    "ncsf": """zuko's NCSF: circular splines for angles in [-π, π), where its noise is uniform.

    Other values are taken modulo 2π, so that it is a density on the torus and not on R^D.
    Rezende et al., Normalizing Flows on Tori and Spheres, 2020, arXiv:2002.02428.""",
    "naf": """zuko's NAF: a monotone network in each column, by ``signal`` features of those before.

    Width and depth are those of the network that gives the features, and of the monotone one.
    Between layers a soft clip to [-11, 11]. The inverse is bisection on [-10, 10] and does not
    exist outside: standardise the columns. In ``eval()`` it has gradients for the data alone. Huang
    et al., 2018, arXiv:1804.00779.""",
    "unaf": """zuko's UNAF: the integral of a positive network in each column, by 32 nodes of Gauss.

    Sizes, soft clip, inverse and ``eval()`` are as in `zuko_naf`. A sample costs some thousand
    evaluations of the integrand. Wehenkel and Louppe, Unconstrained Monotonic
    Neural Networks, 2019, arXiv:1908.05164.""",
    "sospf": """zuko's SOSPF: the integral of a sum of squared polynomials in each column.

    Between layers a soft clip to [-11, 11]; the inverse is bisection on [-10, 10]: standardise the
    columns. Jaini et al., Sum-of-Squares Polynomial Flow, 2019, arXiv:1905.02325.""",
    "bpf": """zuko's BPF: a Bernstein polynomial in each column on [-5, 5], linear outside.

    The inverse is bisection. Sick et al., 2020, arXiv:2004.00464.""",
    "gf": """zuko's GF: a mixture's distribution function in each column, rotations between.

    Width and depth are those of the network of a context; without a context there is none. The
    inverse is bisection on [-10, 10]: standardise the columns. Meng et al., Gaussianization Flows,
    2020, arXiv:2003.01941.""",
}
MONOTONE = {"NAF": 2, "UNAF": 1}  # least width of its monotone networks: units of NAF work in pairs


def _family(name: str, kind: str, least: int, layers: int, defaults: Any) -> None:
    @family(f"zuko_{name}", "zuko", least=least, about=ABOUT[name], options=defaults, layers=layers)
    def flow(dim: int, sizes: Sizes, **options: Any) -> Flow:
        from zuko import flows

        if kind in MONOTONE:
            widths = [max(width, MONOTONE[kind]) for width in sizes.widths]
            options["network"] = {"hidden_features": widths}
        if kind != "GF" or sizes.context_dim:  # whose networks are of a context alone
            options["hidden_features"] = sizes.widths
        model = getattr(flows, kind)(dim, sizes.context_dim, transforms=sizes.layers, **options)
        return from_zuko(model, dim, sizes.context_dim)


for _name, _row in FAMILIES.items():
    _family(_name, *_row)


@family("zuko_cnf", "zuko", ("hidden", "depth", "context_dim"))
def _cnf(
    dim: int,
    sizes: Sizes,
    *,
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
    network = {"freqs": frequencies, "activation": activations[activation]}
    solve = {"exact": exact, "atol": atol, "rtol": rtol}
    flow = CNF(dim, sizes.context_dim, hidden_features=sizes.widths, **network, **solve)
    return from_zuko(flow, dim, sizes.context_dim)
