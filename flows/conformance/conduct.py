"""Rows on contexts, batches, modes, dtypes, saved state, copies, and input that is not finite."""

import copy
import math
from collections.abc import Callable
from itertools import product
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from flows.compiled import log_density
from flows.conformance.subject import ONCE, Finding, NotApplicable, Row, Subject, jitter
from flows.flow import Flow
from flows.streams import Stream

POINTS = 64
FEW = 16  # points of the rows on contexts
IN_TURN = 13  # rows; no other batch has as many, since a cache may go by their number
UNMOVED = 1e-6  # nats by which the tolerance of an ODE may move what does not depend on a context


def columns_of_the_context(subject: Subject) -> Finding:
    """How many columns of the context do not move log_prob when they move.

    On a copy whose parameters are moved a little, since nets that start at zero hide the rest.
    """
    context, flow, x = subject.needed_contexts(FEW), copy.deepcopy(subject.flow), subject.x[:FEW]
    jitter(flow, 0.05)
    before, unused = flow.log_prob(x, context), []
    for column, spread in enumerate(context.std(0).tolist()):
        moved = context.clone()
        moved[:, column] += spread or 1.0
        if not (flow.log_prob(x, moved) - before).abs().max() > UNMOVED:
            unused.append(str(column))
    return Finding(len(unused), 0, f"without effect: {', '.join(unused)}" if unused else "")


def one_context_for_all_rows(subject: Subject) -> Finding:
    """Difference between a context of one row and the same at every row.

    The larger of that of log_prob, in nats, and that of samples from the same noise.
    """
    context, x = subject.needed_contexts(FEW)[:1], subject.x[:FEW]
    values = []
    for contexts in (context, context.repeat(FEW, 1)):
        with Stream(subject.seed):
            samples = subject.flow.sample(FEW, contexts)
        values.append(torch.cat([samples, subject.flow.log_prob(x, contexts)[:, None]], 1))
    return Finding((values[0] - values[1]).abs().max().item(), subject.bound(1e-9, 1e-3))


