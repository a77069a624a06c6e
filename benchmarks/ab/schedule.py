"""The order of calls: shuffled rounds of blocks, each base, new, new, base or its mirror.

A visit is a few calls of one benchmark on one side. The four visits of a block lie within
milliseconds of each other, so that a slower machine slows both sides, and a linear drift cancels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

BASE, NEW = "base", "new"
ABBA = (BASE, NEW, NEW, BASE)
BAAB = (NEW, BASE, BASE, NEW)
VISIT = 0.008  # seconds of timed calls that a visit aims at
CALLS = (2, 12)  # in a visit

Visit = dict[str, list[float]]  # "processor" and "clock": seconds of each call
Block = dict[str, list[Visit]]  # two visits of either side
Ask = Callable[[str, str, int], Visit | None]  # side, benchmark, calls; None: it failed


def orders(random: Random) -> Iterator[tuple[str, ...]]:
    """Orders of blocks without end: of each two one is the mirror of the other."""
    while True:
        yield from random.sample([ABBA, BAAB], 2)


def calls_of(seconds: float) -> int:
    """Calls in a visit of a benchmark with so many seconds a call."""
    return max(CALLS[0], min(CALLS[1], round(VISIT / max(seconds, 1e-9))))


def blocks(
    ask: Ask, seconds: Mapping[str, float], deadline: float, random: Random
) -> Iterator[tuple[str, Block]]:
    """Yield each benchmark and its block until the deadline of the monotonic clock.

    ``seconds`` are those of a call of each benchmark. One that fails is left out afterwards.
    """
    active = {name: (calls_of(t), orders(random)) for name, t in seconds.items()}
    longest = 0.0
    while active:
        for name in random.sample(sorted(active), len(active)):
            started = time.monotonic()
            if started + longest > deadline:
                return
            calls, order = active[name]
            block = _block(ask, name, calls, next(order))
            if block is None:
                del active[name]
            else:
                yield name, block
            longest = max(longest, time.monotonic() - started)


def _block(ask: Ask, name: str, calls: int, order: Sequence[str]) -> Block | None:
    """The four visits of a block; None if one failed."""
    block: dict[str, list[Any]] = {BASE: [], NEW: []}
    for side in order:
        if (visit := ask(side, name, calls)) is None:
            return None
        block[side].append(visit)
    return block
