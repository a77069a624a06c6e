"""Whether a record is stale: the code that measured it has changed since."""

from __future__ import annotations

import platform

from benchmarks.core.store import Record
from benchmarks.execution.fingerprint import absent, fingerprint
from benchmarks.training.baselines import BASELINES
from flows import members


def stale(record: Record) -> bool:
    """Whether the present code would measure this case anew.

    Versions of packages and the machine are taken from the record itself, so that a report is the
    same wherever it is drawn: another machine does not make a record stale here, as it does for
    the next run. False as well where it cannot be told: without the flow's plug-in or the data
    set's files, of a study or data set that is gone, under another version of Python, whose syntax
    trees differ, and of a record without its machine.
    """
    case, told = record.case, record.machine
    python = str(told.get("python", "")).split(".")[:2]
    known = case.flow in members or case.flow in BASELINES
    if not known or python != platform.python_version().split(".")[:2]:
        return False
    system = str(told.get("system")).partition(" ")[0]
    parts = [str(told.get("cpu")), str(told.get("cores")), system]
    if case.device.startswith("cuda"):
        parts.append(str(told.get("gpu")))
    try:
        if record.status == "done" and absent(case.dataset):
            return False
        present = fingerprint(case, record.versions, "/".join(parts))
    except ValueError:  # no such study or data set
        return False
    return present != record.fingerprint
