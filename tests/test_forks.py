"""A flow that forks: its child sends nothing, and takes no task from the worker."""

from __future__ import annotations

from pathlib import Path

from benchmarks.execution.run import run
from benchmarks.execution.worker import Worker
from flows.plugins import load_plugin
from runs import Silent, small

PLUGIN = """
import os
import torch
from nflows.transforms import IdentityTransform
import flows

class Forks(IdentityTransform):
    done = False

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(()))

    def forward(self, inputs, context=None):
        if not Forks.done:
            Forks.done = True  # before the fork: a child of a child would never end
            os.fork()
        return inputs + 0 * self.scale, inputs.new_zeros(len(inputs))

@flows.register("forks", uses=())
def forks(dim):
    return Forks()
"""


def test_a_flow_that_forks_has_one_record_and_so_have_the_next(tmp_path: Path, worker: Worker):
    (tmp_path / "forking.py").write_text(PLUGIN)
    load_plugin(tmp_path / "forking.py")
    suite = small("forks", "realnvp", "planar")
    now = run(suite, tmp_path / "out", Silent(), worker=worker)
    statuses = {record.case.flow: record.status for record in now.records.values()}
    assert set(statuses.values()) == {"done"}
    assert len(now.records) == len(suite.cases())
    assert all(r.reason.count("worker") == 0 for r in now.records.values())
