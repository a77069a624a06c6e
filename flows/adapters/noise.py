"""Transforms of other libraries, which draw noise from global streams."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@contextlib.contextmanager
def numpy_seeded() -> Iterator[None]:
    """Seed numpy's global stream from torch's for the block; it is as it was at the end."""
    state = np.random.get_state()
    np.random.seed(int(torch.randint(2**32, ())))
    try:
        yield
    finally:
        np.random.set_state(state)


class OwnNoise(nn.Module):
    """A transform whose random estimate of the log-determinant has a stream of its own.

    Without it a density would move the streams of torch and numpy, and calls with the same seed
    would differ.
    """

    def __init__(self) -> None:
        super().__init__()
        self.noise: int | None = None
        self.generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))

    @property
    def estimated(self) -> bool:
        """Whether the log-determinant is a random estimate."""
        return False

    def use(self, trace: Any = None, solver: Any = None, noise: int | None = None) -> None:
        """Draw noise from a seed from now on.

        Raises ValueError for a trace of a random estimate, which has no other.
        """
        if trace is not None and self.estimated:
            raise ValueError(
                f"this log-determinant is a random estimate: it has no trace {trace!r}"
            )
        self.noise = self.noise if noise is None else noise

    @contextlib.contextmanager
    def seeded(self, x: Tensor) -> Iterator[None]:
        """Streams from this module's seed, and as they were at the end; x has the device."""
        if not self.estimated:
            yield
            return
        seed = torch.randint(2**62, (), generator=self.generator)
        with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
            torch.manual_seed(int(seed) if self.noise is None else self.noise)
            with numpy_seeded():
                yield
