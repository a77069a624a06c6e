"""A plug-in of flows that misbehave, each in its own way; `plugins.py` measures them."""

import ctypes
import fcntl
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings

import torch
from nflows.transforms import IdentityTransform
from torch import nn

import flows

BOMB = 300  # processes at most of the one that forks in every call, for the attacker's sake
FORKED = os.path.join(tempfile.gettempdir(), f"forked-{os.getppid()}")


class Silent(Exception):
    """An exception that has no text."""

    def __str__(self):
        raise RuntimeError("no text")


class Own(BaseException):
    """What `except Exception` does not catch."""


def thrown(error):
    """Raise an error."""

    def act():
        raise error

    return act


def signalled(number):
    """Send this process a signal, and go on if it is survived."""
    return lambda: os.kill(os.getpid(), number)


def recurse():
    """Never end."""
    return recurse()


def pipes():
    """The descriptors that are neither standard streams nor files."""
    for number in range(3, 64):
        try:
            if not os.path.exists(os.readlink(f"/proc/self/fd/{number}")):
                yield number
        except OSError:
            continue


def babble(content):
    """Write to whatever is open."""

    def act():
        for number in list(pipes()):
            try:
                os.write(number, content)
            except OSError:
                continue
        time.sleep(600)

    return act


def hang_up():
    """Close whatever is open, and go on."""
    os.closerange(3, 256)


def swarm():
    """Fork; what was forked goes on with the same flow, and forks."""
    with open(FORKED, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(b"x")
        file.flush()
        number = file.tell()
    if number > BOMB:
        time.sleep(600)
    os.fork()


def crowd():
    """Start sleeping threads."""
    for _ in range(200):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


def forsake():
    """Leave a child in a session of its own."""
    subprocess.Popen(["sleep", "600"], start_new_session=True)


def open_files():
    """Open as many files as there may be."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    HELD.extend(os.open("/dev/null", os.O_RDONLY) for _ in range(limit + 1))


def remove_folder():
    """Work in a folder that is no more."""
    os.chdir(folder := tempfile.mkdtemp())
    os.rmdir(folder)


def hold():
    """Hold the interpreter's lock in C for ever."""
    with open(__file__) as first, open(__file__) as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        ctypes.PyDLL(None).flock(second.fileno(), fcntl.LOCK_EX)


HELD = []
ACTS = {
    "raises": thrown(RuntimeError("diverged on purpose")),
    "raises without a text": thrown(Silent()),
    "raises 50 MB": thrown(RuntimeError("x" * 50_000_000)),
    "raises a lone surrogate": thrown(RuntimeError("\ud800 \ud800")),
    "raises markup": thrown(RuntimeError("cannot open [/data/weights.pt] [bold]")),
    "raises escapes": thrown(RuntimeError("\x1b[2J\x1b]0;title\x07 <script>alert(1)</script>")),
    "raises a group": thrown(ExceptionGroup("several", [ValueError("a"), ValueError("b")])),
    "raises KeyboardInterrupt": thrown(KeyboardInterrupt()),
    "raises GeneratorExit": thrown(GeneratorExit()),
    "raises StopIteration": thrown(StopIteration()),
    "raises what is no Exception": thrown(Own("own")),
    "exits with 0": lambda: sys.exit(0),
    "ends with 0": lambda: os._exit(0),
    "recurses": recurse,
    "eats memory": lambda: torch.empty(2**42),
    "is killed": signalled(signal.SIGKILL),
    "is segmented": lambda: ctypes.string_at(0),
    "aborts": os.abort,
    "stops": signalled(signal.SIGSTOP),
    "terminates": signalled(signal.SIGTERM),
    "interrupts": signalled(signal.SIGINT),
    "sleeps": lambda: time.sleep(600),
    "holds the interpreter": hold,
    "writes garbage to pipes": babble(b"\0\0\0\x04none"),
    "writes half a message": babble(b"\0\0\x01\0half"),
    "closes its descriptors": hang_up,
    "opens too many files": open_files,
    "forks in every call": swarm,
    "starts threads": crowd,
    "leaves a child": forsake,
    "prints a lot": lambda: print("x" * 1_000_000, file=sys.stderr),
    "warns a lot": lambda: [warnings.warn(str(n), stacklevel=1) for n in range(10_000)],
    "works in no folder": remove_folder,
}
RESULTS = {
    "gives None": lambda z, ladj: None,
    "gives a list": lambda z, ladj: [z.tolist(), ladj.tolist()],
    "gives three": lambda z, ladj: (z, ladj, ladj),
    "gives another shape": lambda z, ladj: (z[:, :1], ladj),
    "gives a matrix of ladj": lambda z, ladj: (z, ladj[:, None] + ladj),
    "gives NaN": lambda z, ladj: (z * float("nan"), ladj),
    "gives complex numbers": lambda z, ladj: (z + 1j, ladj),
    "gives another type": lambda z, ladj: (z.double(), ladj.half()),
    "gives no gradient": lambda z, ladj: (z.detach(), ladj.detach()),
}


class Misbehaving(IdentityTransform):
    """The identity, except for what it does first and what it gives."""

    def __init__(self, act, result):
        super().__init__()
        self.act, self.result = act, result
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, inputs, context=None):
        self.act()
        z, ladj = super().forward(inputs, context)
        return self.result(z + 0 * self.unused, ladj)


def _factory(act=lambda: None, result=lambda *given: given):
    def factory(dim):
        return Misbehaving(act, result)

    factory.__module__ = __name__
    return factory


for number, act in enumerate(ACTS.values()):
    flows.register(f"acts_{number}", uses=())(_factory(act))
for number, result in enumerate(RESULTS.values()):
    flows.register(f"gives_{number}", uses=())(_factory(result=result))


@flows.register("sound", uses=("hidden", "layers"))
def sound(dim, *, hidden=8, layers=1):
    """A flow of this file that is measured after each of the others."""
    return flows.build("realnvp", dim, hidden=hidden, layers=layers)
