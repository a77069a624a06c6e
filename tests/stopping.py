"""A suite of an identity and a training, a run of it that nothing stops, and waiting for things."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PLUGIN = Path(__file__).with_name("paused_training.py")
UPDATES = 40
SUITE = f"""
about = "An identity and a training."
threads = 1
[[studies]]
study = "identities"
times = []
methods = []
bottlenecks = []
flows = ["realnvp"]
dims = [2]
sizes = {{ hidden = 4, layers = 1 }}
[[studies]]
study = "density"
baselines = []
datasets = ["8gaussians"]
batch = 32
updates = {UPDATES}
flows = [{{ flow = "realnvp", options = {{ hidden = 8, layers = 2 }} }}]
training = {{ validation_rows = 100 }}
scoring = {{ rows = 200, grid = 20, samples = 200, compared_rows = 1, seconds = 0.02 }}
"""


def until(condition: Callable[[], object], seconds: float, reason: Callable[[], str]) -> None:
    """Wait for a condition; fail with a reason after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(reason())
        threading.Event().wait(0.1)
