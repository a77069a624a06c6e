"""The conformance kit: is a flow a density, and does it behave as one? Figures, not only a verdict.

``check`` measures what every flow has to keep and returns it row by row. The rows stand in the
modules of this package: `densities`, `gradients`, `conduct`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from flows.conformance import conduct, densities, gradients
from flows.conformance.subject import Finding, NotApplicable, Refused, Row, Subject, subject_of
from flows.flow import Flow

__all__ = ["Conformance", "Outcome", "check"]

ROWS: tuple[Row, ...] = (*densities.rows, *gradients.rows, *conduct.rows)
Status = Literal["pass", "fail", "not applicable"]


@dataclass(frozen=True)
class Outcome:
    """One row: what was measured, in which dtype, against which bound, and what came of it.

    The row passes while ``value`` is at most ``bound``; both are None where there is no figure,
    and ``note`` then says why.
    """

    name: str
    dtype: str
    value: float | None
    bound: float | None
    status: Status
    note: str = ""


@dataclass(frozen=True)
class Conformance:
    """What ``check`` found of one flow: its rows, and whether all of them passed."""

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
            line = f"{row.name:27} {row.dtype:8} {figures[0]:>9} {figures[1]:>9}  {row.status}"
            lines.append(f"{line}  {row.note}".rstrip())
        return "\n".join(lines)


def check(
    flow: Flow | str,
    *,
    dim: int | None = None,
    x: Tensor | None = None,
    context: Tensor | None = None,
    seed: int = 0,
    **options: Any,
) -> Conformance:
    """Measure whether a flow keeps what every flow has to keep; it is left as it was.

    ``flow`` is a Flow, judged with the parameters that it has (in copies of float64 and float32),
    or a registered name, built for ``dim`` columns (3 unless told) with ``options`` and moved off
    its initial parameters. ``x`` (N, D) are the points to judge at: samples of the flow unless
    given, some rows are enough. A conditional flow needs ``context`` (N, C) or (1, C); a name gets
    a random one. ODEs are solved at a tolerance of 1e-10 (float64) or 1e-5 (float32), whatever
    the flow's own. Raises ValueError for an unknown name or option and TypeError where no Flow is
    given; a flow that fails, or that raises, is a failed row.
    """
    found: list[Outcome] = []
    for dtype in (torch.float64, torch.float32):
        short = str(dtype).removeprefix("torch.")
        try:
            subject = subject_of(flow, dim, x, context, seed, dtype, options)
        except Refused as error:  # of this dimension, by the member itself
            found.append(Outcome("construction", short, None, None, "not applicable", str(error)))
            return Conformance(str(flow), dim or 0, tuple(found))
        found += [_outcome(row, subject, short) for row in ROWS if dtype in row.dtypes]
    order = {row.name: index for index, row in enumerate(ROWS)}
    found.sort(key=lambda outcome: order[outcome.name])
    return Conformance(subject.name, subject.dim, tuple(found))


def _outcome(row: Row, subject: Subject, dtype: str) -> Outcome:
    torch.manual_seed(subject.seed)
    try:
        finding: Finding = row.measure(subject)
    except NotApplicable as reason:
        return Outcome(row.name, dtype, None, None, "not applicable", str(reason))
    except Exception as error:
        text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        return Outcome(row.name, dtype, None, None, "fail", text)
    passed = finding.value <= finding.bound  # a NaN does not pass
    status: Status = "pass" if passed else "fail"
    return Outcome(row.name, dtype, finding.value, finding.bound, status, finding.note)
