"""Every metric that a record can hold: its unit, its better direction, and how it may be compared.

Kinds: "exact" counts are equal on every machine for one minor version of torch; "quality" has a
standard error; "time" travels only as a ratio to the reference workload. Counts of sampling are no
exact ones: inverses iterate until they converge, which the last bit of a machine can decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """What a number means; tables, axes and the gate read it from here."""

    about: str
    unit: str
    better: Literal["lower", "higher", "neither"]
    kind: Literal["exact", "quality", "time"]


METRICS: dict[str, Metric] = {
    "parameters": Metric("trainable parameters", "", "lower", "exact"),
    "log_prob_flops": Metric("log_prob of a batch: products and LU", "FLOP", "lower", "exact"),
    "log_prob_determinant_flops": Metric("log_prob: the LU in it", "FLOP", "lower", "exact"),
    "step_flops": Metric("training step of a batch: products and LU", "FLOP", "lower", "exact"),
    "log_prob_pointwise": Metric("log_prob: element operations", "op", "lower", "exact"),
    "step_pointwise": Metric("training step: element operations", "op", "lower", "exact"),
    "log_prob_nfe": Metric("evaluations of the field in log_prob", "NFE", "lower", "exact"),
    "step_nfe": Metric("evaluations in a training step", "NFE", "lower", "exact"),
    "sample_flops": Metric("sampling a batch: products and LU", "FLOP", "lower", "quality"),
    "sample_pointwise": Metric("sampling: element operations", "op", "lower", "quality"),
    "sample_nfe": Metric("evaluations of the field in sampling", "NFE", "lower", "quality"),
    "log_prob_seconds": Metric("log_prob of a batch", "s", "lower", "time"),
    "step_seconds": Metric("training step of a batch", "s", "lower", "time"),
    "sample_seconds": Metric("sampling a batch", "s", "lower", "time"),
    "build_seconds": Metric("constructing the flow", "s", "lower", "time"),
    "reference_seconds": Metric("the reference workload beside it", "s", "neither", "time"),
    "test_ll": Metric("test log-likelihood", "nats", "higher", "quality"),
    "test_ll_se": Metric("its standard error over the test set", "nats", "neither", "quality"),
    "ll_shift": Metric("its change when the tolerance is tightened", "nats", "lower", "quality"),
    "solver_gap": Metric("its own solver's likelihood less the exact", "nats", "lower", "quality"),
    "gap": Metric("entropy of the data less the test log-likelihood", "nats", "lower", "quality"),
    "row_flops": Metric("log_prob by the exact trace, a row", "FLOP", "lower", "quality"),
    "train_seconds": Metric("training, validation apart", "s", "lower", "time"),
    "log_prob_error": Metric("largest error of log_prob in a batch", "nats", "lower", "quality"),
    "per_1000_seconds": Metric("log_prob of 1,000 rows", "s", "lower", "time"),
    "sample_rate": Metric("samples per second", "1/s", "higher", "time"),
    "train_nfe": Metric("evaluations per update, both ways", "NFE", "lower", "quality"),
    "test_nfe": Metric("evaluations in the exact log_prob", "NFE", "lower", "quality"),
    "skipped_updates": Metric("updates skipped: loss not finite", "", "lower", "quality"),
    "nfe_start": Metric("forward NFE before training", "NFE", "neither", "quality"),
    "nfe_end": Metric("forward NFE after training", "NFE", "lower", "quality"),
}
