"""Schedulers of Dask: one that runs already, or one that is started on this machine or by SLURM."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import dask
from distributed import Nanny, Scheduler, SpecCluster
from distributed.utils import silence_logging_cmgr

from benchmarks.execution.cluster import HOST
from benchmarks.execution.connection import Connection
from benchmarks.execution.pools import ClusterError
from benchmarks.execution.process import Setup
from benchmarks.measure.machine import memory_bytes
from benchmarks.measure.process import SAFE

CONFIG: dict[str, Any] = {  # of the schedulers that are started here, and of their workers
    # no numbers of threads, which this process would have too
    "distributed.nanny.pre-spawn-environ": {
        "DASK_LOGGING__DISTRIBUTED": "error",
        **SAFE,
    },
    # a job that ends by its clock is not the task's fault, which goes on from its checkpoint
    "distributed.scheduler.allowed-failures": 10,
}


@contextmanager
def connection(
    scheduler: str, setups: list[Setup], jobs: int, waiting: Callable[[str], object]
) -> Iterator[Connection]:
    """A connection to a scheduler by its address, or to one that is started: local or slurm.

    Local workers are as many as ``setups`` there are, each with its GPU. ClusterError where no
    scheduler answers.
    """
    with dask.config.set(CONFIG), ExitStack() as stack:
        stack.enter_context(silence_logging_cmgr(logging.CRITICAL))  # the run tells what is lost
        address = scheduler
        if scheduler in ("local", "slurm"):
            started = local_cluster(setups) if scheduler == "local" else slurm_cluster(jobs)
            address = stack.enter_context(started).scheduler_address
        connected = Connection(address, waiting)
        stack.callback(connected.close)
        connected.open()
        yield connected


def local_cluster(setups: list[Setup]) -> SpecCluster:
    """A worker on this machine for each setup, each a process; one may have the host to itself."""
    memory = memory_bytes() // len(setups)
    workers = {
        number: {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": memory,
                "resources": {HOST: 1} if number == 0 else {},
                "env": {"CUDA_VISIBLE_DEVICES": setup.gpu} if setup.gpu else {},
            },
        }
        for number, setup in enumerate(setups)
    }
    options = {"dashboard": False, "dashboard_address": ":0", "port": 0, "host": "127.0.0.1"}
    scheduler = {"cls": Scheduler, "options": options}
    return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=False)


def slurm_cluster(jobs: int) -> SpecCluster:
    """Workers that SLURM starts, each a job by dask-jobqueue's configuration (jobqueue.slurm)."""
    from dask_jobqueue import SLURMCluster

    site = dask.config.get("jobqueue.slurm", {})
    if not (site.get("cores") and site.get("memory")):
        raise ClusterError(
            "--scheduler slurm needs to know what a job is: set cores and memory in jobqueue.slurm "
            "of ~/.config/dask/jobqueue.yaml"
        )
    extra = site.get("worker-extra-args") or []
    cluster = SLURMCluster(
        processes=1,
        scheduler_options={"dashboard_address": ":0", **(site.get("scheduler-options") or {})},
        worker_extra_args=[*extra, "--nthreads", "1", "--resources", f"{HOST}=1"],
    )
    cluster.scale(jobs=jobs)  # `adapt` would cancel jobs that are idle
    started: SpecCluster = cluster
    return started
