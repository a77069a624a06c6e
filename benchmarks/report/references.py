"""Short references to the records of a row: records are numbered, and listed once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class References:
    """The numbers of records by their keys, and the keys of those that are stale."""

    numbers: Mapping[str, int]
    stale: frozenset[str] = frozenset()

    @classmethod
    def of(cls, keys: Iterable[str], stale: Iterable[str] = ()) -> References:
        """Numbers from one, in the order in which the keys are named first."""
        return cls({key: n for n, key in enumerate(dict.fromkeys(keys), 1)}, frozenset(stale))

    def first(self, keys: Sequence[str]) -> int:
        """The smallest number of these records."""
        return min(self.numbers[key] for key in keys)

    def text(self, keys: Sequence[str]) -> str:
        """ "3", "1–13, 20" or "1–13, 2 stale"."""
        numbers = spans(self.numbers[key] for key in keys)
        if not (stale := len(self.stale & set(keys))):
            return numbers
        return f"{numbers}, {'stale' if len(keys) == 1 else f'{stale} stale'}"


def spans(numbers: Iterable[int]) -> str:
    """Whole numbers in order; three or more that follow each other as "1–3"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(
        f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )
