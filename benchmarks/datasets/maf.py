"""The five sets of the tabular literature, preprocessed exactly as those who made them did.

Source: Papamakarios, Pavlakou and Murray, Masked Autoregressive Flow for Density Estimation, 2017,
arXiv:1705.07057, and the code published with it (gpapamak/maf, `datasets/*.py`), which FFJORD and
NSF follow. Its quirks are in every log-likelihood of the literature and are kept. Splits and noise
are the published ones whatever the seed; values are float64, in that code float32.

Files lie in the layout of the archive (Zenodo record 1161203), or as UCI has them. Addresses and
checksums are those of public loaders. Of gas and bsds300 the published rows cannot be rebuilt from
the originals: the first are a random quarter, the second random patches. The archive's gas is a
pickle, a program: it is read once it has been converted (docs/data.md).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from benchmarks.core.formats import brief
from benchmarks.datasets import Dataset, counts, disk, register

ARCHIVE = "https://zenodo.org/records/1161203/files/data.tar.gz"
ARCHIVE_SUM = "md5:9b9c9b0375315ad270eba4ce80c093ab"
UCI = "https://archive.ics.uci.edu"
OLD_UCI = f"{UCI}/ml/machine-learning-databases"
MINIBOONE_SUM = "af4573ca81797ca1c5bfc623f0fdf26ed07e626e2717c322224f96e8795f8752"
CORRELATED = 0.98  # correlation in gas above which one of two columns is dropped
METERS = ["Global_active_power", "Global_reactive_power", "Voltage", "Global_intensity"]
METERS += [f"Sub_metering_{k}" for k in (1, 2, 3)]

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
    units: str = "standardised columns"
    archived: tuple[str, ...] = ()  # files in the archive, if they are not the first alternative
    originals: tuple[str, ...] = ()  # addresses of UCI's files, the second of the alternatives
    sums: Mapping[str, str] = {}  # published sha256 by the name of a file or download of UCI's
    remedy: str = ""  # end of the message when the files are absent

    def paths(self, root: Path | None = None) -> tuple[Path, ...]:
        """Return the paths of its files; raise Absent if they are not there."""
        folder = disk.data_root(root)
        for names in self.files:
            for place in (folder, folder / "data"):
                paths = tuple(place / name for name in names)
                if all(path.is_file() for path in paths):
                    return paths
        choices = ", or ".join(" and ".join(names) for names in self.files)
        raise disk.Absent(
            f"data set {self.name!r} is not in {str(folder)!r}: put {choices} there, name "
            f"another folder by --data-root or {disk.VARIABLE}, or try flowgauge data fetch "
            f"{self.name}{self.remedy}"
        )

    def differs(self, dim: int, rows: Sequence[int]) -> str:
        """Say how a size differs from the published one; "" if it does not."""
        if (dim, *rows) == (self.dim, *self.rows):
            return ""
        return (
            f"NOT the published set: {dim} columns and {counts(rows)} rows, published {self.dim} "
            f"and {counts(self.rows)}"
        )

    def load(self, root: Path | None, seed: int) -> Dataset:
        """Load the set; every seed has the published split."""
        paths = self.paths(root)
        try:
            parts = [np.require(part, "float64", ["C", "W"]) for part in self.read(*paths)]
        except Exception as error:  # whatever a reader raises for a damaged file
            reason = brief(error)
            where = "" if str(paths[0].parent) in reason else f" cannot read {str(paths[0])!r}:"
            raise ValueError(f"data set {self.name!r}:{where} {reason}") from error
        dim, rows = parts[0].shape[1], [len(part) for part in parts]
        size = self.differs(dim, rows) or f"the published {counts(rows)} rows"
        for path in (path for path in paths if path.name in self.sums):
            if disk.sha256(path) != self.sums[path.name]:
                size += f"; {path.name} is NOT the published file, by its sha256"
        about = (
            f"{self.name.upper()} as Papamakarios et al. (2017, arXiv:1705.07057) have it: "
            f"{self.quirks}. Read: {size}."
        )
        train, val, test = map(torch.from_numpy, parts)
        return Dataset(
            self.name, dim, train, val, test, units=self.units, about=about, split="published"
        )


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


def repetitive(column: np.ndarray) -> bool:
    """Return whether the least value (not the commonest) occurs more than 5 times, as published."""
    return bool((column == column.min()).sum() > 5)


def power(path: Path) -> Parts:
    """Shuffle, drop reactive power (1) and intensity (3), add noise in the published order."""
    x = disk.read_npy(path) if path.suffix == ".npy" else power_rows(path)
    if x.shape[1] != 8:
        raise ValueError(f"{str(path)!r} has {x.shape[1]} columns; power has 8")
    rng = np.random.RandomState(42)
    rng.shuffle(x)
    x = np.delete(np.delete(x, 3, axis=1), 1, axis=1)
    voltage, active = 0.01 * rng.rand(len(x), 1), 0.001 * rng.rand(len(x), 1)
    meters, time = rng.rand(len(x), 3), np.zeros((len(x), 1))
    return standardised(tails(x + np.hstack((active, voltage, meters, time))))


def power_rows(path: Path) -> np.ndarray:
    """Read the complete minutes of household_power_consumption: (N, 8), last the minute of day.

    Columns are separated by semicolons, as UCI has them (set 235), or commas; "?" or nothing is a
    missing value.
    """
    with path.open(encoding="utf-8") as file:
        header = file.readline()
    table = pd.read_csv(
        path, sep=";" if ";" in header else ",", na_values="?", dtype={"Date": str, "Time": str}
    )
    if lacking := [column for column in ["Time", *METERS] if column not in table]:
        raise ValueError(
            f"{str(path)!r} has no column {lacking[0]!r}; it has {', '.join(map(str, table))}"
        )
    table = table.dropna(subset=METERS)
    clock = table["Time"].str.split(":", expand=True).astype(float)
    return np.column_stack((table[METERS].to_numpy(dtype="float64"), 60 * clock[0] + clock[1]))


def gas(path: Path) -> Parts:
    """Drop columns from the left until none is correlated; standardise with the test rows."""
    x = gas_table(path).drop(columns=["Meth", "Eth", "Time"])
    while np.any(crowded := (x.corr() > CORRELATED).to_numpy().sum(axis=1) > 1):
        x = x.drop(columns=x.columns[np.flatnonzero(crowded)[0]])
    return tails(((x - x.mean()) / x.std()).to_numpy())


def gas_table(path: Path) -> pd.DataFrame:
    """Read the archive's table, converted to Parquet, or UCI's text (set 322).

    The text has a line of names, then seconds, two concentrations and 16 sensors, in columns
    separated by spaces.
    """
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    table = pd.read_csv(path, sep=r"\s+", header=None, skiprows=1)
    if table.shape[1] != 19:
        raise ValueError(f"{str(path)!r} has {table.shape[1]} columns; UCI's text has 19")
    return table.rename(columns={0: "Time", 1: "Meth", 2: "Eth"})


def hepmass(train: Path, test: Path) -> Parts:
    """Take the signal, without the test file's last column and without repetitive columns."""
    tables = [pd.read_csv(path, index_col=False) for path in (train, test)]
    signal, tested = (table[table.iloc[:, 0] == 1].iloc[:, 1:] for table in tables)
    tested = tested.iloc[:, :-1]
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


