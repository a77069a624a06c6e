"""Settings of a score, as data: suites give some, a case holds all of them."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from benchmarks.core.case import Settings


class Scoring(Settings, frozen=True):
    """Settings of a score: rows, tolerances, and the sizes of samples and pictures."""

    rows: PositiveInt = 5000
    """Rows of the test set that are scored, at most."""
    chunk: PositiveInt = 1000
    """Rows for which an ODE is solved together; its step control couples them."""
    tolerance: PositiveFloat = 1e-5
    """First rtol and atol of the exact density, which is solved in float64."""
    checked_rows: PositiveInt = 1000
    """Rows on which the tolerance is tightened tenfold until their densities settle."""
    settled: PositiveFloat = 1e-4
    """Nats by which the mean log-density may still move when it counts as settled."""
    settled_row: PositiveFloat = 1e-2
    """Nats by which the log-density of any row may still move then."""
    tightest: PositiveFloat = 1e-9
    """Tightest tolerance that is tried."""
    draws: int = Field(default=4, ge=2)
    """Draws of Hutchinson's estimate, on the checked rows."""
    compared_rows: PositiveInt = 2000
    """Samples that are compared with as many rows of the test set, at most."""
    projections: PositiveInt = 200
    """Random directions of the sliced Wasserstein distance."""
    grid: PositiveInt = 160
    """Points per side of the picture of a two-dimensional density."""
    samples: PositiveInt = 3000
    """Samples in the picture."""
    continuation: NonNegativeFloat = 0.2
    """Updates by which a training is continued to see whether it still improved, as a share of its
    own; 0: none.
    """
    seconds: NonNegativeFloat = 0.5
    """Seconds of timing log_prob and sampling; 0 times nothing."""
