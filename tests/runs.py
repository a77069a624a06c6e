"""A small suite and a progress for runs of tests."""

from __future__ import annotations

from benchmarks.execution.suite import Suite


class Silent:
    """A progress that keeps what was measured."""

    def __init__(self):
        self.measured = []

    def begin(self, cases, kept, budget):
        self.kept = kept

    def task(self, task):
        pass

    def waiting(self, reason):
        pass

    def case(self, task, case, record):
        self.measured.append(record)


def small(*contenders, **values) -> Suite:
    """A suite of one tiny cost study."""
    study = {"study": "cost", "flows": contenders, "dims": [2, 3], "batch": 4, "seconds": 0.01}
    study["sizes"] = {"hidden": 4, "layers": 1}
    return Suite(name="small", about="for a test", threads=1, studies=[study], **values)
