"""The calls that a flow's cost is measured by: what each does, and how often it computes what."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor

import flows
from benchmarks.core.case import Case
from benchmarks.core.study import Result
from benchmarks.measure import process
from benchmarks.measure.clock import REFERENCE, Heap, Work, WorkError, interleave, seconds_of
from benchmarks.measure.memory import peak_bytes, saved_bytes, steady
from benchmarks.measure.operations import Operations, counted, parts
from benchmarks.measure.peers import ForeignError
from flows.budget import trainable
from flows.conditional import Conditional
from flows.isolation import unchanged
from flows.preprocessing import fit

INITIAL_ROWS = 1024  # of the initialisation of ActNorm
TIMEOUT = 300.0  # seconds of measuring a resident set
COUNTED = ("log_prob", "step", "sample")  # "build" is only timed: it computes nothing


def prepare(
    case: Case, train: Tensor, preprocessing: str = "none", support: Tensor | None = None
) -> flows.Flow:
    """Build the flow of a case, behind its preprocessing, on its device and from its seeds.

    Of a case with ``context_dim`` C the rows are (N, D + C), and so are those of the flow: its
    density is that of the first D columns given the others (`flows.conditional`). ``support`` are
    the bounds of the columns, see `flows.preprocessing.fit`.
    """
    torch.manual_seed(case.seeds.init)
    flow = flows.build(case.flow, case.dim, **case.options)
    flow.to(getattr(torch, case.dtype))
    if preprocessing != "none":
        columns = train[:, : case.dim] if train.shape[1] > case.dim else train
        if support is not None and train.shape[1] > case.dim:
            support = support[:, : case.dim]
        flow.prepend(fit(preprocessing, columns, support))
    if flow.context_dim and train.shape[1] > case.dim:
        flow = Conditional(flow, train[:, case.dim :])
    generator = torch.Generator().manual_seed(case.seeds.batches)
    picks = torch.randperm(len(train), generator=generator)[:INITIAL_ROWS]
    flow.to(case.device).initialize(train[picks].to(case.device))
    for module in flow.modules():
        if isinstance(noise := getattr(module, "generator", None), torch.Generator):
            noise.manual_seed(case.seeds.noise)
    return flow


@dataclass(frozen=True)
class Calls:
    """A case's flow, its batch (N, D), the calls by name, and their parts (``inner``)."""

    flow: flows.Flow
    batch: Tensor
    works: dict[str, Callable[[], object]]
    inner: dict[str, Callable[[], object]]

    @property
    def timed(self) -> dict[str, Callable[[], object]]:
        return {**self.works, **self.inner}

    def first(self) -> dict[str, float]:
        """Time the first run of each call, with everything that it sets up."""
        device = str(self.batch.device)
        return {f"{name}_first_seconds": seconds_of(self.works[name], device) for name in COUNTED}

    def count(
        self, names: Sequence[str] = COUNTED
    ) -> tuple[dict[str, float], dict[str, dict[str, int]]]:
        """Return metrics without a clock, and the operators of each call that were not counted.

        Each call runs once before, since an optimiser builds its state. Samples have torch's seed
        0, on which the iterations of an inverse depend.
        """
        metrics: dict[str, float] = {"parameters": trainable(self.flow)}
        uncounted = {}
        for name in names:
            self.works[name]()
            torch.manual_seed(0)
            with steady(), flows.count_nfe(self.flow) as nfe, Operations() as operations:
                self.works[name]()
            metrics[f"{name}_flops"] = operations.flops
            metrics[f"{name}_pointwise"] = operations.elements
            metrics[f"{name}_nfe"] = nfe.forward + nfe.backward
            if name == "log_prob":
                metrics["log_prob_determinant_flops"] = operations.factorisation
            uncounted[f"{name}_uncounted"] = dict(operations.uncounted)
        return metrics | self.memory() | counted(self.inner), uncounted

    def memory(self) -> dict[str, float]:
        """Measure bytes of log_prob and of a training step that have run before, one pass each.

        Parameters and buffers do not count; gradients count in the peak of a step, which allocates
        them.
        """
        log_prob, step, device = self.works["log_prob"], self.works["step"], str(self.batch.device)
        held = (*self.flow.parameters(), *self.flow.buffers())
        passes: dict[str, Callable[[], int]] = {
            "log_prob_peak_bytes": lambda: peak_bytes(log_prob, device),
            "step_saved_bytes": lambda: saved_bytes(step, held),
            "step_peak_bytes": lambda: peak_bytes(step, device),
        }
        metrics: dict[str, float] = {}
        for name, measure in passes.items():
            torch.manual_seed(0)
            self.flow.zero_grad()
            metrics[name] = measure()
        return metrics


def rows_of(case: Case) -> Tensor:
    """Rows (max(N, 16), D) by the case's seed, of which the batch is the first N."""
    generator = torch.Generator().manual_seed(case.seeds.data)
    shape = max(case.batch, 16), case.dim
    return torch.randn(*shape, generator=generator, dtype=getattr(torch, case.dtype))


