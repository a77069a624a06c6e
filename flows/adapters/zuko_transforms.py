"""The transform of a zuko flow as a Bijection; ODEs are counted, reproducible and limited."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from flows.continuous import Solver, Trace
from flows.counting import NFE, new_solve

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
        """Data to noise: (N, D) -> (N, D), (N,)."""
        return self._call(x, self.flow.transform(context))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data: (N, D) -> (N, D), (N,)."""
        return self._call(z, self.flow.transform(context).inv)

    def to_noise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Data to noise alone: (N, D) -> (N, D)."""
        return self._image(x, self.flow.transform(context))

    def to_data(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Noise to data alone: (N, D) -> (N, D)."""
        return self._image(z, self.flow.transform(context).inv)

    def _image(self, x: Tensor, transform: Any) -> Tensor:
        y: Tensor = transform(x) if len(x) else x
        return y

    def _call(self, x: Tensor, transform: Any) -> tuple[Tensor, Tensor]:
        if len(x) == 0:  # which zuko cannot reshape
            return x, x.new_zeros(0)
        y, ladj = transform.call_and_ladj(x)
        return y, ladj


class ZukoBase(nn.Module):
    """The noise of a zuko flow as a base density; its tensors are the flow's, which holds them."""

    def __init__(self, flow: Any) -> None:
        super().__init__()
        self._flow = (flow,)  # in a tuple: the transform registers and saves it

    def log_prob(self, z: Tensor) -> Tensor:
        """(N, D) -> (N,) nats; minus infinity outside of the support."""
        if len(z) == 0:  # which zuko cannot reshape
            return z.new_zeros(0)
        distribution = self._flow[0].base()
        inside = distribution.support.check(z)
        inner = distribution.mean.expand_as(z)
        log_prob: Tensor = distribution.log_prob(torch.where(inside[:, None], z, inner))
        return torch.where(inside, log_prob, -torch.inf)

    def rsample(self, like: Tensor) -> Tensor:
        """Samples of the shape of ``like`` (n, D)."""
        samples: Tensor = self._flow[0].base().rsample((len(like),))
        return samples


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

    def train(self, mode: bool = True) -> ZukoODE:
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

    def _image(self, x: Tensor, transform: Any) -> Tensor:
        with self._solve(x):
            return super()._image(x, transform)

    def _call(self, x: Tensor, transform: Any) -> tuple[Tensor, Tensor]:
        with self._solve(x):
            return super()._call(x, transform)

    @contextlib.contextmanager
    def _solve(self, x: Tensor) -> Iterator[None]:
        """One forward solve, with zuko's global noise drawn from a seed of this module's."""
        if torch.finfo(x.dtype).bits < 32:
            raise ValueError(
                f"a zuko ODE cannot be solved to its tolerance of {self.tolerance:g} in {x.dtype}: "
                "use float32 or float64"
            )
        self._solving, self._evaluations, self._number = True, 0, new_solve()
        try:
            with contextlib.ExitStack() as stack:
                if self.estimated:
                    seed = torch.randint(2**62, (), generator=self.generator)
                    devices = [x.device] if x.device.type == "cuda" else []
                    stack.enter_context(torch.random.fork_rng(devices))
                    torch.manual_seed(int(seed) if self.noise is None else self.noise)
                yield
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
