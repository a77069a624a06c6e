"""Splits and scales of real tables, and the one that is shipped: MAGIC (not one of the MAF sets).

Source of `magic`: Bock, MAGIC Gamma Telescope, 2004, UCI Machine Learning Repository, set 159,
doi:10.24432/C52C8B, CC BY 4.0. `data/README.md` lists the changes to the file.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from benchmarks.datasets import Dataset, counts, register, stream
from flows.preprocessing import Standardization

DATA = Path(__file__).parent / "data"


def distinct_rows(frame: pd.DataFrame) -> Tensor:
    """Return the distinct rows of a table, float64 (N, D), so that no row is in two parts."""
    return torch.tensor(frame.drop_duplicates().to_numpy(dtype="float64"))


def shuffled_split(x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Split the rows of x (N, D) in random order into train, val and test, 80 / 10 / 10 %."""
    x = x[torch.randperm(len(x), generator=generator)]
    tenth = len(x) // 10
    return {"train": x[: -2 * tenth], "val": x[-2 * tenth : -tenth], "test": x[-tenth:]}


def standardised(parts: dict[str, Tensor]) -> tuple[dict[str, Tensor], Standardization]:
    """Standardise by the training mean and standard deviation (divisor N); return the map too."""
    mean, sd = parts["train"].mean(dim=0), parts["train"].std(dim=0, correction=0)
    return {part: (x - mean) / sd for part, x in parts.items()}, Standardization(mean, sd)


@register("magic", dim=10, pace=2)
def magic(root: Path | None, seed: int) -> Dataset:
    """MAGIC gamma telescope: 10 shape parameters of simulated Cherenkov images, both classes."""
    frame = pd.read_parquet(DATA / "magic.parquet")
    x = distinct_rows(frame)
    parts, raw_to_standard = standardised(shuffled_split(x, stream(seed, "magic")))
    return Dataset(
        "magic",
        x.shape[1],
        parts["train"],
        parts["val"],
        parts["test"],
        units="standardised columns",
        scaling=raw_to_standard,
        columns=tuple(frame.columns),
        about="MAGIC gamma telescope (Bock 2004, UCI 159, doi:10.24432/C52C8B, CC BY 4.0), the 10 "
        f"features without the class; not a MAF set. {len(frame) - len(x)} duplicate rows dropped "
        f"before a random 80/10/10 split: {counts(map(len, parts.values()))} rows, standardised "
        "with the training mean and sd.",
    )
