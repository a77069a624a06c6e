"""The conformance kit: measure whether a flow is a density and behaves as one.

``check`` returns a figure and its bound for each property that every flow must have. The rows are
defined in the modules `densities` and `conduct`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

import flows
from flows.conformance import conduct, densities
from flows.conformance.subject import BOTH, NotApplicable, Refused, Row, Subject, subject_of
from flows.flow import Flow
from flows.plugins import FOREIGN, described
from flows.streams import Stream

__all__ = ["Conformance", "Outcome", "check"]

version = 2
pace = 1

ROWS: tuple[Row, ...] = (*densities.rows, *conduct.rows)
GIVEN = " given a context"  # behind the name of a row of the same flow built with one
Status = Literal["pass", "fail", "expected", "not applicable"]
LEARNED = (  # rows that a flow fails whose inverse is learned, and whose density is approximate
    *("round trip from data", "round trip from noise", "round trip in the tails"),
    *("total mass", "log_prob of samples", "samples and density"),
)


@dataclass(frozen=True)
class Outcome:
    """Result of one row in one dtype.

    The row passes if ``value`` is at most ``bound``; both are None where there is no figure, and
    ``note`` then has the reason. A failure is "expected" in the rows `LEARNED` of a flow that
    declares its inverse to be learned.
    """

    name: str
    dtype: str
    value: float | None
    bound: float | None
    status: Status
    note: str = ""


@dataclass(frozen=True)
class Conformance:
    """Results of ``check`` for one flow: its rows, and whether all of them passed."""

    flow: str
    dim: int
    rows: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """Whether no row failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The rows that failed."""
        return tuple(row for row in self.rows if row.status == "fail")

    def __str__(self) -> str:
        lines = [f"{self.flow}, D = {self.dim}: {'passed' if self.passed else 'FAILED'}"]
        for row in self.rows:
            figures = [f"{v:.2e}" if v is not None else "-" for v in (row.value, row.bound)]
            line = f"{row.name:44} {row.dtype:8} {figures[0]:>9} {figures[1]:>9}  {row.status}"
            lines.append(f"{line}  {row.note}".rstrip())
        return "\n".join(lines)


def check(
    flow: Flow | str,
    *,
    dim: int | None = None,
    x: Tensor | None = None,
    context: Tensor | None = None,
    seed: int = 0,
    dtypes: Sequence[torch.dtype] = BOTH,
    moved: bool = True,
    report: Callable[[Outcome], None] = lambda outcome: None,
    **options: Any,
) -> Conformance:
    """Measure whether a flow has the properties of every flow; the flow is left unchanged.

    ``flow`` is a Flow, judged with the parameters that it has (in copies of each of ``dtypes``),
    or a registered name, built for ``dim`` columns (default 3) with ``options`` and, unless
    ``moved`` is false, moved off its initial parameters. ``x`` (N, D) are the points to judge
    at, by default samples of the flow; some rows are enough. ``context`` (N, C) or (1, C) is that
    of a conditional flow, by default a random one. A family that takes ``context_dim`` is judged
    a second time with a context, in float64, unless ``options`` or ``context`` say which: its rows
    end in "given a context". ODEs are solved by dopri5 at a tolerance of 1e-10 (float64) or 1e-5
    (float32). Those of other libraries, and all in the rows "total mass" and "samples and density",
    are solved at 1e-6. Where that fails, and for batch independence, the flow's own solver counts.
    ``report`` is given each outcome as it comes. torch's random stream is left as it was. Raises
    ValueError or TypeError for an unknown name or option, and for points and contexts that do not
    fit; a flow that fails, or that raises, is a failed row.
    """
    subjects = [(options, tuple(dtypes), "")]
    if isinstance(flow, str) and context is None and "context_dim" not in options:
        width = flows.members[flow].applicable({"context_dim": 3 if dim == 2 else 2})
        exact = [dtype for dtype in dtypes if dtype == torch.float64]
        subjects += [({**options, **width}, tuple(exact or dtypes), GIVEN)] if width else []
    name, columns, outcomes = str(flow), dim or 0, []
    for values, types, suffix in subjects:
        built = partial(subject_of, flow, dim, x, context, seed, options=values, moved=moved)
        judged, subject = _judged(flow, built, seed, types, suffix, report)
        outcomes += judged
        if subject is None:
            break
        name, columns = subject.name, subject.dim
    return Conformance(name, columns, tuple(outcomes))


def _judged(
    flow: Flow | str,
    built: Callable[..., Subject],
    seed: int,
    dtypes: Sequence[torch.dtype],
    suffix: str,
    report: Callable[[Outcome], None],
) -> tuple[list[Outcome], Subject | None]:
    """Outcomes of all rows, in order, and the last subject; None if none can be built."""
    outcomes: list[Outcome] = []
    subject = None
    for dtype in dtypes:
        short = str(dtype).removeprefix("torch.")

        def alone(name: str, status: Status, note: str, dtype: str = short) -> list[Outcome]:
            """The one outcome of a flow on which no row can be measured."""
            report(outcome := Outcome(name + suffix, dtype, None, None, status, note))
            return [outcome]

        try:
            with Stream(seed):
                subject = built(dtype=dtype)
        except Refused as error:  # of this dimension, by the member itself
            return alone("construction", "not applicable", str(error)), None
        except FOREIGN as error:
            if not isinstance(flow, str) or (isinstance(error, ValueError) and not suffix):
                raise  # what was asked for is wrong, not the flow
            return alone("construction", "fail", described(error)), None
        with Stream(subject.seed):
            fault = _fault(subject)
        if fault:
            return alone("interface", "fail", fault), subject
        for row in ROWS:
            if dtype in row.dtypes:
                outcomes.append(_outcome(row, subject, short, suffix))
                report(outcomes[-1])
    order = {row.name + suffix: index for index, row in enumerate(ROWS)}
    return sorted(outcomes, key=lambda outcome: order[outcome.name]), subject


def _outcome(row: Row, subject: Subject, dtype: str, suffix: str) -> Outcome:
    outcome = partial(Outcome, row.name + suffix, dtype)
    try:
        with Stream(subject.seed), torch.set_grad_enabled(row.graph):
            finding = row.measure(subject)
    except NotApplicable as reason:
        return outcome(None, None, "not applicable", str(reason))
    except FOREIGN as error:
        return outcome(None, None, "fail", described(error))
    status: Status = "pass" if finding.value <= finding.bound else "fail"  # a NaN does not pass
    if status == "fail" and subject.inexact and row.name in LEARNED:
        status = "expected"
    return outcome(finding.value, finding.bound, status, finding.note)


def _fault(subject: Subject) -> str:
    """What a direction returns instead of (N, D) and (N,); "" if nothing else, or if it raises."""
    x, context, shape = subject.x[:8], subject.contexts(8), (8, subject.dim)
    for direction in ("forward", "inverse"):
        try:
            result: Any = getattr(subject.own.transform, direction)(x, context)
        except FOREIGN:  # which fails other rows
            continue
        parts = result if isinstance(result, tuple) else (result,)
        got = [tuple(p.shape) if isinstance(p, Tensor) else type(p).__name__ for p in parts]
        if got != [shape, (8,)]:
            shapes = ", ".join(map(str, got))
            return f"{direction} must return a tuple of shapes {shape} and (8,), got {shapes}"
    return ""
