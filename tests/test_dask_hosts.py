"""Two hosts, as network namespaces that share a folder: one of them is cut off in the middle."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid

import pytest

from benchmarks.execution import suite
from benchmarks.execution.state import state
from dask_processes import processes, scheduler, worker

SUITE = """
about = "x"
threads = 1

[[studies]]
study = "cost"
batch = 4
seconds = 0.01
dims = [2, 3, 4, 5]
sizes = { hidden = 4, layers = 1 }
flows = [{ flow = "realnvp" }, { flow = "nice" }]

[[studies]]
study = "density"
baselines = []
datasets = ["8gaussians"]
batch = 32
updates = 8
sizes = { layers = 1 }
flows = [{ flow = "realnvp" }, { flow = "nice" }]
training = { validation_rows = 100 }
scoring = { rows = 200, checked_rows = 100, grid = 20, samples = 200, seconds = 0.02 }
"""


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True)


@pytest.fixture
def hosts():
    """The names of two network namespaces and an address in the first; skip without any."""
    mark = uuid.uuid4().hex[:6]
    names = [f"flowgauge-{mark}-{end}" for end in "ab"]
    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
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
        for name in made:
            ip("netns", "delete", name)


@pytest.mark.slow
def test_a_host_that_is_cut_off_costs_its_block_at_most(tmp_path, hosts, monkeypatch):
    near, far, address = hosts
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP", "11s")  # the least that Dask takes
    file, out = tmp_path / "hosts.toml", tmp_path / "out"
    file.write_text(SUITE)
    on_near, on_far = (["ip", "netns", "exec", name] for name in (near, far))
    command = [*on_near, sys.executable, "-m", "benchmarks", "run", str(file)]
    command += ["--out", str(out), "--scheduler", address]
    with processes(tmp_path) as start:
        scheduler(start, address, within=on_near)
        worker(start, address, tmp_path, within=on_near)
        worker(start, address, tmp_path, within=on_far)
        lines = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                for line in process.stdout:
                    lines.append(line)
                    if "2 workers\n" in lines and re.match(r"\[\d+/", line):
                        ip("-n", far, "link", "set", "eth0", "down")
                        break
                lines += process.stdout
            finally:
                process.kill() if sys.exc_info()[0] else process.wait()
    assert process.returncode == os.EX_OK, "".join(lines)
    now = state(suite.read(str(file)), out)
    assert len(now.done) == len(now.cases)