def miniboone(path: Path) -> Parts:
    """Take the rows of the archive as they are, or clean UCI's by the published rule."""
    x = disk.read_npy(path) if path.suffix == ".npy" else miniboone_rows(path)
    return standardised(tails(x))


def miniboone_rows(path: Path) -> np.ndarray:
    """Read the signal of MiniBooNE_PID.txt (UCI 199) by the rule of the published loader: (N, D).

    The first line counts signal and background, and the signal comes first. Rows whose first value
    is below -100 are dropped, then repetitive columns.
    """
    with path.open(encoding="utf-8") as file:
        counted = file.readline().split()
        if len(counted) != 2:
            raise ValueError(f"{str(path)!r} lacks the counts of signal and background at its top")
        signal = int(counted[0])
        x = pd.read_csv(file, sep=r"\s+", header=None, nrows=signal).to_numpy(dtype="float64")
    if len(x) < signal:
        raise ValueError(
            f"{str(path)!r} is cut off: {signal:,} rows of signal promised, {len(x):,} found"
        )
    x = x[x[:, 0] >= -100]
    return x[:, [not repetitive(column) for column in x.T]]


def bsds300(path: Path) -> Parts:
    try:
        import h5py
    except ModuleNotFoundError:
        raise ValueError("h5py reads it: pip install 'flowgauge[hdf5]'") from None
    with h5py.File(path, "r") as file:
        parts = [file[key] for key in ("train", "validation", "test")]
        # rows that were never written take no bytes in the file
        disk.check_size(path, sum(part.nbytes for part in parts))
        return tuple(part[:] for part in parts)