def calls(case: Case) -> Calls:
    """Build the calls of a case: log_prob of a batch, a training step, sampling, construction."""
    x = rows_of(case)
    flow = prepare(case, x)
    batch = x[: case.batch].to(case.device)
    optimiser = torch.optim.Adam(flow.parameters(), lr=0.0)  # every round times the same weights

    def log_prob() -> None:
        with torch.no_grad():
            flow.log_prob(batch)

    def step() -> None:
        optimiser.zero_grad()
        flow.loss(batch).backward()
        optimiser.step()

    works: dict[str, Callable[[], object]] = {
        "log_prob": log_prob,
        "step": step,
        "sample": lambda: flow.sample(case.batch),
        "build": lambda: flows.build(case.flow, case.dim, **case.options),
    }
    return Calls(flow, batch, works, parts(flow, batch))


class Costed(Protocol):
    """What `measured` needs of a flow: seconds of first runs, counts and notes, timed works."""

    def first(self) -> dict[str, float]: ...

    def count(self) -> tuple[dict[str, float], dict[str, Any]]: ...

    @property
    def timed(self) -> Mapping[str, Work]: ...


def measured(
    cases: Sequence[Case],
    beside: Callable[[Case, Any], dict[str, float]] = lambda case, calls: {},
    build: Callable[[Case], Costed] = calls,
    **how: Any,
) -> Iterator[tuple[str, Result]]:
    """Count the calls of each case, then time all in shuffled rounds; yield keys and results.

    ``build`` gives the calls of a case; ``beside`` measures more of it, before they are counted;
    ``how`` they are timed is that of `timed`.
    """

    def build_and_count(case: Case) -> tuple[Mapping[str, Work], Result]:
        with unchanged(f"flow {case.flow!r}", silent=False):  # for the next of the block
            subject = build(case)
            first = subject.first() if case.settings["seconds"] else {}
            more = beside(case, subject)
            counts, notes = subject.count()
        return subject.timed, Result({**counts, **first, **more}, notes=notes)

    yield from timed(cases, build_and_count, **how)


def timed(
    cases: Sequence[Case],
    prepare: Callable[[Case], tuple[Mapping[str, Work], Result]],
    heap: Heap = "steady",
    meanwhile: Callable[[], AbstractContextManager[Any]] = nullcontext,
    warm: int = 0,
) -> Iterator[tuple[str, Result]]:
    """Prepare the works and the result of each case, then time all works in shuffled rounds.

    Yields results by key, with the seconds of each work and of the reference workload as metrics.
    The settings of all cases have the seconds to spend, within ``meanwhile``; 0 times nothing.
    ``heap`` and ``warm`` are those of `interleave`. A case that fails gives a failed result and
    does not affect the others: without one that fails while it is timed, they are timed anew.
    """
    works: dict[str, Mapping[str, Work]] = {}
    results: dict[str, Result] = {}
    for case in cases:
        start = perf_counter()
        try:
            works[case.key], result = prepare(case)
            results[case.key] = replace(result, seconds=perf_counter() - start)
        except Exception as error:
            yield case.key, Result.of(error)
    seconds, device = float(cases[0].settings["seconds"]), cases[0].device
    samples: dict[str, list[float]] = {}
    while works:
        turns = {
            f"{key}/{name}": work for key, named in works.items() for name, work in named.items()
        }
        try:
            with meanwhile():
                samples = interleave(turns, seconds=seconds, device=device, heap=heap, warm=warm)
            break
        except WorkError as failure:
            if (failed := failure.name.rpartition("/")[0]) not in works:
                raise  # the reference workload
            keys, cause = [failed], failure.error
            if isinstance(cause, ForeignError):  # the process of all that are of its package
                peers = {key: results[key].notes.get("peer", {}) for key in works}
                keys = [k for k, peer in peers.items() if peer.get("module") == cause.module]
            for key in keys:
                del works[key]
                yield key, replace(Result.of(cause), seconds=results[key].seconds)
    for key, named in works.items():
        result = results[key]
        if samples:
            times = {f"{name}_seconds": samples[f"{key}/{name}"] for name in named}
            metrics = {**result.metrics, **times, "reference_seconds": samples[REFERENCE]}
            spent = (result.seconds or 0.0) + sum(map(sum, times.values()))
            result = replace(result, metrics=metrics, seconds=spent)
        yield key, result


def resident_bytes(case: Case, call: str) -> int:
    """Return the bytes by which the peak of the resident set exceeds the set before the call.

    A new process builds the flow, makes the call with a single row, so that libraries are loaded,
    and then with the batch. Everything that its allocator holds counts, freed blocks included, in
    pages. Raises as `process.call`, with the limit `TIMEOUT`.
    """
    return process.call(grown, (case, call), TIMEOUT)


def grown(subject: tuple[Case, str]) -> int:
    """Return the growth of this process's resident set, in bytes, by a call of a case."""
    case, call = subject
    torch.set_num_threads(case.threads)
    calls(case.changed(batch=1)).works[call]()
    return process.growth(calls(case).works[call])
