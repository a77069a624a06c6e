"""The five sets of the tabular literature, preprocessed to the letter of those who made them.

Source: Papamakarios, Pavlakou and Murray, Masked Autoregressive Flow for Density Estimation, 2017,
arXiv:1705.07057, and the code published with it (gpapamak/maf, `datasets/*.py`), which that of
FFJORD and NSF follows. Its quirks are in every log-likelihood of the literature and are kept:
`quirks` names them. Splits and noise are the published ones whatever the seed; values are float64,
there float32.

Files lie in the layout of the archive (Zenodo record 1161203): `power/data.npy`,
`gas/ethylene_CO.pickle`, `hepmass/1000_train.csv` and `1000_test.csv`, `miniboone/data.npy`,
`BSDS300/BSDS300.hdf5`; or, for power, hepmass and miniboone, as UCI has them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from benchmarks.datasets import Dataset, Loader, register
from benchmarks.datasets.disk import VARIABLE, Absent, data_root, found, read_npy
from benchmarks.datasets.pickled import read_table
from benchmarks.datasets.uci import miniboone_rows, power_rows, repetitive

CORRELATED = 0.98  # of gas: above it, one of two columns goes


def tails(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """The last tenth of the rows is test, the last tenth of the others val."""
    if len(x) < 20:
        raise ValueError(f"{len(x)} rows are too few to split: the published set has far more")
    test = int(0.1 * len(x))
    rest = x[:-test]
    val = int(0.1 * len(rest))
    return rest[:-val], rest[-val:], x[-test:]


def standardised(parts: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Every part by mean and standard deviation (divisor N) of train and val together."""
    seen = np.vstack(parts[:2])
    mean, sd = seen.mean(axis=0), seen.std(axis=0)
    return tuple((part - mean) / sd for part in parts)


def power(data: Path) -> tuple[np.ndarray, ...]:
    """Shuffled, without reactive power (1) and intensity (3), with noise in the published order."""
    x = read_npy(data) if data.suffix == ".npy" else power_rows(data)
    if x.shape[1] != 8:
        raise ValueError(f"{str(data)!r} has {x.shape[1]} columns; power has 8")
    rng = np.random.RandomState(42)
    rng.shuffle(x)
    x = np.delete(np.delete(x, 3, axis=1), 1, axis=1)
    voltage, active = 0.01 * rng.rand(len(x), 1), 0.001 * rng.rand(len(x), 1)
    meters, time = rng.rand(len(x), 3), np.zeros((len(x), 1))
    return standardised(tails(x + np.hstack((active, voltage, meters, time))))


def gas(data: Path) -> tuple[np.ndarray, ...]:
    """Columns go from the left until none is correlated; standardised with the test rows."""
    x = read_table(data).drop(columns=["Meth", "Eth", "Time"])
    while np.any(crowded := (x.corr() > CORRELATED).to_numpy().sum(axis=1) > 1):
        x = x.drop(columns=x.columns[np.flatnonzero(crowded)[0]])
    return tails(((x - x.mean()) / x.std()).to_numpy())


def hepmass(train: Path, test: Path) -> tuple[np.ndarray, ...]:
    """Signal alone, without the test file's last column and columns of a repeated least value."""
    tables = []
    for path in (train, test):
        table = pd.read_csv(path, index_col=False)
        tables.append(table[table.iloc[:, 0] == 1].iloc[:, 1:])
    signal, tested = tables[0], tables[1].iloc[:, :-1]
    if list(signal) != list(tested):
        raise ValueError(
            f"{train.name} has {len(signal.columns)} columns after the label and {test.name} has "
            f"{len(tested.columns)} without its last, which the published loader drops; they "
            "should be the same columns in the same order"
        )
    mean, sd = signal.mean(), signal.std()
    x, y = ((table - mean) / sd for table in (signal, tested))
    kept = [c for c in x if not repetitive(x[c].to_numpy())]
    val = int(0.1 * len(x))
    if val == 0:
        raise ValueError(f"{train.name} has {len(x)} rows of signal, too few to split")
    seen = x[kept].to_numpy()
    return seen[:-val], seen[-val:], y[kept].to_numpy()


def miniboone(data: Path) -> tuple[np.ndarray, ...]:
    """The rows as they stand in the archive, or cleaned by the rule that is noted beside them."""
    x = read_npy(data) if data.suffix == ".npy" else miniboone_rows(data)
    return standardised(tails(x))


def bsds300(data: Path) -> tuple[np.ndarray, ...]:
    """The three parts of the file as they are."""
    import h5py

    with h5py.File(data, "r") as file:
        return tuple(file[key][:] for key in ("train", "validation", "test"))


