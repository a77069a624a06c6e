"""Flows, distributions and velocity fields of other libraries: densities and refusals."""

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib import import_module
from typing import Any

import pytest
import torch
import zuko
from torch import Tensor
from torch import distributions as td

import flows
from flows.adapters import zuko as adapter
from flows.adapters.distributions import from_distribution
from flows.continuous import Solver
from variants import SMALL

DIM, ROWS = 3, 4
NAMES = [name for name in flows.names() if name not in flows.own()]
PRESENT = [library.name.lower() for library in flows.members.libraries() if not library.fault]
pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own notices
ZUKO = [name for name in NAMES if flows.members.module_of(name) == adapter.__name__]
ODES = [name for name in ZUKO if "exact" in flows.members[name].defaults]


def _freia(transform: Any, x: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """As the readme has it: FrEIA has no distributions."""
    z, ladj = transform.network(x, c=[*given.values()])
    return torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1) + ladj


def _torchflows(transform: Any, x: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    log_prob = transform.flow.log_prob(x, **given)
    return log_prob[0] if isinstance(log_prob, tuple) else log_prob


THEIRS = {
    "FrEIA": _freia,
    "normflows": lambda transform, x, given: transform.model.log_prob(x, **given),
    "torchflows": _torchflows,
    "zuko": lambda transform, x, given: transform.flow(*given.values()).log_prob(x),
}
CASES = [
    (name, context_dim)
    for name in NAMES
    for context_dim in (0, 2)[: 1 + ("context_dim" in flows.members[name].uses)]
]


@pytest.mark.parametrize(("name", "context_dim"), CASES)
def test_log_prob_is_the_librarys_own(name, context_dim, normal):
    tiny = sizes(name, hidden=4, depth=1, context_dim=context_dim)
    flow = flows.build(name, DIM, **tiny).double().eval()
    x, context = normal(ROWS, DIM), normal(ROWS, 2, seed=3)
    given = {"context": context} if context_dim else {}
    flow.initialize(x, **given)
    view: Any = flow.using(noise=3)
    with getattr(view.transform, "seeded", nullcontext)():
        expected = THEIRS[flows.members[name].library](view.transform, x, given)
    assert torch.allclose(view.log_prob(x, **given), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PRESENT)
def test_what_is_no_flow_of_a_library_is_refused(name):
    adapter = import_module(f"flows.adapters.{name}")
    with pytest.raises(TypeError, match="Linear"):
        getattr(adapter, f"from_{name}")(torch.nn.Linear(2, 2), 2)


@pytest.mark.parametrize("name", [n for n in NAMES if n in ("freia_glow", "torchflows_ffjord")])
def test_a_view_is_of_the_same_density_or_says_that_it_has_no_other_trace(name, normal):
    """As that of every flow without an ODE; a random estimate has no exact trace."""
    flow, x = flows.build(name, DIM, hidden=4).double().eval(), normal(ROWS, DIM)
    if getattr(flow.transform, "estimated", False):
        with pytest.raises(ValueError, match=r"random estimate.*'exact'"):
            flow.using(trace="exact")
        assert not torch.equal(flow.log_prob(x), flow.log_prob(x))
    else:
        assert torch.equal(flow.using(trace="exact").log_prob(x), flow.log_prob(x))


def sizes(name: str, **more: Any) -> dict[str, Any]:
    return flows.members[name].applicable({**SMALL, **more})


@pytest.mark.parametrize("name", ZUKO)
def test_members_are_made_as_zuko_makes_them(name):
    classes = {kind.lower(): value for kind, value in vars(zuko.flows).items()}
    options = sizes(name)
    theirs: dict[str, Any] = {"hidden_features": [options["hidden"]] * options["depth"]}
    theirs |= {"transforms": options["layers"]} if "layers" in options else {}
    torch.manual_seed(5)
    flow = flows.build(name, DIM, **options)
    torch.manual_seed(5)
    own = classes[name.removeprefix("zuko_")](DIM, **theirs)
    torch.testing.assert_close([*flow.parameters()], [*own.parameters()], rtol=0, atol=0)


def test_any_zuko_flow_becomes_a_flow(normal):
    base = zuko.flows.MAF(DIM).base
    affine = zuko.flows.MaskedAutoregressiveTransform(DIM, hidden_features=[8])
    ode = zuko.flows.continuous.FFJTransform(DIM, hidden_features=[8])
    mixed = zuko.lazy.Flow([affine, ode], base)
    for theirs in (zuko.flows.NICE(DIM), zuko.flows.SOSPF(DIM), mixed):
        flow, x = adapter.from_zuko(theirs.double(), DIM), normal(4, DIM)
        assert torch.allclose(flow.log_prob(x), theirs().log_prob(x), rtol=0, atol=1e-12)
        assert next(flow.parameters()) is next(theirs.parameters())


def test_any_noise_of_a_zuko_flow_is_the_base(normal):
    shifted, trained = zuko.flows.MAF(DIM), zuko.flows.MAF(DIM)
    shifted.base.loc += 1
    trains, of = zuko.lazy.UnconditionalDistribution, zuko.distributions.DiagNormal
    trained.base = trains(of, loc=torch.zeros(DIM), scale=torch.ones(DIM))
    x = normal(5, DIM).clamp(-3, 3)
    for theirs in (shifted, trained, zuko.flows.NCSF(DIM)):
        flow = copy.deepcopy(adapter.from_zuko(theirs, DIM)).double()
        torch.testing.assert_close(flow.log_prob(x), flow.transform.flow().log_prob(x))
        assert flow.sample(3).dtype == torch.float64
        assert len([*flow.parameters()]) == len([*theirs.parameters()])
    adapter.from_zuko(trained, DIM).loss(x.float()).backward()
    assert all(p.grad is not None for p in trained.base.parameters())


def test_what_is_no_zuko_flow_of_these_dimensions_is_refused():
    maf, cnf = zuko.flows.MAF(DIM), zuko.flows.CNF(DIM)
    for theirs, dim, context_dim in ((maf, DIM + 1, 0), (maf, DIM, 2), (cnf, DIM + 1, 0)):
        with pytest.raises(ValueError, match=f"dim={dim}.*context_dim={context_dim}"):
            adapter.from_zuko(theirs, dim, context_dim)
    with pytest.raises(ValueError, match="dim=1"):
        flows.build("zuko_realnvp", 1)


@pytest.mark.parametrize("name", ODES)
def test_evaluations_are_counted_forward_and_backward(make_flow, normal, name):
    """Each call of the network once, also on a view; seven a step of Dormand and Prince."""
    flow, x = make_flow(name, DIM, **sizes(name)), normal(5, DIM)
    for view in (flow, flow.using(noise=0), copy.deepcopy(flow)):
        calls: list[int] = []
        (ode,) = view.transform.odes
        handle = ode.ode.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        with flows.count_nfe(view) as nfe:
            loss = view.loss(x)
            assert nfe.forward == len(calls)
            assert nfe.backward == 0
            loss.backward()
        handle.remove()
        assert nfe.forward + nfe.backward == len(calls)
        assert nfe.forward % 7 == 0
        assert nfe.backward > 0


@pytest.mark.parametrize("name", ODES)
def test_a_tighter_tolerance_has_a_smaller_error(make_flow, normal, name):
    flow, x, errors = make_flow(name, DIM, **sizes(name)), normal(5, DIM), []
    exact = flow.using(solver=Solver(rtol=1e-9, atol=1e-9)).log_prob(x)
    for tolerance in (1e-2, 1e-4, 1e-6):
        view = flow.using(solver={"rtol": tolerance, "atol": tolerance})
        assert view.transform.tolerance == pytest.approx(tolerance)
        errors.append((view.log_prob(x) - exact).abs().max().item())
        assert errors[-1] < 100 * tolerance  # ELU has a kink in its slope, and so in the trace
    assert errors[-1] < errors[0]
    assert flow.transform.tolerance == pytest.approx(1e-4)  # of its own atol, 1e-6


@pytest.mark.parametrize("name", ODES)
def test_the_estimate_is_unbiased_and_its_noise_can_be_frozen(make_flow, normal, name):
    flow = make_flow(name, DIM, exact=False, spread=0.5, **sizes(name))
    x, stream = normal(2, DIM), torch.get_rng_state()
    with torch.no_grad():
        draws = torch.stack([flow.log_prob(x) for _ in range(64)])
        exact = flow.using(trace="exact").log_prob(x)
    assert bool((draws.std(0) > 0).all())
    assert bool(((draws.mean(0) - exact).abs() < 4 * draws.std(0) / math.sqrt(64)).all())
    frozen = flow.using(noise=3)
    assert torch.equal(frozen.log_prob(x), frozen.log_prob(x))
    assert torch.equal(torch.get_rng_state(), stream)


@pytest.mark.parametrize("name", ODES)
def test_a_solve_that_would_not_end_is_stopped(monkeypatch, make_flow, normal, name):
    flow, x = make_flow(name, DIM, **sizes(name)), normal(5, DIM)
    broken = copy.deepcopy(flow)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(RuntimeError, match="NaN"):
        broken.log_prob(x)
    monkeypatch.setattr(adapter, "LIMIT", 50)
    with pytest.raises(RuntimeError, match=" 50 "):
        flow.using(solver={"rtol": 1e-10, "atol": 1e-10}).log_prob(x)


@pytest.mark.parametrize("name", ODES)
def test_what_zuko_cannot_do_is_refused(name):
    flow = flows.build(name, DIM, **sizes(name))
    with pytest.raises(ValueError, match=r"'rk4'.*dopri5"):
        flow.using(solver={"method": "rk4", "step_size": 0.1})
    with pytest.raises(ValueError, match=r"'loop'.*exact, hutchinson"):
        flow.using(trace="loop")


def _vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


DISTRIBUTIONS: dict[str, Callable[[], td.Distribution]] = {
    "independent columns": lambda: td.Normal(_vector(0.0, 1.0, -1.0), _vector(1.0, 2.0, 0.5)),
    "a scalar": lambda: td.StudentT(torch.tensor(5.0, dtype=torch.float64)),
    "a full covariance": lambda: td.MultivariateNormal(
        _vector(1.0, -1.0), torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
    ),
    "a mixture": lambda: td.MixtureSameFamily(
        td.Categorical(_vector(0.3, 0.7)),
        td.Independent(td.Normal(torch.eye(2, dtype=torch.float64) * 3, _vector(1.0, 0.7)), 1),
    ),
    "a transformed one": lambda: td.TransformedDistribution(
        td.Independent(td.Normal(_vector(0.0, 0.0), _vector(1.0, 1.0)), 1),
        [td.AffineTransform(_vector(1.0, 2.0), _vector(0.5, 3.0), event_dim=1)],
    ),
}


@pytest.mark.parametrize("label", DISTRIBUTIONS)
def test_it_conforms_and_is_the_same_density(label):
    distribution = DISTRIBUTIONS[label]()
    flow = from_distribution(distribution)
    result = flows.check(flow)
    assert result.passed, str(result)
    x = flow.sample(50)
    own = distribution.log_prob(x[:, 0] if distribution.batch_shape == () and flow.dim == 1 else x)
    own = own.sum(1) if own.dim() == 2 else own
    torch.testing.assert_close(flow.log_prob(x), own)
    torch.testing.assert_close(flow.float().log_prob(x.float()), own.float(), atol=1e-4, rtol=1e-4)


def test_samples_without_reparameterisation_have_no_gradient():
    flow = from_distribution(DISTRIBUTIONS["a mixture"]())
    assert flow.sample(4).shape == (4, 2)
    with pytest.raises(NotImplementedError, match="MixtureSameFamily"):
        flow.rsample_and_log_prob(4)


@pytest.mark.parametrize(
    ("distribution", "error", "message"),
    [
        (td.Poisson(torch.ones(2)), ValueError, "Poisson"),
        (td.Normal(torch.zeros(2, 3), 1.0), ValueError, r"batch shape \(2, 3\)"),
        (td.MultivariateNormal(torch.zeros(4, 2), torch.eye(2)), ValueError, r"batch shape \(4,\)"),
        (torch.nn.Identity(), TypeError, "Distribution.*Identity"),
    ],
)
def test_what_is_no_density_over_vectors_is_refused(distribution, error, message):
    with pytest.raises(error, match=message):
        from_distribution(distribution)


@pytest.mark.parametrize("kind", [td.LogNormal, td.Gamma, td.Weibull])
def test_a_row_outside_the_support_spoils_no_other(kind):
    x = torch.tensor([[1.0, 2.0], [-1.0, 2.0]], requires_grad=True)
    log_prob = from_distribution(kind(torch.ones(2), torch.full((2,), 2.0))).log_prob(x)
    assert torch.isfinite(log_prob).tolist() == [True, False]
    log_prob[0].backward()
    assert bool(torch.isfinite(x.grad).all())
