"""How well shards of the suite full balance: `python docs/shard_balance.py` prints the table.

Budgets are those of the plan. A task takes its budget times a factor that the plan does not know,
lognormal with a standard deviation of 0.5 in its logarithm. Shards are dealt out by budget, as
`flowgauge run --shard` does; runs that share a folder take the next task that is left, the longest
budget first. The bound is what no order can beat: the mean load, or the longest task.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from benchmarks.execution import suite
from benchmarks.execution.plan import Task, budget, dealt, tasks

WORKERS = (1, 4, 16, 64, 256, 1000)
SPREAD = 0.5  # standard deviation of the logarithm of a task's time over its budget
DRAWS = 50


def seconds(task: Task) -> float:
    """What a task is expected to take, its times afterwards included."""
    return sum(sum(budget(case)) for case in task.cases)


def shared(order: Sequence[int], times: np.ndarray, workers: int) -> float:
    """The time at which the last of several workers ends, each taking the next task left."""
    ends = [0.0] * workers
    for index in order:
        heapq.heapreplace(ends, ends[0] + times[index])
    return max(ends)


def rows() -> list[tuple[int, float, float, float]]:
    """For each number of workers: hours of the bound, efficiencies of shards and shared folder."""
    budgets = np.array([seconds(task) for task in tasks(suite.read("full").cases())])
    generator = np.random.default_rng(0)
    factors = np.exp(generator.normal(-(SPREAD**2) / 2, SPREAD, (DRAWS, len(budgets))))
    longest_first = sorted(range(len(budgets)), key=lambda index: -budgets[index])
    listed = []
    for workers in WORKERS:
        hands = dealt(list(budgets), workers)
        bounds, sharded, folder = [], [], []
        for times in budgets * factors:
            bounds.append(max(times.sum() / workers, times.max()))
            sharded.append(max(times[hand].sum() for hand in hands))
            folder.append(shared(longest_first, times, workers))
        means = [float(np.mean(np.divide(bounds, ends))) for ends in (sharded, folder)]
        listed.append((workers, float(np.mean(bounds)) / 3600, *means))
    return listed


def main() -> None:
    """Print the table in Markdown."""
    blocks = tasks(suite.read("full").cases())
    longest = max(blocks, key=seconds)
    print(
        f"{len(blocks)} blocks; the longest, {longest.cases[0].label}: {seconds(longest):.0f} s\n"
    )
    print("| Workers | Bound, h | Shards | One folder |\n|---:|---:|---:|---:|")
    for workers, bound, sharded, folder in rows():
        print(f"| {workers} | {bound:.2f} | {sharded:.0%} | {folder:.0%} |")


if __name__ == "__main__":
    main()
