"""Counts of factorisations and of untagged element operations, against counts by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import flows
from benchmarks.measure.operations import Operations, lu_flops
from flows import linalg

D, N, K = 4, 5, 2
S = torch.randn(N, D, D, generator=torch.Generator().manual_seed(0))
P = S @ S.mT + torch.eye(D)
W = torch.ones(K, D)
B, V, X = torch.ones(N, D, K), torch.ones(N, K, D), torch.ones(N, D)
TALL, WIDE = torch.ones(6, 3), torch.ones(3, 6)
LU, PIVOTS = torch.linalg.lu_factor(P)
INDEX = torch.zeros(N, K, dtype=torch.long)


def count(call: Callable[[], object]) -> Operations:
    with Operations() as operations:
        _kept = call()
    return operations


def test_lu_count_is_the_sum_over_its_steps():
    for n in range(1, 12):
        assert lu_flops(n) == sum((n - k) + 2 * (n - k) ** 2 for k in range(1, n))


R = 4 * (4 * 4 + 3 * 3 + 2 * 2 + 1)  # reflections of a 4 x 4 matrix
R_TALL = 4 * (6 * 3 + 5 * 2 + 4 * 1)  # of a 6 x 3 matrix, and of a 3 x 6
Q_FULL = 4 * (6 * 6 + 5 * 5 + 4 * 4)  # three of a 6 x 6
Q_WIDE = 4 * (3 * 3 + 2 * 2 + 1 * 1)


@pytest.mark.parametrize(
    ("call", "flops", "matrices"),
    [
        (lambda: X @ W.T, 2 * N * D * K, 0),
        (lambda: torch.nn.functional.linear(X, W, torch.zeros(K)), 2 * N * D * K, 0),
        (lambda: X @ X[0], 2 * N * D, 0),
        (lambda: X[0] @ X[0], 2 * D, 0),
        (lambda: torch.addmv(torch.zeros(N), X, X[0]), 2 * N * D, 0),
        (lambda: torch.addbmm(torch.zeros(D, D), S, S), 2 * N * D**3, 0),
        (lambda: S @ S, 2 * N * D**3, 0),
        (lambda: torch.einsum("nd,kd->nk", X, W), 2 * N * D * K, 0),
        (lambda: torch.linalg.slogdet(S), N * lu_flops(D), N),
        (lambda: torch.linalg.det(S), N * lu_flops(D), N),
        (lambda: torch.linalg.lu_factor(S), N * lu_flops(D), N),
        (lambda: linalg.logabsdet(S), N * lu_flops(D), N),
        (lambda: torch.linalg.inv(S), N * (lu_flops(D) + 2 * D**3), N),
        (lambda: torch.linalg.solve(S[0], X.T), lu_flops(D) + 2 * D * D * N, 1),
        (lambda: torch.linalg.solve(S, B), N * (lu_flops(D) + 2 * D * D * K), N),
        (lambda: torch.linalg.solve_triangular(S[0], X.T, upper=True), D * D * N, 0),
        (lambda: X + X, 0, 0),
    ],
)
def test_products_and_determinants_are_those_counted_by_hand(call, flops, matrices):
    """With the part of LU, the determinant's, apart."""
    counted = count(call)
    assert counted.flops == flops
    assert counted.factorisation == matrices * lu_flops(D)


def test_gradients_are_counted_wherever_they_are_taken():
    net = torch.nn.Sequential(torch.nn.Linear(D, K), torch.nn.Tanh(), torch.nn.Linear(K, D))
    forward, x = 2 * N * 2 * D * K, X.clone().requires_grad_()
    assert count(lambda: net(x).sum().backward()).flops == 3 * forward
    with torch.no_grad():
        assert count(lambda: torch.func.vjp(net, X)[1](X)).flops == 2 * forward
        jacobian = count(lambda: torch.func.vmap(torch.func.jacrev(net))(X))
        assert jacobian.flops == (D + 1) * forward


