"""Measures: operations against hand counts, clocks, standard errors and exponents."""

from __future__ import annotations

import itertools
import json
import platform
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

import flows
from benchmarks.analysis.inference import bootstrap_medians, standard_error
from benchmarks.core.metrics import METRICS
from benchmarks.core.naming import series
from benchmarks.measure import clock
from benchmarks.measure.clock import REFERENCE, interleave
from benchmarks.measure.machine import commit, machine, versions
from benchmarks.measure.operations import Operations, lu_flops
from benchmarks.plotting import draw
from flows import linalg
from flows.continuous import CNF


def count(call) -> Operations:
    with Operations() as operations:
        call()
    return operations


def test_lu_count_is_the_sum_over_its_steps():
    for n in range(1, 12):
        steps = sum((n - k) + 2 * (n - k) ** 2 for k in range(1, n))
        assert lu_flops(n) == steps


N, D, H = 5, 4, 3
X, W, V, S = torch.randn(N, D), torch.randn(H, D), torch.randn(D), torch.randn(N, D, D)


@pytest.mark.parametrize(
    ("call", "flops"),
    [
        (lambda: X @ W.T, 2 * N * D * H),
        (lambda: torch.nn.functional.linear(X, W, torch.zeros(H)), 2 * N * D * H),
        (lambda: X @ V, 2 * N * D),
        (lambda: V @ V, 2 * D),
        (lambda: torch.addmv(torch.zeros(N), X, V), 2 * N * D),
        (lambda: torch.addbmm(torch.zeros(D, D), S, S), 2 * N * D**3),
        (lambda: S @ S, 2 * N * D**3),
        (lambda: torch.einsum("nd,hd->nh", X, W), 2 * N * D * H),
        (lambda: torch.linalg.slogdet(S), N * lu_flops(D)),
        (lambda: torch.linalg.det(S), N * lu_flops(D)),
        (lambda: torch.linalg.lu_factor(S), N * lu_flops(D)),
        (lambda: torch.linalg.inv(S), N * (lu_flops(D) + 2 * D**3)),
        (lambda: torch.linalg.solve(S[0], X.T), lu_flops(D) + 2 * D * D * N),
        (lambda: torch.linalg.solve(S[0], V), lu_flops(D) + 2 * D * D),
        (lambda: torch.linalg.solve_triangular(S[0], X.T, upper=True), D * D * N),
        (lambda: linalg.logabsdet(S), N * lu_flops(D)),
        (lambda: X + X, 0),
    ],
)
def test_flops_are_those_counted_by_hand(call, flops):
    assert count(call).flops == flops


@pytest.mark.parametrize(
    ("call", "matrices"),
    [
        (lambda: torch.linalg.slogdet(S), N),
        (lambda: torch.linalg.det(S), N),
        (lambda: torch.linalg.lu_factor(S), N),
        (lambda: linalg.inv(S), N),
        (lambda: torch.linalg.solve(S, X), N),
        (lambda: linalg.logabsdet(S), N),
        (lambda: torch.linalg.solve_triangular(S[0], X.T, upper=True), 0),
        (lambda: S @ S, 0),
    ],
)
def test_factorisations_are_told_apart(call, matrices):
    counted = count(call)
    assert counted.factorisation == matrices * lu_flops(D)
    assert counted.flops >= counted.factorisation


def test_gradients_are_counted_wherever_they_are_taken():
    net = torch.nn.Sequential(torch.nn.Linear(D, H), torch.nn.Tanh(), torch.nn.Linear(H, D))
    forward = 2 * N * 2 * D * H
    x = X.clone().requires_grad_()

    def backward():
        net(x).sum().backward()

    def product():
        return torch.func.vjp(net, X)[1](X)

    def jacobian():
        return torch.func.vmap(torch.func.jacrev(net))(X)

    assert count(backward).flops == 3 * forward
    with torch.no_grad():
        assert count(product).flops == 2 * forward
        assert count(jacobian).flops == (D + 1) * forward


@pytest.mark.parametrize(("steps", "nfe"), [(1, 4), (4, 16)])
def test_a_cnf_costs_its_evaluations_and_the_adjoint_is_seen(steps, nfe):
    solver = {"method": "rk4", "step_size": 1 / steps}
    flow = flows.build("cnf", D, hidden=H, solver=solver)
    (ode,) = (module for module in flow.modules() if isinstance(module, CNF))
    with torch.no_grad():
        field = count(lambda: ode.field.with_trace(torch.zeros(()), X))
        total = count(lambda: flow.log_prob(X))
    shared = 2 * D * H * H  # the product of weights in the trace, formed once a solve
    assert total.flops == nfe * field.flops - (nfe - 1) * shared
    assert count(lambda: flow.loss(X).backward()).flops > 3 * total.flops


