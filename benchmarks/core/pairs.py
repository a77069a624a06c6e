"""Which cases of several results folders are the same, measured at another time or place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.core.case import Case
from benchmarks.core.series import HOW

WHERE: Mapping[str, Any] = {"device": "cpu", "dtype": "float32", "threads": 1}
COUNTED = "meta"  # the device of what is counted from shapes, which is none
MEANS = ({"seconds"}, {name.partition(".")[2] for name in HOW})  # settings: how, and not what


def common(sides: Sequence[Iterable[Case]]) -> list[list[Case]]:
    """For each case of each side what equals that of the same case of the other sides.

    That is the case without the means by which it was measured (`HOW`), and without device,
    precision and threads where each side has one of them throughout. Cases of a side that differ in
    nothing else keep all means but the seconds of timing, and all of them where that is too few.
    """
    listed = [list(cases) for cases in sides]
    timed = [[case for case in cases if case.device != COUNTED] for cases in listed]
    uniform = [n for n in WHERE if all(len({getattr(c, n) for c in cases}) < 2 for cases in timed)]
    same = listed
    for means in MEANS:
        plain = [[_plain(case, uniform, means) for case in cases] for cases in listed]
        counts = [Counter(case.key for case in cases) for cases in plain]
        several = {key for count in counts for key, number in count.items() if number > 1}
        same = [
            [full if part.key in several else part for part, full in zip(*parts, strict=True)]
            for parts in zip(plain, same, strict=True)
        ]
    return same


def _plain(case: Case, whole: Iterable[str], means: Collection[str]) -> Case:
    where = {name: WHERE[name] for name in whole}
    if case.device == COUNTED:
        where["device"] = COUNTED
    settings = {name: value for name, value in case.settings.items() if name not in means}
    return case.changed(**where, settings=settings)
