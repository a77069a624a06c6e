"""What the closed form of a trace costs, by exact counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.measure.operations import Operations
from flows.continuous import MLPField, Trace
from flows.continuous.hollow import HollowField
from flows.continuous.point import Point

T = torch.tensor(0.3)


@pytest.mark.parametrize("time", ["ignore", "concat"])
@pytest.mark.parametrize(
    ("dim", "hidden", "rows"),
    [(1, 8, 4), (2, 64, 32), (2, 64, 512), (8, 160, 80), (43, 430, 215), (43, 430, 500)],
)
def test_a_closed_form_takes_at_most_another_field(
    time: str, dim: int, hidden: int, rows: int
) -> None:
    """From H/2 rows on, with two hidden layers."""
    field, x = MLPField(dim, hidden=hidden, time=time), torch.randn(rows, dim)
    with torch.no_grad():
        with Operations() as alone:
            field(T, x)
        with Operations() as both:
            Trace.of("closed_form").rate(Point(field, T, x, None), None)
    assert alone.flops == 2 * rows * (2 * dim * hidden + hidden**2)
    assert alone.flops < both.flops <= 2 * alone.flops
    assert not both.uncounted


def _flops(trace: Any, field: Any, x: Tensor) -> int:
    estimator = Trace.of(trace)
    noise = estimator.draw(field, x, torch.Generator().manual_seed(0))
    with torch.no_grad(), Operations() as counted:
        estimator.rate(Point(field, T, x, None), noise)
    assert not counted.uncounted
    return counted.flops


def test_forward_mode_multiplies_by_no_zeros() -> None:
    """An estimate is another field a probe, and none multiplies the weights' tangents."""
    field, x = MLPField(5, hidden=32, depth=3), torch.randn(40, 5)
    alone = 2 * 40 * (2 * 5 * 32 + 2 * 32**2)
    for probes in (1, 3):
        trace = {"estimator": "hutchinson", "mode": "forward", "probes": probes}
        assert _flops(trace, field, x) == (1 + probes) * alone


def test_a_hollow_trace_takes_no_product_of_matrices() -> None:
    """Beside the field: slopes times a vector, N D H, and nothing else."""
    rows, dim, hidden = 40, 6, 32
    field, x = HollowField(dim, hidden=hidden), torch.randn(rows, dim)
    with torch.no_grad(), Operations() as alone:
        field(T, x)
    assert _flops("hollow", field, x) == alone.flops + 2 * rows * dim * hidden


def test_a_closed_form_keeps_a_tenth_of_what_the_loop_keeps() -> None:
    """Bytes saved for the backward pass of one evaluation, parameters aside."""
    field, x = MLPField(16, hidden=64), torch.randn(256, 16)
    closed, loop = (_kept(field, x, trace) for trace in ("closed_form", "loop"))
    assert 0 < closed <= loop / 10


def _kept(field: MLPField, x: Tensor, trace: str) -> int:
    own = {parameter.untyped_storage().data_ptr() for parameter in field.parameters()}
    storages: dict[int, Any] = {}  # held, so that no address is used twice

    def pack(saved: Tensor) -> Tensor:
        storages[saved.untyped_storage().data_ptr()] = saved.untyped_storage()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        out = Trace.of(trace).rate(Point(field, T, x, None), None)
    assert all(part.requires_grad for part in out)
    return sum(s.nbytes() for address, s in storages.items() if address not in own)
