"""Two hosts, as network namespaces that share a folder: one of them is cut off in the middle."""

from __future__ import annotations

import subprocess
import sys
import uuid

import pytest

from benchmarks.execution.plan import state
from dask_processes import processes, scheduler, worker
from runs import small, until

RUN = """
import sys
from pathlib import Path

from benchmarks.cli.console import console
from benchmarks.cli.run import Display
from benchmarks.execution.run import Asked, run
from benchmarks.execution.suite import Suite

suite, folder, scheduler = sys.argv[1:]
with Display(console) as display:
    run(Suite.model_validate_json(suite), Path(folder), display, Asked(scheduler=scheduler))
"""


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True)


@pytest.fixture
def hosts():
    """The names of two network namespaces and an address in the first; skip without any."""
    mark = uuid.uuid4().hex[:6]
    names = [f"flowgauge-{mark}-{end}" for end in "ab"]
    spaces = []
    try:
        for name in names:
            ip("netns", "add", name)
            spaces.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        ends = ("name", "eth0", "netns", names[0]), ("name", "eth0", "netns", names[1])
        ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.213.7.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        yield *names, "tcp://10.213.7.1:8786"
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        pytest.skip(f"this machine has no network namespaces to give: {reason}")
    finally:
        for name in spaces:
            ip("netns", "delete", name)


@pytest.mark.system
def test_a_host_that_is_cut_off_costs_its_block_at_most(tmp_path, hosts, monkeypatch):
    near, far, address = hosts
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP", "11s")  # the least that Dask takes
    suite = small({"flow": "realnvp", "dims": [2, 3, 4, 5, 6]})
    on_near, on_far = (["ip", "netns", "exec", name] for name in (near, far))
    command = [*on_near, sys.executable, "-c", RUN, suite.model_dump_json()]
    command += [str(tmp_path / "out"), address]
    with processes(tmp_path) as start:
        scheduler(start, address, within=on_near)
        for within in (on_near, on_far):
            worker(start, address, tmp_path, within=within)
        for log in tmp_path.glob("*-worker.log"):
            until(lambda log=log: "Registered to" in log.read_text(), "a worker is there")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("[1/"):
                    ip("-n", far, "link", "set", "eth0", "down")
        removed = "Remove worker" in (tmp_path / "0-scheduler.log").read_text()
    assert process.returncode == 0, "".join(lines)
    assert "2 workers\n" in lines
    assert removed
    assert len(state(suite, tmp_path / "out").done) == 5
