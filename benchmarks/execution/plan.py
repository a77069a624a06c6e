"""What is to be done: tasks, shards, and where a suite stands in a results folder."""

import heapq
import json
import re
import resource
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch

from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.frame import Plan, Planned, place, plan_of
from benchmarks.core.naming import labels
from benchmarks.core.record import Record, Standing
from benchmarks.core.study import Result, study_of
from benchmarks.execution.process import plugins_of
from benchmarks.execution.suite import Suite
from benchmarks.execution.versions import standing
from benchmarks.measure.machine import machine, memory_bytes, versions
from flows import build, members
from flows.plugins import FOREIGN, staying

WEIGHTS = "weights"  # the subfolder of flows, one a case, as `flows.save` writes them


@dataclass(frozen=True)
class Task:
    """A block of cases that are measured together."""

    cases: tuple[Case, ...]
    operators: bool = False

    @property
    def key(self) -> str:
        """The key of its first case, which no other task has."""
        return self.cases[0].key

    @cached_property
    def plugins(self) -> tuple[str, ...]:
        """The plug-ins that a process needs to measure it."""
        return plugins_of(self.cases)

    @property
    def alone(self) -> bool:
        """Whether it has the machine to itself."""
        return not self.operators and any(study_of(c).alone(c) for c in self.cases)

    @property
    def budget(self) -> float:
        return sum(map(budget, self.cases))


def budget(case: Case) -> float:
    """Seconds that a case is expected to take."""
    return study_of(case).budget(case)


def tasks(cases: Sequence[Case], operators: bool = False) -> list[Task]:
    """Tasks of cases of the same plug-ins, sorted by these and then by their first case."""
    grouped: dict[tuple[Any, ...], list[Case]] = {}
    for case in cases:
        block = case.key if operators else study_of(case).block(case)
        measured = case.study, case.settings.get("part"), block, plugins_of([case])
        grouped.setdefault(measured, []).append(case)
    work = [Task(tuple(block), operators) for block in grouped.values()]
    return sorted(work, key=lambda task: task.plugins)


def bound(work: Sequence[Task]) -> list[list[Task]]:
    """Tasks in groups: those of two groups need nothing of each other, and any machine may do."""
    from scipy.cluster.hierarchy import DisjointSet  # here: few plans are dealt out

    owners = {case.key: task.key for task in work for case in task.cases}
    sets = DisjointSet(task.key for task in work)
    first: dict[tuple[str, str], str] = {}  # task of a study and piece
    for task in work:
        for key in owners.keys() & {key for case in task.cases for key in case.needs}:
            sets.merge(task.key, owners[key])
        if piece := study_of(task.cases[0]).piece(task.cases[0]):
            sets.merge(task.key, first.setdefault((task.cases[0].study, piece), task.key))
    groups: dict[str, list[Task]] = {}
    for task in work:
        groups.setdefault(sets[task.key], []).append(task)
    return list(groups.values())


@dataclass(frozen=True)
class Shard:
    """Part K of N of a plan, K from 1, or the part that has the case of a key."""

    number: int = 1
    count: int = 1
    key: str = ""

    @classmethod
    def of(cls, text: str) -> Self:
        """Read ``K/N`` or the key of a case; ValueError for anything else."""
        number, _, count = text.partition("/")
        if re.fullmatch("[0-9a-f]{16}", text):
            return cls(key=text)
        if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
            raise ValueError(f"shard {text!r} is neither K/N, from 1/N to N/N, nor a case's key")
        return cls(int(number), int(count))

    def part(self, cases: Sequence[Case], operators: bool = False) -> list[Case]:
        """The shard's cases of a whole plan, in its order; every host computes the same.

        Blocks stay whole, and with what they need. Records that exist make no difference.
        ValueError for a key that the plan lacks.
        """
        if self == WHOLE:
            return list(cases)
        groups = [[c for t in group for c in t.cases] for group in bound(tasks(cases, operators))]
        hands = dealt([sum(map(budget, group)) for group in groups], self.count)
        chosen = [groups[index] for index in hands[self.number - 1]]
        if self.key:
            chosen = [group for group in groups if self.key in {case.key for case in group}]
        if not chosen and self.key:
            raise ValueError(f"no case of the suite has the key {self.key}: list them by status")
        keys = {case.key for group in chosen for case in group}
        return [case for case in cases if case.key in keys]


WHOLE = Shard()


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


def longest_first(work: Iterable[Task]) -> list[Task]:
    """Tasks by falling budget: one that is long and late leaves cores idle."""
    return sorted(work, key=lambda task: -task.budget)


def wall_seconds(cases: Sequence[Case], jobs: int, operators: bool = False) -> float:
    """Seconds that cases are expected to take with ``jobs`` workers: side by side, then alone."""
    work = tasks(cases, operators)
    beside = [task.budget for task in work if not task.alone]
    longest = max(sum(beside[index] for index in hand) for hand in dealt(beside, jobs))
    return longest + sum(task.budget for task in work if task.alone)