ROWS = (
    Published(
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
        originals=(f"{OLD_UCI}/00235/household_power_consumption.zip",),
    ),
    Published(
        "gas",
        gas,
        8,
        (852_174, 94_685, 105_206),
        -3.58,
        (("gas/ethylene_CO.parquet",), ("gas/ethylene_CO.txt",)),
        "gas sensors, not shuffled: while a correlation is above 0.98 the first such column goes; "
        "standardised by all rows, those of the test part included",
        archived=("gas/ethylene_CO.pickle",),
        originals=(f"{UCI}/static/public/322/gas+sensor+array+under+dynamic+gas+mixtures.zip",),
        remedy=" --original; the archive's ethylene_CO.pickle is a program, which you convert to "
        "ethylene_CO.parquet if you trust it (docs/data.md)",
    ),
    Published(
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
        originals=tuple(f"{OLD_UCI}/00347/1000_{part}.csv.gz" for part in ("train", "test")),
    ),
    Published(
        "miniboone",
        miniboone,
        43,
        (29_556, 3_284, 3_648),
        -37.24,
        (("miniboone/data.npy",), ("miniboone/MiniBooNE_PID.txt",)),
        "neutrino events, signal alone: outliers and columns with a repeated least value gone "
        "before it was published; standardised by train and val together, not shuffled",
        originals=(f"{UCI}/static/public/199/miniboone+particle+identification.zip",),
        sums={
            "miniboone+particle+identification.zip": MINIBOONE_SUM,
            "MiniBooNE_PID.txt": "577ab8bcb612199a0386cef1725058295df9a18b778a003a6a4349bbd51abd48",
        },
    ),
    Published(
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
    return PUBLISHED[name].paths(root)


def sources(name: str, original: bool = False) -> tuple[disk.Source, ...]:
    """Return the archive with the files of a set, or UCI's originals.

    Raises ValueError for a set that cannot be rebuilt from its originals.
    """
    row = PUBLISHED[name]
    if not original:
        members = tuple((file, f"data/{file}") for file in row.archived or row.files[0])
        return (disk.Source(ARCHIVE, ARCHIVE_SUM, members),)
    if not row.originals:
        choices = ", ".join(row.name for row in ROWS if row.originals)
        raise ValueError(
            f"{name} cannot be rebuilt from UCI's originals; --original has: {choices}"
        )
    originals = zip(row.originals, row.files[1], strict=True)
    return tuple(
        disk.Source(url, row.sums.get(PurePosixPath(url).name), ((file, PurePosixPath(file).name),))
        for url, file in originals
    )


for _row in ROWS:
    register(_row.name, dim=_row.dim)(_row.load)
