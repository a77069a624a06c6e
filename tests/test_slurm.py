"""The SLURM of the documentation, on a real cluster of one node."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from getpass import getuser
from pathlib import Path

import dask
import psutil
import pytest
import yaml

from benchmarks.core import store
from benchmarks.execution import suite
from benchmarks.execution.merging import merge
from benchmarks.execution.run import run
from documents import ROOT, blocks
from runs import PAUSED, STOPPED, UPDATES, Silent, figures, flowgauge, until

PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # daemons are not in every user's
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel", "setpriv")
CONFIG = """
ClusterName=flowgauge
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=1
MaxArraySize=5
KillWait=5
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""


@contextmanager
def slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a cluster on which the commands of this process work; skip where there is none."""
    monkeypatch.setenv("PATH", PATH)
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"no {', '.join(missing)}: install slurm-wlm and munge")
    config = _configured(folder)
    monkeypatch.setenv("SLURM_CONF", str(config))
    with ExitStack() as stack:
        stack.callback(_kill, str(config))
        munge = [f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file")]
        munge += [f"--seed-file={folder}/munge.seed", f"--key-file={folder}/munge.key"]
        stack.enter_context(_daemon(folder, "munged", "--foreground", "--force", *munge))
        _up(folder, "munged", (folder / "munge.socket").exists)
        stack.enter_context(_daemon(folder, "slurmctld", "-D", "-c"))
        stack.enter_context(_daemon(folder, "slurmd", "-D"))
        _up(folder, "slurmd", lambda: output("sinfo", "-h", "-o", "%T") == "idle")
        stack.callback(_cancel)
        yield


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def jobs() -> list[dict[str, str]]:
    """All jobs, also those that have ended: their fields."""
    lines = output("scontrol", "-o", "show", "jobs").splitlines()
    pairs = [[word.partition("=") for word in line.split()] for line in lines if "=" in line]
    return [{name: value for name, _, value in words} for words in pairs]


def logs(folder: Path) -> str:
    return "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in folder.glob("*.log"))


def _configured(folder: Path) -> Path:
    """Write the files of a cluster: the path of its configuration."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(128))
    with socket.socket() as one, socket.socket() as other:
        for listener in (one, other):
            listener.bind(("127.0.0.1", 0))
        controller, node = one.getsockname()[1], other.getsockname()[1]
    host = socket.gethostname().partition(".")[0]
    values = {"host": host, "user": getuser(), "controller": controller, "node": node}
    (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
    (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, **values))
    return folder / "slurm.conf"


@contextmanager
def _daemon(folder: Path, *command: str) -> Iterator[None]:
    """Run a daemon in the foreground, which the system ends where this process dies."""
    with (folder / f"{command[0]}.log").open("w") as log:
        dying = ["setpriv", "--pdeathsig", "TERM", *command]
        process = subprocess.Popen(dying, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _up(folder: Path, name: str, condition) -> None:
    """Wait for a daemon; skip where it does not come up."""
    try:
        until(condition, "it has not begun", 30)
    except pytest.fail.Exception:
        pytest.skip(f"{name} does not come up here: {logs(folder)[-1500:]}")


def _cancel() -> None:
    output("scancel", "--me", "--full", "--signal=KILL")
    output("scancel", "--me")
    with suppress(pytest.fail.Exception):
        until(lambda: not output("squeue", "-h"), "jobs are left", 15)


def _kill(config: str) -> None:
    """End what is left of a cluster: daemons and jobs that have its configuration."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get("SLURM_CONF") == config:
                process.kill()


PAGE = {block.language: block.text for block in blocks(ROOT / "docs" / "cores.md")}


def test_the_manifest_of_the_page_runs_a_shard_a_pod():
    spec = yaml.safe_load(PAGE["yaml"])["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert f"JOB_COMPLETION_INDEX + 1))/{spec['completions']} " in container["args"][0]
    (mount,), (volume,) = container["volumeMounts"], spec["template"]["spec"]["volumes"]
    assert mount["name"] == volume["name"]


@pytest.mark.system
def test_the_script_of_the_page_runs_to_its_end_through_a_requeue(tmp_path, monkeypatch, worker):
    monkeypatch.setenv("PAUSED", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    file, script = tmp_path / "one.toml", tmp_path / "run.sh"
    file.write_text(STOPPED)
    text = PAGE["bash"].replace("=1-4", "=1-2").replace("/4", "/2").replace("=2\n", "=1\n")
    command = f"{sys.executable} -m benchmarks run {file} --plugin {PAUSED}"
    script.write_text(text.replace("flowgauge run paper", command))
    monkeypatch.chdir(tmp_path)
    with slurm(tmp_path / "node", monkeypatch):
        assert "Submitted" in output("sbatch", str(script))
        begun = tmp_path / "begun"
        until(begun.exists, lambda: f"no training: {jobs()} {logs(tmp_path / 'node')}", 150)
        number = begun.read_text()
        output("scancel", "--signal=USR1", "--batch", number)
        until(lambda: not output("squeue", "-h"), lambda: f"{jobs()} {logs(tmp_path)}", 400)
        ended = {job["JobId"]: job for job in jobs()}
    assert [job["JobState"] for job in ended.values()] == ["COMPLETED"] * 2
    assert {number for number, job in ended.items() if job["Restarts"] == "1"} == {number}
    assert len((tmp_path / "updates").read_text()) == UPDATES  # none twice
    assert merge(sorted((tmp_path / "parts").iterdir()), tmp_path / "out") == []
    run(suite.read(str(file)), tmp_path / "whole", Silent(), worker=worker)
    assert figures(tmp_path / "out") == figures(tmp_path / "whole")


@pytest.mark.system
def test_workers_that_slurm_starts_measure_a_suite(tmp_path, monkeypatch):
    """By `--scheduler slurm`: a job for each worker, and none of them left."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    node, folder, file = tmp_path / "node", tmp_path / "out", tmp_path / "one.toml"
    file.write_text(STOPPED)
    job = {"cores": 1, "memory": "1GB", "queue": "all", "walltime": "00:10:00"}
    site = {**job, "job-directives-skip": ["--mem"], "log-directory": str(tmp_path / "logs")}
    with slurm(node, monkeypatch), dask.config.set({"jobqueue.slurm": site}):
        asked = ["run", str(file), "--out", str(folder), "--scheduler", "slurm", "--jobs", "2"]
        result = flowgauge(*asked, status=None)
        started = jobs()
        assert result.exit_code == 0, f"{result.output} {result.stderr} {started} {logs(node)}"
        until(lambda: not output("squeue", "-h"), lambda: f"{jobs()} {logs(node)}", 60)
    assert len(started) == 2
    assert {record.status for record in store.read(folder).values()} == {"done"}
