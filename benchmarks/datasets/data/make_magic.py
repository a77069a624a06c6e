"""Turns the raw text of the MAGIC set into magic.parquet: `python make_magic.py magic.dat`.

Writes beside this script. The class letter (last column) is dropped, nothing else is changed, and
every stored number is checked to be the number of the text. Prints both checksums of README.md.
"""

from __future__ import annotations

import hashlib
import sys
from decimal import Decimal
from pathlib import Path

import pandas as pd

COLUMNS = [
    "fLength",
    "fWidth",
    "fSize",
    "fConc",
    "fConc1",
    "fAsym",
    "fM3Long",
    "fM3Trans",
    "fAlpha",
    "fDist",
]


def main(raw: Path) -> None:
    """Convert `raw`; ValueError when a row has another shape or a number does not survive."""
    rows = [line.split(",") for line in raw.read_text().splitlines() if line.strip()]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(COLUMNS) + 1 or row[-1].strip() not in ("g", "h"):
            raise ValueError(f"{raw.name}, row {number}: expected 10 numbers and g or h, got {row}")
    target = Path(__file__).with_name("magic.parquet")
    values = [[float(text) for text in row[:-1]] for row in rows]
    # Long random digits: zstd on plain columns is smaller than a dictionary.
    pd.DataFrame(values, columns=COLUMNS).to_parquet(
        target, index=False, compression="zstd", compression_level=19, use_dictionary=False
    )
    stored = pd.read_parquet(target).to_numpy()
    for number, (row, back) in enumerate(zip(rows, stored.tolist(), strict=True), start=1):
        if [Decimal(text.strip()) for text in row[:-1]] != [Decimal(repr(v)) for v in back]:
            raise ValueError(f"{raw.name}, row {number}: stored as {back}, read as {row}")
    print("file  ", hashlib.sha256(target.read_bytes()).hexdigest(), target.stat().st_size, "bytes")
    print("values", hashlib.sha256(stored.astype("<f8").tobytes()).hexdigest(), stored.shape)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python make_magic.py PATH_OF_MAGIC.DAT")
    main(Path(sys.argv[1]))
