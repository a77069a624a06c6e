"""Real tables shipped with the package: MAGIC (not one of the MAF sets).

Source of `magic`: Bock, MAGIC Gamma Telescope, 2004, UCI Machine Learning Repository, set 159,
doi:10.24432/C52C8B, CC BY 4.0. `data/README.md` lists the changes to the file.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from benchmarks.datasets import Dataset, register, stream
from flows.preprocessing import Standardization

DATA = Path(__file__).parent / "data"


def distinct_rows(frame: pd.DataFrame) -> tuple[Tensor, int]:
    """Drop repeated rows of a table; return float64 (N, D) and the number that was dropped.

    Of equal rows the first stays, so that no row can be in two parts of a split.
    """
    distinct = frame.drop_duplicates()
    return torch.tensor(distinct.to_numpy(dtype="float64")), len(frame) - len(distinct)


def shuffled_split(x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Split the rows of x (N, D) in random order into train, val and test, 80 / 10 / 10 %."""
    x = x[torch.randperm(len(x), generator=generator)]
    tenth = len(x) // 10
    return {"train": x[: -2 * tenth], "val": x[-2 * tenth : -tenth], "test": x[-tenth:]}


def scaling(parts: dict[str, Tensor]) -> Standardization:
    """Return the map of raw rows to those of `standardised`."""
    x = parts["train"]
    return Standardization(x.mean(dim=0), x.std(dim=0, correction=0))


def standardised(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Standardise all parts by the training mean and standard deviation (divisor N)."""
    mean = parts["train"].mean(dim=0)
    sd = parts["train"].std(dim=0, correction=0)
    return {part: (x - mean) / sd for part, x in parts.items()}


@register("magic", dim=10)
def magic(root: Path | None, seed: int) -> Dataset:
    """MAGIC gamma telescope: 10 shape parameters of simulated Cherenkov images, both classes."""
    frame = pd.read_parquet(DATA / "magic.parquet")
    x, dropped = distinct_rows(frame)
    raw = shuffled_split(x, stream(seed, "magic"))
    parts = standardised(raw)
    sizes = " / ".join(f"{len(part):,}" for part in parts.values())
    return Dataset(
        name="magic",
        dim=x.shape[1],
        train=parts["train"],
        val=parts["val"],
        test=parts["test"],
        units="standardised columns",
        scaling=scaling(raw),
        columns=tuple(frame.columns),
        about="MAGIC gamma telescope (Bock 2004, UCI 159, doi:10.24432/C52C8B, CC BY 4.0), the 10 "
        f"features without the class; not a MAF set. {dropped} duplicate rows dropped before a "
        f"random 80/10/10 split: {sizes} rows, standardised with the training mean and sd.",
    )
