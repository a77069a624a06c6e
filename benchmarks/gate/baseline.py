"""The committed baseline: what a results folder counted exactly."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks import store
from benchmarks.gate import sides


def renew(folder: Path, target: Path) -> int:
    """Make the exact counts of a results folder the baseline in ``target``; how many cases it has.

    Cases that failed are kept as such: that they fail is known. ValueError where ``folder`` is no
    results folder.
    """
    side = sides.read(store.existing(folder))
    shutil.rmtree(target / "records", ignore_errors=True)
    for record in side.records:
        exact = {name: m for name, m in record.metrics.items() if m.kind == "exact"}
        kept = {"metrics": exact, "arrays": None, "machine": {}, "seconds": 0.0}
        store.write(target, record.model_copy(update=kept))
    return len(side.records)
