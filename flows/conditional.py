"""Conditional densities of rows that hold their context: q(y | x) of rows (y, x)."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from flows.flow import Flow
from flows.preprocessing import Standardization
from flows.registry import check_whole


class Conditional(Flow):
    """The density of y given x of a conditional flow, for rows (y, x) of D + C columns.

    So whatever trains or scores the density of rows does the same for a conditional one.
    ``log_prob`` and ``loss`` are those of y given x, in nats. Samples are rows: of the n-th, x is
    the n-th of ``contexts`` (M, C), over and over, and y is drawn given x. ``flow`` is the flow of
    y, whose parameters these are.
    """

    def __init__(self, flow: Flow, contexts: Tensor) -> None:
        nn.Module.__init__(self)  # a Flow's would hold the transform twice
        self.flow, self.objective = flow, flow.objective
        self.width: int = flow.dim or 0  # D
        self.dim, self.context_dim = self.width + contexts.shape[1], 0
        self.register_buffer("contexts", contexts, persistent=False)

    def parts(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """y (N, D) and x (N, C) of rows; ValueError for another number of columns."""
        if not isinstance(rows, Tensor) or rows.dim() != 2 or rows.shape[1] != self.dim:
            raise ValueError(
                f"expected a Tensor of rows (N, {self.dim}), the {self.width} columns of y before "
                f"those of its context, got {tuple(getattr(rows, 'shape', ()))}"
            )
        return rows[:, : self.width], rows[:, self.width :]

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-density of y given x in nats: rows (N, D + C) -> (N,)."""
        return self.flow.log_prob(*self.parts(x))

    def to_noise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Noise of y given x: rows (N, D + C) -> (N, D)."""
        return self.flow.to_noise(*self.parts(x))

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The flow's own objective of y given x, a scalar."""
        return self.flow.loss(*self.parts(x))

    def _given(self, n: int) -> Tensor:
        check_whole(0, n=n)
        contexts: Any = self.contexts
        return contexts[torch.arange(n, device=contexts.device) % len(contexts)]

    @torch.no_grad()
    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        """n rows (n, D + C), drawn given the first n contexts."""
        x = self._given(n)
        return torch.cat([self.flow.sample(n, x), x], 1)

    def rsample_and_log_prob(self, n: int, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """n reparameterised rows (n, D + C) and their log-densities given x (n,)."""
        x = self._given(n)
        y, log_prob = self.flow.rsample_and_log_prob(n, x)
        return torch.cat([y, x], 1), log_prob

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Self:
        """Set data-dependent parameters once, from rows (N, D + C), before training."""
        self.flow.initialize(*self.parts(x))
        return self

    def prepend(self, transform: Any) -> Self:
        """Put a Bijection between y and the flow, in place."""
        self.flow.prepend(transform)
        return self

    def scale_context(self, scaling: Standardization) -> Self:
        """Standardise every x from now on, in place."""
        self.flow.scale_context(scaling)
        return self

    def compiled(self, *, backend: str = "inductor") -> Self:
        """A view whose flow of y runs as `Flow.compiled` has it."""
        view = self.using()
        view.flow = self.flow.compiled(backend=backend)
        return view
