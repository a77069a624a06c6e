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
    "log_prob_peak_bytes": Metric("log_prob: most live tensors it made", "B", "lower", "exact"),
    "step_saved_bytes": Metric("training step: most held for backward", "B", "lower", "exact"),
    "step_peak_bytes": Metric("training step: most live tensors it made", "B", "lower", "exact"),
    "linear_flops": Metric("invertible linear layers alone", "FLOP", "lower", "exact"),
    "field_flops": Metric("one evaluation of the field alone", "FLOP", "lower", "exact"),
    "rate_flops": Metric("one evaluation of field and trace", "FLOP", "lower", "exact"),
    "precomputation_flops": Metric("what a solve makes of weights once", "FLOP", "lower", "exact"),
    "sample_flops": Metric("sampling a batch: products and LU", "FLOP", "lower", "quality"),
    "sample_pointwise": Metric("sampling: element operations", "op", "lower", "quality"),
    "sample_nfe": Metric("evaluations of the field in sampling", "NFE", "lower", "quality"),
    "log_prob_seconds": Metric("log_prob of a batch", "s", "lower", "time"),
    "step_seconds": Metric("training step of a batch", "s", "lower", "time"),
    "sample_seconds": Metric("sampling a batch", "s", "lower", "time"),
    "log_prob_first_seconds": Metric("first log_prob of a flow", "s", "lower", "time"),
    "step_first_seconds": Metric("first training step of a flow", "s", "lower", "time"),
    "sample_first_seconds": Metric("first sampling of a flow", "s", "lower", "time"),
    "build_seconds": Metric("constructing the flow", "s", "lower", "time"),
    "field_seconds": Metric("one evaluation of the field alone", "s", "lower", "time"),
    "rate_seconds": Metric("one evaluation of field and trace", "s", "lower", "time"),
    "linear_seconds": Metric("invertible linear layers alone", "s", "lower", "time"),
    "log_prob_resident_bytes": Metric("growth of the resident set", "B", "lower", "quality"),
    "step_resident_bytes": Metric("growth of the resident set", "B", "lower", "quality"),
    "reference_seconds": Metric("the reference workload beside it", "s", "neither", "time"),
    "test_ll": Metric("test log-likelihood", "nats", "higher", "quality"),
    "test_ll_se": Metric("its standard error over the test set", "nats", "neither", "quality"),
    "ll_shift": Metric("its change when the tolerance is tightened", "nats", "lower", "quality"),
    "ll_shift_row": Metric("the largest change of a row", "nats", "lower", "quality"),
    "test_tolerance": Metric("tolerance at which it has settled", "", "neither", "quality"),
    "checked_ll": Metric("log-likelihood of the checked rows", "nats", "neither", "quality"),
    "hutchinson_ll": Metric("Hutchinson's estimate of it", "nats", "neither", "quality"),
    "hutchinson_ll_se": Metric("its standard error over draws", "nats", "neither", "quality"),
    "solver_gap": Metric("its own solver's likelihood less the exact", "nats", "lower", "quality"),
    "gap": Metric("the truth's log-likelihood less that of the flow", "nats", "lower", "quality"),
    "gap_se": Metric("its standard error over the test set", "nats", "neither", "quality"),
    "sliced_wasserstein": Metric("samples to test rows", "s.d.", "lower", "quality"),
    "sliced_wasserstein_floor": Metric("training to test rows", "s.d.", "neither", "quality"),
    "told_apart": Metric("accuracy of telling samples and test rows apart", "", "lower", "quality"),
    "told_apart_se": Metric("its standard error over rows", "", "neither", "quality"),
    "told_apart_floor": Metric("that of training and test rows", "", "neither", "quality"),
    "compared_rows": Metric("samples, and test rows, to be told apart", "", "neither", "quality"),
    "row_flops": Metric("log_prob by the exact trace, a row", "FLOP", "lower", "quality"),
    "train_seconds": Metric("training, validation apart", "s", "lower", "time"),
    "train_updates": Metric("updates done", "", "neither", "quality"),
    "train_flops": Metric("training, validation apart", "FLOP", "lower", "quality"),
    "log_prob_error": Metric("largest error of log_prob in a batch", "nats", "lower", "quality"),
    "per_1000_seconds": Metric("log_prob of 1,000 rows", "s", "lower", "time"),
    "sample_rate": Metric("samples per second", "1/s", "higher", "time"),
    "train_nfe": Metric("evaluations per update, both ways", "NFE", "lower", "quality"),
    "test_nfe": Metric("evaluations in the exact log_prob", "NFE", "lower", "quality"),
    "skipped_updates": Metric("updates skipped: loss not finite", "", "lower", "quality"),
    "solve_flops": Metric("log_prob of a row by its own solver", "FLOP", "lower", "quality"),
    "nfe_start": Metric("forward NFE before training", "NFE", "neither", "quality"),
    "solve_nfe": Metric("forward NFE of that log_prob", "NFE", "lower", "quality"),
    "nfe_end": Metric("forward NFE after training", "NFE", "lower", "quality"),
    "evaluation_seconds": Metric("one evaluation of field and trace", "s", "lower", "time"),
    "evaluation_flops": Metric("one evaluation: products and LU", "FLOP", "lower", "exact"),
    "evaluation_pointwise": Metric("one evaluation: element operations", "op", "lower", "exact"),
    "jacobian_norm": Metric("‖J‖_F, RMS over rows", "1/time", "neither", "quality"),
    "trace_error": Metric("largest error of an exact trace", "‖J‖", "lower", "quality"),
    "trace_rmse": Metric("RMS error of an estimated trace", "‖J‖", "lower", "quality"),
    "trace_rmse_se": Metric("its standard error over draws", "‖J‖", "neither", "quality"),
    "trace_rmse_theory": Metric("what theory gives for it", "‖J‖", "neither", "quality"),
    "gradient_error": Metric("error of the gradient over its norm", "", "lower", "quality"),
    "gradient_cosine": Metric("its cosine with the exact gradient", "", "higher", "quality"),
    "reference_shift": Metric("change of the exact one at 10 x tolerance", "", "lower", "quality"),
    "loss_error": Metric("error of the mean log-likelihood", "nats", "lower", "quality"),
    "gradient_seconds": Metric("loss and backward of a batch", "s", "lower", "time"),
    "gradient_bytes": Metric("most bytes held for backward", "B", "lower", "quality"),
    "nfe_forward": Metric("evaluations of the forward solve", "NFE", "lower", "quality"),
    "nfe_backward": Metric("evaluations of the adjoint's solve", "NFE", "lower", "quality"),
    "steps_accepted": Metric("accepted steps, forward", "", "lower", "quality"),
    "steps_rejected": Metric("rejected steps, forward", "", "lower", "quality"),
    "steps_accepted_backward": Metric("accepted steps, adjoint", "", "lower", "quality"),
    "steps_rejected_backward": Metric("rejected steps, adjoint", "", "lower", "quality"),
    "different_elements": Metric("elements that are not equal bit for bit", "", "lower", "quality"),
    "solver_error": Metric("RMS error at the end of a solve", "", "lower", "quality"),
    "convergence_order": Metric("order, from steps to the next", "", "neither", "quality"),
    "ladj_error": Metric("log_prob against a dense Jacobian", "nats", "lower", "quality"),
    "ladj_bound": Metric("what rounding and solver leave open", "nats", "neither", "quality"),
    "mass_error": Metric("|∫ p dx - 1|", "", "lower", "quality"),
    "mass_bound": Metric("what the grid and solver leave open", "", "neither", "quality"),
    "rate_error": Metric("|d log p/dt + tr ∂f/∂z| over RMS trace", "", "lower", "quality"),
    "cyclic_error": Metric("trace in R^K less that in R^D", "‖J‖", "lower", "quality"),
    "modes_missed": Metric("modes below a tenth of their due share", "", "lower", "quality"),
    "modes_thin": Metric("modes below half of their due share", "", "lower", "quality"),
    "least_share": Metric("least share of a mode over its due one", "", "higher", "quality"),
    "mode_kl": Metric("KL of the modes' shares from equal ones", "nats", "lower", "quality"),
    "gap_mass": Metric("samples in the gaps between modes", "", "neither", "quality"),
    "reverse_kl": Metric("KL of the flow from the data", "nats", "lower", "quality"),
    "reverse_kl_se": Metric("its standard error over samples", "nats", "neither", "quality"),
    "gaussian_ll": Metric("validation LL of the fitted Gaussian", "nats", "higher", "quality"),
    "trace_bias": Metric("largest z of a row's mean estimate", "s.e.", "lower", "quality"),
}
