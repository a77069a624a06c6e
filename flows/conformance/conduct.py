"""Rows on conduct: batches, dtypes, saved state, copies, and input that is not finite."""

from __future__ import annotations

import copy
import math

import safetensors.torch
import torch
from torch import Tensor

from flows.conformance.subject import ONCE, Finding, NotApplicable, Row, Subject, jitter, row
from flows.flow import Flow

rows: list[Row] = []


@row(rows, "batch independence")
@torch.no_grad()
def batch_independence(subject: Subject) -> Finding:
    """How much a row's log_prob moves, in nats, alone and among neighbours thirty times as large.

    ODEs are solved as the flow itself does it: an adaptive solver whose error norm is taken over
    the batch shows a figure here.
    """
    flow = _frozen(subject.own, subject.estimated)
    x, context = subject.rows(8)
    together = flow.log_prob(x, context)
    wild = torch.cat([x[:4], 30 * x[4:]])
    moved = [(flow.log_prob(wild, context) - together)[:4]]
    for k in range(4):
        own = context if context is None or len(context) == 1 else context[[k]]
        moved.append(flow.log_prob(x[[k]], own) - together[k])
    return Finding(torch.cat(moved).abs().max().item(), subject.bound(1e-9, 1e-3, flow))


def _frozen(flow: Flow, estimated: bool) -> Flow:
    if not estimated:
        return flow
    try:
        return flow.using(trace="exact")
    except ValueError as error:
        raise NotApplicable("each row has noise of its own") from error


@row(rows, "dtype and device")
def dtype_and_device(subject: Subject) -> Finding:
    """How many results do not have the dtype and device of the parameters."""
    if not [*subject.own.parameters(), *subject.own.buffers()]:
        raise NotApplicable("it has no tensor that has a dtype")
    x, context = subject.rows(5)
    n, served = len(x), subject.served(5)
    sample, log_prob = _drawn(subject, n)
    z, ladj = subject.own.transform(x, subject.expanded(n))
    results = {
        "log_prob": subject.own.log_prob(x, context),
        "to_noise": subject.own.to_noise(x, context),
        "loss": subject.own.loss(x, context),
        "sample": subject.own.sample(n, served),
        "rsample": sample,
        "log_prob of rsample": log_prob,
        "forward": z,
        "log-determinant": ladj,
    }
    wrong = [k for k, r in results.items() if (r.dtype, r.device) != (x.dtype, x.device)]
    return Finding(len(wrong), 0, ", ".join(wrong))


def _drawn(subject: Subject, n: int) -> tuple[Tensor, Tensor]:
    """Samples and their log-densities, with a gradient where the flow has that."""
    try:
        return subject.own.rsample_and_log_prob(n, subject.served(n))
    except NotImplementedError:
        with torch.no_grad():
            return subject.own.rsample_and_log_prob(n, subject.served(n))


@row(rows, "state through safetensors", ONCE)
@torch.no_grad()
def state_through_safetensors(subject: Subject) -> Finding:
    """Change of log_prob when the saved state is loaded into another flow of its kind."""
    flow = subject.own.using(noise=0)
    state = {name: tensor.contiguous() for name, tensor in subject.own.state_dict().items()}
    torch.manual_seed(subject.seed + 1)
    fresh = subject.fresh()
    fresh.load_state_dict(safetensors.torch.load(safetensors.torch.save(state)), strict=True)
    x, context = subject.rows(16)
    moved = fresh.using(noise=0).log_prob(x, context) - flow.log_prob(x, context)
    return Finding(moved.abs().max().item(), 0.0)


@row(rows, "deepcopy", ONCE)
@torch.no_grad()
def deepcopy(subject: Subject) -> Finding:
    """Change of log_prob in a copy, and in the flow when the copy's parameters are moved."""
    x, context = subject.rows(16)
    before = subject.own.using(noise=0).log_prob(x, context)
    twin = copy.deepcopy(subject.own)
    in_copy = (twin.using(noise=0).log_prob(x, context) - before).abs().max().item()
    jitter(twin, 0.1)
    in_flow = (subject.own.using(noise=0).log_prob(x, context) - before).abs().max().item()
    return Finding(max(in_copy, in_flow), 0.0)


@row(rows, "NaN and infinity", ONCE)
@torch.no_grad()
def not_finite(subject: Subject) -> Finding:
    """Of three bad values in one row, how many neither raise nor show in that row alone."""
    through = 0
    for value in (math.nan, math.inf, -math.inf):
        x, context = subject.rows(4)
        x = x.clone()
        x[1, 0] = value
        try:
            finite = torch.isfinite(subject.own.log_prob(x, context)).tolist()
        except (ValueError, RuntimeError):
            continue
        through += finite != [True, False, True, True]
    return Finding(through, 0)


@row(rows, "small batches", ONCE)
def small_batches(subject: Subject) -> Finding:
    """How many results have the wrong shape for a batch of none or of one."""
    wrong = []
    for n in (0, 1):
        x, context = subject.rows(n)
        served = subject.served(n)
        x_drawn, log_prob = _drawn(subject, n)
        shapes = {
            f"log_prob of {n}": (subject.own.log_prob(x, context), (n,)),
            f"to_noise of {n}": (subject.own.to_noise(x, context), (n, subject.dim)),
            f"sample of {n}": (subject.own.sample(n, served), (n, subject.dim)),
            f"rsample of {n}": (x_drawn, (n, subject.dim)),
            f"log_prob of {n} drawn": (log_prob, (n,)),
        }
        wrong += [name for name, (result, shape) in shapes.items() if result.shape != shape]
    return Finding(len(wrong), 0, ", ".join(wrong))
