"""A SLURM cluster of one node, this machine: its daemons end with the test that starts them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from getpass import getuser
from pathlib import Path

import psutil
import pytest

from runs import until

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
    """What a command of SLURM prints."""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def jobs() -> list[dict[str, str]]:
    """All jobs, also those that have ended: their fields."""
    lines = output("scontrol", "-o", "show", "jobs").splitlines()
    pairs = [[word.partition("=") for word in line.split()] for line in lines if "=" in line]
    return [{name: value for name, _, value in words} for words in pairs]


def logs(folder: Path) -> str:
    """The ends of what the daemons have said."""
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
    """End all jobs."""
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
