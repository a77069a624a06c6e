"""Tasks: what is measured in one go, what has the machine to itself, and the time it takes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from benchmarks.core.case import Case, digest
from benchmarks.core.study import Study, registry
from flows.registry import needed

TIMES = 2.0  # seconds that the times of a training are expected to take


@dataclass(frozen=True)
class Task:
    """A block of cases that are measured together or, with ``times``, times of a case that was."""

    cases: tuple[Case, ...]
    times: bool = False
    operators: bool = False

    @cached_property
    def name(self) -> str:
        """What identifies the task among all runs of a folder: its study and block."""
        first = self.cases[0]
        block = first.key if self.times or self.operators else registry[first.study].block(first)
        files = [Path(plugin).name for plugin in self.plugins]  # the same on every host
        return digest([first.study, block, self.times, files])[:16]

    @cached_property
    def plugins(self) -> tuple[str, ...]:
        """The plug-ins that a process needs to measure it."""
        return plugins_of(self.cases)

    @property
    def alone(self) -> bool:
        """Whether it has the machine to itself."""
        if self.times or self.operators:
            return self.times
        return any(registry[case.study].alone(case) for case in self.cases)

    @property
    def budget(self) -> float:
        """Seconds that it is expected to take, without those of its times afterwards."""
        return TIMES if self.times else sum(budget(case)[0] for case in self.cases)


def plugins_of(cases: Iterable[Case]) -> tuple[str, ...]:
    """The plug-ins that a process needs to measure cases; all, where their study shares processes.

    A process that is replaced takes seconds, which a study of the clock cannot spare.
    """
    listed = list(cases)
    if any(registry[case.study].together for case in listed):
        return needed()
    return needed(frozenset[str]().union(*(case.words for case in listed)))


def budget(case: Case) -> tuple[float, float]:
    """Seconds that a case is expected to take beside others, or alone; and to time afterwards."""
    study = registry[case.study]
    seconds = study.budget(case)
    timed = type(study).times is not Study.times and not study.alone(case)
    after = min(TIMES, seconds / 2) if timed else 0.0
    return seconds - after, after


def tasks(cases: Sequence[Case], operators: bool = False) -> list[Task]:
    """The tasks of cases in the order of their first one; to count operators, each case alone.

    No task mixes cases of different plug-ins, each of which has processes of its own unless its
    study shares them; those of a plug-in follow one another.
    """
    grouped: dict[tuple[Any, ...], list[Case]] = {}
    for case in cases:
        block = case.key if operators else registry[case.study].block(case)
        grouped.setdefault((case.study, block, plugins_of([case])), []).append(case)
    listed = [Task(tuple(block), operators=operators) for block in grouped.values()]
    return sorted(listed, key=lambda task: task.plugins)


def bound(listed: Sequence[Task]) -> list[list[Task]]:
    """Tasks in groups: those of two groups need nothing of each other."""
    places = {case.key: place for place, task in enumerate(listed) for case in task.cases}
    pairs = [
        (place, places[key])
        for place, task in enumerate(listed)
        for case in task.cases
        for key in case.needs
        if key in places
    ]
    ends = np.array(pairs, dtype=int).reshape(-1, 2).T
    links = coo_array((np.ones(len(pairs)), tuple(ends)), shape=(len(listed),) * 2)
    groups: dict[int, list[Task]] = {}
    for task, group in zip(listed, connected_components(links, directed=False)[1], strict=True):
        groups.setdefault(int(group), []).append(task)
    return list(groups.values())


@dataclass(frozen=True)
class Shard:
    """Part K of N of a plan, K from 1."""

    number: int = 1
    count: int = 1

    @classmethod
    def of(cls, text: str) -> Shard:
        """Read ``K/N``; ValueError for anything else."""
        number, _, count = text.partition("/")
        if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
            raise ValueError(f"shard {text!r} is not K/N with K from 1 to N, such as 2/8")
        return cls(int(number), int(count))

    def part(self, cases: Sequence[Case], operators: bool = False) -> list[Case]:
        """The shard's cases of a whole plan, in its order; every host finds the same.

        Blocks stay whole, and with what they need. They are dealt out by budget, the longest first,
        each to the shard with the least so far; what has a record already makes no difference.
        """
        if self.count == 1:
            return list(cases)
        groups = [[c for t in group for c in t.cases] for group in bound(tasks(cases, operators))]
        lots = dealt([sum(sum(budget(c)) for c in group) for group in groups], self.count)
        own = {case.key for index in lots[self.number - 1] for case in groups[index]}
        return [case for case in cases if case.key in own]


def dealt(budgets: Sequence[float], count: int) -> list[list[int]]:
    """Deal budgets out to ``count`` hands; the numbers of each hand's.

    The longest comes first and goes to the hand with the least so far: at most 4/3 of the best
    (Graham, Bounds on multiprocessing timing anomalies, 1969).
    """
    hands: list[list[int]] = [[] for _ in range(count)]
    loads = [(0.0, number) for number in range(count)]
    for index in sorted(range(len(budgets)), key=lambda i: (-budgets[i], i)):
        load, number = heapq.heappop(loads)
        hands[number].append(index)
        heapq.heappush(loads, (load + budgets[index], number))
    return hands


def longest_first(listed: Iterable[Task]) -> list[Task]:
    """Tasks by plug-ins, then falling budget: one that is long and late leaves cores idle."""
    return sorted(listed, key=lambda task: (task.plugins, -task.budget))


def wall_seconds(cases: Sequence[Case], jobs: int, operators: bool = False) -> float:
    """Seconds that cases are expected to take with so many jobs: side by side, then alone."""
    listed = tasks(cases, operators)
    beside = [task.budget for task in listed if not task.alone]
    after = sum(budget(case)[1] for task in listed if not task.alone for case in task.cases)
    hands = dealt(beside, jobs)
    side_by_side = max(sum(beside[index] for index in hand) for hand in hands)
    return side_by_side + sum(t.budget for t in listed if t.alone) + (0 if operators else after)
