"""Threads of small solves: one, whatever is set, and what is set again afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from continuous_fields import Rowwise
from flows import Flow, threads
from flows.continuous import CNF

Normal = Callable[..., Tensor]


class _Seen(torch.autograd.Function):
    """The identity, which notes the threads of its forward and backward passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, seen: list[int], fails: bool) -> Tensor:
        seen.append(torch.get_num_threads())
        ctx.seen, ctx.fails = seen, fails
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        ctx.seen.append(torch.get_num_threads())
        if ctx.fails:
            raise RuntimeError("a backward pass that fails")
        return gradient, None, None


class _Field(nn.Module):
    def __init__(self, seen: list[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2, 2), 0.1, dtype=torch.float64))
        self.seen, self.fails = seen, False

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        y: Tensor = _Seen.apply(torch.tanh(x @ self.weight), self.seen, self.fails)
        return y

    def trace(self, t: Tensor, x: Tensor) -> Tensor:
        return x.sum(1)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
@pytest.mark.parametrize("small", [True, False])
def test_one_thread_for_small_solves(
    gradient: str, small: bool, normal: Normal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and backward; large ones take the caller's; none is changed for the caller."""
    if not small:
        monkeypatch.setattr(threads, "WORK", 0)
    seen: list[int] = []
    flow = Flow(CNF(_Field(seen), solver={"gradient": gradient}), 2)
    loss = flow.loss(normal(5, 2))
    assert torch.get_num_threads() == 2
    loss.backward()
    assert torch.get_num_threads() == 2
    assert set(seen) == {1 if small else 2}


@pytest.mark.usefixtures("two_threads")
def test_threads_after_failures(normal: Normal) -> None:
    """Of the forward pass at once, of a backward pass at the next solve."""
    x = normal(5, 2)
    with pytest.raises(RuntimeError):
        Flow(CNF(Rowwise(lambda x: x * float("nan")))).log_prob(x)
    assert torch.get_num_threads() == 2
    for gradient in ("adjoint", "backprop"):
        field = _Field([])
        flow = Flow(CNF(field, solver={"gradient": gradient}), 2)
        field.fails = True
        loss = flow.loss(x)
        with pytest.raises(RuntimeError, match="fails"):
            loss.backward()
        field.fails = False
        flow.log_prob(x)
        assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_threads_that_are_kept(normal: Normal, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a worker the number that was set is in force, but for a block that asks otherwise."""
    monkeypatch.setattr(threads._State, "fixed", False)
    threads.keep_threads()
    seen: list[int] = []
    Flow(CNF(_Field(seen)), 2).loss(normal(5, 2)).backward()
    assert set(seen) == {2}
    seen.clear()
    with threads.threads_by_work():
        Flow(CNF(_Field(seen)), 2).loss(normal(5, 2)).backward()
    assert set(seen) == {1}
    assert threads._State.fixed