def test_element_operations_and_what_cannot_be_counted():
    assert count(lambda: torch.tanh(X)).elements == N * D
    assert count(lambda: X.sum(1)).elements == N * D
    seen = count(lambda: torch.fft.fft(V))
    assert "_fft_r2c" in seen.uncounted
    assert not count(lambda: X.T.reshape(-1).clone()).uncounted


def test_counts_are_the_same_for_any_number_of_threads():
    flow = flows.build("dense", 6)
    x = torch.randn(8, 6)
    counts = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        flow.zero_grad()
        counts.append(count(lambda: flow.loss(x).backward()))
    assert counts[0].flops == counts[1].flops
    assert counts[0].elements == counts[1].elements


def test_interleaving_keeps_every_sample_and_times_a_reference_beside():
    calls = []
    works = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    samples = interleave(works, seconds=1e-9, rounds=(3, 5))
    assert set(samples) == {"a", "b", REFERENCE}
    assert all(len(values) >= 3 for values in samples.values())
    assert calls.count("a") == len(samples["a"]) + 3  # those that size the rounds
    assert all(value >= 0 for values in samples.values() for value in values)


def test_no_seconds_run_nothing():
    calls = []
    assert interleave({"a": lambda: calls.append(1)}, seconds=0) == {}
    assert calls == []


# minor page faults per page of a hundred tensors of 1 MiB, after timing with either heap
FAULTS = """
import json, resource, torch
from benchmarks.measure.clock import interleave

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.empty(2**18).fill_(1) for _ in range(100)]
    del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

shares = []
for heap in ("default", "steady"):
    interleave({"a": lambda: None}, seconds=1e-9, rounds=(1, 1), heap=heap)
    faults()
    shares.append(sum(faults() for _ in range(5)) / (5 * 100 * 2**20 / 4096))
print(json.dumps(shares))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_steady_heap_serves_large_tensors_again_and_the_default_one_does_not():
    """In a process of its own, whose heap nothing else has set."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    default, steady = json.loads(done.stdout)
    assert default > 0.5
    assert steady < 0.02


def test_rounds_end_when_the_times_are_steady(monkeypatch):
    """From the least number for that on, or when the seconds or the rounds are spent."""
    for spread, done in ((0.01, 7), (0.2, 9)):
        ticks = itertools.cycle([1.0, 1.0, 1.0 + spread, 1.0 - spread])
        monkeypatch.setattr(clock, "seconds_of", lambda work, device, ticks=ticks: next(ticks))
        samples = interleave({"a": lambda: None}, seconds=60, rounds=(3, 9), steady=7)
        assert len(samples["a"]) == done


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40))
def test_standard_error_is_the_textbook_one_without_groups(values):
    assert standard_error(values) == pytest.approx(scipy_stats.sem(values), abs=1e-9)


def test_clustered_standard_error_counts_copies_once():
    values = np.random.default_rng(0).normal(size=50)
    copies, groups = np.repeat(values, 7), np.repeat(np.arange(50), 7)
    assert standard_error(copies, groups) == pytest.approx(standard_error(values))
    assert standard_error(copies) < standard_error(values) / 2
    assert np.isnan(standard_error([1.0]))


def test_bootstrap_is_reproducible():
    values = [1.0, 2.0, 4.0]
    assert (bootstrap_medians(values, 50) == bootstrap_medians(values, 50)).all()


def test_the_machine_and_versions_are_told():
    facts = machine()
    assert facts["cores"] >= 1
    assert versions()["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert isinstance(commit(), str)


def test_times_are_in_seconds_or_rates():
    for name, metric in METRICS.items():
        assert metric.kind != "time" or metric.unit in ("s", "1/s"), name


def test_a_series_is_named_by_what_tells_its_variants_apart():
    solvers = [{"method": "rk4", "gradient": g} for g in ("adjoint", "backprop", "adjoint")]
    frame = pd.DataFrame({"flow": ["cnf", "cnf", "glow"], "option.solver": solvers})
    frame["option.hidden"] = 8
    assert series(frame) == ["cnf gradient=adjoint", "cnf gradient=backprop", "glow"]
    frame["updates"], frame["setting.training"] = [5, 6, 5], [{"clip": 1.0}] * 3
    named = series(frame)
    assert all("gradient=" in n and "updates=" in n for n in named[:2])
    frame["option.solver"], frame["updates"] = [solvers[0]] * 3, 5
    assert series(frame) == ["cnf", "cnf", "glow"]  # two seeds of one configuration
    frame["setting.preprocessing"] = [float("nan"), "radial", float("nan")]
    assert series(frame) == ["cnf", "cnf preprocessing=radial", "glow"]
    frame["option.solver"] = solvers
    assert len(set(map(str, draw.looks(series(frame)).values()))) == 3
