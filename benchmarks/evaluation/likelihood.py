"""Exact log-likelihoods: of an ODE their tolerance and an estimate beside them, and faults."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor

import flows
from benchmarks.measure.operations import Operations
from flows.conditional import Conditional
from flows.conformance.densities import jacobians
from flows.continuous import SolveError

TOLERANCES = tuple(10.0 ** (-quarter / 4) for quarter in range(4, 29))  # 1e-1 to 1e-7
LOOKED_AT = 2  # rows at which a log-determinant is compared with that of autograd
WRONG = 1e-2  # nats by which it may differ: tighter is the kit's to judge


def row_flops(flow: flows.Flow, x: Tensor) -> float:
    """Count FLOPs of a row of log_prob at x (N, D), by the flow's own solver."""
    with torch.no_grad(), Operations() as operations:
        flow.log_prob(x)
    return float(operations.flops / len(x))


def exact(flow: flows.Flow, tolerance: float) -> flows.Flow:
    """Copy a flow to float64, with the exact trace and an adaptive solver at ``tolerance``."""
    solver = {"method": "dopri5", "rtol": tolerance, "atol": tolerance}
    return copy.deepcopy(flow).double().using(trace="exact", solver=solver)


def no_density(flow: flows.Flow, x: Tensor) -> str:
    """Say why the log-densities of a flow at the first rows of x (N, D) are none; "" if they are.

    Its log-determinant is compared with that of autograd's Jacobian, in float64.
    """
    if isinstance(flow, Conditional):
        return ""
    transform, rows = exact(flow, TOLERANCES[-1]).transform, x[:LOOKED_AT].double()
    try:
        ladj = transform.forward(rows)[1].detach()
        matrices = jacobians(lambda x: transform.forward(x)[0], rows)
    except SolveError:
        return ""
    error = (ladj - torch.linalg.slogdet(matrices)[1]).abs().max().item()
    if not error > WRONG:  # nor where it is NaN, as of weights that diverged
        return ""
    fault = f"its log-determinant is {error:.2g} nats off that of its Jacobian"
    return f"it is no density: {fault}; flowgauge check says where"


@torch.no_grad()
def solve_loosely(
    flow: flows.Flow,
    x: Tensor,
    expected: Tensor,
    accuracy: float,
    solver: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Solve a flow's ODEs from now on by the accurate tolerances with the fewest evaluations.

    Accurate are those whose log_prob of x (N, D), with the exact trace, differs from ``expected``
    (N,) by at most ``accuracy`` nats in every row. The loosest of `TOLERANCES` is found for
    atol = rtol and atol = 100 rtol; ``solver`` has the other options of the solver. Returns both
    tolerances by metric, none for a flow without an ODE; ValueError where none is accurate.
    """
    odes: list[Any] = [module for module in flow.modules() if hasattr(module, "use")]
    if not odes:
        return {}
    accurate: list[tuple[int, dict[str, Any]]] = []
    for ratio in (1, 100):
        for rtol in TOLERANCES:
            trial = {**(solver or {}), "rtol": rtol, "atol": ratio * rtol}
            view = flow.using(trace="exact", solver=trial)
            with flows.count_nfe(view) as nfe:
                error = (view.log_prob(x).double() - expected).abs().max().item()
            if error <= accuracy:
                accurate.append((nfe.forward, trial))
                break
    if not accurate:
        least = TOLERANCES[-1]
        raise ValueError(f"no tolerance down to {least:g} is accurate to {accuracy:g} nats")
    _, chosen = min(accurate, key=lambda candidate: candidate[0])
    for ode in odes:
        ode.use(trace=None, solver=chosen, noise=None)
    return {"solver_rtol": chosen["rtol"], "solver_atol": chosen["atol"]}


@torch.no_grad()
def in_chunks(flow: flows.Flow, x: Tensor, rows: int) -> Tensor:
    """Return log-densities of x (N, D), nats (N,), solved ``rows`` at a time."""
    return torch.cat([flow.log_prob(part) for part in torch.split(x, rows)])


@dataclass(frozen=True)
class Settled:
    """A tolerance, the log-densities at it, and how far a tenfold tighter one moves them.

    If they have not settled, the tolerance is the tightest that was solved, the shifts are those of
    the last step to it, and ``fault`` is the reason ("" if they have).
    """

    tolerance: float
    log_prob: Tensor  # (N,)
    shift: float  # of the mean, nats, absolute
    shift_row: float  # the largest of a row
    fault: str = ""


def settle(
    flow: flows.Flow, x: Tensor, chunk: int, *, start: float, end: float, mean: float, row: float
) -> Settled:
    """Tighten tenfold from ``start`` until the log-densities of x (N, D) settle.

    They have settled once they move by less than ``mean`` nats in their mean and ``row`` in every
    row; ``end`` is the tightest tolerance that is tried. Raises SolveError if the first tolerance
    cannot be solved.
    """
    tolerance, loose = start, in_chunks(exact(flow, start), x, chunk)
    end = min(end, start / 10)
    while True:
        tighter = tolerance / 10
        try:
            tight = in_chunks(exact(flow, tighter), x, chunk)
        except SolveError as error:
            fault = f"cannot be solved at a tolerance of {tighter:.0e}: {error}"
            return Settled(tolerance, loose, float("nan"), float("nan"), fault)
        moved = tight - loose
        shift, shift_row = abs(moved.mean().item()), moved.abs().max().item()
        if shift < mean and shift_row < row:
            return Settled(tolerance, loose, shift, shift_row)
        if tighter <= end * 1.01:
            fault = f"still moves by {shift:.1e} nats, a row by {shift_row:.1e}, at {tighter:.0e}"
            return Settled(tighter, tight, shift, shift_row, fault)
        tolerance, loose = tighter, tight


@torch.no_grad()
def hutchinson(
    flow: flows.Flow, x: Tensor, chunk: int, *, tolerance: float, draws: int, seed: int = 0
) -> tuple[float, float]:
    """Estimate the mean log-likelihood of x (N, D) by Hutchinson's trace; return it and its error.

    Each solve has one Rademacher probe and the solver of `exact`. The mean is over ``draws`` draws
    of the noise (from 2); the standard error is that of the draws for these rows.
    """
    view, parts = exact(flow, tolerance).using(trace="hutchinson"), torch.split(x, chunk)
    seeds = count(seed * draws * len(parts))  # one a solve
    estimates = []
    for _ in range(draws):
        log_probs = [view.using(noise=next(seeds)).log_prob(part) for part in parts]
        estimates.append(torch.cat(log_probs))
    table = torch.stack(estimates)
    error = (table.var(0).mean() / table.numel()).sqrt()
    return table.mean().item(), error.item()
