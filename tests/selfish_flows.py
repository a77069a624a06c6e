"""A plug-in of a flow that holds the interpreter's lock, then tells its environment."""

import ctypes
import fcntl
import os

import flows
from acting_flows import Acting


def hold():
    """Wait for the lock of this file in C, so that no other thread of the process runs."""
    with open(__file__) as file:
        ctypes.PyDLL(None).flock(file.fileno(), fcntl.LOCK_EX)


def complain():
    """Wait, then fail with what the nanny has exported."""
    hold()
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_")
    raise RuntimeError(f"environment: {[os.environ.get(name) for name in names]}")


@flows.register("selfish", uses=())
def selfish(dim):
    return Acting(complain)
