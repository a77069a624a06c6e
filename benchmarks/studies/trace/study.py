"""Trace: what each estimator of a Jacobian's trace costs beside the determinant, and its error."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import product
from typing import Any, ClassVar, Literal, get_args

import torch
from pydantic import Field, JsonValue, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

import flows
from benchmarks import datasets
from benchmarks.analysis.inference import standard_error
from benchmarks.core.case import Case, Settings, canonical, digest
from benchmarks.core.study import Common, Result, Study, register
from benchmarks.evaluation.subject import Subject, field_of, formed
from benchmarks.measure.calls import timed
from benchmarks.measure.operations import Operations
from benchmarks.studies.contender import Contender, Trainees, TrainingStudy
from benchmarks.training.loop import train
from benchmarks.training.state import prepared
from flows.continuous.trace import TRACES, Mode, Noise, Trace, exact
from flows.linalg import logabsdet

Work = Callable[[], Tensor]


class TraceOptions(Settings, frozen=True):
    """The trace study's part of a suite."""

    flow: str = "cnf"
    """Name of a flow with a vector field."""
    dims: tuple[PositiveInt, ...]
    """Dimensions D of the field."""
    probes: tuple[PositiveInt, ...] = (1, 2, 4, 8, 16, 32)
    """Numbers of probes of the stochastic estimates."""
    sizes: Mapping[str, PositiveInt] = {}
    """Sizes of the networks by name (`hidden`, `depth`, `layers`), for flows that use them."""
    options: Mapping[str, JsonValue] = {}
    """Options of the flow by name, where they differ from its defaults."""
    hidden_per_dim: PositiveFloat | None = None
    """Factor c of a width H = c D, in place of a fixed one."""
    gain: PositiveFloat = 3.0
    """Factor on the initial weight matrices; at 1 the Jacobian is tiny."""
    batch: PositiveInt = 64
    """Rows of a batch."""
    draws: int = Field(default=100, ge=100)
    """Estimates for each row, from which errors are taken."""
    seconds: NonNegativeFloat = 5.0
    """Seconds of timing all works on one field together; 0 times nothing."""


def _by_estimator(subject: Subject, trace: Trace) -> Work:
    noise = trace.draw(subject.field, subject.x, torch.Generator().manual_seed(0))
    return lambda: trace.rate(subject.point, noise)[1]


# One evaluation each; its noise is drawn before, as for a whole solve. "kept" is a later one of a
# solve that keeps products of weights that t does not change. Those after it take a mode alone.
WORKS: dict[str, Callable[[Subject, Trace], Work]] = {
    "field": lambda subject, trace: lambda: subject.point.dx,
    "trace": _by_estimator,
    "kept": lambda s, trace: _by_estimator(replace(s, field=s.field.for_solve()), trace),
    "determinant": lambda s, trace: lambda: logabsdet(formed(s.point, trace.mode)),
    "jacobian": lambda subject, trace: lambda: formed(subject.point, trace.mode),
    "trace_of_formed": lambda s, _: partial(torch.einsum, "nii->n", formed(s.point).contiguous()),
    "determinant_of_formed": lambda s, _: partial(logabsdet, formed(s.point).contiguous()),
}


def works(field: Any, probes: Sequence[int]) -> Iterator[tuple[str, Trace]]:
    """Every work on a field with its `Trace`; "exact" stands for another."""
    yield "field", Trace()
    for name, entry in TRACES.items():
        if entry.rate is exact or not entry.takes(field):
            continue
        trace = Trace(name)
        modes = get_args(Mode) if entry.modes else (trace.mode,)
        noises = get_args(Noise) if trace.stochastic else (trace.noise,)
        counts = probes if trace.stochastic else (trace.probes,)
        for mode, noise, count in product(modes, noises, counts):
            yield "trace", Trace(name, count, noise, mode)
        if name == "closed_form" and getattr(field, "for_solve", lambda: field)() is not field:
            yield "kept", trace
    for mode, work in product(get_args(Mode), ("jacobian", "determinant")):
        yield work, Trace("jacobian", mode=mode)
    yield from ((work, Trace("jacobian")) for work in WORKS if work.endswith("_of_formed"))


class TrainingOptions(Trainees, frozen=True):
    """Options of the part "training"."""

    part: Literal["training"]
    """Part of the study."""


