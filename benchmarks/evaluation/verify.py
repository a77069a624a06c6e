"""Verification of data sets that are files: sums as fetched, sizes and scores as published."""

from __future__ import annotations

from pathlib import Path

from benchmarks import datasets
from benchmarks.datasets import Dataset
from benchmarks.datasets.disk import data_root, recorded, sha256
from benchmarks.datasets.maf import PUBLISHED

CHANGED = "files changed since they were fetched"


def verify(name: str) -> tuple[str, bool]:
    """Describe a set, and return whether it is as published.

    A wrong preprocessing shows in the score of a Gaussian beside the published one. Raises Absent,
    or ValueError for broken files.
    """
    sums = _sums(datasets.files(name))
    data = datasets.load(name)
    rows = [len(part) for part in (data.train, data.val, data.test)]
    if (published := PUBLISHED.get(name)) is None:
        return f"{sum(rows):,} rows of {data.dim} columns; {sums}", sums != CHANGED
    size = published.differs(data.dim, rows)
    score = f"a Gaussian scores {gaussian_score(data):.2f}, published {published.gaussian:.2f}"
    return f"{size or 'rows as published'}; {score}; {sums}", not size and sums != CHANGED


def gaussian_score(data: Dataset) -> float:
    """Return the mean test log-likelihood, nats, of the full-covariance Gaussian of train.

    A conditional set is scored by a linear regression, the Gaussian of y given x.
    """
    from benchmarks.training.baselines import fit  # late: loaders do not need it

    fitted = fit("gaussian", data.train.numpy(), 0, data.val.numpy(), given=data.context_dim)
    return float(fitted.log_prob(data.test.numpy()).mean())


def _sums(paths: tuple[Path, ...]) -> str:
    """Compare files with the sums recorded when they were fetched."""
    root = data_root()
    sums = recorded(root)
    expected = [sums.get(str(path.relative_to(root))) for path in paths]
    if None in expected:
        return "files put there, not fetched"
    return "files as fetched" if expected == [sha256(path) for path in paths] else CHANGED
