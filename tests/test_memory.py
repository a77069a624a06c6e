"""Memory measures: bytes derived by hand, graphs within graphs, and figures that repeat."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flows
from benchmarks.core.case import Case
from benchmarks.measure.calls import calls
from benchmarks.measure.memory import peak_bytes, saved_bytes
from benchmarks.studies.contender import Contender

N, D, H = 5, 4, 3
FLOAT = 4  # bytes
SIZE = FLOAT * N * D


@pytest.fixture
def x() -> Tensor:
    return torch.randn(N, D, requires_grad=True)


def chain(x: Tensor, length: int, function: Callable[[Tensor], Tensor]) -> Tensor:
    for _ in range(length):
        x = function(x)
    return x


def test_a_linear_layer_saves_its_input_and_makes_its_output(x):
    layer = nn.Linear(D, H)

    def step() -> None:
        layer(x).sum().backward()

    assert saved_bytes(lambda: layer(x.detach()).sum().backward()) == FLOAT * N * D
    assert saved_bytes(step) == FLOAT * (N * D + D * H)  # the weight too, for the gradient in x
    assert saved_bytes(step, layer.parameters()) == FLOAT * N * D
    with torch.no_grad():
        assert saved_bytes(lambda: layer(x)) == 0
        assert peak_bytes(lambda: layer(x)) == FLOAT * N * H
    layer.zero_grad()
    gradients = FLOAT * (D * H + H)  # beside the loss and the gradient in it
    assert peak_bytes(lambda: layer(x.detach()).sum().backward()) == gradients + 2 * FLOAT


def test_a_network_saves_what_each_layer_needs_once(x):
    net = nn.Sequential(nn.Linear(D, H), nn.Tanh(), nn.Linear(H, D))
    step = lambda: net(x.detach()).sum().backward()  # noqa: E731
    # tanh's result is also what the next layer saves
    assert saved_bytes(step, net.parameters()) == FLOAT * (N * D + N * H)
    with torch.no_grad():
        assert peak_bytes(lambda: net(x)) == FLOAT * N * max(H + H, H + D)


@pytest.mark.parametrize("length", [1, 2, 7])
def test_a_chain_holds_a_tensor_a_link_and_two_where_nothing_is_saved(x, length):
    assert saved_bytes(lambda: chain(x, length, torch.sin)) == length * SIZE  # every input
    assert saved_bytes(lambda: chain(x, length, torch.exp)) == length * SIZE  # every result
    assert saved_bytes(lambda: chain(x, length, lambda x: x + 1)) == 0
    assert peak_bytes(lambda: chain(x, length, torch.exp)) == length * SIZE
    with torch.no_grad():
        assert peak_bytes(lambda: chain(x, length, torch.exp)) == min(length, 2) * SIZE


def test_views_and_shared_storages_count_once_and_whole(x):
    def views() -> Tensor:
        a = x + 1
        return (a.T * a.T).sum() + (a[:1] * a.view(-1)[:D]).sum()

    def part() -> Tensor:
        a = x + 1
        return a[:1] * a[:1]  # its storage is all of a's

    assert saved_bytes(views) == saved_bytes(part) == SIZE
    assert saved_bytes(lambda: x * x, [x]) == 0
    with torch.no_grad():
        assert peak_bytes(lambda: (x + 1).view(-1).unflatten(0, (D, N)).T[1:]) == SIZE
        assert peak_bytes(lambda: x.T) == 0


def test_what_was_there_before_is_no_part_of_the_peak_but_its_growth_is():
    there, empty = torch.zeros(N, D), torch.empty(0)
    assert peak_bytes(lambda: there.add_(1)) == 0
    assert peak_bytes(lambda: torch.add(there, 1, out=empty)) == SIZE
    assert peak_bytes(lambda: torch.tensor([1.0, 2.0, 3.0])) == 3 * FLOAT
    assert peak_bytes(lambda: [torch.zeros(N, D) for _ in range(3)]) == 3 * SIZE
    assert peak_bytes(lambda: [torch.zeros(N, D).sum() for _ in range(3)]) == SIZE + 3 * FLOAT


def test_vectors_that_torch_forms_under_a_mode_alone_do_not_count():
    a = torch.eye(D).expand(N, D, D)
    values, vectors = FLOAT * N * D, FLOAT * N * D * D
    assert peak_bytes(lambda: torch.linalg.svdvals(a)) == values
    assert peak_bytes(lambda: torch.linalg.svd(a)) == values + 2 * vectors
    assert peak_bytes(lambda: torch.linalg.eigvalsh(a)) == values
    assert peak_bytes(lambda: torch.linalg.eigh(a)) == values + vectors


def test_a_graph_counts_until_it_is_freed(x):
    def one_by_one() -> None:
        for _ in range(3):
            (x + 1).sin().sum().backward()

    def together() -> None:
        losses = [(x + 1).sin().sum() for _ in range(3)]
        sum(losses).backward()

    assert saved_bytes(one_by_one) == SIZE
    assert saved_bytes(together) == 3 * SIZE


def test_graphs_that_a_backward_pass_builds_are_seen(x):
    """sin' = cos: its graph saves x again, which counts once, and the ones that it multiplies."""

    def gradient() -> Tensor:
        return torch.autograd.grad(x.sin().sum(), x, create_graph=True)[0]

    def of_exp() -> Tensor:
        return torch.autograd.grad(x.exp().sum(), x, create_graph=True)[0]

    assert saved_bytes(gradient) == SIZE + FLOAT
    assert saved_bytes(of_exp) == SIZE + FLOAT
    assert saved_bytes(lambda: gradient().square().sum()) == 2 * SIZE + FLOAT


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = 2 * x
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        return gradient * y / x


