"""Cost against dimension: seconds, FLOPs and NFE of log_prob and of a training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import pandas as pd
import torch
from pydantic import BaseModel, JsonValue, PositiveFloat, PositiveInt

import flows
from benchmarks import draw
from benchmarks.case import Case, canonical
from benchmarks.exhibit import Figure, Table
from benchmarks.measure.clock import REFERENCE, interleave
from benchmarks.measure.operations import Operations
from benchmarks.scaling_law import local_exponent
from benchmarks.studies import Common, Result, register
from benchmarks.train import Training, prepare

CALLS = {"log_prob": "log_prob", "step": "training step"}


class Contender(BaseModel, frozen=True, extra="forbid"):
    """A flow in the comparison; what it leaves out it takes from the study."""

    flow: str
    options: dict[str, JsonValue] = {}
    dims: tuple[PositiveInt, ...] | None = None
    batch: PositiveInt | None = None


class Options(BaseModel, frozen=True, extra="forbid"):
    """The cost study's part of a suite."""

    flows: tuple[Contender, ...]
    dims: tuple[PositiveInt, ...]
    sizes: dict[str, PositiveInt] = {}
    batch: PositiveInt = 64
    seconds: PositiveFloat = 5.0  # of timing, for all contenders of one dimension together


@register
class Cost:
    """How seconds, FLOPs and NFE of one call grow with the dimension, at fixed width."""

    name: ClassVar[str] = "cost"
    question: ClassVar[str] = "What does a call cost, and how does the cost grow with D?"
    timed: ClassVar[bool] = True
    Options = Options

    def cases(self, options: Options, common: Common) -> Iterator[Case]:
        """A case for each contender and dimension, smallest dimension first."""
        everywhere = {*options.dims, *(d for c in options.flows for d in c.dims or ())}
        for dim in sorted(everywhere):
            for contender in options.flows:
                if dim not in (contender.dims or options.dims):
                    continue
                member = flows.registry[contender.flow]
                chosen = {**member.applicable(options.sizes), **contender.options}
                yield Case(
                    study=self.name,
                    flow=contender.flow,
                    dim=dim,
                    options=canonical(member.complete(chosen)),
                    batch=contender.batch or options.batch,
                    settings={"seconds": options.seconds},
                    device=common.device,
                    dtype=common.dtype,
                    threads=common.threads,
                )

    def block(self, case: Case) -> str:
        """All contenders at one dimension."""
        return f"D={case.dim}"

    def budget(self, case: Case) -> float:
        """Seconds: the share of the timing, and the counted calls."""
        return float(case.settings["seconds"]) / 5 + case.dim / 200  # type: ignore[arg-type]

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        """Count each contender's calls, then time all of them in shuffled rounds."""
        counted: dict[str, dict[str, Any]] = {}
        notes: dict[str, dict[str, Any]] = {}
        works: dict[str, Callable[[], object]] = {}
        for case in cases:
            try:
                calls, parameters = _calls(case)
                counted[case.key], notes[case.key] = {"parameters": parameters}, {}
                for name, (call, flow) in calls.items():
                    metrics, uncounted = _count(name, call, flow)
                    counted[case.key] |= metrics
                    notes[case.key][f"{name}_uncounted"] = uncounted
                works |= {f"{case.key}/{name}": call for name, (call, _) in calls.items()}
            except (RuntimeError, ValueError, MemoryError) as error:
                counted.pop(case.key, None)
                yield case.key, Result(failure=f"{type(error).__name__}: {error}")
        if not counted:
            return
        seconds = float(cases[0].settings["seconds"])  # type: ignore[arg-type]
        samples = interleave(works, seconds=seconds, device=cases[0].device)
        for key, metrics in counted.items():
            timed = {f"{name}_seconds": samples[f"{key}/{name}"] for name in CALLS}
            reference = {"reference_seconds": samples[REFERENCE]}
            yield key, Result(metrics | timed | reference, notes=notes[key])

    def tables(self, frame: pd.DataFrame) -> list[Table]:
        """The growth of each series at its largest size, and all figures by dimension."""
        return [_growth(frame), _by_dimension(frame)] if len(frame) else []

    def figures(self, frame: pd.DataFrame) -> list[Figure]:
        """Seconds and FLOPs a sample against D, for both calls."""
        done = frame[frame["status"] == "done"]
        if done.empty:
            return []
        keys = tuple(done["key"])
        note = (
            "Per sample: a batch's figure divided by its rows. Points are medians, bars the middle "
            "half of the raw samples. Dotted: slopes D, D² and D³. FLOPs count products, LU and "
            "triangular solves. Continuous flows at the fixed number of evaluations in the table."
        )
        return [
            Figure("cost-against-dimension", "Cost against dimension", note, lambda: _picture(done), keys)
        ]


