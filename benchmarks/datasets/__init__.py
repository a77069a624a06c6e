"""Data sets by name: one module a source, one registered loader a set.

A module of this folder defines `loader(root, seed) -> Dataset` and decorates it with
`@register("name")`; every module is imported on first use, so there is no list to keep. Loading
never uses the network: a loader that needs files looks for them under `root`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from flows.registry import Declared, Registry

__all__ = ["Dataset", "Loader", "declared", "load", "module_of", "names", "register", "stream"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set cut into three parts, with its exact density where that is known.

    `train`, `val` and `test` are finite float64 tensors of shape (N, dim). `entropy` (nats) is the
    floor of the negative log-likelihood. `groups` (len(test),) holds the integer block of each
    test row where rows are not independent, for a clustered standard error. `modes` (K, dim) holds
    the centres of its modes where it has some, each as likely.

    Raises ValueError when a part has another shape or type, or a value that is not finite.
    """

    name: str
    dim: int
    train: Tensor
    val: Tensor
    test: Tensor
    units: str
    about: str
    sample: Callable[[int, torch.Generator], Tensor] | None = None  # (n, generator) -> (n, dim)
    log_prob: Callable[[Tensor], Tensor] | None = None  # (n, dim) -> (n,) nats
    entropy: float | None = None
    groups: Tensor | None = None
    modes: Tensor | None = None

    def __post_init__(self) -> None:
        for part in ("train", "val", "test"):
            x: Tensor = getattr(self, part)
            if x.ndim != 2 or x.shape[1] != self.dim or len(x) == 0 or x.dtype != torch.float64:
                raise ValueError(
                    f"data set {self.name!r}: {part} must be float64 of shape (N, {self.dim}) "
                    f"with N > 0, got {x.dtype} of shape {tuple(x.shape)}"
                )
            if not torch.isfinite(x).all():
                raise ValueError(f"data set {self.name!r}: {part} holds NaN or infinite values")
        if self.modes is not None and self.modes.shape[1:] != (self.dim,):
            raise ValueError(
                f"data set {self.name!r}: modes must be centres of shape (K, {self.dim}), "
                f"got shape {tuple(self.modes.shape)}"
            )
        if self.groups is not None and self.groups.shape != (len(self.test),):
            raise ValueError(
                f"data set {self.name!r}: groups must have one entry a test row "
                f"({len(self.test)}), got shape {tuple(self.groups.shape)}"
            )


Loader = Callable[[Path | None, int], Dataset]

_registry: Registry[Loader] = Registry("data set", packages=(__name__,))


def register(name: str, *, version: int = 1, pace: int = 1) -> Callable[[Loader], Loader]:
    """Decorator that adds a loader under `name`; ValueError when another module holds the name.

    Raise `version` when a change moves the rows that the loader gives: records of before are stale
    then.
    """

    def add(loader: Loader) -> Loader:
        _registry.add(name, loader, loader.__module__, version=version, pace=pace)
        return loader

    return add


def names() -> list[str]:
    """The names of all data sets, sorted."""
    return list(_registry)


def module_of(name: str) -> str:
    """The dotted module that defines the loader of `name`; ValueError for an unknown name."""
    return _registry.module_of(name)


def declared(name: str) -> Declared:
    """The version and pace of a data set; ValueError for an unknown name."""
    return _registry.declared(name)


def load(name: str, root: Path | str | None = None, seed: int = 0) -> Dataset:
    """The data set `name`, split and drawn from `seed`; ValueError for an unknown name.

    `root` is the folder of files that are not part of this package; sets that need none ignore it.
    The sets loaded last are kept, so treat the tensors as read-only.
    """
    return _kept(_registry[name], None if root is None else Path(root), seed)


@lru_cache(maxsize=4)
def _kept(loader: Loader, root: Path | None, seed: int) -> Dataset:
    return loader(root, seed)


def stream(seed: int, label: str) -> torch.Generator:
    """A random generator of its own for every (seed, label): hashed, so that neighbouring seeds
    and the parts of one data set share no stream."""
    digest = hashlib.sha256(f"{seed}/{label}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
