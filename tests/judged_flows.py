"""A plug-in of flows that `flowgauge check` judges: explicable, dying, and with contexts."""

import os
import signal

from nflows.transforms import CompositeTransform, LeakyReLU, LULinear

import flows
from broken_flows import ERRORS, Broken, Scale

FAMILY, _ = ERRORS["one row in the inverse"]
flows.register("missing", uses=())(lambda dim: Scale(dim, 0, 0))
flows.register("turned", uses=())(lambda dim: Scale(dim, -1, -1))
flows.register("bent", uses=())(lambda dim: CompositeTransform([LULinear(dim), LeakyReLU()]))
flows.register("dying", uses=())(
    lambda dim: Broken(lambda *_: os.kill(os.getpid(), signal.SIGSEGV), forward=False)
)
for name, uses in {"context": ("context_dim",), "undeclared": ()}.items():

    @flows.register(name, uses=uses)
    def make(dim, *, context_dim=0):
        return FAMILY(dim, context_dim)
