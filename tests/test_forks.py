"""Flows that fork: their children send nothing, and take no task from the worker."""

from __future__ import annotations

from pathlib import Path

from benchmarks.execution.process import Worker
from benchmarks.execution.run import run
from flows.plugins import load_plugin
from runs import Silent, small

PLUGIN = """
import ctypes
import os
import torch
from nflows.transforms import IdentityTransform
import flows

done = []

class Forks(IdentityTransform):
    def __init__(self, fork):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(()))
        self.fork = fork

    def forward(self, inputs, context=None):
        if self.fork not in done:
            done.append(self.fork)  # before the fork: a child of a child would never end
            self.fork()
        return inputs + 0 * self.scale, inputs.new_zeros(len(inputs))

@flows.register("forks", uses=())
def forks(dim):
    return Forks(os.fork)

@flows.register("forks_in_c", uses=())
def forks_in_c(dim):
    return Forks(ctypes.CDLL(None).fork)
"""


def test_flows_that_fork_have_one_record_each_and_so_have_the_next(tmp_path: Path, worker: Worker):
    (tmp_path / "forking.py").write_text(PLUGIN)
    load_plugin(tmp_path / "forking.py")
    suite = small("forks", "forks_in_c")
    now = run(suite, tmp_path / "out", Silent(), worker=worker)
    statuses = {record.case.flow: record.status for record in now.records.values()}
    assert set(statuses.values()) == {"done"}
    assert len(now.records) == len(suite.cases())
    assert all(r.reason.count("worker") == 0 for r in now.records.values())
