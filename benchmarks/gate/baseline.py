"""The committed baseline: what a results folder counted exactly."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.core import plan, store
from benchmarks.gate import sources


def renew(folder: Path, target: Path) -> int:
    """Make the exact counts of a results folder the baseline in ``target``; how many cases it has.

    Cases that failed are kept as such: that they fail is known. ValueError where ``folder`` is no
    results folder, lacks cases of its plan or mixes what cannot be compared, and where it shares no
    case with the baseline that is there: then it is of another suite.
    """
    source = sources.read(store.existing(folder))
    sources.comparable(source, source)
    planned = plan.plan_of(folder, {record.key: record for record in source.records}).cases
    if missing := len(planned) - len(source.records):
        raise ValueError(f"{str(folder)!r} lacks {missing} of the {len(planned)} cases of its plan")
    before = {path.stem for path in (target / "records").glob("*.json")}
    if before and not before & {record.key for record in source.records}:
        raise ValueError(
            f"{str(folder)!r} shares no case with the baseline in {str(target)!r}: run the suite "
            "ci, or remove that baseline first"
        )
    shutil.rmtree(target / "records", ignore_errors=True)
    for record in source.records:
        exact = {name: m for name, m in record.metrics.items() if m.kind == "exact"}
        kept = {"metrics": exact, "arrays": None, "machine": {}, "seconds": 0.0}
        store.write(target, record.model_copy(update=kept))
    return len(source.records)
