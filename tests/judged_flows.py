"""A plug-in of flows that `flowgauge check` judges: wrong, dying, and with contexts."""

import os
import signal

import flows
from broken_flows import ERRORS, Broken

FAMILY, _ = ERRORS["one row in the inverse"]
flows.register("wrong", uses=())(lambda dim: Broken(lambda y, ladj: (y, ladj + 0.01), dim=dim))
flows.register("dying", uses=())(
    lambda dim: Broken(lambda *_: os.kill(os.getpid(), signal.SIGSEGV), forward=False)
)
for name, uses in {"context": ("context_dim",), "undeclared": ()}.items():

    @flows.register(name, uses=uses)
    def make(dim, *, context_dim=0):
        return FAMILY(dim, context_dim)
