"""What every flow offers beside the conformance kit: views, derivatives, low precision, errors."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nflows.transforms import CompositeTransform, IdentityTransform, InverseTransform
from torch import Tensor, nn

import flows
from flows import Flow
from flows.conformance.subject import jitter, tolerance_of
from flows.discrete.coupling import LINEAR
from flows.discrete.nflows_compat import ActNorm
from variants import CONDITIONAL, every_discrete, every_member, small

HIDING = SimpleNamespace(forward=print, inverse=print, net=nn.Linear(2, 2))
ONES = torch.ones(4, 2)


@every_discrete
def test_vmap_of_the_score(name, options, make_flow, normal):
    flow = make_flow(name, 3, **options)
    x = normal(5, 3, seed=9).requires_grad_()
    (reference,) = torch.autograd.grad(flow.log_prob(x).sum(), x)
    score = torch.vmap(torch.func.jacrev(lambda row: flow.log_prob(row[None])[0]))(x.detach())
    torch.testing.assert_close(score, reference, atol=1e-10, rtol=0)


@every_member
def test_initialize_standardises(name, options, normal):
    """ActNorms are the identity until ``initialize``, in training too; then they standardise."""
    flow = flows.build(name, 3, **options).double()
    norms = [module for module in flow.modules() if isinstance(module, ActNorm)]
    x = normal(300, 3) * torch.tensor([1e-3, 1.0, 50.0]) + torch.tensor([5.0, 0.0, -9.0])
    flow.train().log_prob(x)
    for norm in norms:
        assert not bool(norm.log_scale.any())
        assert not bool(norm.shift.any())
    assert flow.initialize(x) is flow

    outputs: list[Tensor] = []
    for norm in norms:
        norm.register_forward_hook(lambda *hook: outputs.append(hook[2][0]))
    flow.to_noise(x)
    assert len(outputs) == len(norms)
    for output in outputs:
        torch.testing.assert_close(output.mean(0), torch.zeros(3).double(), atol=1e-9, rtol=0)
        torch.testing.assert_close(output.std(0), torch.ones(3).double(), atol=1e-9, rtol=0)


@every_member
def test_a_view_shares_every_tensor(name, options, make_flow, normal):
    flow = make_flow(name, 3, **options)
    view = flow.using(noise=1)
    mine, its = dict(flow.named_parameters()), dict(view.named_parameters())
    assert all(mine[key] is its[key] for key in mine)
    assert all(a is b for a, b in zip(flow.buffers(), view.buffers(), strict=True))
    x = normal(5, 3)
    before = view.log_prob(x).detach()
    jitter(flow, 0.1)
    assert not torch.allclose(view.log_prob(x).detach(), before)
    for option in ("trace", "solver"):
        with pytest.raises(ValueError, match="'anything'"):
            flow.using(**{option: "anything"})


def test_a_flow_is_made_of_a_bijection(normal):

    class Doubling:
        def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return 2 * x, x.new_full((len(x),), x.shape[1] * math.log(2))

        def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return z / 2, z.new_full((len(z),), -z.shape[1] * math.log(2))

    flow, x = Flow(Doubling(), dim=3), normal(5, 3)
    half = torch.distributions.Normal(torch.zeros(3).double(), 0.5)
    torch.testing.assert_close(flow.log_prob(x), half.log_prob(x).sum(1))
    assert flows.check(flow).passed


NAN, INFINITE = (torch.tensor([[0], [v], [v], [0]]) for v in (math.nan, math.inf))  # of two rows
BAD: dict[str, tuple[Any, Any, str]] = {
    "columns": (lambda f, x, c: f.log_prob(x[:, :2], c), ValueError, r"\(N, 3\).*\(4, 2\)"),
    "one row": (lambda f, x, c: f.to_noise(x[0], c), ValueError, r"\(N, 3\).*\(3,\)"),
    "dtype": (lambda f, x, c: f.log_prob(x.float(), c), TypeError, r"float64.*torch\.float32"),
    "array": (lambda f, x, c: f.log_prob(x.numpy(), c), TypeError, r"\(N, 3\).*ndarray"),
    "NaN": (lambda f, x, c: f.loss(x + NAN, c), ValueError, r"x.* 2 of 4 "),
    "infinity": (lambda f, x, c: f.initialize(x + INFINITE, c), ValueError, r" 2 of 4 "),
    "fraction": (lambda f, x, c: f.sample(2.5, c), ValueError, r"2\.5"),
    "no context": (lambda f, x, c: f.sample(4), ValueError, r"context.*\(N, 2\)"),
    "rows of context": (lambda f, x, c: f.log_prob(x, c[:3]), ValueError, r"\(4, 2\).*\(3, 2\)"),
    "columns of context": (lambda f, x, c: f.sample(4, x), ValueError, "context.* 2.* 3"),
    "dtype of context": (lambda f, x, c: f.loss(x, c.float()), TypeError, "context.*64.*float32"),
    "NaN of context": (lambda f, x, c: f.loss(x, c * math.nan), ValueError, "context.* 4 of 4 "),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("name", ["maf", "cnf"])
def test_bad_input_is_named(name, case, make_flow, normal):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call(make_flow(name, 3, hidden=8, **CONDITIONAL), normal(4, 3), normal(4, 2))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Flow(HIDING, dim=2), TypeError, "SimpleNamespace.*net.*nn.Module"),
        (lambda: Flow(IdentityTransform, dim=2), TypeError, "IdentityTransform"),
        (lambda: Flow(nn.Linear(2, 2), dim=2), TypeError, "Linear.*inverse"),
        (lambda: Flow(IdentityTransform(), dim=0), ValueError, "0"),
        (lambda: Flow(IdentityTransform(), dim="3"), ValueError, "'3'"),
        (
            lambda: Flow(IdentityTransform(), 2, base=torch.distributions.Normal(0.0, 1.0)),
            TypeError,
            "Normal.*flows.adapters.distributions",
        ),
        (lambda: flows.build("maf", 2).log_prob(ONES, ONES), ValueError, r"context.*\(4, 2\)"),
        (lambda: Flow(IdentityTransform()).sample(3), ValueError, "dim=D"),
    ],
)
def test_what_a_flow_cannot_be_made_of_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_initialize_tells_what_it_cannot_reach(normal):
    """An ActNorm that runs backward from data to noise; one that runs twice is set once."""
    x = 3 * normal(100, 2) + 1
    backward = Flow(InverseTransform(ActNorm(2)), dim=2).double()
    with pytest.raises(ValueError, match="_transform"):
        backward.initialize(x)
    norm = ActNorm(2).double()
    Flow(CompositeTransform([norm, norm]), dim=2).initialize(x)
    torch.testing.assert_close(norm(x)[0].std(0), torch.ones(2).double())


def test_initialize_gives_a_part_its_context(normal):
    """A part that takes one; its own input, where others come before it."""

    class Centre(IdentityTransform):
        def initialize(self, x: torch.Tensor, context: torch.Tensor) -> None:
            self.seen = x, context

    x, context, centre = normal(20, 2), normal(20, 3), Centre()
    Flow(CompositeTransform([ActNorm(2).double(), centre]), 2, 3).initialize(x, context)
    assert torch.equal(centre.seen[1], context)
    torch.testing.assert_close(centre.seen[0].std(0), torch.ones(2).double())


@pytest.mark.parametrize("name", flows.own())
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_second_derivatives_agree_with_differences(name, direction, make_flow, normal):
    flow = make_flow(name, 2, **small(name, 1.0, hidden=4, layers=1)).using(noise=0)
    if tolerance_of(flow) > 0:
        pytest.skip("its ODE is differentiated by an adjoint, which has no second derivative")
    module = flow.transform if direction == "forward" else InverseTransform(flow.transform)
    shapes = {key: parameter.shape for key, parameter in module.named_parameters()}

    def evaluated(x: Tensor, vector: Tensor) -> Any:
        parts = vector.split([shape.numel() for shape in shapes.values()])
        moved = {n: part.view(shapes[n]) for n, part in zip(shapes, parts, strict=True)}
        return torch.func.functional_call(module, moved, (x,))

    vector = nn.utils.parameters_to_vector(module.parameters()).detach().requires_grad_()
    x = normal(3, 2).requires_grad_()
    assert torch.autograd.gradgradcheck(evaluated, (x, vector), fast_mode=True)


@pytest.mark.filterwarnings("ignore:.* three digits")
@pytest.mark.parametrize(
    ("name", "more"),
    [*((name, {}) for name in flows.own()), *(("glow", {"linear": kind}) for kind in LINEAR)],
    ids=str,
)
def test_a_flow_of_bfloat16_computes_or_is_refused(name, more, make_flow):
    """log_prob and samples are finite and near float32's, else ValueError names the dtype."""
    options = small(name, 0.25, hidden=4) | more
    flow = make_flow(name, 3, spread=0.05, dtype=torch.float32, **options)
    low = make_flow(name, 3, spread=0.05, dtype=torch.bfloat16, **options)
    # a rounding of bfloat16 is 2⁻⁸: a few dozen of them, of entries near one, are allowed
    x = torch.randn(50, 3).bfloat16()
    if tolerance_of(flow) > 0:
        with pytest.raises(ValueError, match="bfloat16"):
            low.log_prob(x)
        return
    log_prob = low.using(noise=0).log_prob(x)
    assert log_prob.dtype == torch.bfloat16
    assert (log_prob.float() - flow.using(noise=0).log_prob(x.float())).abs().mean() < 0.2
    sample, density = low.rsample_and_log_prob(20)
    assert sample.dtype == density.dtype == torch.bfloat16
    assert bool(torch.isfinite(sample).all())
    low.loss(x).backward()
    (sample.sum() + density.sum()).backward()
    gradients = [p.grad for p in low.parameters() if p.grad is not None]
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


@every_discrete
def test_a_view_of_a_flow_without_an_ode_computes_the_same(name, options, make_flow, normal):
    flow, x = make_flow(name, 2, **options), normal(4, 2)
    view = flow.using(trace={"estimator": "hutchinson", "probes": 3}, solver="bosh3", noise=1)
    assert torch.equal(view.log_prob(x), flow.log_prob(x))
