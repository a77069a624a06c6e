"""Data sets drawn from a sampler, each part by a generator of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from benchmarks.datasets import Dataset, stream

ROWS = {"train": 20_000, "val": 5_000, "test": 20_000}


def drawn(
    name: str,
    seed: int,
    sample: Callable[[int, torch.Generator], Tensor],
    about: str,
    *,
    log_prob: Callable[[Tensor], Tensor] | None = None,
    entropy: float | None = None,
    modes: Tensor | None = None,
    rows: Mapping[str, int] = ROWS,
    context_dim: int = 0,
) -> Dataset:
    """Draw a data set from a sampler, (n, generator) -> (n, D) independent rows in raw units.

    ``log_prob`` and ``entropy`` are exact, in nats; ``modes`` are the centres (K, D) of equally
    likely modes. With ``context_dim`` C rows are (y, x), (n, D + C), and both are of y given x.
    Raises ValueError where that leaves no column for y.
    """
    parts = {part: sample(n, stream(seed, f"{name}/{part}")) for part, n in rows.items()}
    width = parts["train"].shape[1]
    if not 0 <= context_dim < width:
        raise ValueError(
            f"data set {name!r}: context_dim must be from 0 to {width - 1}, since its rows have "
            f"{width} columns, got {context_dim}"
        )
    return Dataset(
        name=name,
        dim=width - context_dim,
        context_dim=context_dim,
        train=parts["train"],
        val=parts["val"],
        test=parts["test"],
        units="raw units",
        about=f"{about}; {' / '.join(f'{n:,}' for n in rows.values())} independent rows; "
        + ("exact density." if log_prob else "density not known."),
        sample=sample,
        log_prob=log_prob,
        entropy=entropy,
        modes=modes,
        split="drawn",
    )
