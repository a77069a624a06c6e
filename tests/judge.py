"""A program that says what the gate makes of copies of the code: JUDGE BASELINE TREES.

TREES is JSON, [[folder, [pattern, ...]], ...]. Each copy is imported by a process of its own, all
forked from one that has imported the libraries. It prints, for each copy, what is wrong with the
suite ci's cases of these labels, as JSON. Run it by ``python -P``, which sees no other module here.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import sys
from fnmatch import fnmatch
from pathlib import Path

import torch

NEW_CASE = "not in the baseline"  # of a case whose key no record of it has
LIBRARIES = (
    *("nflows.transforms", "pandas", "scipy.stats", "sklearn.ensemble", "sklearn.mixture"),
    *("sklearn.model_selection", "torch._dynamo", "torchdiffeq"),
)


def judged(tree: str, patterns: list[str]) -> dict[str, str]:
    """What is wrong with the cases of a copy, by label; this process has no other's code."""
    sys.path.insert(0, tree)
    os.chdir(tree)
    from benchmarks.core import store
    from benchmarks.core.naming import labels
    from benchmarks.core.record import Record, Values
    from benchmarks.core.study import registry as studies
    from benchmarks.execution import suite
    from benchmarks.execution.versions import dependencies
    from benchmarks.gate import guard
    from benchmarks.measure.dispatched import dispatched

    torch.set_num_threads(1)
    baseline = store.read(Path(sys.argv[1]))
    cases = suite.read("ci").cases()
    names, faults = labels(cases), {}
    for case in cases:
        if case.needs or not any(fnmatch(names[case.key], pattern) for pattern in patterns):
            continue
        ((_, result),) = dispatched(studies[case.study], [case])
        record = Record(
            case=case,
            key=case.key,
            status="failed" if result.failure else "done",
            metrics={name: Values.of(name, value) for name, value in result.metrics.items()},
            notes=dict(result.notes),
            declared=dict(dependencies(case).declared),
        )
        before = baseline.get(case.key)
        faults[names[case.key]] = NEW_CASE if before is None else guard.refusal(before, record)
    return faults


if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    trees = json.loads(sys.argv[2])
    with multiprocessing.get_context("fork").Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        print(json.dumps(pool.starmap(judged, trees, chunksize=1)))
