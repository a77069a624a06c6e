"""Rows on what a density is conditioned on: each row's own context, and all of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor

from flows.conformance.rows import ONCE, Finding, NotApplicable, Row, row
from flows.conformance.subject import Subject, jitter
from flows.flow import Flow

rows: list[Row] = []

POINTS = 16
IN_TURN = 13  # rows, of which nothing else has as many, since a cache may go by their number
UNMOVED = 1e-6  # nats by which the tolerance of an ODE may move what does not depend on a context


def _contexts(subject: Subject, n: int = POINTS) -> Tensor:
    """n rows of context; NotApplicable for a flow without."""
    context = subject.contexts(n)
    if context is None:
        raise NotApplicable("it is not conditional")
    return context


@row(rows, "columns of the context", ONCE)
@torch.no_grad()
def columns_of_the_context(subject: Subject) -> Finding:
    """How many columns of the context do not move log_prob when they move.

    On a copy whose parameters are moved a little, since nets that start at zero hide the rest.
    """
    context, flow, x = _contexts(subject), copy.deepcopy(subject.flow), subject.x[:POINTS]
    jitter(flow, 0.05)
    before, unused = flow.log_prob(x, context), []
    for column, spread in enumerate(context.std(0).tolist()):
        moved = context.clone()
        moved[:, column] += spread or 1.0
        if not (flow.log_prob(x, moved) - before).abs().max() > UNMOVED:
            unused.append(str(column))
    return Finding(len(unused), 0, f"without effect: {', '.join(unused)}" if unused else "")


@row(rows, "one context for all rows", ONCE)
@torch.no_grad()
def one_context_for_all_rows(subject: Subject) -> Finding:
    """Difference between a context of one row and the same context at every row.

    Of log_prob, in nats, and of samples from the same noise, the larger.
    """
    context, x = _contexts(subject)[:1], subject.x[:POINTS]
    differences = []
    for call in (lambda c: subject.flow.log_prob(x, c), lambda c: _drawn(subject, c)):
        one, many = call(context), call(context.repeat(POINTS, 1))
        differences.append((one - many).abs().max())
    return Finding(torch.stack(differences).max().item(), subject.bound(1e-9, 1e-3))


def _drawn(subject: Subject, context: Tensor) -> Tensor:
    """Samples of the seed's noise."""
    torch.manual_seed(subject.seed)
    return subject.flow.sample(POINTS, context)


@row(rows, "contexts in turn", ONCE)
@torch.no_grad()
def contexts_in_turn(subject: Subject) -> Finding:
    """Difference between a flow that was used with other contexts before and one that was not.

    Of log_prob, in nats, and of the inverse, in training and in evaluation: what a flow keeps of
    an earlier context, or of a tensor that has changed since, shows here.
    """
    first, x = _contexts(subject, IN_TURN), subject.x[:IN_TURN]
    second = first.flip(0)
    if torch.equal(first, second):
        raise NotApplicable("its contexts are all the same")

    def inverse(flow: Any, context: Tensor) -> Tensor:
        z: Tensor = flow.transform.inverse(x, context)[0]
        return z

    calls: tuple[Callable[[Flow, Tensor], Tensor], ...] = (
        lambda flow, context: flow.log_prob(x, context),
        inverse,
    )
    differences = []
    for training in (True, False):
        fresh = copy.deepcopy(subject.flow).train(training)
        # either may come last, and the tensor may be the same, changed, or another
        for call, order, same in product(calls, (calls, calls[::-1]), (True, False)):
            used, context = copy.deepcopy(fresh), first.clone()
            for earlier in order:
                earlier(used, context)
            context = context.copy_(second) if same else second.clone()
            differences.append(
                (call(used, context) - call(copy.deepcopy(fresh), second)).abs().max()
            )
    return Finding(torch.stack(differences).max().item(), subject.bound(1e-9, 1e-3))
