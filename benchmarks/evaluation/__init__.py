"""Evaluation of trained and fitted densities: likelihood, samples, modes, paths, speed."""

version = 1  # raised when a change moves what an evaluation computes
pace = 1  # raised when it moves the time, operators or memory of an evaluation alone
