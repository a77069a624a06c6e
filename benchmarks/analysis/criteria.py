"""Levels of tests, of claims, tables and the gate alike."""

from __future__ import annotations

LEVEL = 0.05  # family-wise, by Holm's correction; of claims over all of them that rest on tests
UPDATES = 100  # from which on a flow counts as trained: fewer do not show what it can do
MARGIN = {"least": 0.05, "per_dim": 0.01}  # nats below which two densities are level


def margin(dim: int) -> float:
    """Difference of mean log-likelihoods in ``dim`` dimensions, nats, below which two are level."""
    return max(MARGIN["least"], MARGIN["per_dim"] * dim)
