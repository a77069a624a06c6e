"""Cases, results and frames of studies in miniature."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.core.case import Case
from benchmarks.core.frame import long_frame
from benchmarks.core.study import Common, Result, registry, study_of
from benchmarks.execution.plan import tasks
from records import record_result


def cases_of(study: str, options: Mapping[str, Any], **common: Any) -> list[Case]:
    """The cases of a study with these options, of a suite with these common settings."""
    member = registry[study].part(options)
    return list(member.cases(member.Options.model_validate(options), Common(**common)))


def results_of(cases: list[Case]) -> dict[str, Result]:
    """Results by key, measured block by block."""
    pairs = (study_of(t.cases[0]).measure(t.cases) for t in tasks(cases))
    return {key: result for block in pairs for key, result in block}


def frame_of(cases: Iterable[Case], results: Mapping[str, Result]) -> pd.DataFrame:
    """The frame that a store of these results would load."""
    return long_frame(Path(), {c.key: record_result(c, results[c.key]) for c in cases})


TRACE = {
    "dims": (3, 5),
    "probes": (1, 4),
    "sizes": {"hidden": 9, "depth": 2},
    "batch": 8,
    "draws": 400,
    "seconds": 0.01,
}
GRADIENTS = {  # a field untrained and trained so far that it is no trifle
    "datasets": ["8gaussians"],
    "sizes": {"hidden": 16, "depth": 2, "layers": 1},
    "solvers": {"dopri5": (1e-2, 1e-5, 1e-8), "rk4": (0.25, 0.125, 0.0625)},
    "batch": 16,
    "updates": [0, 40],
    "training": {"learning_rate": 3e-2, "validations": 1, "validation_rows": 50},
    "training_batch": 64,
    "training_solver": {"method": "rk4", "step_size": 0.25, "gradient": "backprop"},
    "seconds": 0.001,
}


def trace_cases(dtype: str = "float32", **changes: Any) -> list[Case]:
    return cases_of("trace", {**TRACE, **changes}, dtype=dtype)


def gradient_cases(**changes: Any) -> list[Case]:
    return cases_of("numerics", {"part": "gradients", **GRADIENTS, **changes})
