"""Where the MAF sets can be had: the archive of all five, and UCI's originals of three.

Addresses and checksums as public loaders state them. Of gas and bsds300 the published files cannot
be made again from the originals: one is a random quarter, the other random patches.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.datasets.fetch import Source
from benchmarks.datasets.maf import PUBLISHED

ARCHIVE = Source(
    "https://zenodo.org/records/1161203/files/data.tar.gz",
    "md5:9b9c9b0375315ad270eba4ce80c093ab",
    tuple((name, f"data/{name}") for row in PUBLISHED.values() for name in row.files[0]),
)
UCI = "https://archive.ics.uci.edu"
ORIGINALS = {
    "power": (
        Source(
            f"{UCI}/ml/machine-learning-databases/00235/household_power_consumption.zip",
            None,
            (("power/household_power_consumption.txt", "household_power_consumption.txt"),),
        ),
    ),
    "hepmass": tuple(
        Source(
            f"{UCI}/ml/machine-learning-databases/00347/{name}",
            None,
            ((f"hepmass/{name}", name),),
        )
        for name in ("1000_train.csv.gz", "1000_test.csv.gz")
    ),
    "miniboone": (
        Source(
            f"{UCI}/static/public/199/miniboone+particle+identification.zip",
            "af4573ca81797ca1c5bfc623f0fdf26ed07e626e2717c322224f96e8795f8752",
            (("miniboone/MiniBooNE_PID.txt", "MiniBooNE_PID.txt"),),
        ),
    ),
}


def archive_of(names: Sequence[str]) -> Source:
    """The archive, for the files of these sets alone."""
    wanted = {file for name in names for file in PUBLISHED[name].files[0]}
    return ARCHIVE._replace(members=tuple(m for m in ARCHIVE.members if m[0] in wanted))


def chosen(
    names: Sequence[str], original: bool, elsewhere: str | None, checksum: str | None
) -> list[Source]:
    """What brings these sets: UCI's originals, or the archive, perhaps from elsewhere.

    ValueError for what there is not, and for an address or a checksum that is none.
    """
    if original and (elsewhere or checksum):
        raise ValueError("--from and --checksum are of the archive: leave out --original")
    if elsewhere and "://" not in elsewhere and not Path(elsewhere).is_file():
        raise ValueError(f"--from {elsewhere!r} is neither a file nor an address")
    if checksum and not re.fullmatch(r"md5:[0-9a-f]{32}|(sha256:)?[0-9a-f]{64}", checksum):
        raise ValueError(f"--checksum {checksum!r} is none: write md5:..., or sha256:...")
    if not original:
        archive = archive_of(names)
        url, known = elsewhere or archive.url, checksum or archive.checksum
        return [archive._replace(url=url, checksum=known)]
    if lacking := [name for name in names if name not in ORIGINALS]:
        raise ValueError(
            f"{lacking[0]} cannot be made again from UCI's original; --original has: "
            f"{', '.join(ORIGINALS)}"
        )
    return [source for name in names for source in ORIGINALS[name]]
