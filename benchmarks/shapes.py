"""Counts from shapes alone, on torch's meta device: for dimensions too large to compute at."""

from __future__ import annotations

import torch

import flows
from benchmarks.case import Case
from benchmarks.measure.operations import Operations
from benchmarks.parts import counted, parts
from flows.continuous.solve import FIXED, Solver


def count(case: Case) -> dict[str, float]:
    """FLOPs of log_prob of a batch and of its parts, without any data.

    A flow without an ODE runs whole. Of one with an ODE one evaluation runs, and is multiplied by
    the number that its solver takes, which at fixed steps is the same for every D. ValueError for
    adaptive steps, whose number is the data's.
    """
    flow = flows.build(case.flow, case.dim, **case.options).to("meta").eval()
    batch = torch.empty(case.batch, case.dim, dtype=getattr(torch, case.dtype), device="meta")
    metrics: dict[str, float] = {
        "parameters": sum(p.numel() for p in flow.parameters() if p.requires_grad),
        **counted(parts(flow, batch)),
    }
    with torch.no_grad(), Operations() as operations:
        if "rate_flops" not in metrics:
            flow.log_prob(batch)
    metrics["log_prob_determinant_flops"] = operations.factorisation
    if "rate_flops" not in metrics:
        return {**metrics, "log_prob_flops": operations.flops, "log_prob_nfe": 0}
    solves, evaluations = _evaluations(case)
    once, each = metrics["precomputation_flops"], metrics["rate_flops"]
    flops = once + each * evaluations / solves  # an evaluation each of all solves, which are alike
    return {**metrics, "log_prob_flops": flops, "log_prob_nfe": evaluations}


def _evaluations(case: Case) -> tuple[int, int]:
    """How many solves log_prob takes and all their evaluations, from the same flow at D = 2."""
    solver = Solver.of(case.options.get("solver", {}))
    if not solver.fixed:
        raise ValueError(
            f"the evaluations of {solver.method!r} depend on the data, which counts from shapes "
            f"have none of; choose from: {', '.join(sorted(FIXED))}"
        )
    small = flows.build(case.flow, 2, **case.options)
    with torch.no_grad(), flows.count_nfe(small) as nfe:
        small.log_prob(torch.zeros(1, 2))
    return len(nfe.solves), nfe.forward
