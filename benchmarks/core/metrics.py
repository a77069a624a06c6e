"""Every metric that a record can hold: its unit, its better direction, and how it may be compared.

Kinds: "exact" counts are equal on every machine for one minor version of torch; "quality" has a
standard error; "time" travels only as a ratio to the reference workload. Counts of sampling are no
exact ones: inverses iterate until they converge, which the last bit of a machine can decide.
Tables, axes, the gate, claims and exports take all of this from here: a new metric is one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher", "neither"]
Kind = Literal["exact", "quality", "time"]

# the factor from a metric's own unit to one that it is shown in
SCALES = {
    ("s", "ms"): 1e3,
    ("s", "µs"): 1e6,
    ("B", "MiB"): 2.0**-20,
    ("B", "KiB"): 2.0**-10,
    ("B", "MB"): 1e-6,
    ("", "%"): 100.0,
}
QUANTITIES = {"s": "seconds", "FLOP": "FLOPs", "B": "bytes", "op": "operations"}  # by unit


@dataclass(frozen=True)
class Metric:
    """What a number means.

    ``per`` is what a value is of: a "batch", one "row" of data, or "" for anything else. A value of
    a batch is shown for a row where a table asks for it. ``shown`` is the unit of tables and axes
    where it is not ``unit``. ``label`` is the short name of headers and axes; ``about`` explains.
    ``solves`` says that a count grows with the evaluations of a solver, so that it is exact only
    where the solver's steps are fixed.
    """

    about: str
    unit: str
    better: Better
    kind: Kind
    label: str = ""
    per: Literal["", "batch", "row"] = ""
    shown: str = ""
    solves: bool = False

    @property
    def name(self) -> str:
        """The label, or what stands in for it."""
        return self.label or self.about

    @property
    def shown_unit(self) -> str:
        """The unit of tables and axes."""
        return self.shown or self.unit

    @property
    def scale(self) -> float:
        """The factor from ``unit`` to the unit shown."""
        return SCALES[self.unit, self.shown] if self.shown else 1.0

    @property
    def quantity(self) -> str:
        """The word for what is counted or measured: "seconds", "FLOPs"; the unit if it has none."""
        return QUANTITIES.get(self.unit, self.unit)

    @property
    def title(self) -> str:
        """Name and quantity: "log_prob: seconds"."""
        return f"{self.name}: {self.quantity}"


METRICS: dict[str, Metric] = {
    "call_seconds": Metric("one call", "s", "lower", "time", shown="ms"),
    "parameters": Metric("trainable parameters", "", "lower", "exact", label="parameters"),
    "log_prob_flops": Metric(
        "log_prob of a batch: products and LU",
        "FLOP",
        "lower",
        "exact",
        label="log_prob",
        per="batch",
        solves=True,
    ),
    "log_prob_determinant_flops": Metric(
        "log_prob: the LU in it",
        "FLOP",
        "lower",
        "exact",
        label="determinant",
        per="batch",
        solves=True,
    ),
    "step_flops": Metric(
        "training step of a batch: products and LU",
        "FLOP",
        "lower",
        "exact",
        label="training step",
        per="batch",
        solves=True,
    ),
    "log_prob_pointwise": Metric(
        "log_prob: element operations", "op", "lower", "exact", per="batch", solves=True
    ),
    "step_pointwise": Metric(
        "training step: element operations", "op", "lower", "exact", per="batch", solves=True
    ),
    "log_prob_nfe": Metric(
        "evaluations of the field in log_prob", "NFE", "lower", "exact", label="NFE", solves=True
    ),
    "step_nfe": Metric("evaluations in a training step", "NFE", "lower", "exact", solves=True),
    "log_prob_peak_bytes": Metric(
        "log_prob: most live tensors it made", "B", "lower", "exact", per="batch", solves=True
    ),
    "step_saved_bytes": Metric(
        "training step: most held for backward",
        "B",
        "lower",
        "exact",
        label="saved",
        per="batch",
        solves=True,
    ),
    "step_peak_bytes": Metric(
        "training step: most live tensors it made",
        "B",
        "lower",
        "exact",
        label="peak",
        per="batch",
        solves=True,
    ),
    "linear_flops": Metric(
        "invertible linear layers alone",
        "FLOP",
        "lower",
        "exact",
        label="linear layer",
        per="batch",
    ),
    "field_flops": Metric(
        "one evaluation of the field alone", "FLOP", "lower", "exact", per="batch", label="field"
    ),
    "rate_flops": Metric(
        "one evaluation of field and trace",
        "FLOP",
        "lower",
        "exact",
        per="batch",
        label="field and trace",
    ),
    "precomputation_flops": Metric(
        "what a solve makes of weights once",
        "FLOP",
        "lower",
        "exact",
        label="precomputed",
        per="batch",
    ),
    "sample_flops": Metric(
        "sampling a batch: products and LU",
        "FLOP",
        "lower",
        "quality",
        label="sampling",
        per="batch",
    ),
    "sample_pointwise": Metric(
        "sampling: element operations", "op", "lower", "quality", per="batch"
    ),
    "sample_nfe": Metric("evaluations of the field in sampling", "NFE", "lower", "quality"),
    "log_prob_seconds": Metric(
        "log_prob of a batch", "s", "lower", "time", label="log_prob", per="batch", shown="µs"
    ),
    "step_seconds": Metric(
        "training step of a batch",
        "s",
        "lower",
        "time",
        label="training step",
        per="batch",
        shown="µs",
    ),
    "sample_seconds": Metric(
        "sampling a batch", "s", "lower", "time", label="sampling", per="batch", shown="µs"
    ),
    "log_prob_first_seconds": Metric(
        "first log_prob of a flow", "s", "lower", "time", label="first log_prob", shown="ms"
    ),
    "step_first_seconds": Metric(
        "first training step of a flow",
        "s",
        "lower",
        "time",
        label="first training step",
        shown="ms",
    ),
    "sample_first_seconds": Metric(
        "first sampling of a flow", "s", "lower", "time", label="first sampling", shown="ms"
    ),
    "build_seconds": Metric(
        "constructing the flow", "s", "lower", "time", label="construction", shown="ms"
    ),
    "field_seconds": Metric(
        "one evaluation of the field alone",
        "s",
        "lower",
        "time",
        per="batch",
        shown="ms",
        label="field",
    ),
    "rate_seconds": Metric(
        "one evaluation of field and trace",
        "s",
        "lower",
        "time",
        per="batch",
        shown="ms",
        label="field and trace",
    ),
    "linear_seconds": Metric(
        "invertible linear layers alone",
        "s",
        "lower",
        "time",
        label="linear layer",
        per="batch",
        shown="ms",
    ),
    "log_prob_resident_bytes": Metric(
        "growth of the resident set", "B", "lower", "quality", per="batch", shown="MiB"
    ),
    "step_resident_bytes": Metric(
        "growth of the resident set",
        "B",
        "lower",
        "quality",
        label="resident",
        per="batch",
        shown="MiB",
    ),
    "reference_seconds": Metric(
        "the reference workload beside it", "s", "neither", "time", label="reference", shown="ms"
    ),
    "solver_rtol": Metric("relative tolerance of the solver", "", "neither", "quality"),
    "solver_atol": Metric("absolute tolerance of the solver", "", "neither", "quality"),
    "test_ll": Metric("test log-likelihood", "nats", "higher", "quality", label="test LL"),
    "test_ll_se": Metric("its standard error over the test set", "nats", "neither", "quality"),
    "ll_shift": Metric(
        "its change when the tolerance is tightened", "nats", "lower", "quality", label="LL moved"
    ),
    "ll_shift_row": Metric(
        "the largest change of a row", "nats", "lower", "quality", label="largest row"
    ),
    "test_tolerance": Metric(
        "tolerance at which it has settled", "", "neither", "quality", label="tolerance"
    ),
    "checked_ll": Metric(
        "log-likelihood of the checked rows", "nats", "neither", "quality", label="exact"
    ),
    "hutchinson_ll": Metric(
        "Hutchinson's estimate of it", "nats", "neither", "quality", label="Hutchinson"
    ),
    "hutchinson_ll_se": Metric("its standard error over draws", "nats", "neither", "quality"),
    "solver_gap": Metric(
        "its own solver's likelihood less the exact", "nats", "lower", "quality", label="own solver"
    ),
    "gap": Metric(
        "the truth's log-likelihood less that of the flow",
        "nats",
        "lower",
        "quality",
        label="gap to the truth",
    ),
    "gap_se": Metric("its standard error over the test set", "nats", "neither", "quality"),
    "sliced_wasserstein": Metric(
        "samples to test rows", "s.d.", "lower", "quality", label="sliced Wasserstein"
    ),
    "sliced_wasserstein_floor": Metric("training to test rows", "s.d.", "neither", "quality"),
    "told_apart": Metric(
        "classifier two-sample test (C2ST): accuracy on samples and test rows",
        "",
        "lower",
        "quality",
        label="C2ST accuracy",
    ),
    "told_apart_se": Metric("its standard error over rows", "", "neither", "quality"),
    "told_apart_floor": Metric(
        "C2ST accuracy on training and test rows", "", "neither", "quality", label="C2ST floor"
    ),
    "compared_rows": Metric(
        "samples, and test rows, of the two-sample tests",
        "",
        "neither",
        "quality",
        label="compared rows",
    ),
    "row_flops": Metric(
        "log_prob by the exact trace, a row",
        "FLOP",
        "lower",
        "quality",
        per="row",
        label="log_prob",
    ),
    "train_seconds": Metric("training, validation apart", "s", "lower", "time", label="training"),
    "train_updates": Metric("updates done", "", "neither", "quality", label="updates"),
    "train_flops": Metric(
        "training, validation apart", "FLOP", "lower", "quality", label="training"
    ),
    "log_prob_error": Metric(
        "largest error of log_prob in a batch", "nats", "lower", "quality", label="error"
    ),
    "per_1000_seconds": Metric(
        "log_prob of 1,000 rows", "s", "lower", "time", shown="ms", label="log_prob of 1,000 rows"
    ),
    "sample_rate": Metric("samples per second", "1/s", "higher", "time", label="samples"),
    "train_nfe": Metric(
        "evaluations per update, both ways", "NFE", "lower", "quality", label="per update"
    ),
    "test_nfe": Metric(
        "evaluations in the exact log_prob", "NFE", "lower", "quality", label="exact log_prob"
    ),
    "skipped_updates": Metric("updates skipped: loss not finite", "", "lower", "quality"),
    "solve_flops": Metric(
        "log_prob of a row by its own solver",
        "FLOP",
        "lower",
        "quality",
        per="row",
        label="log_prob",
    ),
    "nfe_start": Metric(
        "forward NFE before training", "NFE", "neither", "quality", label="before training"
    ),
    "solve_nfe": Metric(
        "forward NFE of that log_prob", "NFE", "lower", "quality", label="log_prob"
    ),
    "nfe_end": Metric(
        "forward NFE after training", "NFE", "lower", "quality", label="after training"
    ),
    "evaluation_seconds": Metric(
        "one evaluation of field and trace",
        "s",
        "lower",
        "time",
        per="batch",
        label="evaluation",
        shown="µs",
    ),
    "evaluation_flops": Metric(
        "one evaluation: products and LU", "FLOP", "lower", "exact", per="batch", label="evaluation"
    ),
    "evaluation_pointwise": Metric(
        "one evaluation: element operations", "op", "lower", "exact", per="batch"
    ),
    "jacobian_norm": Metric("‖J‖_F, RMS over rows", "1/time", "neither", "quality"),
    "trace_error": Metric(
        "largest error of an exact trace", "‖J‖", "lower", "quality", label="error"
    ),
    "trace_rmse": Metric(
        "RMS error of an estimated trace", "‖J‖", "lower", "quality", label="RMS error"
    ),
    "trace_rmse_se": Metric("its standard error over draws", "‖J‖", "neither", "quality"),
    "trace_rmse_theory": Metric(
        "what theory gives for it", "‖J‖", "neither", "quality", label="theory"
    ),
    "gradient_error": Metric(
        "error of the gradient over its norm", "", "lower", "quality", label="error"
    ),
    "gradient_cosine": Metric(
        "its cosine with the exact gradient", "", "higher", "quality", label="cosine"
    ),
    "reference_shift": Metric(
        "change of the exact one at 10 x tolerance",
        "",
        "lower",
        "quality",
        label="error of the exact one",
    ),
    "loss_error": Metric("error of the mean log-likelihood", "nats", "lower", "quality"),
    "gradient_seconds": Metric(
        "loss and backward of a batch",
        "s",
        "lower",
        "time",
        per="batch",
        shown="ms",
        label="loss and backward",
    ),
    "gradient_bytes": Metric(
        "most bytes held for backward",
        "B",
        "lower",
        "quality",
        per="batch",
        label="saved",
        shown="MB",
    ),
    "nfe_forward": Metric(
        "evaluations of the forward solve", "NFE", "lower", "quality", label="forward"
    ),
    "nfe_backward": Metric(
        "evaluations of the adjoint's solve", "NFE", "lower", "quality", label="backward"
    ),
    "steps_accepted": Metric("accepted steps, forward", "", "lower", "quality"),
    "steps_rejected": Metric("rejected steps, forward", "", "lower", "quality"),
    "steps_accepted_backward": Metric("accepted steps, adjoint", "", "lower", "quality"),
    "steps_rejected_backward": Metric("rejected steps, adjoint", "", "lower", "quality"),
    "different_elements": Metric(
        "elements that are not equal bit for bit",
        "",
        "lower",
        "quality",
        label="elements that differ",
    ),
    "solver_error": Metric(
        "RMS error at the end of a solve", "", "lower", "quality", label="RMS error"
    ),
    "convergence_order": Metric(
        "order, from steps to the next", "", "neither", "quality", label="order"
    ),
    "ladj_error": Metric(
        "log_prob against a dense Jacobian", "nats", "lower", "quality", label="log p"
    ),
    "ladj_bound": Metric(
        "what rounding and solver leave open", "nats", "neither", "quality", label="allowed"
    ),
    "mass_error": Metric("|∫ p dx - 1|", "", "lower", "quality", label="mass"),
    "mass_bound": Metric(
        "what the grid and solver leave open", "", "neither", "quality", label="mass allowed"
    ),
    "rate_error": Metric(
        "|d log p/dt + tr ∂f/∂z| over RMS trace", "", "lower", "quality", label="rate error"
    ),
    "cyclic_error": Metric(
        "trace in R^K less that in R^D", "‖J‖", "lower", "quality", label="traces differ"
    ),
    "modes_missed": Metric(
        "modes below a tenth of their due share", "", "lower", "quality", label="missed modes"
    ),
    "modes_thin": Metric(
        "modes below half of their due share", "", "lower", "quality", label="thin modes"
    ),
    "least_share": Metric(
        "least share of a mode over its due one", "", "higher", "quality", label="least share/due"
    ),
    "mode_kl": Metric(
        "KL of the modes' shares from equal ones", "nats", "lower", "quality", label="KL of shares"
    ),
    "gap_mass": Metric(
        "samples in the gaps between modes", "", "neither", "quality", label="in gaps", shown="%"
    ),
    "reverse_kl": Metric(
        "KL of the flow from the data", "nats", "lower", "quality", label="reverse KL"
    ),
    "reverse_kl_se": Metric("its standard error over samples", "nats", "neither", "quality"),
    "gaussian_ll": Metric(
        "validation LL of the fitted Gaussian", "nats", "higher", "quality", label="Gaussian's LL"
    ),
    "trace_bias": Metric(
        "largest z of a row's mean estimate", "s.e.", "lower", "quality", label="largest z"
    ),
}
