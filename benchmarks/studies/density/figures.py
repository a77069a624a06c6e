"""Densities, shown: every picture of the study, from records alone."""

from __future__ import annotations

import pandas as pd

from benchmarks.core.exhibit import Figure
from benchmarks.plotting import panels
from benchmarks.studies.density import corners, curves, flow_steps, portraits, trajectories


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Densities and samples beside data, the way there, and the training."""
    done = frame[(frame["status"] == "done") & frame["arrays"].notna()]
    trained = done[done["updates"] > 0]
    flat = panels.holding(trained[trained["dim"] == 2], "path_samples")
    wide = panels.holding(done[done["dim"] > 2], "columns")
    plane = [*portraits.figures(flat), *flow_steps.figures(flat), *trajectories.figures(flat)]
    return [*plane, *corners.figures(wide), *curves.figures(trained)]
