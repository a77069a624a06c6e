"""Compiled views: equal to the flow with first gradients, few versions, clear errors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from nflows.transforms import CompositeTransform
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import flows
from flows import Flow
from member_marks import CONDITIONAL, MEMBERS, over

Make = Callable[..., Flow]
Normal = Callable[..., Tensor]


def _discrete(name: str) -> bool:
    return flows.members.module_of(name).startswith("flows.discrete")


KINDS = {name: sizes for name, sizes in MEMBERS.items() if _discrete(name)}
KINDS |= {
    f"{name} conditional": {**sizes, **CONDITIONAL}
    for name, sizes in KINDS.items()
    if flows.members[name].applicable(CONDITIONAL)
}
every_kind = over(KINDS)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Let torch forget what it compiled."""
    yield
    torch.compiler.reset()


def _built(kind: str, options: dict[str, Any], make_flow: Make, normal: Normal) -> tuple[Any, ...]:
    """A flow, points that need a gradient, and a context or None."""
    flow = make_flow(kind.split()[0], 3, **options)
    context = normal(5, 2, seed=3).requires_grad_() if "context_dim" in options else None
    return flow, normal(5, 3, seed=2).requires_grad_(), context


CALLS = ("log_prob", "loss", "to_noise", "rsample", "sample")


def _assert_equal(
    flow: Flow, view: Flow, x: Tensor, context: Tensor | None, calls: tuple[str, ...] = CALLS
) -> None:
    """Results and all first gradients, to 1e-9."""
    weights = torch.linspace(-1.0, 2.0, x.numel(), dtype=x.dtype).view_as(x)
    for call in calls:
        sides = []
        for side in (flow, view):
            torch.manual_seed(7)
            if call == "sample":
                sides.append([side.sample(len(x), None if context is None else context[:1])])
                continue
            if call == "rsample":
                sample, log_prob = side.rsample_and_log_prob(len(x), context)
                result, given = sample * log_prob[:, None], (context,)
            else:
                result, given = getattr(side, call)(x, context), (x, context)
            wanted = [*(tensor for tensor in given if tensor is not None), *side.parameters()]
            scalar = (result * weights.flatten()[: result.numel()].view_as(result)).sum()
            gradients = torch.autograd.grad(scalar, wanted, materialize_grads=True)
            sides.append([result, *gradients])
        torch.testing.assert_close(sides[1], sides[0], atol=1e-9, rtol=1e-9)


