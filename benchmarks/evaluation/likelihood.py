"""Exact log-likelihoods of flows that solve an ODE: at what tolerance, and beside an estimate."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

import flows
from flows.continuous import SolveError


def exact(flow: flows.Flow, tolerance: float) -> flows.Flow:
    """The flow's exact density: exact trace, float64, an adaptive solver at ``tolerance``."""
    solver = {"method": "dopri5", "rtol": tolerance, "atol": tolerance}
    return copy.deepcopy(flow).double().using(trace="exact", solver=solver)


@torch.no_grad()
def in_chunks(flow: flows.Flow, x: Tensor, rows: int) -> Tensor:
    """Log-densities of x (N, D), nats (N,), solved ``rows`` at a time."""
    return torch.cat([flow.log_prob(part) for part in torch.split(x, rows)])


@dataclass(frozen=True)
class Settled:
    """A tolerance, the log-densities at it, and what a tenfold tighter one makes of them.

    Where they have not settled the tolerance is the tightest that was solved, the shifts are those
    of the last step to it, and ``fault`` says why it stopped there ("" if they have).
    """

    tolerance: float
    log_prob: Tensor  # (N,)
    shift: float  # of the mean, nats, absolute
    shift_row: float  # the largest of a row
    fault: str = ""


def settle(
    flow: flows.Flow, x: Tensor, chunk: int, *, start: float, end: float, mean: float, row: float
) -> Settled:
    """Tighten tenfold from ``start`` until x's log-densities (N,) move no more.

    That is by less than ``mean`` nats in their mean and ``row`` in any of them; ``end`` is the
    tightest tolerance that is tried. Raises SolveError where not even the first can be solved.
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
    """Mean log-likelihood of x (N, D) by one Rademacher probe a solve, and its standard error.

    The solver is that of `exact`; the mean is over ``draws`` draws (from 2) of the noise, and the
    error that of the draws for these rows, from the spread that each row has over them.
    """
    view = exact(flow, tolerance).using(trace="hutchinson")
    parts, estimates = torch.split(x, chunk), []
    for draw in range(draws):
        seeds = [(seed * draws + draw) * len(parts) + place for place in range(len(parts))]
        each = [
            view.using(noise=own).log_prob(part) for own, part in zip(seeds, parts, strict=True)
        ]
        estimates.append(torch.cat(each))
    found = torch.stack(estimates)
    error = (found.var(0).mean() / found.numel()).sqrt()
    return found.mean().item(), error.item()
