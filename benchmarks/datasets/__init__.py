"""Data sets by name: one module a source, one registered loader a set.

A module of this folder defines `loader(root, seed) -> Dataset` and decorates it with
`@register("name")`; all modules are imported on first use. Loading never uses the network: a loader
that needs files looks for them under `root`, and its module defines
`files(name, root=None) -> tuple[Path, ...]`, so that records depend on their content. If they can
be downloaded it also defines `sources(name, original=False) -> tuple[Source, ...]`
(`benchmarks.datasets.disk`), which `flowgauge data fetch` uses.
"""

from __future__ import annotations

import copy
import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from flows.preprocessing import Standardization
from flows.registry import Registry

if TYPE_CHECKING:
    from benchmarks.datasets.disk import Source

ROWS = {"train": 20_000, "val": 5_000, "test": 20_000}  # of sets that are drawn


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in three parts, with its exact density if there is one.

    `train`, `val` and `test` are finite float64 tensors of shape (N, dim). A conditional set, of y
    given x, has `context_dim` columns of x behind the `dim` of y: its rows are (N, width), and
    `log_prob` and `entropy` are those of y given x. `entropy` (nats) is the floor of the negative
    log-likelihood. `groups` (len(test),) and `val_groups` (len(val),) hold the integer block of
    each row if rows are dependent, for clustered standard errors. `modes` (K, dim) holds the
    centres of modes, `weights` (K,) their shares of the mass, equal if left out. `columns` are the
    names of a table's columns, `remarks` list what is doubtful about it. `levels` is the number of
    grey levels of images, each a step of 1 / levels. `split` is what a seed decides: a new draw of
    all rows, one of disjoint draws from a table, a random split of it, or nothing, since the
    published split is kept. `support` (2, width) are lower and upper bounds of each column,
    infinite where there is none (`bounds`). `suits` are preprocessings that a search tries first.
    Raises ValueError for another shape or type, and for rows outside of the support.
    """

    name: str
    dim: int
    train: Tensor
    val: Tensor
    test: Tensor
    units: str
    about: str
    sample: Callable[[int, torch.Generator], Tensor] | None = None  # (n, generator) -> (n, width)
    log_prob: Callable[[Tensor], Tensor] | None = None  # (n, width) -> (n,) nats
    entropy: float | None = None
    groups: Tensor | None = None
    modes: Tensor | None = None
    weights: Tensor | None = None
    val_groups: Tensor | None = None
    columns: tuple[str, ...] | None = None
    remarks: tuple[str, ...] = ()
    levels: int | None = None
    split: Literal["drawn", "disjoint", "random", "published"] = "random"
    scaling: Standardization | None = None  # of raw columns to these
    context_dim: int = 0
    support: Tensor | None = None
    suits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part in ("train", "val", "test"):
            x: Tensor = getattr(self, part)
            if x.ndim != 2 or x.shape[1] != self.width or len(x) == 0 or x.dtype != torch.float64:
                raise self.fault(
                    f"{part} must be float64 of shape (N, {self.width}) with N > 0, "
                    f"got {x.dtype} of shape {tuple(x.shape)}"
                )
            if not torch.isfinite(x).all():
                raise self.fault(f"{part} holds NaN or infinite values")
        if self.modes is not None and self.modes.shape[1:] != (self.dim,):
            shape = tuple(self.modes.shape)
            raise self.fault(f"modes must be centres of shape (K, {self.dim}), got shape {shape}")
        if self.weights is not None:
            shares, count = self.weights.numpy(), 0 if self.modes is None else len(self.modes)
            if shares.shape != (count,) or (shares <= 0).any() or abs(shares.sum() - 1) > 1e-9:
                raise self.fault(f"weights must be {count} positive shares of one, got {shares}")
        for name, rows in {"groups": len(self.test), "val_groups": len(self.val)}.items():
            groups = getattr(self, name)
            if groups is not None and groups.shape != (rows,):
                raise self.fault(f"{name} must be of shape ({rows},), got {tuple(groups.shape)}")
        if self.columns is not None and len(self.columns) != self.width:
            raise self.fault(f"columns must be {self.width} names, got {self.columns}")
        if self.support is not None:
            with _disable_current_modes():  # no count includes a check
                self._check_support(self.support.numpy())

    def _check_support(self, support: np.ndarray) -> None:
        if support.shape != (2, self.width) or not (support[0] < support[1]).all():
            raise self.fault(f"support must be bounds of shape (2, {self.width}), lower ones first")
        parts = [part.numpy() for part in (self.train, self.val, self.test)]
        least, most = (np.min([x.min(0) for x in parts], 0), np.max([x.max(0) for x in parts], 0))
        for column in np.flatnonzero((least < support[0]) | (most > support[1])).tolist():
            name = self.columns[column] if self.columns else column
            raise self.fault(
                f"column {name!r} has values from {least[column]:g} to {most[column]:g}, outside "
                f"of its support from {support[0, column]:g} to {support[1, column]:g}"
            )

    def fault(self, what: str) -> ValueError:
        """An error of the data set, to be raised."""
        return ValueError(f"data set {self.name!r}: {what}")

    @property
    def width(self) -> int:
        """Columns of a row, those of its context among them."""
        return self.dim + self.context_dim

    @property
    def facts(self) -> dict[str, Any]:
        """Facts of the data for a record, as JSON."""
        names = ("about", "units", "entropy", "split")
        facts: dict[str, Any] = {name: getattr(self, name) for name in names}
        facts["rows"] = {part: len(getattr(self, part)) for part in ("train", "val", "test")}
        facts |= {} if self.columns is None else {"columns": list(self.columns)}
        if self.scaling is not None:  # log-densities of the raw columns are lower by this
            factor = self.scaling.factor
            factor = factor[: self.dim] if self.context_dim else factor
            facts["log_scale"] = factor.log().sum().item()
        facts |= {"context_dim": self.context_dim} if self.context_dim else {}
        return facts | ({"remarks": list(self.remarks)} if self.remarks else {})


Loader = Callable[[Path | None, int], Dataset]

_dims: dict[str, int] = {}  # of sets that are registered with their dimension
_draws: dict[str, int] = {}  # of sets with disjoint draws, one a seed: their number
registry: Registry[Loader] = Registry("data set", packages=(__name__,), group="flowgauge.datasets")


def register(
    name: str, *, version: int = 1, pace: int = 1, dim: int | None = None, draws: int | None = None
) -> Callable[[Loader], Loader]:
    """Register the decorated loader under `name`; ValueError if another module holds the name.

    With `dim`, for a set without context, a suite is planned without loading the set, whose files
    may be absent. ``draws`` is the number of disjoint draws of a set that has one a seed. Raise
    `version` when the rows, their split or their description change, so that earlier records are
    stale.
    """
    module = sys._getframe(1).f_globals["__name__"]  # a loader may be made elsewhere, by `drawn`

    def add(loader: Loader) -> Loader:
        registry.add(name, loader, module, version=version, pace=pace)
        if dim is not None:
            _dims[name] = dim
        if draws is not None:
            _draws[name] = draws
        return loader

    return add


def names() -> list[str]:
    """Return the names of all data sets, sorted."""
    return list(registry)


def files(name: str, root: Path | None = None) -> tuple[Path, ...]:
    """Return the files that a data set is read from; raise Absent if they are missing."""
    find = getattr(_module(name), "files", None)
    return tuple(find(name, root)) if find else ()


def sources(name: str, original: bool = False) -> tuple[Source, ...]:
    """Return the sources of a data set's files; ValueError if it cannot be downloaded."""
    find = getattr(_module(name), "sources", None)
    if find is None:
        choices = ", ".join(downloadable())
        raise ValueError(f"data set {name!r} is not downloaded; choose from: {choices}")
    return tuple(find(name, original))


