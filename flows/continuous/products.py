"""The trace of a product of matrices and batched diagonals: the Jacobian of an MLP.

The Jacobian of W_m σ(… σ(W_1 x)) is W_m S_{m-1} … S_1 W_1, with a weight W shared by the batch
and a diagonal S of slopes for each row. Its trace is that of any cyclic shift, and where two
weights meet (the last and the first, or at a bottleneck) they may be multiplied once for the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

Link = tuple[Tensor, Tensor | None]  # a weight (out, in), and the slopes (N, out) after it


def trace_of(links: Sequence[Link]) -> Tensor:
    """Trace (N,) of the product of ``links``, the first of which is applied first.

    At least one link has slopes. With one diagonal: O(N H); with two: Σ_ij s₂_i M_ij s₁_j with
    M = W₂ ∘ (W₁ W₃)ᵀ, O(N H²); with more: from the cyclic shift that takes the fewest operations.
    The products of weights do not depend on N.
    """
    slopes = [between for _, between in links if between is not None]
    if len(slopes) > 2:
        rotations = [_rotated(links, start) for start in range(len(links))]
        return _close(_fused(min(rotations, key=_operations)))
    if len(slopes) == 1:
        return slopes[0] @ _paths(links)
    return ((slopes[1] @ _paths(links)) * slopes[0]).sum(1)


def _paths(links: Sequence[Link]) -> Tensor:
    """What is between the slopes of one or two diagonals: (H,), or M of s₂ᵀ M s₁, (H₂, H₁)."""
    last = max(index for index, (_, slopes) in enumerate(links) if slopes is not None)
    (first, _), *others = _fused(_rotated(links, last + 1))
    return others[0][0] * first.T if others else first.diagonal()


def _rotated(links: Sequence[Link], start: int) -> list[Link]:
    return [*links[start:], *links[:start]]


def _groups(links: Sequence[Link]) -> Iterator[list[Link]]:
    """Runs of links without slopes between them."""
    group: list[Link] = []
    for link in links:
        group.append(link)
        if link[1] is not None:
            yield group
            group = []
    if group:
        yield group


def _operations(links: Sequence[Link]) -> int:
    """Multiplications of `_close` for all rows, and of the weights that are fused beforehand."""
    groups = list(_groups(links))
    width = links[0][0].shape[1]
    rows = len(next(slopes for _, slopes in links if slopes is not None))
    shared = sum(group[0][0].shape[1] * w.numel() for group in groups for w, _ in group[1:])
    inner = sum(group[-1][0].shape[0] * group[0][0].shape[1] * width for group in groups[1:-1])
    return rows * inner + shared


def _fused(links: Sequence[Link]) -> list[Link]:
    """Each run of links without slopes between them as one link."""
    fused = []
    for group in _groups(links):
        weight = group[0][0]
        for following, _ in group[1:]:
            weight = following @ weight
        fused.append((weight, group[-1][1]))
    return fused


def _close(links: list[Link]) -> Tensor:
    """Trace (N,) of three fused links or more, of which the last may be without slopes."""
    (first, slopes), *inner, (last, closing) = links
    if slopes is None:
        raise ValueError("the trace of a product needs slopes after its first weight")
    product = slopes[:, :, None] * first
    for weight, between in inner:
        product = weight @ product
        product = product if between is None else between[:, :, None] * product
    if closing is None:
        return torch.einsum("ij,nji->n", last, product)
    return (closing * torch.einsum("ij,nji->ni", last, product)).sum(1)
