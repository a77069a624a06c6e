"""Continuous flows against linear ODEs, scipy and their own identities; noise and threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from torch import Tensor, nn

import flows
from continuous_fields import DOPRI5, Linear, Rowwise, Waves, mlp_flow
from flows import Flow, threads
from flows.continuous import CNF, MLPField, SolveError, Solver
from flows.continuous.ffjord import TABLE_4
from flows.continuous.solve import FIXED
from flows.counting import Solve

Normal = Callable[..., Tensor]

# ---- against what is known otherwise ---------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize(("t0", "t1"), [(0.0, 1.0), (1.0, 0.0), (0.5, 2.0)])
@pytest.mark.parametrize("trace", ["exact", "loop", "hutchinson"])
def test_linear_field(dim: int, t0: float, t1: float, trace: str, normal: Normal) -> None:
    """f = A x: z = exp((t1 - t0) A) x and ladj = (t1 - t0) tr A."""
    matrix = 0.7 * normal(dim, dim, seed=3)
    if trace == "hutchinson":  # exact for a diagonal matrix, whatever the probe
        matrix = torch.diag(matrix.diagonal())
    cnf = CNF(Linear(matrix), trace=trace, t0=t0, t1=t1, solver={"rtol": 1e-10, "atol": 1e-10})
    x = normal(6, dim)
    for (y, ladj), span in ((cnf(x), t1 - t0), (cnf.inverse(x), t0 - t1)):
        reference = x @ torch.from_numpy(expm(span * matrix.numpy())).T
        torch.testing.assert_close(y.detach(), reference, atol=1e-8, rtol=1e-8)
        expected = (span * matrix.trace()).expand(6)
        torch.testing.assert_close(ladj.detach(), expected, atol=1e-9, rtol=1e-9)


# ---- accuracy --------------------------------------------------------------------------------

ORDERS = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}
ORDERS |= {"explicit_adams": 4, "implicit_adams": 5, "fixed_adams": 5}  # all start by rk4


@pytest.mark.parametrize("method", FIXED)
def test_order_of_convergence(method: str, normal: Normal) -> None:
    """log_prob converges with the order of the method: the slope of error over step.

    Each method has a gradient.
    """
    flow, x = mlp_flow(3, depth=2, spread=0.1), normal(16, 3)
    with torch.no_grad():
        exact = flow.using(solver={"rtol": 1e-12, "atol": 1e-12}).log_prob(x)
        steps = np.array([1 / 8, 1 / 16, 1 / 32])
        errors = [
            (flow.using(solver={"method": method, "step_size": step}).log_prob(x) - exact).norm()
            for step in steps
        ]
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(ORDERS[method], abs=0.25)
    flow.using(solver={"method": method, "step_size": 0.25}).loss(x).backward()


@pytest.mark.parametrize("tolerance", [1e-3, 1e-4, 1e-5])
def test_the_sample_norm_serves_the_worst_row(tolerance: float, normal: Normal) -> None:
    """Among many easy rows a hard one is solved at least as well as by the mean of all."""
    field = Rowwise(lambda x: torch.sin(6 * x) * torch.where(x.abs() > 3, 3.0, 0.1))
    x = torch.cat([0.5 * normal(200, 2), torch.tensor([[5.0, -4.2]], dtype=torch.float64)])
    flow = Flow(CNF(field, solver={"rtol": 1e-11, "atol": 1e-11}))
    with torch.no_grad():
        exact, errors = flow.log_prob(x), {}
        for norm in ("all", "state", "sample"):
            solver = {"rtol": tolerance, "atol": tolerance, "error_norm": norm}
            errors[norm] = (flow.using(solver=solver).log_prob(x) - exact).abs().max().item()
    assert errors["sample"] <= min(errors["all"], errors["state"])


def test_tolerance_controls_the_error(normal: Normal) -> None:
    """A tighter tolerance costs more evaluations and brings log_prob nearer."""
    flow, x = mlp_flow(3), normal(16, 3)
    errors, counts = [], []
    with torch.no_grad():
        exact = flow.using(solver={"rtol": 1e-12, "atol": 1e-12}).log_prob(x)
        for tolerance in (1e-3, 1e-5, 1e-7, 1e-9):
            view = flow.using(solver={"rtol": tolerance, "atol": tolerance})
            with flows.count_nfe(view) as nfe:
                errors.append((view.log_prob(x) - exact).abs().max().item())
            counts.append(nfe.forward)
    assert counts == sorted(counts)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-7


def test_pieces_cover_the_interval(make_flow: Any, normal: Normal) -> None:
    """L pieces lie end to end over [0, 1]: with one network in each they are the whole."""
    flow = make_flow("cnf", 3, hidden=8, layers=3).using(solver=DOPRI5)
    cnfs = [module for module in flow.modules() if isinstance(module, CNF)]
    assert [cnf.t0 for cnf in cnfs] == [0.0, *(cnf.t1 for cnf in cnfs[:-1])]
    assert cnfs[-1].t1 == 1.0
    for cnf in cnfs[1:]:
        cnf.field = cnfs[0].field
    single = Flow(CNF(cnfs[0].field, solver=DOPRI5))
    x = normal(4, 3)
    torch.testing.assert_close(flow.log_prob(x), single.log_prob(x), atol=1e-7, rtol=0)


def test_published_nets() -> None:
    """The nets of FFJORD's Table 4 have the parameters that their sizes give."""
    counts = {"POWER": 43_325, "GAS": 278_565, "HEPMASS": 546_850}
    counts |= {"MINIBOONE": 820_613, "BSDS300": 6_698_666}
    for name, expected in counts.items():
        flow = flows.build("ffjord", **TABLE_4[name])
        assert sum(p.numel() for p in flow.parameters()) == expected
    assert TABLE_4.keys() == counts.keys()


