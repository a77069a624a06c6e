"""Flows of a plan, constructed before anything is measured: faults in options show at once."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.core.case import Case
from benchmarks.core.study import Result
from flows import members
from flows.plugins import FOREIGN


def faults(cases: Iterable[Case], *, each_dim: bool = True) -> dict[str, str]:
    """Reasons by key of the cases whose flow cannot be constructed.

    A flow of equal options is constructed once at each dimension, or at the least one alone. A
    fault is told of its first case. Baselines, which are no flows, are passed over.
    """
    registered = set(members)
    distinct: dict[str, Case] = {}
    for case in cases if each_dim else sorted(cases, key=lambda case: case.dim):
        if case.flow in registered:
            what = (case.flow, case.options, case.dim if each_dim else 0)
            distinct.setdefault(repr(what), case)
    reasons = {case.key: _fault(case) for case in distinct.values()}
    return {key: reason for key, reason in reasons.items() if reason}


def _fault(case: Case) -> str:
    """Why the flow of a case cannot be constructed; "" if it can be.

    The meta device needs no memory; what does not work there is constructed for real.
    """
    import torch

    from flows import build

    try:
        with torch.device("meta"):
            build(case.flow, case.dim, **case.options)
    except FOREIGN:
        try:
            build(case.flow, case.dim, **case.options)
        except FOREIGN as error:
            return Result.of(error).failure
    return ""