class Published(NamedTuple):
    """A row of the table: what was published of a set, and how its files are read."""

    read: Callable[..., tuple[np.ndarray, ...]]
    dim: int
    rows: tuple[int, int, int]
    gaussian: float  # mean test log-likelihood, nats, of a full-covariance Gaussian (their Table 1)
    files: tuple[tuple[str, ...], ...]  # alternatives
    quirks: str


PUBLISHED = {
    "power": Published(
        power,
        6,
        (1_659_917, 184_435, 204_928),
        -7.74,
        (
            ("power/data.npy",),
            ("power/household_power_consumption.txt",),
            ("power/household_power_consumption.csv",),
        ),
        "household power by the minute: shuffled by RandomState(42), reactive power and intensity "
        "dropped, uniform noise of 0.01 on voltage, 0.001 on power, 1 on the sub-meters, none on "
        "the minute of day; standardised by train and val together",
    ),
    "gas": Published(
        gas,
        8,
        (852_174, 94_685, 105_206),
        -3.58,
        (("gas/ethylene_CO.pickle",),),
        "gas sensors, not shuffled: while a correlation is above 0.98 the first such column goes; "
        "standardised by all rows, those of the test part included",
    ),
    "hepmass": Published(
        hepmass,
        21,
        (315_123, 35_013, 174_987),
        -27.93,
        (
            ("hepmass/1000_train.csv", "hepmass/1000_test.csv"),
            ("hepmass/1000_train.csv.gz", "hepmass/1000_test.csv.gz"),
        ),
        "particle collisions, signal alone: the last column of the test file dropped, standardised "
        "by train and val, then without columns whose least value (not their commonest) occurs "
        "more than 5 times; not shuffled",
    ),
    "miniboone": Published(
        miniboone,
        43,
        (29_556, 3_284, 3_648),
        -37.24,
        (("miniboone/data.npy",), ("miniboone/MiniBooNE_PID.txt",)),
        "neutrino events, signal alone: outliers and columns with a repeated least value gone "
        "before it was published; standardised by train and val together, not shuffled",
    ),
    "bsds300": Published(
        bsds300,
        63,
        (1_000_000, 50_000, 250_000),
        96.67,
        (("BSDS300/BSDS300.hdf5",), ("bsds300/bsds300.hdf5",)),
        "8 x 8 natural-image patches without their mean and last pixel; not standardised",
    ),
}


def files(name: str, root: Path | None = None) -> tuple[Path, ...]:
    """The files of a set; Absent where they are not there."""
    folder = data_root(root)
    paths = found(folder, PUBLISHED[name].files)
    if paths is None:
        choices = ", or ".join(" and ".join(names) for names in PUBLISHED[name].files)
        raise Absent(
            f"data set {name!r} is not in {str(folder)!r}: put {choices} there, name another "
            f"folder by --data-root or {VARIABLE}, or try flowgauge data fetch {name}"
        )
    return paths


def differs(name: str, dim: int, rows: Sequence[int]) -> str:
    """In words, how the size of what was read differs from the published; "" if it does not."""
    published = PUBLISHED[name]
    if (dim, *rows) == (published.dim, *published.rows):
        return ""
    return (
        f"NOT the published set: {dim} columns and {_told(rows)} rows, published {published.dim} "
        f"and {_told(published.rows)}"
    )


def _told(rows: Sequence[int]) -> str:
    return " / ".join(f"{n:,}" for n in rows)


def _loader(name: str, published: Published) -> Loader:
    def load(root: Path | None, seed: int) -> Dataset:
        paths = files(name, root)
        try:
            parts = [np.require(p, "float64", ["C", "W"]) for p in published.read(*paths)]
        except (ValueError, KeyError, OSError, EOFError, zlib.error) as error:
            where = "" if str(paths[0].parent) in str(error) else f" cannot read {str(paths[0])!r}:"
            raise ValueError(f"data set {name!r}:{where} {error}") from error
        dim, rows = parts[0].shape[1], [len(part) for part in parts]
        size = differs(name, dim, rows) or f"the published {_told(rows)} rows"
        train, val, test = map(torch.from_numpy, parts)
        return Dataset(
            name,
            dim,
            train,
            val,
            test,
            units="raw units" if name == "bsds300" else "standardised columns",
            about=f"{name.upper()} as Papamakarios et al. (2017, arXiv:1705.07057) have it: "
            f"{published.quirks}. Read: {size}.",
        )

    return load


for _name, _published in PUBLISHED.items():
    register(_name)(_loader(_name, _published))
