"""Fields and traces: closed forms, estimators by their law, derivatives, time, users' fields."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from continuous_fields import DOPRI5, Rowwise, mlp_field, moved, rate_of
from flows import Flow
from flows.conformance.densities import jacobians
from flows.continuous import CNF, BottleneckMLPField, MLPField, Trace
from flows.continuous.shallow import ACTIVATIONS, tanh
from flows.continuous.trace import TRACES
from flows.continuous.vector_fields import TIME

T = torch.tensor(0.3, dtype=torch.float64)
EXACT = [name for name in TRACES if not Trace(name).stochastic and name != "hollow"]
TRACES_AND_MODES = [{"estimator": name} for name in EXACT]
TRACES_AND_MODES += [{"estimator": n, "mode": "forward"} for n in EXACT if TRACES[n].modes]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("time", TIME)
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(("dim", "hidden"), [(3, 7), (7, 3)])
def test_every_closed_form(activation, time, depth, dim, hidden):
    field = mlp_field(dim, hidden=hidden, depth=depth, activation=activation, time=time)
    x = torch.randn(3, dim, dtype=torch.float64)
    results = [rate_of(trace, field, T, x)[1] for trace in ("loop", "closed_form")]
    torch.testing.assert_close(*results, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("trace", ["loop", "exact", "hutchinson"])
def test_fields_that_hardly_depend_on_x(trace, normal):
    x, shift = normal(4, 2), nn.Parameter(torch.tensor([1.0, -2.0]).double())
    constant = Rowwise(lambda x: shift.expand_as(x))
    half = Rowwise(lambda x: torch.cat([x[:, :1] / 2, torch.ones_like(x[:, 1:])], 1))
    for field, ladj in ((constant, 0.0), (half, 0.5)):
        flow = Flow(CNF(field, trace=trace), dim=2)
        z, got = flow.transform(x)
        torch.testing.assert_close(got.detach(), torch.full((4,), ladj).double())
        with torch.no_grad():
            torch.testing.assert_close(flow.transform(x)[0], z.detach())


@pytest.mark.parametrize("offer", ["with_trace", "trace", "trace without context"])
@pytest.mark.parametrize("conditional", [False, True])
def test_user_fields_with_a_trace(offer, conditional, normal):
    inner = mlp_field(3, context_dim=2 if conditional else 0)
    calls: list[str] = []

    def asked(t: Tensor, x: Tensor, context: Tensor | None = None) -> Any:
        calls.append(offer)
        both = inner.with_trace(t, x, context)
        return both if offer == "with_trace" else both[1]

    methods: dict[str, Any] = {"forward": lambda self, t, x: inner(t, x)}
    if conditional:
        methods["forward"] = lambda self, t, x, context=None: inner(t, x, context)
    if offer != "trace without context":
        methods[offer] = lambda self, t, x, context: asked(t, x, context)
    elif not conditional:
        methods["trace"] = lambda self, t, x: asked(t, x)
    field = type("Field", (nn.Module,), methods)()
    field.inner = inner
    flow = Flow(CNF(field, solver=DOPRI5), dim=3)
    x, context = normal(4, 3), normal(4, 2, seed=1) if conditional else None
    reference = Flow(CNF(inner, solver=DOPRI5)).log_prob(x, context)
    torch.testing.assert_close(flow.log_prob(x, context), reference, atol=1e-8, rtol=0)
    if not (conditional and offer == "trace without context"):
        assert calls
    loop = flow.using(trace="loop").log_prob(x, context)
    torch.testing.assert_close(loop, reference, atol=1e-8, rtol=0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("time", ["concat", "concatsquash"])
@pytest.mark.parametrize(("depth", "context_dim"), [(1, 0), (2, 0), (2, 2)])
def test_derivatives_of_value_and_trace(activation, time, depth, context_dim, normal):
    options = {"activation": activation, "time": time, "context_dim": context_dim}
    field = mlp_field(3, hidden=4, depth=depth, **options)
    names = [f"field.{name}" for name, _ in field.named_parameters()]
    context = (normal(5, context_dim, seed=9),) if context_dim else ()
    inputs = (T, normal(5, 3), *context, *field.parameters())
    count = 2 + len(context)

    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        parameters = dict(zip(names, tensors[count:], strict=True))
        return torch.func.functional_call(WithTrace(field), parameters, tensors[:count])

    tracked = tuple(tensor.detach().clone().requires_grad_() for tensor in inputs)
    assert torch.autograd.gradcheck(call, tracked, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, tracked, fast_mode=True)


class WithTrace(torch.nn.Module):
    def __init__(self, field: MLPField) -> None:
        super().__init__()
        self.field = field

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.field.with_trace(*inputs)


@pytest.mark.parametrize("depth", [1, 2])
def test_value_and_trace_within_torch_func(depth, normal):
    field, x = mlp_field(3, hidden=4, depth=depth), normal(5, 3)
    with torch.no_grad():
        dx, trace = field.with_trace(T, x)
    jacobian = torch.func.vmap(torch.func.jacfwd(lambda row: field.with_trace(T, row[None])[0][0]))
    torch.testing.assert_close(jacobian(x).diagonal(dim1=1, dim2=2).sum(1), trace)
    gradient = torch.func.grad(lambda x: field.with_trace(T, x)[1].sum())(x)
    tracked = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(field.with_trace(T, tracked)[1].sum(), tracked)
    torch.testing.assert_close(gradient, expected)
    stacked = {f"field.{n}": torch.stack([p, 2 * p]) for n, p in field.named_parameters()}
    both = torch.func.vmap(
        lambda parameters: torch.func.functional_call(WithTrace(field), parameters, (T, x))
    )(stacked)
    torch.testing.assert_close(both[0][0], dx)
    torch.testing.assert_close(both[1][0], trace)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tanh_is_tanh(dtype):
    a = torch.cat([torch.linspace(-30, 30, 2001), torch.tensor([-1e30, 1e-30, 1e30])]).to(dtype)
    assert (tanh(a).double() - a.double().tanh()).abs().max() <= 2 * torch.finfo(dtype).eps
    assert torch.equal(tanh(a.clone().requires_grad_()), tanh(a))
    assert torch.equal(torch.func.vmap(tanh)(a), tanh(a))
    assert bool(tanh(torch.tensor(torch.nan)).isnan())


@pytest.mark.parametrize("time", TIME)
def test_time_enters_by_its_formula(time, normal):
    layer: Any = moved(TIME[time](4, 3))
    x = normal(5, 4)
    times = torch.rand(5, 1, dtype=torch.float64)
    rows = layer.of_rows(times, x)
    for index in range(5):
        weight, bias = layer.at(times[index, 0])
        torch.testing.assert_close(rows[index], weight @ x[index] + bias)
    field = moved(MLPField(4, hidden=6, time=time))
    together = field(times[:, 0], x)
    for index in range(5):
        torch.testing.assert_close(together[index], field(times[index, 0], x[index : index + 1])[0])


def test_gates_by_hand(normal):
    x, t = normal(5, 4), torch.full((5, 1), 0.3, dtype=torch.float64)
    layers: Any = {name: moved(TIME[name](4, 3)) for name in ("squash", "concatsquash", "blend")}
    for name in ("squash", "concatsquash"):
        layer = layers[name]
        gate = 1 / (1 + torch.exp(-(0.3 * layer.gate.weight[:, 0] + layer.gate.bias)))
        expected = (x @ layer.weight.T + layer.bias) * gate
        expected = expected + 0.3 * layer.shift if name == "concatsquash" else expected
        torch.testing.assert_close(layer.of_rows(t, x), expected)
    blend = layers["blend"]
    expected = 0.7 * blend.start(x) + 0.3 * blend.end(x)
    torch.testing.assert_close(blend.of_rows(t, x), expected)


def _bottleneck() -> Any:
    return moved(BottleneckMLPField(5, bottleneck=2, hidden=7))


@pytest.mark.parametrize("trace", TRACES_AND_MODES, ids=str)
@pytest.mark.parametrize("kind", ["mlp", "conditional", "bottleneck"])
def test_exact_traces(trace, kind, normal):
    context = normal(4, 2, seed=5) if kind == "conditional" else None
    field = _bottleneck() if kind == "bottleneck" else None
    field = field or moved(MLPField(5, hidden=7, context_dim=2 if context is not None else 0))
    x = normal(4, 5).requires_grad_()
    matrices = jacobians(lambda x: field(T, x, context), x.detach())
    dx, total = rate_of(trace, field, T, x, context)
    torch.testing.assert_close(dx, field(T, x, context), atol=1e-14, rtol=1e-13)
    error = (total - matrices.diagonal(dim1=1, dim2=2).sum(1)).abs()
    assert bool((error <= 1e-12 * matrices.flatten(1).norm(dim=1)).all())
    tensors = [x, *field.parameters()]
    sums = [t.sin().sum() for t in (total, rate_of("loop", field, T, x, context)[1])]
    gradients = [torch.autograd.grad(t, tensors, materialize_grads=True) for t in sums]
    torch.testing.assert_close(*gradients, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("trace", ["hollow", "bottleneck", "closed_form"])
def test_traces_name_the_fields_they_need(trace, normal):
    with pytest.raises(TypeError, match=r"Rowwise .*trace='(exact|hutchinson|loop)'"):
        Flow(CNF(Rowwise(torch.neg), trace=trace), 2).log_prob(normal(3, 2))


@pytest.mark.parametrize("estimator", ["hutchinson", "bottleneck"])
def test_modes_agree(estimator, normal):
    field, x = _bottleneck(), normal(6, 5).requires_grad_()
    results = []
    for mode in ("backward", "forward"):
        trace = Trace.of({"estimator": estimator, "mode": mode, "probes": 2})
        noise = trace.draw(field, x, torch.Generator().manual_seed(3))
        _, estimate = rate_of(trace, field, T, x, noise=noise)
        tensors = [x, *field.parameters()]
        gradients = torch.autograd.grad(estimate.sum(), tensors, materialize_grads=True)
        results.append([estimate, *gradients])
    torch.testing.assert_close(*results, atol=1e-12, rtol=1e-11)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("exakt", "'exakt'.*exact, loop"),
        ({"estimator": "hutchinson", "probes": 0}, "probes.* 0"),
        ({"estimator": "hutchinson", "noise": "uniform"}, "'uniform'.*gaussian"),
        ({"estimator": "hutchinson", "mode": "reverse"}, "'reverse'.*forward"),
        ({"estimator": "closed_form", "probes": 2}, "'closed_form'.*probes"),
        ({"estimator": "loop", "mode": "forward"}, "'loop'.*mode"),
        ({"estimator": "hutchinson", "k": 2}, "'k'.*estimator"),
    ],
)
def test_traces_that_cannot_be(value, message):
    with pytest.raises(ValueError, match=message):
        Trace.of(value)
    with pytest.raises(TypeError, match=r"Trace.*3"):
        Trace.of(3)