def downloadable() -> list[str]:
    """Return the names of the data sets whose files can be downloaded."""
    return [name for name in registry if hasattr(_module(name), "sources")]


def _module(name: str) -> ModuleType:
    return sys.modules[registry.module_of(name)]


def load(name: str, root: Path | str | None = None, seed: int = 0) -> Dataset:
    """Load the data set `name`, split and drawn from `seed`; ValueError for an unknown name.

    `root` is the folder of files that are not part of this package; sets without files ignore it.
    The last sets are cached; the result is a copy, which the caller may change.
    """
    cached = _original(name, None if root is None else Path(root), seed)
    with _disable_current_modes():  # no count includes a copy
        return copy.deepcopy(cached)


def _original(name: str, root: Path | None = None, seed: int = 0) -> Dataset:
    """Return the cached data set, which callers get copies of."""
    try:
        stats = [(path, path.stat()) for path in files(name, root)]
        stamps = tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats)
    except OSError:  # the loader raises it too, with more to say
        stamps = ()
    check_seed(name, seed)
    return _cached(registry[name], root, seed, stamps)


def check_seed(name: str, seed: int) -> None:
    """ValueError for a seed beyond the disjoint draws of a data set that has such."""
    if (draws := _draws.get(name)) and seed not in range(draws):
        most = f"{draws} disjoint draws, seeds 0 to {draws - 1}"
        raise ValueError(f"data set {name!r} has {most}: leave out the seed {seed}")


