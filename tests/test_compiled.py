"""Compiled views: equal to the flow with first gradients and counts, few versions, clear errors."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from nflows.transforms import CompositeTransform
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop_op

import flows
from benchmarks.measure.operations import Dispatched
from continuous_fields import OF_AN_MLP, Rowwise, Waves, mlp_field, mlp_flow
from flows import Flow
from flows.conformance.subject import jitter
from flows.continuous import CNF, SolveError
from variants import CONDITIONAL, DISCRETE, MEMBERS, READ, every_continuous, over

AOT = {"backend": "aot_eager"}
QUICK = {"method": "adaptive_heun", "rtol": 1e-2, "atol": 1e-2}  # one stage, so quick to compile
BACKPROP = {**QUICK, "gradient": "backprop"}
STEPS = {"method": "midpoint", "step_size": 0.3, "gradient": "backprop"}


GIVEN = {
    f"{name} conditional": {**sizes, **CONDITIONAL}
    for name, sizes in DISCRETE.items()
    if flows.members[name].applicable(CONDITIONAL)
}
every_kind = over(DISCRETE | GIVEN)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    torch.compiler.reset()


@pytest.fixture
def built(make_flow, normal) -> Callable[..., tuple[Any, ...]]:
    """Builds a flow of a kind: it, points (5, 3), and a context (5, 2) or None."""

    def build(kind: str, options: dict[str, Any]) -> tuple[Any, ...]:
        context = normal(5, 2, seed=3) if "context_dim" in options else None
        return make_flow(kind.split()[0], 3, **options), normal(5, 3, seed=2), context

    return build


def _assert_equal(flow: Flow, x: Tensor, context=None, brief=False, **options: Any) -> None:
    """Results, all first gradients and counts of the view are those of the flow, to 1e-9."""
    weights = torch.linspace(-1.0, 2.0, x.numel(), dtype=x.dtype).view_as(x)
    results, counts = [], []
    for side in (flow, flow.compiled(**options)):
        given = [part.clone().requires_grad_() for part in (x, context) if part is not None]
        inputs = given + [p for p in side.parameters() if p.requires_grad]

        def gradients(scalar: Tensor, inputs: list[Tensor] = inputs) -> list[Tensor]:
            return [scalar.detach(), *torch.autograd.grad(scalar, inputs, materialize_grads=True)]

        with flows.count_nfe(side) as nfe:
            torch.manual_seed(7)
            values = [side.sample(4, None if context is None else context[:1])]
            values += gradients(side.loss(*given))
            if not brief:
                with torch.no_grad():
                    values.append(side.log_prob(*given))
                torch.manual_seed(7)
                sample, log_prob = side.rsample_and_log_prob(len(x), *given[1:])
                values += gradients((sample * weights * log_prob[:, None]).sum())
                values += gradients((side.to_noise(*given) * weights).sum())
        results.append(values)
        counts.append(nfe.solves)
    torch.testing.assert_close(results[1], results[0], atol=1e-9, rtol=1e-9)
    assert counts[1] == counts[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", [AOT, pytest.param({}, marks=pytest.mark.inductor)], ids=["aot_eager", "inductor"]
)
@every_kind
def test_one_graph_equals_the_flow(name, options, how, built):
    """Every family without an ODE is captured whole, with first gradients of all its inputs."""
    _assert_equal(*built(name, options), **how)


@pytest.mark.slow
@pytest.mark.inductor
@every_continuous
def test_steps_equal_those_of_the_flow(name, options, built):
    """Every family with an ODE, by its own loss: by the adjoint, and through its steps."""
    flow, x, _ = built(name, options)
    for solver, how in (({**QUICK, "gradient": "adjoint"}, AOT), (STEPS, AOT), (BACKPROP, {})):
        _assert_equal(flow.using(solver=solver, noise=0), x, brief=True, **how)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gradient", "trace"),
    [
        *(("backprop", name) for name in OF_AN_MLP if name != "jacobian"),
        ("adjoint", "closed_form"),
        ("adjoint", "loop"),
        ("seminorm", "hutchinson"),
    ],
)
def test_every_trace_and_gradient(gradient, trace, normal):
    """Through adaptive steps, with a context, frozen weights and an end time that is trained."""
    field = mlp_field(3, context_dim=2)
    field.layers[0].requires_grad_(False)
    solver = {**QUICK, "gradient": gradient}
    flow = Flow(CNF(field, trace=trace, solver=solver, train_end_time=True).double(), 3)
    _assert_equal(flow.using(noise=0), normal(5, 3), normal(5, 2), brief=True, **AOT)


def test_a_field_of_ones_own(normal):
    solver = {**BACKPROP, "error_norm": "sample"}
    cnf = CNF(Waves(3), trace="loop", solver=solver, train_end_time=True)
    _assert_equal(Flow(cnf.double(), 3), normal(5, 3), brief=True, backend="aot_eager")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The graphs of native functions, which their operators stand for."""
    graphs = []

    def by_operators(graph: Any, inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return lambda values: graph(*values)

    monkeypatch.setattr("flows.compiled._compiled", by_operators)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    return graphs


@over(MEMBERS)
def test_recorded_operators_equal_every_flow(name, options, built, recorded):
    """What native functions are made of, before anything is compiled."""
    flow, x, context = built(name, options)
    stepped = flow if name in DISCRETE else flow.using(solver=BACKPROP, noise=0)
    _assert_equal(stepped, x, context, brief=True)
    with torch.no_grad():
        flow.compiled().log_prob(x, context)
    assert recorded


@pytest.mark.parametrize(("kind", "gradient"), [("cnf", "seminorm"), ("ffjord", "adjoint")])
def test_solves_are_loops(kind, gradient, built, recorded):
    """Each solve is one function, and so is its adjoint: equal results, gradients and counts."""
    flow, x, context = built(kind, {**MEMBERS[kind], **CONDITIONAL, "train_end_time": True})
    solver = {**QUICK, "gradient": gradient}
    _assert_equal(flow.using(solver=solver, noise=0), x, context, brief=True)
    calls = [node.target for graph in recorded for node in graph.graph.nodes]
    assert calls.count(while_loop_op) >= 3  # samples, a loss, and its adjoint


@pytest.mark.slow
@pytest.mark.inductor
@pytest.mark.parametrize("kind", ["maf", "realnvp", "cnf", "cnf adjoint"])
def test_native_functions_follow_the_flow(kind, make_flow, normal):
    """After edits, updates, other states, frozen weights; of other rows, and in float32."""
    name, *gradient = kind.split()
    options = {**MEMBERS[name], **CONDITIONAL, "context_dim": 3}
    flow, x, context = make_flow(name, 3, **options), normal(5, 3, seed=2), normal(5, 3, seed=3)
    flow = flow.using(solver=dict(BACKPROP, gradient=[*gradient, "backprop"][0]))
    view = flow.compiled()

    def check(x: Tensor, context: Tensor, of: Flow = flow, close: float = 1e-9) -> None:
        results = []
        for side in (of, view):
            side.zero_grad()
            with torch.no_grad():
                density = side.log_prob(x, context)
                assert side.sample(5, context[:1]).is_contiguous()
            loss = side.loss(x, context)
            loss.backward()
            learned = [p.grad for p in side.parameters()]
            given = [x.clone().requires_grad_(), context.clone().requires_grad_()]
            slopes = torch.autograd.grad(side.log_prob(*given), given, x[:, 0].exp())
            results.append([density, loss.detach(), *learned, *slopes])
        torch.testing.assert_close(results[1], results[0], atol=close, rtol=close)

    check(x, context)
    assert all(view.compiler.functions._ahead.values())
    jitter(flow, 0.1)
    check(x, context)
    optimiser = torch.optim.Adam(flow.parameters(), lr=0.1)
    view.loss(x, context).backward()
    optimiser.step()
    check(x, context)
    flow.load_state_dict({name: value * 1.1 for name, value in flow.state_dict().items()})
    check(x, context)
    check(context, x)
    check(x, x)
    check(x[:3], context[:3])
    next(flow.parameters()).requires_grad_(False)
    check(x, context)
    flow.eval()
    other = copy.deepcopy(flow)
    jitter(other, 0.2)
    view.load_state_dict(other.state_dict(), assign=True)
    check(x, context, other)
    flow.float(), view.float()
    view.load_state_dict(flow.state_dict())
    check(x.float(), context.float(), flow, 1e-4)


def test_float32_inverts_steep_splines(make_flow):
    """Compiled code has no branch by value: it solves every entry in float64."""
    flow = make_flow("nsf_coupling", 3, **MEMBERS["nsf_coupling"], spread=4.0)
    single = copy.deepcopy(flow).float().compiled(backend="aot_eager")
    torch.manual_seed(0)
    x = single.sample(2000)
    torch.manual_seed(0)
    expected = flow.transform.inverse(torch.randn(2000, 3).double())[0]
    torch.testing.assert_close(x.double(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_an_ode_is_left_between_compiled_parts(make_flow, normal):
    sizes = {"hidden": 6, "depth": 1, "layers": 1}
    inner = [make_flow(name, 3, **sizes).transform for name in ("realnvp", "cnf", "glow")]
    _assert_equal(Flow(CompositeTransform(inner), 3), normal(5, 3), backend="aot_eager")


def _versions() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.slow
def test_versions_are_few(make_flow, normal):
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


@pytest.mark.slow
def test_one_function_for_all_steps(make_flow, normal):
    """And one for all first evaluations; as many more for gradients, and for other batch sizes."""
    flow = make_flow("cnf", 3, hidden=6, layers=3, spread=0.8)
    view = flow.using(solver={**BACKPROP, "rtol": 1e-4}).compiled(backend="aot_eager")
    torch._dynamo.utils.counters.clear()
    with flows.count_nfe(view) as nfe:
        for seed in range(3):
            with torch.no_grad():
                view.log_prob(normal(6, 3, seed=seed))
    assert nfe.accepted > 20
    assert _versions() == 2
    for seed in range(3):
        view.loss(normal(6, 3, seed=seed)).backward()
    assert _versions() == 4
    for rows in (2, 3, 5, 9):
        view.loss(normal(rows, 3)).backward()
    assert _versions() == 6
    view.log_prob(normal(1, 3))


def test_parameters_are_shared_and_copies_have_their_own(make_flow, normal):
    flow, x = make_flow("realnvp", 3, **MEMBERS["realnvp"]), normal(5, 3)
    view = flow.compiled(backend="aot_eager")
    before = view.log_prob(x)
    assert view.state_dict().keys() == flow.state_dict().keys()
    twin, other = copy.deepcopy(view), view.using()
    jitter(flow, 0.1)
    for same in (view, other):
        torch.testing.assert_close(same.log_prob(x), flow.log_prob(x))
    torch.testing.assert_close(twin.log_prob(x), before)
    assert twin.float().log_prob(x.float()).dtype == torch.float32


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_checks_stay(backend, make_flow, normal):
    view = make_flow("maf", 3, **MEMBERS["maf"]).compiled(backend=backend)
    x = normal(4, 3)
    for call in (view.log_prob, view.loss, view.to_noise):
        call(x)
        for value in (torch.nan, torch.inf, -torch.inf):
            with pytest.raises(ValueError, match="1 of 4"):
                call(x.index_fill(0, torch.tensor([2]), value))
        with pytest.raises(ValueError, match=r"\(4, 2\)"):
            call(x[:, :2])
        for other, name in ((x.float(), "float32"), (x.tolist(), "got list")):
            with pytest.raises(TypeError, match=name):
                call(other)
        with pytest.raises(ValueError, match="no context"):
            call(x, x)


def test_failures_of_solves_keep_their_types(normal, recorded):
    for function, solver in (
        (lambda x: x * torch.nan, {}),
        (lambda x: torch.sin(200 * x), {"max_steps": 12}),
    ):
        flow = Flow(CNF(Rowwise(function), trace="loop", solver=solver), 2)
        messages = []
        for view in (flow, flow.compiled(backend="aot_eager"), flow.compiled()):
            with torch.no_grad(), pytest.raises(SolveError, match="t=") as failure:
                view.log_prob(normal(4, 2))
            messages.append(str(failure.value))
        assert messages[1:] == messages[:1] * 2


def test_what_a_view_lacks_is_named(make_flow, normal):
    view = make_flow("realnvp", 3, **MEMBERS["realnvp"]).compiled(backend="aot_eager")
    ode = mlp_flow(3, solver=BACKPROP).compiled(backend="aot_eager")
    x = normal(4, 3).requires_grad_()
    for each in (view, ode):
        with pytest.raises(RuntimeError, match=r"first derivatives.*the flow itself"):
            torch.autograd.grad(each.loss(x), x, create_graph=True)
    rows = torch.vmap(lambda row: view.log_prob(row[None])[0])
    for mapped in (rows, torch.func.grad(view.loss)):
        with pytest.raises(RuntimeError, match=r"torch\.func.*the flow itself"):
            mapped(x.detach())
    with (
        torch.autograd.forward_ad.dual_level(),
        pytest.raises(RuntimeError, match=r"forward-mode.*the flow itself"),
    ):
        view.log_prob(torch.autograd.forward_ad.make_dual(x.detach(), x.detach()))
    for solver in ({"engine": "torchdiffeq"}, {"method": "scipy_solver"}):
        with pytest.raises(ValueError, match=r"torchdiffeq.*the flow itself"):
            ode.using(solver=solver).log_prob(x)


def test_what_cannot_be_compiled_is_named(make_flow, normal):
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


@every_kind
def test_log_prob_reads_no_value(name, options, built):
    """No operator of an eager log_prob waits for a device."""
    flow, x, context = built(name, options)
    with Dispatched() as mode:
        flow.log_prob(x, context).sum().backward()
    assert READ not in mode.counts