@pytest.mark.parametrize(("method", "share"), [("dopri5", 0.1), ("dopri8", 1e-3), ("bosh3", 1.0)])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_the_last_step_lands(method: str, share: float, direction: str, normal: Normal) -> None:
    """Where steps are long the error is a share of the tolerance.

    Interpolated within a step beyond the end it would be several times the tolerance, or 180.
    """
    torch.manual_seed(0)
    field = MLPField(3, hidden=16).double()
    x = normal(64, 3)
    with torch.no_grad():
        run = {t: CNF(field, solver={"method": method, "rtol": t, "atol": t}) for t in (1e-3, 1e-5)}
        exact = getattr(CNF(field, solver={"rtol": 1e-11, "atol": 1e-11}), direction)(x)
        for tolerance, cnf in run.items():
            for value, true in zip(getattr(cnf, direction)(x), exact, strict=True):
                assert (value - true).abs().max() < share * tolerance


@pytest.mark.parametrize("trace", ["hutchinson", {"estimator": "hutchinson", "noise": "gaussian"}])
def test_the_same_seed_gives_the_same_bits(trace: Any, normal: Normal) -> None:
    """Construction from one seed: equal log_prob, samples and gradients, call after call."""
    x, results = normal(6, 3, dtype=torch.float32), []
    for _ in range(2):
        torch.manual_seed(11)
        flow = flows.build("ffjord", 3, hidden=8, trace=trace)
        calls = [flow.log_prob(x), flow.log_prob(x), flow.sample(4)]
        gradients = torch.autograd.grad(flow.loss(x), list(flow.parameters()))
        results.append([*calls, *gradients])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert not torch.equal(results[0][0], results[0][1])  # each solve draws anew


def test_scipy_solves_and_differentiates(normal: Normal) -> None:
    """LSODA behind the same interface: value, gradient, counts, and what it cannot do."""
    field, x = Waves(3), normal(4, 3)
    flow = Flow(CNF(field, solver={"method": "scipy_solver", "rtol": 1e-9, "atol": 1e-9}))
    reference = flow.using(solver={"rtol": 1e-10, "atol": 1e-10})
    with flows.count_nfe(flow) as nfe:
        gradients = [
            torch.autograd.grad(f.loss(x), list(field.parameters())) for f in (flow, reference)
        ]
    assert min(nfe.forward, nfe.backward) > 0
    assert nfe.solves == [Solve(nfe.forward, nfe.backward)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)
    assert flow.sample(3).shape == (3, 3)
    with pytest.raises(SolveError, match=r" 9 .*t="):
        flow.using(solver={"method": "scipy_solver", "max_steps": 9}).log_prob(x)
    for fields in ({"gradient": "backprop"}, {"error_norm": "sample"}):
        with pytest.raises(ValueError, match=r"gradient='adjoint'.*error_norm='all'"):
            Solver(method="scipy_solver", **fields)


def test_two_solves_before_a_backward_keep_their_noise(normal: Normal) -> None:
    """An adjoint solves with the probes of its own forward pass."""
    flow, x, y = mlp_flow(3, trace="hutchinson"), normal(5, 3), normal(5, 3, seed=1)
    parameters = list(flow.parameters())
    state = flow.transform.generator.get_state()
    first, second = flow.log_prob(x).sum(), flow.log_prob(y).sum()
    together = torch.autograd.grad(first + second, parameters)
    flow.transform.generator.set_state(state)
    apart = [torch.autograd.grad(flow.log_prob(data).sum(), parameters) for data in (x, y)]
    backprop = flow.using(solver={**DOPRI5, "gradient": "backprop"})
    backprop.transform.generator.set_state(state)
    reference = torch.autograd.grad(
        backprop.log_prob(x).sum() + backprop.log_prob(y).sum(), parameters
    )
    for value, one, two, expected in zip(together, *apart, reference, strict=True):
        torch.testing.assert_close(value, one + two, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-6)


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
