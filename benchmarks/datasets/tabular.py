"""Real tables: how they are split and scaled, and those of the package, a row of `TABLES` each.

A file in `data/` holds the columns of a row, in the order of its source. What it says of itself is
shown by `flowgauge data info`, by records and by docs/tables.md; `data/README.md` says where the
values were read. None of the sets is one of the MAF sets.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd
import torch
from torch import Tensor

from benchmarks.datasets import Dataset, bounds, counts, register, stream
from flows.preprocessing import Standardization

DATA = Path(__file__).parent / "data"
LARGE, DRAWS = 25_000, 5  # distinct rows from which a table has disjoint draws, and their number
POSITIVE = (0.0, math.inf)

T = TypeVar("T")


class Table(NamedTuple):
    """A real table of the package: whose it is, and which of its columns have a density.

    ``rows`` are its distinct ones. ``steps`` are of columns whose values have equal distances: the
    file has whole numbers of steps, to which uniform noise of one step is added, the same for every
    seed. ``support`` are bounds of columns, after the noise. Columns are separated by spaces.
    """

    name: str
    title: str
    source: str  # author, title, year, archive, identifier
    dim: int
    rows: int
    columns: str  # which, and why the others are left out
    licence: str = "CC BY 4.0"
    steps: Mapping[float, str] = {}
    support: Mapping[tuple[float, float], str] = {}

    @property
    def draws(self) -> int | None:
        """Number of disjoint draws, one a seed; None where each seed splits all rows at random."""
        return DRAWS if self.rows >= LARGE else None

    @property
    def noise(self) -> str:
        """Which columns have noise of which step, as a sentence; empty if none has."""
        steps = [f"{step:.4g} on {names.replace(' ', ', ')}" for step, names in self.steps.items()]
        return f"Uniform noise of a step, {'; '.join(steps)}." if steps else ""

    def load(self, root: Path | None, seed: int) -> Dataset:
        """Split the distinct rows by a seed, or take its draw of them; standardise."""
        frame = pd.read_parquet(DATA / f"{self.name}.parquet")
        columns, steps = tuple(map(str, frame)), by_column(self.steps)
        x = distinct_rows(frame.assign(**{name: frame[name] * steps[name] for name in steps}))
        how = f"{len(frame) - len(x):,} duplicate rows dropped before a random 80/10/10 split"
        if steps:
            places = {columns.index(name): step for name, step in steps.items()}
            add_noise(x, places, stream(0, f"{self.name}/noise"))
        if self.draws:
            order = torch.randperm(len(x), generator=stream(0, f"{self.name}/draws"))
            x = x[order].chunk(self.draws)[seed]
            how += f" of each of {self.draws} disjoint draws, one a seed"
        parts = shuffled_split(x, stream(seed, self.name))
        about = (
            f"{self.title} ({self.source}, {self.licence}), {self.columns}; not a MAF set. {how}: "
            f"{counts(map(len, parts.values()))} rows, standardised with the training mean and sd."
            f" {self.noise}"
        ).strip()
        split = "disjoint" if self.draws else "random"
        limits = by_column(self.support)
        return scaled(self.name, parts, columns, limits, about=about, split=split)


def by_column(names: Mapping[T, str]) -> dict[str, T]:
    return {column: value for value, columns in names.items() for column in columns.split()}


def distinct_rows(frame: pd.DataFrame) -> Tensor:
    """Return the distinct rows of a table, float64 (N, D), so that no row is in two parts."""
    return torch.tensor(frame.drop_duplicates().to_numpy(dtype="float64"))


def add_noise(x: Tensor, steps: Mapping[int, float], generator: torch.Generator) -> None:
    """Add uniform noise of a step to columns of x (N, D), by their places."""
    noise = torch.rand(len(x), len(steps), generator=generator, dtype=x.dtype)
    x[:, list(steps)] += noise * torch.tensor(list(steps.values()))


def shuffled_split(x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Split the rows of x (N, D) in random order into train, val and test, 80 / 10 / 10 %."""
    x = x[torch.randperm(len(x), generator=generator)]
    tenth = len(x) // 10
    return {"train": x[: -2 * tenth], "val": x[-2 * tenth : -tenth], "test": x[-tenth:]}


def scaled(
    name: str,
    parts: Mapping[str, Tensor],
    names: tuple[str, ...],
    limits: Mapping[str, tuple[float, float]],
    **facts: Any,
) -> Dataset:
    """A data set of parts (N, D), standardised by the training mean and sd (divisor N).

    ``limits`` are raw bounds by the name of a column. ``facts`` are further fields of the data set.
    """
    mean, sd = parts["train"].mean(dim=0), parts["train"].std(dim=0, correction=0)
    standard: dict[str, Any] = {part: (x - mean) / sd for part, x in parts.items()}
    scaling = Standardization(mean, sd)
    raw = [limits.get(column, (-math.inf, math.inf)) for column in names]
    return Dataset(
        name,
        len(names) - facts.get("context_dim", 0),
        **standard,
        units="standardised columns",
        scaling=scaling,
        support=scaling(bounds(*raw))[0] if limits else None,
        **{"columns": names, **facts},
    )