def test_what_cannot_be_counted_is_named():
    assert "_fft_r2c" in count(lambda: torch.fft.fft(X[0])).uncounted
    assert not count(lambda: X.T.reshape(-1).clone()).uncounted


@pytest.mark.filterwarnings("ignore:torch.(triangular_solve|cholesky) is deprecated")
@pytest.mark.parametrize(
    ("call", "flops"),
    [
        (lambda: torch.linalg.qr(S), N * 2 * R),
        (lambda: torch.linalg.qr(S, mode="r"), N * R),
        (lambda: torch.linalg.qr(TALL), 2 * R_TALL),
        (lambda: torch.linalg.qr(TALL, mode="complete"), R_TALL + Q_FULL),
        (lambda: torch.linalg.qr(WIDE), R_TALL + Q_WIDE),
        (lambda: torch.linalg.cholesky(P), N * (1 + 4 + 9 + 16)),
        (lambda: torch.cholesky_solve(B, S), N * K * 2 * D**2),
        (lambda: torch.cholesky_inverse(S), N * (2 * D**3 // 3)),
        (lambda: torch.linalg.lu_solve(LU, PIVOTS, B), N * K * 2 * D**2),
        (lambda: torch.linalg.lu_solve(LU, PIVOTS, V, left=False), N * K * 2 * D**2),
        (lambda: torch.linalg.lu_solve(LU[0], PIVOTS[0], B), N * K * 2 * D**2),
        (lambda: torch.linalg.solve_triangular(S, V, upper=True, left=False), N * K * D**2),
        (lambda: torch.triangular_solve(B, S), N * K * D**2),
        (lambda: torch.cholesky(P), N * (1 + 4 + 9 + 16)),
        (lambda: torch.linalg.lu(S), N * lu_flops(D)),
        # three steps: divisions below the pivot and updates of what is right of it
        (lambda: torch.linalg.lu(TALL), 5 * (1 + 2 * 2) + 4 * (1 + 2 * 1) + 3),
        (lambda: torch.linalg.lu(WIDE), 2 * (1 + 2 * 5) + 1 * (1 + 2 * 4)),
        (lambda: torch.linalg.svd(S, full_matrices=False), N * 22 * D**3),
        (lambda: torch.linalg.svd(TALL, full_matrices=False), 14 * 6 * 9 + 8 * 27),
        (lambda: torch.linalg.svd(WIDE), 4 * 36 * 3 + 8 * 6 * 9 + 9 * 27),
        (lambda: torch.linalg.svdvals(TALL), 4 * 6 * 9 - 4 * 27 // 3),
        (lambda: torch.linalg.matrix_norm(S, 2), N * (8 * D**3 // 3)),
        (lambda: torch.linalg.eigh(P), N * 9 * D**3),
        (lambda: torch.linalg.eigvalsh(P), N * (4 * D**3 // 3)),
        (lambda: torch.linalg.eig(S), N * 25 * D**3),
        (lambda: torch.linalg.eigvals(S), N * 10 * D**3),
    ],
)
def test_factorisations_and_solves_are_those_counted_by_hand(call, flops):
    counted = count(call)
    assert counted.flops == flops
    assert isinstance(counted.flops, int)
    assert not counted.uncounted


@pytest.mark.parametrize(
    ("norm", "products"),
    [(0.0, 0), (1e-4, 1), (1e-2, 2), (0.3, 3), (1.0, 4), (2.0, 5), (5.0, 5 + 1), (20.0, 5 + 3)],
)
def test_the_exponential_takes_the_products_of_its_degree_and_halvings(norm, products):
    """Degrees 1 to 18 in float32; beyond norm 3 a product for each halving."""
    a = norm * torch.eye(D)
    counts = []
    counted = count(lambda: counts.append(torch.matrix_exp(a)))
    assert counted.flops == products * 2 * D**3
    assert not counted.uncounted
    assert torch.equal(counts[0], torch.matrix_exp(a))


def test_a_batch_of_exponentials_takes_the_highest_degree_for_each():
    a = torch.stack([norm * torch.eye(D) for norm in (1e-4, 0.3, 20.0)]).requires_grad_()
    assert count(lambda: torch.matrix_exp(a)).flops == (3 * 5 + 3) * 2 * D**3
    backward = count(lambda: torch.matrix_exp(a).sum().backward())  # that of a 2D x 2D matrix
    assert backward.flops >= (3 * 5 + 3) * 2 * (D**3 + (2 * D) ** 3)
    assert not backward.uncounted


def test_vectors_count_where_they_are_kept():
    """With a gradient to come the values' derivative needs them; a dispatch mode hides the rest."""
    s, p = S.clone().requires_grad_(), P.clone().requires_grad_()
    assert count(lambda: torch.linalg.svdvals(s)).flops == N * 22 * D**3
    assert count(lambda: torch.linalg.eigvalsh(p)).flops == N * 9 * D**3
    with torch.no_grad():
        assert count(lambda: torch.linalg.svdvals(s)).flops == N * (8 * D**3 // 3)
        assert count(lambda: torch.linalg.matrix_norm(s, 2) + 1).flops == N * (8 * D**3 // 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda s: torch.linalg.qr(s)[1],
        lambda s: torch.linalg.cholesky(s @ s.mT + torch.eye(D)),
        lambda s: torch.linalg.svdvals(s),
        lambda s: torch.linalg.slogdet(s)[1],
        lambda s: torch.linalg.solve(s, B),
        lambda s: torch.linalg.inv(s),
    ],
)
def test_backward_passes_of_factorisations_leave_nothing_uncounted(call):
    s = S.clone().requires_grad_()
    forward = count(lambda: call(s))
    both = count(lambda: call(s).sum().backward())
    assert both.flops > forward.flops
    assert not both.uncounted


@pytest.mark.parametrize(
    ("call", "elements"),
    [
        (lambda: X.softmax(1), N * D),
        (lambda: X.log_softmax(1), N * D),
        (lambda: X.cumsum(1), N * D),
        (lambda: X.cumprod(1), N * D),
        (lambda: X.gather(1, INDEX), N * K),
        (lambda: X.scatter(1, INDEX, 1.0), N * K),
        (lambda: X.scatter_add(1, INDEX, X), N * K),
        (lambda: X.index_add(1, INDEX[0], X[:, :K]), N * K),
        (lambda: torch.searchsorted(torch.arange(7.0), X), N * D * 3),  # 8 places for each
        (lambda: torch.bucketize(X, torch.arange(8.0)), N * D * 4),  # 9 places
        (lambda: X.sort(1), N * D * 2),
        (lambda: X.sort(dim=0, stable=True), N * D * 3),
        (lambda: X.argsort(0), N * D * 3),
        (lambda: torch.ones(1).sort(), 0),
        (lambda: X.unique(), N * D * 5),
        (lambda: X.nonzero(), N * D),
        (lambda: X.flip(0).triu(), 0),
        (lambda: torch.nn.functional.pad(X, (1, 1)), 0),
    ],
)
def test_element_operations_that_torch_does_not_tag(call, elements):
    counted = count(call)
    assert counted.elements == elements
    assert counted.flops == 0
    assert not counted.uncounted


@pytest.mark.parametrize("name", flows.own())
def test_nothing_of_a_registered_flow_goes_uncounted(name):
    sizes = {"hidden": 8, "depth": 2, "layers": 2}
    flow = flows.build(name, D, **flows.members[name].applicable(sizes))
    x = torch.randn(N, D)
    flow.initialize(x)
    optimiser = torch.optim.Adam(flow.parameters())

    def step() -> None:
        optimiser.zero_grad()
        flow.loss(x).backward()
        optimiser.step()

    with torch.no_grad():
        assert not count(lambda: flow.log_prob(x)).uncounted
    assert not count(step).uncounted
    assert not count(lambda: flow.sample(N)).uncounted