def contexts_in_turn(subject: Subject) -> Finding:
    """Difference between a flow that was used with other contexts before and one that was not.

    Of log_prob, in nats, and of the inverse, in training and in evaluation: what a flow keeps of
    an earlier context, or of a tensor that has changed since, shows here.
    """
    first, x = subject.needed_contexts(IN_TURN), subject.x[:IN_TURN]
    second = first.flip(0)
    if torch.equal(first, second):
        raise NotApplicable("its contexts are all the same")

    calls: tuple[Callable[[Any, Tensor], Tensor], ...] = (
        lambda flow, context: flow.log_prob(x, context),
        lambda flow, context: flow.transform.inverse(x, context)[0],
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
            difference = call(used, context) - call(copy.deepcopy(fresh), second)
            differences.append(difference.abs().max())
    return Finding(torch.stack(differences).max().item(), subject.bound(1e-9, 1e-3))


def batch_independence(subject: Subject) -> Finding:
    """How much a row's log_prob moves, in nats: alone, in parts, in another order, among others.

    The others are thirty times as large. ODEs are solved by the flow's own settings: an adaptive
    solver whose error norm is taken over the batch shows a figure here.
    """
    flow = _frozen(subject)
    return Finding(_moves(flow.log_prob, subject).max().item(), subject.bound(1e-9, 1e-3, flow))


def batch_independence_of_samples(subject: Subject) -> Finding:
    """How much a row's sample moves among others, relative to the largest, or in nats."""
    flow = _frozen(subject)
    transform: Any = flow.transform

    def images(z: Tensor, context: Tensor | None) -> Tensor:
        x, ladj = transform.inverse(z, context)
        return torch.cat([x, ladj[:, None]], 1)

    size = images(subject.x[:POINTS], subject.contexts(POINTS))[:, :-1].abs().max().clamp(min=1)
    moves = _moves(images, subject)
    moves[:, :-1] /= size
    return Finding(moves.max().item(), subject.bound(1e-7, 2e-3, flow))


def _moves(values: Callable[[Tensor, Tensor | None], Tensor], subject: Subject) -> Tensor:
    """By how much the values of rows differ from those of the whole batch, a row a comparison."""
    x, context = subject.x[:POINTS], subject.contexts(POINTS)
    together, n = values(x, context), len(x)
    order = torch.arange(n).flip(0)
    parts: list[Tensor] = [order, torch.arange(n // 3), *torch.arange(4)[:, None]]
    contexts = [None if context is None else context[part] for part in parts]
    moves = [values(x[p], c) - together[p] for p, c in zip(parts, contexts, strict=True)]
    wild = torch.cat([x[: n // 2], 30 * x[n // 2 :]])
    moves.append((values(wild, context) - together)[: n // 2])
    return torch.cat(moves).abs()


def _frozen(subject: Subject) -> Flow:
    if not subject.estimated:
        return subject.own
    try:
        return subject.own.using(trace="exact")
    except ValueError as error:
        raise NotApplicable("each row has noise of its own") from error


def train_and_eval(subject: Subject) -> Finding:
    """Change of log_prob between the modes of training and of evaluation."""
    flow = copy.deepcopy(subject.own)
    values = [_log_prob_of(flow.train(mode), subject) for mode in (True, False)]
    return Finding((values[0] - values[1]).abs().max().item(), 1e-9)


def _log_prob_of(flow: Flow, subject: Subject) -> Tensor:
    """With frozen noise, in the flow's own dtype."""
    own, context = flow.reference(), subject.contexts(POINTS)
    dtype = subject.dtype if own is None else own.dtype
    context = None if context is None else context.to(dtype)
    return flow.using(noise=0).log_prob(subject.x[:POINTS].to(dtype), context)


def cache_in_evaluation(subject: Subject) -> Finding:
    """Difference of log_prob between a flow used in eval() before its parameters moved and another.

    A cache of what the parameters determine is stale there.
    """
    used = copy.deepcopy(subject.own.using(noise=0)).eval()
    fresh = copy.deepcopy(used)
    x, context = subject.x[:POINTS], subject.contexts(POINTS)
    used.log_prob(x, context)
    jitter(used, 0.1)
    fresh.load_state_dict(used.state_dict())
    values = [flow.log_prob(x, context) for flow in (used, fresh)]
    return Finding((values[0] - values[1]).abs().max().item(), 1e-9)


def inputs_changed_in_place(subject: Subject) -> Finding:
    """How many of its input tensors the transform changes."""
    context, changed = subject.contexts(16), []
    for direction in ("forward", "inverse"):
        x = subject.x[:16].clone()
        inputs = {"x": x} if context is None else {"x": x, "context": context}
        before = {name: tensor.clone() for name, tensor in inputs.items()}
        getattr(subject.own.transform, direction)(x, context)
        moved = [name for name, old in before.items() if not torch.equal(inputs[name], old)]
        changed += [f"{name} of {direction}" for name in moved]
    return Finding(len(changed), 0, ", ".join(changed))


def _results(subject: Subject, n: int) -> dict[str, Tensor]:
    """What a flow computes of n rows; samples have a gradient if the flow has one."""
    flow, x, context = subject.own, subject.x[:n], subject.contexts(n)
    try:
        sample, log_prob = flow.rsample_and_log_prob(n, context)
    except NotImplementedError:
        with torch.no_grad():
            sample, log_prob = flow.rsample_and_log_prob(n, context)
    return {
        "log_prob": flow.log_prob(x, context),
        "to_noise": flow.to_noise(x, context),
        "sample": flow.sample(n, context),
        "rsample": sample,
        "log_prob of rsample": log_prob,
    }


def dtype_and_device(subject: Subject) -> Finding:
    """How many results do not have the dtype and device of the parameters."""
    if not [*subject.own.parameters(), *subject.own.buffers()]:
        raise NotApplicable("it has no tensor that has a dtype")
    x, context = subject.x[:5], subject.contexts(5)
    z, ladj = subject.own.transform(x, context)
    results = {**_results(subject, 5), "loss": subject.own.loss(x, context)}
    results |= {"forward": z, "log-determinant": ladj}
    wrong = [k for k, r in results.items() if (r.dtype, r.device) != (x.dtype, x.device)]
    return Finding(len(wrong), 0, ", ".join(wrong))


def state_through_safetensors(subject: Subject) -> Finding:
    """Change of log_prob when the saved state is loaded into another flow of its kind.

    A Flow instance has no other of its kind: there it counts the tensors outside of the state.
    """
    state = {name: tensor.contiguous() for name, tensor in subject.own.state_dict().items()}
    read = safetensors.torch.load(safetensors.torch.save(state))
    with Stream(subject.seed + 1):
        fresh = copy.deepcopy(subject.own) if subject.fresh is None else subject.fresh()
    fresh.load_state_dict(read, strict=True)
    saved = {id(tensor) for tensor in (*subject.own.parameters(), *subject.own.buffers())}
    beside = [
        f"{prefix}.{name}"
        for prefix, module in subject.own.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor) and id(value) not in saved
    ]
    if subject.fresh is None and beside:
        return Finding(len(beside), 0.0, f"not in the state: {', '.join(beside)}")
    change = _log_prob_of(fresh, subject) - _log_prob_of(subject.own, subject)
    return Finding(change.abs().max().item(), 0.0)


def deepcopy(subject: Subject) -> Finding:
    """Change of log_prob in a copy, and in the flow when the copy's parameters are moved."""
    original = copy.deepcopy(subject.original or subject.own)  # calls may change its buffers
    before, twin = _log_prob_of(original, subject), copy.deepcopy(original)
    in_copy = (_log_prob_of(twin, subject) - before).abs().max().item()
    jitter(twin, 0.1)
    in_flow = (_log_prob_of(original, subject) - before).abs().max().item()
    return Finding(max(in_copy, in_flow), 0.0)


def not_finite(subject: Subject) -> Finding:
    """Of three bad values in one row, how many the transform hides or spreads to other rows.

    Raising is right as well. (A Flow refuses such rows before they come to its transform.)
    """
    x, context = subject.x[:4], subject.contexts(4)
    transform, base = subject.flow.transform, subject.flow.base
    clean, wrong = log_density(transform, base, x, context), []
    bound, others = subject.bound(1e-9, 1e-3), torch.tensor([0, 2, 3])
    for value in (math.nan, math.inf, -math.inf):
        spoiled = x.clone()
        spoiled[1, 0] = value
        try:
            values = log_density(transform, base, spoiled, context)
        except (ValueError, RuntimeError):
            continue
        unaffected = torch.allclose(values[others], clean[others], atol=bound, rtol=0)
        if not unaffected or bool(torch.isfinite(values[1])):
            wrong.append(str(value))
    return Finding(len(wrong), 0, ", ".join(wrong))


def small_batches(subject: Subject) -> Finding:
    """How many results have the wrong shape for a batch of no row or of one."""
    wrong = []
    for n in (0, 1):
        for name, result in _results(subject, n).items():
            shape = (n,) if name.startswith("log_prob") else (n, subject.dim)
            wrong += [f"{name} of {n}"] if result.shape != shape else []
    return Finding(len(wrong), 0, ", ".join(wrong))


rows = (
    Row("columns of the context", columns_of_the_context, ONCE),
    Row("one context for all rows", one_context_for_all_rows, ONCE),
    Row("contexts in turn", contexts_in_turn, ONCE),
    Row("batch independence", batch_independence),
    Row("batch independence of samples", batch_independence_of_samples),
    Row("train and eval", train_and_eval, ONCE),
    Row("cache in evaluation", cache_in_evaluation, ONCE),
    Row("inputs changed in place", inputs_changed_in_place, ONCE),
    Row("dtype and device", dtype_and_device, graph=True),
    Row("state through safetensors", state_through_safetensors, ONCE),
    Row("deepcopy", deepcopy, ONCE),
    Row("NaN and infinity", not_finite, ONCE),
    Row("small batches", small_batches, ONCE, graph=True),
)
