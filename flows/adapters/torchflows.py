"""Any torchflows flow of vectors as a Flow.

Nabergoj and Štrumbelj, torchflows, https://github.com/davidnabergoj/torchflows.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

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