class Trainings(TrainingStudy):
    """Trainings of one field by different estimators of its trace, validated by the exact one."""

    name = "trace"
    Options = TrainingOptions

    def cases(self, options: TrainingOptions, common: Common) -> Iterator[Case]:
        for name in options.datasets:
            yield from options.repeated(common, name, {"part": options.part}, study=self.name)

    def budget(self, case: Case) -> float:
        return 2 + 0.1 * case.updates

    def result(self, case: Case) -> Result:
        data = datasets.load(str(case.dataset), seed=case.seeds.data)
        flow, settings = prepared(case, data)
        history = train(flow, data, case, settings)
        return Result(history.metrics(), history.arrays())


@register
class Traces(Study):
    """The trace by each estimator, and the determinant, of one and the same Jacobian."""

    name = "trace"
    uses = ("benchmarks.measure", "benchmarks.evaluation")
    Options = TraceOptions
    parts: ClassVar[Mapping[str, Study]] = {"training": Trainings()}

    def cases(self, options: TraceOptions, common: Common) -> Iterator[Case]:
        """A case for each dimension and work, and of an estimate for each number of probes."""
        contender = Contender(**options.model_dump(include={"flow", "options", "hidden_per_dim"}))
        settings = options.model_dump(include={"gain", "draws", "seconds"})
        least = min(options.dims)  # what a field offers is the same at all dimensions
        with torch.random.fork_rng(devices=[]):
            flow = flows.build(options.flow, least, **contender.complete(options.sizes, least))
        offered = list(works(field_of(flow), options.probes))
        for dim, (work, trace) in product(options.dims, offered):
            traced = {**contender.options, "trace": canonical(trace)}
            fields: dict[str, Any] = {"study": self.name, "batch": options.batch}
            fields["settings"] = {**settings, "work": work}
            variant = contender.model_copy(update={"options": traced})
            yield variant.case(common, dim, options.sizes, **fields)

    def block(self, case: Case) -> str:
        """All works on one field: the cases that differ in these alone."""
        varied: Any = {"options": {"trace"}, "settings": {"work"}, "roles": True}
        return f"D={case.dim} {digest(case.model_dump(mode='json', exclude=varied))[:8]}"

    def budget(self, case: Case) -> float:
        """Seconds: a share of the timing, and the draws."""
        probes = case.settings["draws"] * Trace.of(case.options["trace"]).probes
        timing = float(case.settings["seconds"]) / 40
        return 0.02 + timing + float(case.batch * case.dim * probes) / 3e7

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        """Count each work and take its error, then time all of them in shuffled rounds."""
        subject = cache(lambda: Subject.of(cases[0]))
        yield from timed(cases, lambda case: _judged(case, subject()))


def _judged(case: Case, subject: Subject) -> tuple[dict[str, Work], Result]:
    """A case's work, without a graph as log_prob has it in scoring, and all that needs no clock."""
    name, trace = case.settings["work"], Trace.of(case.options["trace"])
    work: Work = torch.no_grad()(torch.no_grad()(WORKS[name])(subject, trace))
    value = work()
    with Operations() as operations:
        work()
    metrics = {
        "evaluation_flops": operations.flops,
        "evaluation_pointwise": operations.elements,
        "jacobian_norm": subject.norm,
    }
    if name == "trace" and trace.stochastic:
        metrics |= _estimate_errors(case, subject, trace)
    elif name in ("trace", "kept", "trace_of_formed"):
        metrics["trace_error"] = subject.error(value).abs().max().item()
    return {"evaluation": work}, Result(metrics, notes={"uncounted": dict(operations.uncounted)})


@torch.no_grad()
def _estimate_errors(case: Case, subject: Subject, trace: Trace) -> dict[str, float]:
    """RMS error over rows and draws, each with noise of its own, its standard error, and theory."""
    errors = subject.errors(trace, case.settings["draws"], case.seeds.noise, 2**22)
    squares = [square for part in errors for square in part.square().mean(1).tolist()]
    rmse = (sum(squares) / len(squares)) ** 0.5
    metrics = {"trace_rmse": rmse, "trace_rmse_se": standard_error(squares) / (2 * rmse or 1)}
    if trace.estimator == "hutchinson":  # whose law `flows.continuous.trace` states
        theory = subject.variance(trace, subject.jacobian)
        metrics["trace_rmse_theory"] = theory.mean().sqrt().item()
    return metrics
