"""Studies without a clock: with no seconds to spend they count, and time nothing."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.core.metrics import METRICS
from measuring import cases_of, results_of

SIZES = {"hidden": 4, "depth": 2, "layers": 1}
TRAINED = {
    "datasets": ["8gaussians"],
    "sizes": SIZES,
    "batch": 16,
    "updates": 2,
    "training": {"validations": 1, "validation_rows": 50},
}
SCORING = {
    "rows": 100, "checked_rows": 50, "compared_rows": 100, "projections": 5, "grid": 8,
    "samples": 20, "seconds": 0,
}  # fmt: skip
RK4 = {"solver": {"method": "rk4", "step_size": 0.5, "gradient": "backprop"}}
OPTIONS: dict[str, dict[str, Any]] = {
    "cost": {"flows": ["realnvp"], "dims": [2], "sizes": SIZES, "batch": 4, "seconds": 0},
    "trace": {"dims": [2], "sizes": SIZES, "batch": 4, "draws": 100, "seconds": 0},
    "numerics": {
        **{**TRAINED, "part": "gradients", "updates": [0], "solvers": {"rk4": [0.5]}},
        **{"dtypes": ["float64"], "seconds": 0},
    },
    "nfe": {
        **TRAINED, "flows": [{"flow": "cnf", "options": RK4}], "tolerances": [0.1], "seconds": 0,
    },
    "density": {
        **TRAINED, "flows": ["realnvp"], "baselines": ["gaussian"], "scoring": SCORING,
    },
    "time_to_nll": {**TRAINED, "flows": ["realnvp"], "seconds": 0},
}  # fmt: skip
FROM_THE_LOOP = {"train_process_seconds"}  # sums of updates, which are timed in any case


@pytest.mark.parametrize("name", OPTIONS)
def test_no_seconds_give_counts_and_no_times(name: str) -> None:
    cases = cases_of(name, OPTIONS[name])
    results = results_of(cases)
    assert len(results) == len(cases) > 0
    for result in results.values():
        assert not result.failure
        kinds = {METRICS[metric].kind for metric in result.metrics.keys() - FROM_THE_LOOP}
        assert kinds
        assert "time" not in kinds
