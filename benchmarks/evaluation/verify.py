"""Whether the files of a MAF set are what was fetched, and give what was published."""

from __future__ import annotations

from pathlib import Path

from benchmarks import datasets
from benchmarks.datasets import Dataset
from benchmarks.datasets.disk import data_root, sha256
from benchmarks.datasets.fetch import recorded
from benchmarks.datasets.maf import PUBLISHED, differs, files

CHANGED = "files changed since they were fetched"


def verify(name: str) -> tuple[str, bool]:
    """What there is to say of a set, and whether all is as published.

    Its score under a Gaussian stands beside the published one, which a wrong preprocessing would
    miss. Raises Absent, or ValueError where the files are broken.
    """
    sums = _sums(files(name))
    data = datasets.load(name)
    size = differs(name, data.dim, [len(part) for part in (data.train, data.val, data.test)])
    score = (
        f"a Gaussian scores {gaussian_score(data):.2f}, published {PUBLISHED[name].gaussian:.2f}"
    )
    return f"{size or 'rows as published'}; {score}; {sums}", not size and sums != CHANGED


def gaussian_score(data: Dataset) -> float:
    """Mean test log-likelihood, nats, of the full-covariance Gaussian fitted on train."""
    from benchmarks.training.baselines import gaussian  # scikit-learn, which no loader needs

    return float(gaussian(data.train.numpy(), 0).log_prob(data.test.numpy()).mean())


def _sums(paths: tuple[Path, ...]) -> str:
    root = data_root()
    sums = recorded(root)
    told = [sums.get(str(path.relative_to(root))) for path in paths]
    if None in told:
        return "files put there, not fetched"
    return "files as fetched" if told == [sha256(path) for path in paths] else CHANGED
