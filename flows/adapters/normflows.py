"""Any normflows model as a Flow.

Its layers run from noise to data, the opposite of a Bijection: `forward` here is its ``inverse``.
Stimper et al., normflows: A PyTorch Package for Normalizing Flows, 2023, arXiv:2302.12014.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from flows.adapters.noise import OwnNoise
from flows.flow import Flow


class NormflowsTransform(OwnNoise):
    """A Bijection made of the layers of a normflows model, which it holds whole.

    Log-determinants are summed in the dtype of x, as ``log_prob`` and ``sample`` of the model sum
    them; its ``forward_and_log_det`` and ``inverse_and_log_det`` sum in float32 whatever x is. In
    training the constants of Lipschitz layers are renewed before each pass with a gradient, where
    normflows asks for ``update_lipschitz`` after each update.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        from normflows.flows import ActNorm, Residual

        self.model: Any = model
        self.normalising = any(isinstance(module, ActNorm) for module in model.modules())
        self.residual = any(isinstance(module, Residual) for module in model.modules())

    @property
    def estimated(self) -> bool:
        """Whether the log-determinant is a random estimate: of residual blocks."""
        return self.residual

    def initialize(self, x: Tensor) -> None:
        """Set ActNorm from x (N, D), as the first pass of either direction would."""
        if self.normalising:
            self.forward(x)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to noise: (N, D) -> (N, D), (N,)."""
        if self.residual and self.training and torch.is_grad_enabled():
            from normflows.utils import update_lipschitz

            update_lipschitz(self.model, 5)
        return self._run(x, context, [layer.inverse for layer in reversed(self.model.flows)])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data: (N, D) -> (N, D), (N,)."""
        return self._run(z, context, self.model.flows)

    def _run(
        self, x: Tensor, context: Tensor | None, calls: Iterable[Any]
    ) -> tuple[Tensor, Tensor]:
        given, ladj = {} if context is None else {"context": context}, x.new_zeros(len(x))
        with self.seeded(x):
            for call in calls:
                x, part = call(x, **given)
                ladj = ladj + part
        return x, ladj


class NormflowsBase(nn.Module):
    """The base of a normflows model that is not N(0, I); its tensors are the model's."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = (model,)  # in a tuple: the transform registers and saves it

    def log_prob(self, z: Tensor) -> Tensor:
        """(N, D) -> (N,) nats."""
        log_prob: Tensor = self._model[0].q0.log_prob(z)
        return log_prob

    def rsample(self, like: Tensor) -> Tensor:
        """Samples of the shape of ``like`` (n, D)."""
        samples: Tensor = self._model[0].q0(len(like))[0].reshape(like.shape)
        return samples


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
    base = model.q0
    normal = isinstance(base, normflows.distributions.DiagGaussian) and not any(
        bool(tensor.any()) or tensor.requires_grad for tensor in (base.loc, base.log_scale)
    )
    transform = NormflowsTransform(model)
    return Flow(transform, dim, context_dim, None if normal else NormflowsBase(model))