def test_custom_functions_are_seen(x):
    assert saved_bytes(lambda: Doubled.apply(x).sum().backward()) == 2 * SIZE
    assert torch.allclose(x.grad, torch.full_like(x, 2.0))


def nested(net: nn.Module, x: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Losses whose graphs go through torch.func."""
    func: Any = torch.func

    def pushed(x: Tensor) -> Tensor:
        return func.vjp(net, x)[1](x)[0]

    return {
        "vjp": lambda: pushed(x).square().sum(),
        "jacrev": lambda: func.vmap(func.jacrev(net))(x).square().sum(),
        "jacfwd": lambda: func.vmap(func.jacfwd(net))(x).square().sum(),
        "twice": lambda: func.vmap(func.jacrev(func.jacrev(net)))(x).square().sum(),
        "mixed": lambda: func.vmap(func.jacfwd(func.jacrev(net)))(x).square().sum(),
        "jvp of vjp": lambda: func.jvp(pushed, (x,), (x,))[1].square().sum(),
    }


@pytest.mark.parametrize("name", nested(nn.Identity(), torch.zeros(1)))
def test_under_torch_func_measuring_changes_no_gradient(name, normal):
    """It lets hooks in where torch refuses them, so the outer gradient has to be the same."""
    net = nn.Sequential(nn.Linear(D, H), nn.Tanh(), nn.Linear(H, D)).double()
    step = nested(net, normal(N, D))[name]
    weights = [p for p in net.parameters() if p.dim() == 2]
    expected = torch.autograd.grad(step(), weights)
    gradients: list[Tensor] = []
    saved = saved_bytes(lambda: gradients.extend(torch.autograd.grad(step(), weights)), weights)
    for a, b in zip(gradients, expected, strict=True):
        assert torch.equal(a, b)
    assert saved > 2 * FLOAT * N * D
    assert saved == saved_bytes(lambda: torch.autograd.grad(step(), weights), weights)
    with (
        pytest.raises(RuntimeError, match="saved tensor hooks"),
        torch.autograd.graph.save_on_cpu(),
    ):
        torch.func.vjp(net, normal(N, D))


def test_the_adjoint_holds_one_evaluation_and_backprop_every_step():
    def saved(gradient: str, steps: int) -> int:
        solver = {"method": "rk4", "step_size": 1 / steps, "gradient": gradient}
        flow = flows.build("cnf", D, hidden=16, solver=solver)
        x = torch.randn(8, D)
        return saved_bytes(lambda: flow.loss(x).backward(), flow.parameters())

    adjoint = [saved("adjoint", steps) for steps in (1, 2, 4, 8)]
    one, two, four, eight = (saved("backprop", steps) for steps in (1, 2, 4, 8))
    assert len(set(adjoint)) == 1
    assert four - two == 2 * (two - one)
    assert eight - four == 4 * (two - one)
    assert one > adjoint[0]


OURS = flows.own()


@pytest.mark.parametrize("name", OURS)
def test_bytes_repeat_on_any_number_of_threads(name):
    """A flow built anew, in a process that has done other things, has the same bytes."""
    sizes = {"hidden": 8, "depth": 2, "layers": 2}
    options = Contender(flow=name).complete(sizes, D)
    case = Case(study="cost", flow=name, dim=D, batch=N, options=options)
    byte_counts = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        callables = calls(case)
        for work in ("log_prob", "step"):
            callables.works[work]()
        byte_counts.append(callables.memory())
        assert torch.get_num_threads() == threads
    assert byte_counts[0] == byte_counts[1]
    assert all(value > 0 for value in byte_counts[0].values())


def test_a_call_that_fails_leaves_nothing_behind(x):
    guard = torch.autograd.graph.disable_saved_tensors_hooks

    def fail() -> None:
        (x * x).sum()
        raise KeyError("no such thing")

    for measure in (saved_bytes, peak_bytes):
        with pytest.raises(KeyError):
            measure(fail)
    assert gc.isenabled()
    assert torch.autograd.graph.disable_saved_tensors_hooks is guard
    torch.func.vjp(torch.sin, x)  # the hooks are off again