TABLES = (
    Table(
        "magic",
        "MAGIC gamma telescope",
        "Bock 2004, UCI 159, doi:10.24432/C52C8B",
        10,
        18_905,
        "the 10 features without the class",
    ),
    Table(
        "casp",
        "Decoys of protein structures, CASP 5 to 9",
        "Rana, Physicochemical Properties of Protein Tertiary Structure, 2013, UCI 265, "
        "doi:10.24432/C5QW3H",
        9,
        43_367,
        "all but F3, which is F2 / F1 to its last digit; without the 454 rows with F9 of 46.5464, "
        "and the 198 natives, whose RMSD is 0",
        steps={0.001: "RMSD", 1: "F8"},
        support={(0, 21): "RMSD", POSITIVE: "F8"},
    ),
    Table(
        "cytometry",
        "Cells of one sample in a flow cytometer",
        "fcsparser 0.2.8, Yurtsev 2018, facs_diva_test.fcs",
        10,
        81_476,
        "all but the time, and SSC-A, which is at the end of its range in 22 % of the rows; "
        "without the 1,934 rows at the end of another, and the first, which is off the lattices",
        "MIT",
        {0.82: "FSC_A", 1.08: "CD20 CD10 CD45 CD34", 1.13: "Syto41", 0.98: "CD19 CD38 APC_Cy7_A"},
    ),
    Table(
        "fires",
        "Fires in Australia seen by MODIS, August and September 2019",
        "NASA FIRMS, MCD14ML collection 6, doi:10.5067/FIRMS/MODIS/MCD14ML",
        5,
        36_011,
        "place, temperatures and power, without time, size of the pixel, confidence and satellite",
        "open data of NASA, without restrictions",
        {0.0001: "latitude longitude", 0.1: "brightness bright_t31 frp"},
        {POSITIVE: "frp"},
    ),
    Table(
        "california",
        "Block groups of California, census of 1990",
        "Pace and Barry, Sparse Spatial Autoregressions, 1997, doi:10.1016/S0167-7152(96)00140-X",
        7,
        20_640,
        "without age and value of houses, which are cut off (6 % and 5 % of the rows have the "
        "largest); with counts in place of ratios to households",
        "public domain",
        {0.01: "longitude latitude", 1: "rooms bedrooms population households", 0.0001: "income"},
        {POSITIVE: "rooms bedrooms population households"},
    ),
    Table(
        "zee",
        "Pairs of electrons in proton collisions of 2011 about the mass of the Z boson",
        "CMS Collaboration, Zee of Run2011A, CERN Open Data 545",
        8,
        18_885,
        "momentum, direction and width of the shower of each, without charge, isolations and "
        "leakage, of which many are 0",
        "CC0 1.0",
        support={
            (25, math.inf): "pt1 pt2",
            POSITIVE: "sigmaEtaEta1 sigmaEtaEta2",
            (-math.pi, math.pi): "phi1 phi2",
        },
    ),
    Table(
        "htru2",
        "Candidates of pulsars, High Time Resolution Universe survey",
        "Lyon, HTRU2, 2015, UCI 372, doi:10.24432/C5DK6R",
        8,
        17_898,
        "moments of profile and DM curve, without the class",
        steps={1 / 128: "mean_profile", 1 / 1196: "mean_dm"},
    ),
    Table(
        "sdss",
        "Stars, galaxies and quasars of the Sloan Digital Sky Survey",
        "Abolfathi et al., SDSS Data Release 14, 2018, doi:10.3847/1538-4365/aa9e8a",
        6,
        10_000,
        "magnitudes and redshift, without place in the sky, numbers of plates and class",
        "public domain",
    ),
    Table(
        "ccpp",
        "A power plant at full load, means of an hour, shuffled",
        "Tüfekci and Kaya, Combined Cycle Power Plant, 2014, UCI 294, doi:10.24432/C5002N",
        5,
        9_527,
        "all columns",
        steps={0.01: "AT V AP RH PE"},
    ),
    Table(
        "anuran",
        "Cepstral coefficients of syllables of frogs, in 60 recordings",
        "Colonna et al., Anuran Calls (MFCCs), 2015, UCI 406, doi:10.24432/C5CC9H",
        21,
        6_947,
        "all but the first, which is 1; without the 248 rows in which another is 1",
        support={(-1, 1): " ".join(f"mfcc{k}" for k in range(2, 23))},
    ),
    Table(
        "page_blocks",
        "Blocks of the layout of pages",
        "Malerba, Page Blocks Classification, 1994, UCI 78, doi:10.24432/C5J590",
        5,
        5_393,
        "counts of pixels, without their products and ratios and the class",
        steps={1: "height length blackpix blackand wb_trans"},
        support={POSITIVE: "height length blackpix blackand wb_trans"},
    ),
    Table(
        "abalone",
        "Abalones of Tasmania",
        "Nash et al., Abalone, 1994, UCI 1, doi:10.24432/C55C7W",
        7,
        4_177,
        "lengths and weights, without sex and number of rings",
        steps={
            0.005: "length diameter height",
            0.0005: "whole_weight shucked_weight viscera_weight shell_weight",
        },
        support={POSITIVE: "length diameter height"},
    ),
)


def real() -> list[str]:
    """Return the names of the real tables of the package, sorted."""
    return sorted(row.name for row in TABLES)


for _row in TABLES:
    register(_row.name, dim=_row.dim, pace=2, draws=_row.draws)(_row.load)