def _calls(case: Case) -> tuple[dict[str, tuple[Callable[[], object], flows.Flow]], int]:
    """The two calls of a case, with the flow to count on, and its number of parameters."""
    generator = torch.Generator().manual_seed(case.seeds.data)
    rows = max(case.batch, 16)
    x = torch.randn(rows, case.dim, generator=generator, dtype=getattr(torch, case.dtype))
    flow = prepare(case, x, Training())
    batch = x[: case.batch].to(case.device)
    optimiser = torch.optim.Adam(flow.parameters())

    def log_prob() -> None:
        with torch.no_grad():
            flow.log_prob(batch)

    def step() -> None:
        optimiser.zero_grad()
        flow.loss(batch).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    calls = {"log_prob": (log_prob, flow), "step": (step, flow)}
    return calls, sum(p.numel() for p in flow.parameters() if p.requires_grad)


def _count(
    name: str, call: Callable[[], object], flow: flows.Flow
) -> tuple[dict[str, float], dict[str, int]]:
    """Exact counts of one call, after one that is not counted (an optimiser makes its state)."""
    call()
    with flows.count_nfe(flow) as nfe, Operations() as operations:
        call()
    metrics: dict[str, float] = {
        f"{name}_flops": operations.flops,
        f"{name}_pointwise": operations.elements,
        f"{name}_nfe": nfe.forward + nfe.backward,
    }
    return metrics, dict(operations.uncounted)


def _growth(frame: pd.DataFrame) -> Table:
    rows = []
    done = frame[frame["status"] == "done"]
    for name, group in done.assign(series=draw.series(done)).groupby("series"):
        if group["dim"].nunique() < 3:
            continue
        row: dict[str, Any] = {"Flow": name, "D": int(group["dim"].max())}
        for call, title in CALLS.items():
            flops = [[value] for value in group[f"{call}_flops"]]
            row[f"{title}: FLOPs"] = str(local_exponent(list(group["dim"]), flops)).split(" [")[0]
            seconds = list(group[f"{call}_seconds.values"])
            row[f"{title}: seconds"] = str(local_exponent(list(group["dim"]), seconds))
        rows.append(row)
    note = (
        "Exponent of D between the two largest sizes; for seconds with a 95 % bootstrap interval. "
        "≥ where it still rises from one pair of sizes to the next: the asymptote is not reached."
    )
    return Table("cost-growth", "Growth with the dimension", note, pd.DataFrame(rows),
                 records=tuple(done["key"]))


def _by_dimension(frame: pd.DataFrame) -> Table:
    shown = pd.DataFrame({"Flow": draw.series(frame), "D": frame["dim"], "Batch": frame["batch"]})
    measured = {
        "Parameters": "parameters",
        "NFE": "log_prob_nfe",
        "log_prob (FLOP/sample)": "log_prob_flops",
        "Step (FLOP/sample)": "step_flops",
        "log_prob (µs/sample)": "log_prob_seconds",
        "Step (µs/sample)": "step_seconds",
        "log_prob / reference": "log_prob_seconds",
    }
    for header, metric in measured.items():
        values = frame.get(metric, pd.Series(float("nan"), index=frame.index))
        if "/sample" in header:
            values = values / frame["batch"] * (1e6 if "µs" in header else 1)
        elif "reference" in header:
            values = values / frame["reference_seconds"]
        shown[header] = values.astype(object).where(frame["status"] == "done", frame["status"])
    note = (
        "Medians of the raw samples. The last column is the batch's time over that of the "
        "reference workload in the same rounds, which is how times travel between machines."
    )
    digits = {header: ".4g" for header in measured}
    return Table("cost-by-dimension", "Cost by dimension", note,
                 shown.sort_values(["Flow", "D"], ignore_index=True), digits,
                 records=tuple(frame["key"]))


def _picture(done: pd.DataFrame) -> Any:
    done = done.assign(series=draw.series(done))
    looks = draw.looks(done["series"])
    with draw.figure(2, 2) as (figure, axes):
        for column, (call, title) in enumerate(CALLS.items()):
            for row, (metric, unit) in enumerate([("seconds", "s"), ("flops", "FLOP")]):
                panel = axes[row, column]
                for name, group in done.groupby("series"):
                    group = group.sort_values("dim")
                    scale = 1 / group["batch"]
                    y = group[f"{call}_{metric}"] * scale
                    panel.plot(group["dim"], y, label=name, **looks[name])
                    if metric == "seconds":
                        quartiles = [pd.Series(v).quantile([0.25, 0.75]) for v in group[f"{call}_seconds.values"]]
                        low, high = zip(*quartiles, strict=True)
                        panel.vlines(group["dim"], low * scale, high * scale, color=looks[name]["color"])
                panel.set(xscale="log", yscale="log", xlabel="D", ylabel=f"{unit} per sample", title=title)
                largest = (done[f"{call}_{metric}"] / done["batch"]).max()
                draw.guide(panel, [done["dim"].max() / 4, done["dim"].max()], largest, [1, 2, 3])
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
