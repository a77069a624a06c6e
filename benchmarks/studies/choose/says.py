"""What the chooser's records say: the answer, and warnings."""

from __future__ import annotations

import pandas as pd

from benchmarks.studies.choose.ranking import choices


def says(frame: pd.DataFrame) -> list[str]:
    """The answer of each data set, then its warnings."""
    listed = choices(frame)
    several = len(listed) > 1
    return [
        f"{choice.data}: {line}" if several else line
        for choice in listed
        for line in (choice.answer, *choice.warnings)
    ]
