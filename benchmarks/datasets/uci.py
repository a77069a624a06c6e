"""Readers of UCI's original files of power and miniboone: the rows that the MAF archive has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

METERS = [
    "Global_active_power",
    "Global_reactive_power",
    "Voltage",
    "Global_intensity",
    "Sub_metering_1",
    "Sub_metering_2",
    "Sub_metering_3",
]


def repetitive(column: np.ndarray) -> bool:
    """Return whether the least value (not the commonest) occurs more than 5 times, as published."""
    return bool((column == column.min()).sum() > 5)


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


def miniboone_rows(path: Path) -> np.ndarray:
    """Read the signal of MiniBooNE_PID.txt (UCI 199) by the rule of the published loader: (N, D).

    The first line counts signal and background, and the signal comes first. Rows whose first value
    is below -100 are dropped, then repetitive columns.
    """
    with path.open(encoding="utf-8") as file:
        counts = file.readline().split()
        if len(counts) != 2:
            raise ValueError(f"{str(path)!r} lacks the counts of signal and background at its top")
        signal = int(counts[0])
        x = pd.read_csv(file, sep=r"\s+", header=None, nrows=signal).to_numpy(dtype="float64")
    if len(x) < signal:
        raise ValueError(
            f"{str(path)!r} is cut off: {signal:,} rows of signal promised, {len(x):,} found"
        )
    x = x[x[:, 0] >= -100]
    return x[:, [not repetitive(column) for column in x.T]]
