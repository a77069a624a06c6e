"""The calls that a flow's cost is measured by: what each does, and how often it computes what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from torch import Tensor

import flows
from benchmarks.core.case import Case
from benchmarks.core.study import Result
from benchmarks.measure.clock import REFERENCE, Heap, interleave, seconds_of
from benchmarks.measure.memory import peak_bytes, saved_bytes, steady
from benchmarks.measure.operations import Operations
from benchmarks.measure.parts import counted, parts
from benchmarks.measure.preparing import prepare

COUNTED = ("log_prob", "step", "sample")  # "build" is timed alone: it computes nothing


@dataclass(frozen=True)
class Calls:
    """A case's flow, the batch (N, D) that it is called with, and the calls by name.

    ``inner`` are the parts that they are made of.
    """

    flow: flows.Flow
    batch: Tensor
    works: dict[str, Callable[[], object]]
    inner: dict[str, Callable[[], object]]

    @property
    def timed(self) -> dict[str, Callable[[], object]]:
        """All that is timed."""
        return {**self.works, **self.inner}

    def first(self) -> dict[str, float]:
        """Seconds of the first time that each call is made: what is set up in it is set up."""
        device = str(self.batch.device)
        return {f"{name}_first_seconds": seconds_of(self.works[name], device) for name in COUNTED}

    def count(self) -> tuple[dict[str, float], dict[str, dict[str, int]]]:
        """Metrics that need no clock, and the operators of each call that could not be counted.

        Each call runs once uncounted before, since an optimiser makes its state. Samples are
        those of torch's seed 0: how long an inverse iterates depends on what is drawn. It is on one
        thread, since `flows.linalg` goes another way with more.
        """
        metrics: dict[str, float] = {
            "parameters": sum(p.numel() for p in self.flow.parameters() if p.requires_grad)
        }
        uncounted = {}
        for name in COUNTED:
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
        """Bytes of log_prob and of a training step, after each has run once; a pass for each.

        Parameters and buffers are held anyway and count in none; gradients count in the step's
        peak, since a step makes them anew.
        """
        log_prob, step, device = self.works["log_prob"], self.works["step"], str(self.batch.device)
        held = (*self.flow.parameters(), *self.flow.buffers())
        passes: dict[str, Callable[[], int]] = {
            "log_prob_peak_bytes": lambda: peak_bytes(log_prob, device),
            "step_saved_bytes": lambda: saved_bytes(step, held),
            "step_peak_bytes": lambda: peak_bytes(step, device),
        }
        found: dict[str, float] = {}
        for name, measure in passes.items():
            torch.manual_seed(0)
            self.flow.zero_grad()
            found[name] = measure()
        return found


def calls(case: Case) -> Calls:
    """The calls of a case: log_prob of a batch, a training step, as many samples, construction."""
    generator = torch.Generator().manual_seed(case.seeds.data)
    rows = max(case.batch, 16)
    x = torch.randn(rows, case.dim, generator=generator, dtype=getattr(torch, case.dtype))
    flow = prepare(case, x)
    batch = x[: case.batch].to(case.device)
    optimiser = torch.optim.Adam(flow.parameters(), lr=0.0)  # so that every round times the same

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


def measured(
    cases: Sequence[Case],
    beside: Callable[[Case, Calls], dict[str, float]] = lambda case, found: {},
    heap: Heap = "steady",
) -> Iterator[tuple[str, Result]]:
    """Each case's key and result: its calls counted, then those of all timed in shuffled rounds.

    ``beside`` measures more of a case, before its calls are counted. A case that fails is a
    failed result, and does not cost the others. ``heap`` is that of `interleave`.
    """
    made: dict[str, Calls] = {}
    results: dict[str, Result] = {}
    seconds = float(cases[0].settings["seconds"])
    for case in cases:
        start = perf_counter()
        try:
            found = calls(case)
            first = found.first() if seconds else {}
            more = beside(case, found)
            counts, uncounted = found.count()
            metrics = {**counts, **first, **more}
            results[case.key] = Result(metrics, notes=uncounted, seconds=perf_counter() - start)
            made[case.key] = found
        except Exception as error:
            yield case.key, Result.of(error)
    works = {f"{k}/{n}": work for k, found in made.items() for n, work in found.timed.items()}
    device = cases[0].device
    samples = interleave(works, seconds=seconds, device=device, heap=heap) if works else {}
    for key, result in results.items():
        names = made[key].timed if samples else {}
        times = {f"{name}_seconds": samples[f"{key}/{name}"] for name in names}
        yield key, with_times(result, times, samples.get(REFERENCE))


def timed(
    case: Case,
    works: Mapping[str, Callable[[], object]],
    results: Mapping[str, Result],
    metric: str,
) -> Iterator[tuple[str, Result]]:
    """Results by key with the seconds of their works, all timed in shuffled rounds, as a metric.

    ``case`` is any of them: its settings say for how many seconds, 0 for none.
    """
    seconds = float(case.settings["seconds"])
    samples = interleave(works, seconds=seconds, device=case.device) if works else {}
    for key, result in results.items():
        times = {metric: samples[key]} if samples else {}
        yield key, with_times(result, times, samples.get(REFERENCE))


def with_times(
    result: Result, times: Mapping[str, list[float]], reference: list[float] | None
) -> Result:
    """A result with raw seconds of its works and of the reference workload beside them."""
    if reference is None:
        return result
    metrics = {**result.metrics, **times, "reference_seconds": reference}
    own = sum(map(sum, times.values()))
    return replace(result, metrics=metrics, seconds=(result.seconds or 0.0) + own)