def dim(name: str) -> int:
    """Return the dimension of a data set, which is loaded unless it was registered with one."""
    registry[name]  # imports all sets, and raises for an unknown name
    return _dims[name] if name in _dims else _original(name).dim


def context_dim(name: str) -> int:
    """Return the number of columns that a data set is conditioned on, mostly 0."""
    registry[name]
    return 0 if name in _dims else _original(name).context_dim


@lru_cache(maxsize=4)
def _cached(loader: Loader, root: Path | None, seed: int, state: object) -> Dataset:
    """Load a data set; ``state`` identifies the files that it is read from."""
    data = loader(root, seed)
    with _disable_current_modes():
        rows = data.test[:8]
        shape = tuple((data.log_prob(rows) if data.log_prob else rows[:, 0]).shape)
    if shape != (len(rows),):
        raise data.fault(f"log_prob of rows (n, {data.width}) must be of shape (n,), got {shape}")
    return data


def stream(seed: int, label: str) -> torch.Generator:
    """Return the random generator of (seed, label); hashed, so that no two share a stream."""
    digest = hashlib.sha256(f"{seed}/{label}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


def counts(rows: Iterable[int]) -> str:
    return " / ".join(f"{n:,}" for n in rows)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw standard normal numbers, float64."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw uniform numbers in [0, 1), float64."""
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def bounds(*intervals: tuple[float, float]) -> Tensor:
    """Return the support of columns that lie in these intervals, (2, D)."""
    with _disable_current_modes():
        return torch.tensor(intervals, dtype=torch.float64).T.contiguous()


def drawn(
    name: str,
    about: str,
    sample: Callable[[int, torch.Generator], Tensor],
    log_prob: Callable[[Tensor], Tensor] | None = None,
    entropy: Callable[[], float | None] = lambda: None,
    *,
    rows: Mapping[str, int] = ROWS,
    context_dim: int = 0,
    **facts: Any,
) -> Loader:
    """Return the loader of a sampler's set, (n, generator) -> (n, D) independent rows in raw units.

    Each part has its own generator. With ``context_dim`` C rows are (y, x), (n, D + C), and
    ``log_prob`` and ``entropy`` (nats) are of y given x. Loading raises ValueError where that
    leaves no column for y. ``facts`` are further fields of the data set.
    """

    def load(root: Path | None, seed: int) -> Dataset:
        parts: dict[str, Any] = {
            part: sample(n, stream(seed, f"{name}/{part}")) for part, n in rows.items()
        }
        width = parts["train"].shape[1]
        if not 0 <= context_dim < width:
            raise ValueError(
                f"data set {name!r}: context_dim must be from 0 to {width - 1}, since its rows "
                f"have {width} columns, got {context_dim}"
            )
        density = "exact density" if log_prob else "density not known"
        return Dataset(
            name,
            width - context_dim,
            **parts,
            context_dim=context_dim,
            units="raw units",
            about=f"{about}; {counts(rows.values())} independent rows; {density}.",
            sample=sample,
            log_prob=log_prob,
            entropy=entropy(),
            split="drawn",
            **facts,
        )

    return load


from benchmarks.datasets.tables import load_file as load_file  # noqa: E402  # needs what is above
from benchmarks.datasets.tables import load_frame as load_frame  # noqa: E402  # likewise
from benchmarks.datasets.tabular import real as real  # noqa: E402  # likewise