@dataclass
class State:
    """The cases of a suite against the records of a folder, by key."""

    folder: Path
    cases: list[Case]
    records: dict[str, Record]
    standings: dict[str, Standing] = field(default_factory=dict)  # of cases that have a record
    done: set[str] = field(default_factory=set)  # current
    failed: set[str] = field(default_factory=set)  # measured by the present code without success
    stale: set[str] = field(default_factory=set)  # of an earlier version, or in its times
    missing: set[str] = field(default_factory=set)
    elsewhere: set[str] = field(default_factory=set)  # done, with times of another machine class
    newer: dict[str, str] = field(default_factory=dict)  # missing here: a later release has them

    def named(self) -> dict[str, list[dict[str, str]]]:
        """Key, label and reason of the cases by where they stand, as JSON."""
        names = labels(self.cases)
        return {
            group: [
                {"key": case.key, "label": names[case.key], "reason": self.reason(case.key)}
                for case in self.cases
                if case.key in getattr(self, group)
            ]
            for group in ("done", "failed", "stale", "missing")
        }

    def retried(self) -> set[str]:
        """The keys of cases that failed or were skipped, for another try."""
        return self.failed | {k for k in self.done if self.records[k].status == "skipped"}

    def unkept(self) -> set[str]:
        """The keys of flows that were trained and scored without keeping their weights."""
        return {
            case.key
            for case in self.cases
            if case.updates and "scoring" in case.settings
            if case.key in self.done and self.records[case.key].status == "done"
            if not (self.folder / WEIGHTS / case.key).is_dir()
        }

    def reason(self, key: str) -> str:
        """Why a case is not done; of one that is, what a reader of its times has to know."""
        if key in self.missing:
            return self.newer.get(key, "not measured")
        if key in self.failed:
            return self.records[key].reason
        if key in self.elsewhere:
            return "times of another class of machine or minor version of torch"
        return self.standings[key].reason


def state(suite: Suite, folder: Path, shard: Shard = WHOLE) -> State:
    """Where a suite, or its shard, stands in a folder; ValueError if it cannot be expanded."""
    cases = shard.part(suite.cases(), suite.operators)
    now = State(folder, cases, store.read(folder, whole=True), newer=store.newer(folder))
    here = None
    with suppress(RuntimeError, AssertionError):  # a machine without the device only plans
        here = place(machine(suite.device), versions(), suite.device)
    for case in cases:
        record = now.records.get(case.key)
        if record is None:
            now.missing.add(case.key)
            continue
        now.standings[case.key] = current = standing(record)
        if current.reason:
            now.stale.add(case.key)
        else:
            (now.done if record.status in ("done", "skipped") else now.failed).add(case.key)
        there = place(record.machine, record.versions, case.device)
        if record.timed and here is not None and there != here:
            now.elsewhere.add(case.key)
    return now


def write_plan(suite: Suite, folder: Path, shard: Shard = WHOLE) -> None:
    """Write what the folder is to hold, for a report to know what is missing.

    Of a shard its cases, and those of other shards that the folder's plan has already.
    """
    cases = suite.entries()
    names = labels({case.key: case for case in cases}.values())
    keys = {case.key for case in shard.part(suite.cases(), suite.operators)}
    values = suite.model_dump(mode="json")
    if shard != WHOLE:
        with suppress(ValueError):  # a plan that cannot be read is replaced
            before = plan_of(folder, {})
            keys |= {case.key for case in before.cases} if before.suite == values else set()
    planned = [
        Planned(key=case.key, study=case.study, label=names[case.key], roles=case.roles)
        for case in cases
        if case.key in keys
    ]
    plan = Plan(name=suite.name, about=suite.about, suite=values, cases=planned)
    text = json.dumps(plan.model_dump(mode="json"), indent=1)
    store.replace(folder / "suite.json", text.encode())


def faults_of_flows(cases: Iterable[Case], *, each_dim: bool = True) -> dict[str, str]:
    """Reasons by key of the cases whose flow cannot be constructed, before anything is measured.

    A flow of equal options is constructed once at each dimension, or at the least one alone. A
    fault is given to its first case. Baselines are not flows and are passed over.
    """
    registered = set(members)
    distinct: dict[str, Case] = {}
    for case in cases if each_dim else sorted(cases, key=lambda case: case.dim):
        if case.flow in registered:
            options = (case.flow, case.options, case.dim if each_dim else 0)
            distinct.setdefault(repr(options), case)
    reasons = {case.key: _fault(case) for case in distinct.values()}
    return {key: reason for key, reason in reasons.items() if reason}


def _fault(case: Case) -> str:
    """Why the flow of a case cannot be constructed; "" if it can be."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    most = [memory_bytes() // 2, *(limit for limit in before if limit != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(most), before[1]))
    try:
        for device in ("meta", "cpu"):  # without memory, or for real if that does not work
            try:
                with torch.device(device), staying():
                    build(case.flow, case.dim, **case.options)
                return ""
            except FOREIGN as error:
                reason = Result.of(error).failure
        return reason
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
