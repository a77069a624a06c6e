"""The five sets of the tabular literature, preprocessed exactly as those who made them did.

Source: Papamakarios, Pavlakou and Murray, Masked Autoregressive Flow for Density Estimation, 2017,
arXiv:1705.07057, and the code published with it (gpapamak/maf, `datasets/*.py`), which FFJORD and
NSF follow. Its quirks are in every log-likelihood of the literature and are kept. Splits and noise
are the published ones whatever the seed; values are float64, there float32.

Files lie in the layout of the archive (Zenodo record 1161203), or, for power, hepmass and
miniboone, as UCI has them. Addresses and checksums are those of public loaders. Of gas and bsds300
the published files cannot be rebuilt from the originals: one is a random quarter, the other random
patches.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.core.unpacking import check, unpacked
from benchmarks.datasets import Dataset, Loader, register
from benchmarks.datasets.disk import read_npy
from benchmarks.datasets.download import Source
from benchmarks.datasets.pickled import read_table
from benchmarks.datasets.published import Parts, Published
from benchmarks.datasets.uci import miniboone_rows, power_rows, repetitive

ARCHIVE = "https://zenodo.org/records/1161203/files/data.tar.gz"
ARCHIVE_SUM = "md5:9b9c9b0375315ad270eba4ce80c093ab"
UCI = "https://archive.ics.uci.edu"
CORRELATED = 0.98  # correlation in gas above which one of two columns is dropped


def tails(x: np.ndarray) -> Parts:
    """Split rows: the last tenth is test, the last tenth of the others val."""
    if len(x) < 20:
        raise ValueError(f"{len(x)} rows are too few to split: the published set has far more")
    test = int(0.1 * len(x))
    rest = x[:-test]
    val = int(0.1 * len(rest))
    return rest[:-val], rest[-val:], x[-test:]


def standardised(parts: Parts) -> Parts:
    """Standardise by mean and standard deviation (divisor N) of train and val together."""
    seen = np.vstack(parts[:2])
    mean, sd = seen.mean(axis=0), seen.std(axis=0)
    return tuple((part - mean) / sd for part in parts)


def power(data: Path) -> Parts:
    """Shuffle, drop reactive power (1) and intensity (3), add noise in the published order."""
    x = read_npy(data) if data.suffix == ".npy" else power_rows(data)
    if x.shape[1] != 8:
        raise ValueError(f"{str(data)!r} has {x.shape[1]} columns; power has 8")
    rng = np.random.RandomState(42)
    rng.shuffle(x)
    x = np.delete(np.delete(x, 3, axis=1), 1, axis=1)
    voltage, active = 0.01 * rng.rand(len(x), 1), 0.001 * rng.rand(len(x), 1)
    meters, time = rng.rand(len(x), 3), np.zeros((len(x), 1))
    return standardised(tails(x + np.hstack((active, voltage, meters, time))))


def gas(data: Path) -> Parts:
    """Drop columns from the left until none is correlated; standardise with the test rows."""
    x = read_table(data).drop(columns=["Meth", "Eth", "Time"])
    while np.any(crowded := (x.corr() > CORRELATED).to_numpy().sum(axis=1) > 1):
        x = x.drop(columns=x.columns[np.flatnonzero(crowded)[0]])
    return tails(((x - x.mean()) / x.std()).to_numpy())


def hepmass(train: Path, test: Path) -> Parts:
    """Take the signal, without the test file's last column and without repetitive columns."""
    tables = []
    for path in (train, test):
        with unpacked(path) as file:
            table = pd.read_csv(file, index_col=False)
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
    columns = [c for c in x if not repetitive(x[c].to_numpy())]
    val = int(0.1 * len(x))
    if val == 0:
        raise ValueError(f"{train.name} has {len(x)} rows of signal, too few to split")
    seen = x[columns].to_numpy()
    return seen[:-val], seen[-val:], y[columns].to_numpy()


def miniboone(data: Path) -> Parts:
    """Take the rows of the archive as they are, or clean UCI's by the published rule."""
    x = read_npy(data) if data.suffix == ".npy" else miniboone_rows(data)
    return standardised(tails(x))


def bsds300(data: Path) -> Parts:
    """Take the three parts of the file as they are."""
    import h5py

    with h5py.File(data, "r") as file:
        parts = [file[key] for key in ("train", "validation", "test")]
        if any(part.external or part.is_virtual for part in parts):
            raise ValueError("its data lie in other files")
        check(data, sum(part.nbytes for part in parts))  # what was never written takes no bytes
        return tuple(part[:] for part in parts)


_row = partial(Published, by="Papamakarios et al. (2017, arXiv:1705.07057)")
ROWS = (
    _row(
        "power",
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
        originals=(
            Source(
                f"{UCI}/ml/machine-learning-databases/00235/household_power_consumption.zip",
                None,
                (("power/household_power_consumption.txt", "household_power_consumption.txt"),),
            ),
        ),
    ),
    _row(
        "gas",
        gas,
        8,
        (852_174, 94_685, 105_206),
        -3.58,
        (("gas/ethylene_CO.pickle",),),
        "gas sensors, not shuffled: while a correlation is above 0.98 the first such column goes; "
        "standardised by all rows, those of the test part included",
    ),
    _row(
        "hepmass",
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
        originals=tuple(
            Source(
                f"{UCI}/ml/machine-learning-databases/00347/{name}",
                None,
                ((f"hepmass/{name}", name),),
            )
            for name in ("1000_train.csv.gz", "1000_test.csv.gz")
        ),
    ),
    _row(
        "miniboone",
        miniboone,
        43,
        (29_556, 3_284, 3_648),
        -37.24,
        (("miniboone/data.npy",), ("miniboone/MiniBooNE_PID.txt",)),
        "neutrino events, signal alone: outliers and columns with a repeated least value gone "
        "before it was published; standardised by train and val together, not shuffled",
        originals=(
            Source(
                f"{UCI}/static/public/199/miniboone+particle+identification.zip",
                "af4573ca81797ca1c5bfc623f0fdf26ed07e626e2717c322224f96e8795f8752",
                (("miniboone/MiniBooNE_PID.txt", "MiniBooNE_PID.txt"),),
            ),
        ),
    ),
    _row(
        "bsds300",
        bsds300,
        63,
        (1_000_000, 50_000, 250_000),
        96.67,
        (("BSDS300/BSDS300.hdf5",), ("bsds300/bsds300.hdf5",)),
        "8 x 8 natural-image patches without their mean and last pixel; not standardised",
        units="raw units",
    ),
)
PUBLISHED = {row.name: row for row in ROWS}


def files(name: str, root: Path | None = None) -> tuple[Path, ...]:
    """Return the files of a set; raise Absent if they are not there."""
    return PUBLISHED[name].paths(root)


def sources(name: str, original: bool = False) -> tuple[Source, ...]:
    """Return what brings the files of a set: the archive, or UCI's originals.

    Raises ValueError for a set that its originals do not give.
    """
    row = PUBLISHED[name]
    if not original:
        members = tuple((file, f"data/{file}") for file in row.files[0])
        return (Source(ARCHIVE, ARCHIVE_SUM, members),)
    if not row.originals:
        choices = ", ".join(row.name for row in ROWS if row.originals)
        raise ValueError(
            f"{name} cannot be rebuilt from UCI's originals; --original has: {choices}"
        )
    return row.originals


def _loader(row: Published) -> Loader:
    def load(root: Path | None, seed: int) -> Dataset:
        return row.load(root)

    return load


for _published in ROWS:
    register(_published.name, dim=_published.dim)(_loader(_published))
