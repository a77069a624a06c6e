"""FLOPs: counts of operators against counts by hand, and each family's formula."""

from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Any

import pytest
import torch

import flows
from benchmarks.core.case import Case
from benchmarks.measure.calls import Calls, calls
from benchmarks.measure.operations import Operations
from benchmarks.studies.contender import Contender
from flows import linalg

D, N, K = 4, 5, 2
S = torch.randn(N, D, D, generator=torch.Generator().manual_seed(0))
P = S @ S.mT + torch.eye(D)
W = torch.ones(K, D)
B, V, X = torch.ones(N, D, K), torch.ones(N, K, D), torch.ones(N, D)
TALL, WIDE = torch.ones(6, 3), torch.ones(3, 6)
LU, PIVOTS = torch.linalg.lu_factor(P)
INDEX = torch.zeros(N, K, dtype=torch.long)
LU_FLOPS = sum((D - k) + 2 * (D - k) ** 2 for k in range(1, D))
R = 4 * (4 * 4 + 3 * 3 + 2 * 2 + 1)  # reflections of a 4 x 4 matrix
R_TALL = 4 * (6 * 3 + 5 * 2 + 4 * 1)  # of a 6 x 3 matrix, and of a 3 x 6
Q_FULL = 4 * (6 * 6 + 5 * 5 + 4 * 4)  # three of a 6 x 6
Q_WIDE = 4 * (3 * 3 + 2 * 2 + 1 * 1)


def count(call: Callable[[], object]) -> Operations:
    with Operations() as operations:
        _kept = call()
    return operations


@pytest.mark.parametrize(
    ("call", "flops", "matrices"),
    [
        (lambda: X @ W.T, 2 * N * D * K, 0),
        (lambda: X @ X[0], 2 * N * D, 0),
        (lambda: X[0] @ X[0], 2 * D, 0),
        (lambda: torch.addmv(torch.zeros(N), X, X[0]), 2 * N * D, 0),
        (lambda: torch.addbmm(torch.zeros(D, D), S, S), 2 * N * D**3, 0),
        (lambda: torch.linalg.slogdet(S), N * LU_FLOPS, N),
        (lambda: torch.linalg.det(S), N * LU_FLOPS, N),
        (lambda: torch.linalg.lu_factor(S), N * LU_FLOPS, N),
        (lambda: linalg.logabsdet(S), N * LU_FLOPS, N),
        (lambda: torch.linalg.inv(S), N * (LU_FLOPS + 2 * D**3), N),
        (lambda: torch.linalg.solve(S, B), N * (LU_FLOPS + 2 * D * D * K), N),
        (lambda: torch.linalg.solve_triangular(S[0], X.T, upper=True), D * D * N, 0),
        (lambda: X + X, 0, 0),
    ],
)
def test_products_and_determinants_are_those_counted_by_hand(call, flops, matrices):
    counted = count(call)
    assert counted.flops == flops
    assert counted.factorisation == matrices * LU_FLOPS


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
        (lambda: torch.linalg.lu_solve(LU[0], PIVOTS[0], V, left=False), N * K * 2 * D**2),
        (lambda: torch.linalg.solve_triangular(S, V, upper=True, left=False), N * K * D**2),
        (lambda: torch.triangular_solve(B, S), N * K * D**2),
        (lambda: torch.cholesky(P), N * (1 + 4 + 9 + 16)),
        (lambda: torch.linalg.lu(S), N * LU_FLOPS),
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
        lambda s: torch.linalg.solve(s, B),
        torch.matrix_exp,
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
        (lambda: X.gather(1, INDEX), N * K),
        (lambda: X.scatter_add(1, INDEX, X), N * K),
        (lambda: X.index_add(1, INDEX[0], X[:, :K]), N * K),
        (lambda: torch.searchsorted(torch.arange(7.0), X), N * D * 3),  # 8 places for each
        (lambda: torch.bucketize(X, torch.arange(8.0)), N * D * 4),  # 9 places
        (lambda: X.sort(1), N * D * 2),
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


Cost = dict[str, int]
SOLVER: dict[str, Any] = {"method": "rk4", "step_size": 0.5, "gradient": "backprop"}
BINS, FEATURES, RANK = 4, 3, 10  # of splines; of the hollow CNF; of OT-Flow's A, at most
# N, D, H, hidden layers, layers: D odd and even, below and above H, N and RANK
SIZES = [(3, 1, 4, 2, 1), (17, 2, 5, 1, 2), (4, 7, 3, 2, 1)]
SIZES += [(7, 6, 4, 2, 3), (2, 3, 8, 3, 3), (3, 14, 5, 3, 1)]
COUPLINGS = ("nice", "realnvp", "glow lu", "glow naive", "nsf_coupling")  # need two columns


