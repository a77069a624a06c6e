"""A slowdown to be found: copied into a revision's ``flows``, it makes one method of a flow slower.

It uses nothing of this project, since it becomes part of the revision.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

CALIBRATED = 1.0  # seconds of the processor, in each of three passes


def slowed(flow: Any, operation: str, share: float) -> Any:
    """The flow, with ``operation`` (gradient or log_prob) longer by a share of its own time.

    What is added are products of small matrices; how many, is measured at the first call.
    """
    method = {"gradient": "loss", "log_prob": "log_prob"}[operation]
    plain, ones = getattr(flow, method), torch.ones(16, 16)
    counts: list[int] = []

    def more(count: int) -> None:
        with torch.no_grad():
            for _ in range(count):
                torch.mm(ones, ones)

    def seconds(x: Any, count: int) -> float:
        torch.manual_seed(0)
        start = time.process_time()
        more(count)
        if operation == "gradient":
            flow.zero_grad()
            plain(x).backward()
        else:
            plain(x)
        return time.process_time() - start

    def calibrated(x: Any) -> int:
        count = 500
        for _ in range(3):
            pairs: list[tuple[float, float]] = []
            until = time.process_time() + CALIBRATED
            while time.process_time() < until or len(pairs) < 2:
                pairs.append((seconds(x, 0), seconds(x, count)))
            own, whole = (statistics.quantiles(spent)[0] for spent in zip(*pairs, strict=True))
            count = max(1, round(count * share * own / (whole - own)))
        torch.manual_seed(0)
        return count

    def slower(x: Any) -> Any:
        if not counts:
            counts.append(calibrated(x))
        more(counts[0])
        return plain(x)

    setattr(flow, method, slower)
    return flow
