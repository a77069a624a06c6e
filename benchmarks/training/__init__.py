"""Training: settings, schedules, the one loop, checkpoints, history, and fitted baselines."""

version = 2  # raised when a change moves what a training computes
pace = 2  # raised when it moves the time, operators or memory of a training alone