def cost(log_prob: int, step: int, sample: int | None = None, **more: int) -> Cost:
    """By the names of metrics; a sample is a log_prob unless told otherwise, of no determinant."""
    sample = log_prob if sample is None else sample
    counts = {"log_prob_flops": log_prob, "step_flops": step, "sample_flops": sample}
    return counts | {"log_prob_determinant_flops": 0} | more


def mlp(n: int, inputs: int, h: int, m: int, outputs: int) -> int:
    """One pass of n rows: a product into the first of m hidden layers, m - 1 between, one out."""
    return 2 * n * (inputs * h + (m - 1) * h**2 + h * outputs)


def lu(d: int) -> int:
    """With j rows below the pivot: j quotients, then j² products and as many differences."""
    return sum(j + 2 * j**2 for j in range(d))


def couplings(per_layer: int, n: int, d: int, h: int, m: int, layers: int) -> int:
    """Nets of ``per_layer`` outputs a changed column: the even ones of D, ⌈D/2⌉, then the odd."""
    changed = [d - d // 2 if k % 2 == 0 else d // 2 for k in range(layers)]
    return sum(mlp(n, d - c, h, m, per_layer * c) for c in changed)


def linear(kind: str, n: int, d: int) -> tuple[int, int, int]:
    """A linear layer in log_prob, in a step and in a sample."""
    product = 2 * n * d**2
    if kind == "lu":  # U x, then L (U x), as full matrices; back two triangular solves, d² a row
        return 2 * product, 3 * 2 * product, product
    # W x and det W, whose gradient W⁻ᵀ is two triangular solves a column; back, W is factorised to
    # solve for x, by two triangular solves a row, and once more for its determinant
    return product + lu(d), 3 * product + lu(d) + 2 * d**3, 2 * lu(d) + product


def nice(n: int, d: int, h: int, m: int, layers: int) -> Cost:
    """A shift a changed column; the first net reads the data themselves, which need no gradient."""
    nets = couplings(1, n, d, h, m, layers)
    return cost(nets, 3 * nets - 2 * n * (d // 2) * h)


def realnvp(n: int, d: int, h: int, m: int, layers: int) -> Cost:
    """Scale and shift a column; the ActNorm before each net has gradients by way of its input."""
    nets = couplings(2, n, d, h, m, layers)
    return cost(nets, 3 * nets)


def mixed(kind: str, per_layer: int, n: int, d: int, h: int, m: int, layers: int) -> Cost:
    """Glow, NSF (C): a linear layer, then a net, which changes the even columns every time."""
    net = couplings(per_layer, n, d, h, m, 1)
    forward, step, inverse = linear(kind, n, d)
    once = {"log_prob_determinant_flops": layers * lu(d) * (kind == "naive")}  # a batch
    costs = (layers * (forward + net), layers * (step + 3 * net), layers * (inverse + net))
    return cost(*costs, **once)


def maf(n: int, d: int, h: int, m: int, layers: int) -> Cost:
    """A MADE's weights are multiplied whole, masked entries too; a sample takes a pass a column."""
    net = layers * mlp(n, d, h, m, 2 * d)
    return cost(net, 3 * net, d * net)


def iaf(n: int, d: int, h: int, m: int, layers: int) -> Cost:
    """MAF the other way round; the first pass of each layer reads zeros that need no gradient."""
    net = layers * mlp(n, d, h, m, 2 * d)
    return cost(d * net, 3 * d * net - layers * 2 * n * d * h, net)


def nsf_ar(n: int, d: int, h: int, m: int, layers: int) -> Cost:
    """MAF with L U before each net, which has K widths, K heights and K - 1 slopes a column."""
    net = mlp(n, d, h, m, (3 * BINS - 1) * d)
    forward, step, inverse = linear("lu", n, d)
    return cost(layers * (forward + net), layers * (step + 3 * net), layers * (inverse + d * net))


def planar(n: int, d: int, h: int, m: int, layers: int) -> Cost:
    """wᵀx a row and wᵀu once; going back, w has a product with the rows, x an outer one."""
    return cost(layers * (2 * n * d + 2 * d), layers * (2 * 2 * n * d + 2 * d))


def dense(n: int, d: int, h: int, m: int, layers: int) -> Cost:
    """g, its Jacobian W_{m+1} S_m … S_1 W_1 of each row from the right, LU; norms of the weights.

    Singular values of an (a, b), a ≥ b, are 4ab² - 4b³/3 alone, and 14ab² + 8b³ with the vectors
    that make their gradient, U g Vᵀ at 2ab². A determinant's gradient is the Jacobian's inverse, by
    an LU and two triangular solves a column.
    """
    shapes = [sorted(shape) for shape in [(d, h), *[(h, h)] * (m - 1), (h, d)]]
    values = sum((12 * a * b**2 - 4 * b**3) // 3 for b, a in shapes)
    vectors = sum(14 * a * b**2 + 8 * b**3 + 2 * a * b**2 for b, a in shapes)
    products = mlp(n, d, h, m, d) + 2 * n * d * ((m - 1) * h**2 + d * h)
    log_prob, step = values + products + n * lu(d), vectors + 3 * products + n * 2 * (lu(d) + d**3)
    counts = {"log_prob": log_prob, "step": step, "log_prob_determinant": n * lu(d)}
    return {f"{name}_flops": layers * flops for name, flops in counts.items()}  # a sample iterates


def solved(layers: int, field: int, rate: int, step: int, unneeded: int = 0, once: int = 0) -> Cost:
    """A solve a layer, over 1 / layers of the time in steps of 1/2 at most: four evaluations each.

    ``step`` is an evaluation's ``rate`` there and back; the data need no gradient, which leaves out
    ``unneeded`` in the very first. A product of weights ``once`` a solve is tripled in a step. A
    sample takes the field alone.
    """
    nfe = layers * 4 * ceil(2 / layers)
    log_prob, step = nfe * rate + layers * once, nfe * step + 3 * layers * once - unneeded
    outer = cost(log_prob, step, nfe * field)
    inner = {"field_flops": field, "rate_flops": rate, "precomputation_flops": once}
    outer |= {"log_prob_nfe": nfe, "step_nfe": nfe, "sample_nfe": nfe}
    return outer | {name: layers * flops for name, flops in inner.items()}


def cnf(n: int, d: int, h: int, m: int, layers: int) -> Cost:
    """The field, and its trace in closed form: tr W_{m+1} S_m … S_1 W_1 S_i of slopes s_i.

    One hidden layer: s₁ᵀp. Two: s₂ᵀP s₁, P of W₁W₃ once. Three: the D columns of S₁W₁ pass W₂ and
    W₃, and W₄ closes; or, where that is less, the H columns of S₂W₂ pass W₃, and W₁W₄ closes.
    """
    field, into, once = mlp(n, d, h, m, d), 2 * n * d * h, 0
    if m == 1:  # going back, s₁ has an outer product, p a full one
        return solved(layers, field, field + 2 * n * h, 3 * field + 2 * 2 * n * h, into)
    if m == 2:
        trace, once = 2 * n * h**2, 2 * d * h**2
    else:
        through, joined = 2 * n * 2 * h**2 * d, 2 * n * h**3 + 2 * d * h**2
        trace = through + 2 * n * d * h if through <= joined else joined + 2 * n * h**2
    return solved(layers, field, field + trace, 3 * (field + trace), into, once)


def pulled(probes: int, n: int, d: int, h: int, m: int, layers: int) -> Cost:
    """A vector-Jacobian product takes the field's products, last to first: one a probe or column.

    A step differentiates these too, but not in the vector that the last weight is multiplied by. x
    has a gradient even in the first evaluation, as the one that its Jacobian is taken in.
    """
    field, vectors = mlp(n, d, h, m, d), probes or d
    step = 3 * field + vectors * (3 * field - 2 * n * d * h)
    return solved(layers, field, field + vectors * field, step)


def planar_cnf(n: int, d: int, h: int, m: int, layers: int) -> Cost:
    """As a CNF with one hidden layer, and H gates of t once a batch: t itself has no gradient."""
    field, trace, gates = mlp(n, d, h, 1, d), 2 * n * h, 2 * h
    step = 3 * field + 2 * trace + 2 * gates
    return solved(layers, field + gates, field + trace + gates, step, 2 * n * d * h)


def hollow(n: int, d: int, h: int, m: int, layers: int) -> Cost:
    """Two MADEs with t, F outputs a column each; then τ of 1 + 2F, once a column, and its slopes.

    t itself has no gradient.
    """
    nets, times = 2 * mlp(n, d, h, m, FEATURES * d), 2 * 2 * n * h
    tau, trace = mlp(n * d, 1 + 2 * FEATURES, h, 1, 1), 2 * n * d * h
    field, step = nets + times + tau, 3 * nets + 2 * times + 3 * tau + 2 * trace
    return solved(layers, field, field + trace, step, 2 * 2 * n * d * h)


def ot_flow(n: int, d: int, h: int, m: int, layers: int) -> Cost:
    """∇Φ of s = (x, t): every K forward and transposed, A and Aᵀ. A step has it twice, for ∂Φ/∂t.

    The trace: H curvatures a row times the squared rows of K₀, which going back has one outer
    product; then D columns pass each further K.
    """
    s, inner = d + 1, (m - 1) * h**2
    into = 2 * n * s * (h + min(RANK, s))
    gradient, squares, columns = 2 * into + 2 * 2 * n * inner, 2 * n * h, 2 * n * d * inner
    step = 3 * 2 * gradient + 2 * squares + 3 * columns
    return solved(1, gradient, gradient + squares + columns, step, 2 * into)


FORMULAS: dict[str, tuple[Callable[..., Cost], dict[str, Any]]] = {
    "nice": (nice, {}),
    "realnvp": (realnvp, {}),
    "glow lu": (partial(mixed, "lu", 2), {"linear": "lu"}),
    "glow naive": (partial(mixed, "naive", 2), {"linear": "naive"}),
    "nsf_coupling": (partial(mixed, "lu", 3 * BINS - 1), {"bins": BINS}),
    "nsf_ar": (nsf_ar, {"bins": BINS}),
    "maf": (maf, {}),
    "iaf": (iaf, {}),
    "planar": (planar, {}),
    "dense": (dense, {}),
    "cnf": (cnf, {}),
    "cnf loop": (partial(pulled, 0), {"trace": "loop"}),
    "ffjord": (partial(pulled, 1), {}),
    "ffjord two": (partial(pulled, 2), {"trace": {"estimator": "hutchinson", "probes": 2}}),
    "rnode": (partial(pulled, 1), {}),  # its penalties take no further product
    "planar_cnf": (planar_cnf, {}),
    "hollow": (hollow, {"features": FEATURES}),
    "ot_flow": (ot_flow, {}),
}
CASES = [(name, s) for name in FORMULAS for s in SIZES if s[1] > 1 or name not in COUPLINGS]


@pytest.mark.parametrize(("name", "sizes"), CASES, ids=str)
def test_a_count_is_the_formula(name, sizes, monkeypatch):
    monkeypatch.setattr(Calls, "memory", lambda self: {})  # bytes take as long, and are not asked
    formula, options = FORMULAS[name]
    (counts, uncounted), expected = made(name.split()[0], sizes, options).count(), formula(*sizes)
    assert {metric: counts[metric] for metric in expected} == expected
    assert not any(uncounted.values())


@pytest.mark.parametrize(("name", "dim"), [*((name, 5) for name in flows.own()), ("dense", 130)])
def test_threads_do_not_decide_a_count(name, dim):
    """Nor bytes, and none is left out; an LU of 128 rows goes another way on two threads."""
    counts = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        counter = made(name, (4, dim, 6, 2, 2), {})
        with Operations() as operations:
            counter.works["log_prob"]()
            counter.works["step"]()
        counts.append((operations.flops, operations.factorisation, counter.memory()))
        assert torch.get_num_threads() == threads
        with operations:
            counter.works["sample"]()
        assert not operations.uncounted
    assert counts[0] == counts[1]
    assert all(value > 0 for value in counts[0][2].values())


def made(name: str, sizes: tuple[int, ...], options: dict[str, Any]) -> Calls:
    """The calls of a flow, with those of the sizes that it takes, at fixed steps if it solves."""
    n, d, h, m, layers = sizes
    steps = {"solver": SOLVER} if "solver" in flows.members[name].defaults else {}
    contender = Contender(flow=name, options=steps | options)
    complete = contender.complete({"hidden": h, "depth": m, "layers": layers}, d)
    return calls(Case(study="cost", flow=name, dim=d, batch=n, options=complete))
