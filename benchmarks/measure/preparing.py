"""Construction of a case's flow, ready to be trained."""

from __future__ import annotations

import torch
from torch import Tensor

import flows
from benchmarks.core.case import Case
from flows.conditional import Conditional
from flows.preprocessing import fit

INITIAL_ROWS = 1024  # of the initialisation of ActNorm


def prepare(case: Case, train: Tensor, preprocessing: str = "none") -> flows.Flow:
    """Build the flow of a case, behind its preprocessing, on its device and from its seeds.

    Of a case with ``context_dim`` C the rows are (N, D + C), and so are those of the flow: its
    density is that of the first D columns given the others (`flows.conditional`).
    """
    torch.manual_seed(case.seeds.init)
    flow = flows.build(case.flow, case.dim, **case.options)
    flow.to(getattr(torch, case.dtype))
    if preprocessing != "none":
        own = train[:, : case.dim] if train.shape[1] > case.dim else train
        flow.prepend(fit(preprocessing, own))
    if flow.context_dim and train.shape[1] > case.dim:
        flow = Conditional(flow, train[:, case.dim :])
    generator = torch.Generator().manual_seed(case.seeds.batches)
    picks = torch.randperm(len(train), generator=generator)[:INITIAL_ROWS]
    flow.to(case.device).initialize(train[picks].to(case.device))
    for module in flow.modules():
        if isinstance(noise := getattr(module, "generator", None), torch.Generator):
            noise.manual_seed(case.seeds.noise)
    return flow
