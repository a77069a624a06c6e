"""A plug-in of flows that misbehave, each in its own way."""

import ctypes
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time

import torch

import flows
from acting_flows import Acting


def _raise(error):
    def act():
        raise error

    return act


def _signal(number):
    return lambda: os.kill(os.getpid(), number)


def _babble(content):
    """Write to all pipes and sockets."""

    def act():
        for number in range(3, 64):
            try:
                if not os.path.exists(os.readlink(f"/proc/self/fd/{number}")):
                    os.write(number, content)
            except OSError:
                continue
        time.sleep(600)

    return act


def _hold():
    """Hold the interpreter's lock in C for ever."""
    with open(__file__) as first, open(__file__) as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        ctypes.PyDLL(None).flock(second.fileno(), fcntl.LOCK_EX)


def _open_files():
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    HELD.extend(os.open("/dev/null", os.O_RDONLY) for _ in range(limit + 1))


def _once(act):
    """Act in the first call alone: a child of a child would never end."""
    calls = []

    def first():
        calls.append(act)
        return len(calls) > 1 or act()

    return first


def _hang_up():
    os.closerange(3, 256)
    time.sleep(600)


HELD = []
ACTS = {
    "raises": _raise(RuntimeError("diverged on purpose")),
    "raises_much": _raise(RuntimeError("x" * 50_000_000)),
    "raises_other": _raise(BaseException("nobody's")),
    "exits": lambda: sys.exit(3),
    "ends": lambda: os._exit(0),
    "dies": _signal(signal.SIGKILL),
    "aborts": os.abort,
    "hangs": lambda: time.sleep(600),
    "stops": _signal(signal.SIGSTOP),
    "holds": _hold,
    "eats": lambda: torch.empty(2**40),
    "babbles": _babble(b"\0\0\0\4none"),
    "halves": _babble(b"\0\0\1\0half"),
    "hangs_up": _hang_up,
    "opens": _open_files,
    "forks": _once(os.fork),
    "forks_in_c": _once(lambda: ctypes.CDLL(None).fork()),
    "swarms": os.fork,  # in every call, so do its copies
    "crowds": lambda: [subprocess.Popen(["sleep", "600"]) for _ in range(40)] and time.sleep(600),
    "forsakes": lambda: subprocess.Popen(["sleep", "600"], start_new_session=True),
}


def _register(name, act):
    flows.register(f"faulty_{name}", uses=())(lambda dim: Acting(act))


for name, act in ACTS.items():
    _register(name, act)
