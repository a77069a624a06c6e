"""Counts from shapes, on torch's meta device, for dimensions too large to compute at."""

from __future__ import annotations

from collections.abc import Mapping

import torch

import flows
from benchmarks.core.case import Case
from benchmarks.measure.operations import Operations
from benchmarks.measure.parts import counted, parts
from flows.budget import trainable
from flows.continuous.solve import Solver


def count(case: Case) -> dict[str, float]:
    """Count FLOPs of log_prob of a batch and of its parts, without data.

    A flow without an ODE runs as a whole. With an ODE, one evaluation runs and is multiplied by
    their number, which with fixed steps does not depend on D; the number of adaptive steps depends
    on data, so only the parts are counted then.
    """
    dtype = getattr(torch, case.dtype)
    flow = flows.build(case.flow, case.dim, **case.options).to("meta", dtype).eval()
    batch = torch.empty(case.batch, case.dim, dtype=dtype, device="meta")
    metrics: dict[str, float] = {
        "parameters": trainable(flow),
        **counted(parts(flow, batch)),
    }
    if "rate_flops" in metrics:
        return metrics | _solved(case, metrics)
    with torch.no_grad(), Operations() as operations:
        flow.log_prob(batch)
    metrics["log_prob_determinant_flops"] = operations.factorisation
    return {**metrics, "log_prob_flops": operations.flops, "log_prob_nfe": 0}


def _solved(case: Case, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return evaluations, counted at D = 2, and FLOPs of log_prob for fixed steps."""
    if not Solver.of(case.options.get("solver", {})).fixed:
        return {}
    small = flows.build(case.flow, 2, **case.options)
    with torch.no_grad(), flows.count_nfe(small) as nfe:
        small.log_prob(torch.zeros(1, 2))
    once, each = metrics["precomputation_flops"], metrics["rate_flops"]  # of all solves
    flops = once + each * nfe.forward / len(nfe.solves)
    return {"log_prob_flops": flops, "log_prob_nfe": nfe.forward, "log_prob_determinant_flops": 0}
