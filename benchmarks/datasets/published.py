"""Data sets of the literature that are read from files: where these lie, and what was published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.core.formats import brief
from benchmarks.core.unpacking import MALFORMED
from benchmarks.datasets import Dataset
from benchmarks.datasets.disk import VARIABLE, Absent, data_root, first_complete
from benchmarks.datasets.download import Source

Parts = tuple[np.ndarray, ...]  # rows of train, val and test


class Published(NamedTuple):
    """A published set: how its files are read, what they hold, and where they come from."""

    name: str
    read: Callable[..., Parts]  # of the paths of its files
    dim: int
    rows: tuple[int, int, int]
    gaussian: float  # mean test log-likelihood, nats, of a Gaussian with full covariance
    files: tuple[tuple[str, ...], ...]  # alternatives, under the data root
    quirks: str  # of the set and its preprocessing
    by: str  # those who published it
    units: str = "standardised columns"
    originals: tuple[Source, ...] = ()  # files of those who measured it, if the set follows

    def paths(self, root: Path | None = None) -> tuple[Path, ...]:
        """Return the paths of its files; raise Absent if they are not there."""
        folder = data_root(root)
        paths = first_complete(folder, self.files)
        if paths is None:
            choices = ", or ".join(" and ".join(names) for names in self.files)
            raise Absent(
                f"data set {self.name!r} is not in {str(folder)!r}: put {choices} there, name "
                f"another folder by --data-root or {VARIABLE}, or try flowgauge data fetch "
                f"{self.name}"
            )
        return paths

    def differs(self, dim: int, rows: Sequence[int]) -> str:
        """Say how a size differs from the published one; "" if it does not."""
        if (dim, *rows) == (self.dim, *self.rows):
            return ""
        return (
            f"NOT the published set: {dim} columns and {counts(rows)} rows, published {self.dim} "
            f"and {counts(self.rows)}"
        )

    def load(self, root: Path | None = None) -> Dataset:
        """Load the set; every seed has the published split."""
        paths = self.paths(root)
        try:
            parts = [np.require(part, "float64", ["C", "W"]) for part in self.read(*paths)]
        except MALFORMED as error:
            reason = brief(error)
            where = "" if str(paths[0].parent) in reason else f" cannot read {str(paths[0])!r}:"
            raise ValueError(f"data set {self.name!r}:{where} {reason}") from error
        dim, rows = parts[0].shape[1], [len(part) for part in parts]
        size = self.differs(dim, rows) or f"the published {counts(rows)} rows"
        train, val, test = map(torch.from_numpy, parts)
        about = f"{self.name.upper()} as {self.by} have it: {self.quirks}. Read: {size}."
        return Dataset(
            self.name, dim, train, val, test, units=self.units, about=about, split="published"
        )


def counts(rows: Sequence[int]) -> str:
    """Format the sizes of parts."""
    return " / ".join(f"{n:,}" for n in rows)