@pytest.mark.slow
@every_kind
def test_one_graph_equals_the_flow(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """Every family without an ODE is captured whole, with first gradients of all its inputs."""
    flow, x, context = _built(name, options, make_flow, normal)
    _assert_equal(flow, flow.compiled(backend="aot_eager"), x, context)


@pytest.mark.parametrize("name", ["realnvp", "nsf_coupling"])
def test_inductor_equals_the_flow(name: str, make_flow: Make, normal: Normal) -> None:
    """By the default backend, with the inverse."""
    flow, x, context = _built(name, MEMBERS[name], make_flow, normal)
    _assert_equal(flow, flow.compiled(), x, context, ("loss", "sample"))


@pytest.mark.slow
@pytest.mark.inductor
@every_kind
def test_inductor_equals_every_flow(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """By the default backend, every family without an ODE."""
    flow, x, context = _built(name, options, make_flow, normal)
    _assert_equal(flow, flow.compiled(), x, context)


def test_float32_inverts_steep_splines(make_flow: Make, normal: Normal) -> None:
    """Compiled code has no branch by value: it solves every entry in float64."""
    flow = make_flow("nsf_coupling", 3, **MEMBERS["nsf_coupling"], spread=4.0)
    single = copy.deepcopy(flow).float().compiled(backend="aot_eager")
    torch.manual_seed(0)
    x = single.sample(2000)
    torch.manual_seed(0)
    z = torch.randn(2000, 3)
    expected = flow.transform.inverse(z.double())[0]
    torch.testing.assert_close(x.double(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_an_ode_is_left_between_compiled_parts(make_flow: Make, normal: Normal) -> None:
    """Couplings around a CNF, in both directions."""
    sizes = {"hidden": 6, "depth": 1, "layers": 1}
    inner = [make_flow(name, 3, **sizes).transform for name in ("realnvp", "cnf", "glow")]
    flow = Flow(CompositeTransform(inner), 3)
    _assert_equal(flow, flow.compiled(backend="aot_eager"), normal(5, 3).requires_grad_(), None)


def _versions() -> int:
    count: int = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    return count


@pytest.mark.slow
def test_versions_are_few(make_flow: Make, normal: Normal) -> None:
    """One for batches of one size, one for all other sizes; no flow uses up another's."""
    for _ in range(10):
        flow = make_flow("planar", 3, **MEMBERS["planar"])
        view, before = flow.compiled(backend="aot_eager"), _versions()
        for seed in range(3):
            view.loss(normal(6, 3, seed=seed)).backward()
        assert _versions() == before + 1
    for n in (2, 3, 4, 5, 7, 9, 17, 33, 6):
        view.loss(normal(n, 3))
    assert _versions() == before + 2


def test_parameters_are_shared_and_copies_have_their_own(make_flow: Make, normal: Normal) -> None:
    """An edit of the flow is seen by its view, and by no copy of the view; a view has views."""
    flow, x = make_flow("realnvp", 3, **MEMBERS["realnvp"]), normal(5, 3)
    view = flow.compiled(backend="aot_eager")
    before = view.log_prob(x)
    assert all(a is b for a, b in zip(flow.parameters(), view.parameters(), strict=True))
    assert view.state_dict().keys() == flow.state_dict().keys()
    twin, other = copy.deepcopy(view), view.using()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.1
    for same in (view, other):
        torch.testing.assert_close(same.log_prob(x), flow.log_prob(x))
    torch.testing.assert_close(twin.log_prob(x), before)
    single = twin.float()
    assert single.log_prob(x.float()).dtype == torch.float32


def test_checks_stay(make_flow: Make, normal: Normal) -> None:
    """Values, shape and dtype of the input are checked outside of compiled code."""
    view = make_flow("maf", 3, **MEMBERS["maf"]).compiled(backend="aot_eager")
    x = normal(4, 3)
    with pytest.raises(ValueError, match="1 of 4"):
        view.log_prob(x.index_fill(0, torch.tensor([2]), torch.nan))
    with pytest.raises(ValueError, match=r"\(4, 2\)"):
        view.to_noise(x[:, :2])
    with pytest.raises(TypeError, match="float32"):
        view.loss(x.float())
    for n in (0, 1):
        assert view.log_prob(x[:n]).shape == (n,)


def test_what_a_view_lacks_is_named(make_flow: Make, normal: Normal) -> None:
    """Second derivatives, torch.func, forward mode: the error names the flow."""
    view = make_flow("realnvp", 3, **MEMBERS["realnvp"]).compiled(backend="aot_eager")
    x = normal(4, 3).requires_grad_()
    with pytest.raises(RuntimeError, match=r"first derivatives.*the flow itself"):
        torch.autograd.grad(view.loss(x), x, create_graph=True)
    (gradient,) = torch.autograd.grad(view.loss(x), x)
    assert not gradient.requires_grad
    rows = torch.vmap(lambda row: view.log_prob(row[None])[0])
    with pytest.raises(RuntimeError, match=r"torch\.func.*the flow itself"):
        rows(x.detach())
    with pytest.raises(RuntimeError, match=r"torch\.func.*the flow itself"):
        torch.func.grad(view.loss)(x.detach())
    with (
        torch.autograd.forward_ad.dual_level(),
        pytest.raises(RuntimeError, match=r"forward-mode.*the flow itself"),
    ):
        view.log_prob(torch.autograd.forward_ad.make_dual(x.detach(), x.detach()))


def test_what_cannot_be_compiled_is_named(make_flow: Make, normal: Normal) -> None:
    """An unknown backend, a machine without a compiler, a transform that looks at values."""
    flow = make_flow("realnvp", 3, **MEMBERS["realnvp"])
    with pytest.raises(ValueError, match=r"'fast'.*inductor"):
        flow.compiled(backend="fast")

    class Branching:
        def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return (x if bool(x.sum() > 0) else -x), x.new_zeros(len(x))

        inverse = forward

    with pytest.raises(RuntimeError, match=r"cannot compile the log density.*the flow itself"):
        Flow(Branching(), dim=2).compiled(backend="aot_eager").log_prob(normal(3, 2))
    iterating = type("Iterating", (Branching,), {"iterative": True})  # whose inverse stays eager
    assert Flow(iterating(), dim=2).compiled(backend="aot_eager").sample(3).shape == (3, 2)
    from torch._inductor import config, cpp_builder

    cpp_builder.cpp_compiler_search.cache_clear()
    with (
        config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(RuntimeError, match=r"C\+\+ compiler.*install g\+\+"),
    ):
        flow.compiled()
    cpp_builder.cpp_compiler_search.cache_clear()


class _Reads(TorchDispatchMode):
    """Names of operators that read a value, and so wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket is torch.ops.aten._local_scalar_dense:
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@every_kind
def test_log_prob_reads_no_value(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """No operator of an eager log_prob waits for a device."""
    flow, x, context = _built(name, options, make_flow, normal)
    with _Reads() as reads:
        flow.log_prob(x, context).sum().backward()
    assert reads.names == []
