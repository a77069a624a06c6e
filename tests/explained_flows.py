"""A plug-in of flows whose faults `flowgauge check` can explain."""

from nflows.transforms import CompositeTransform, LeakyReLU, LULinear

import flows
from broken_flows import Scale

flows.register("missing", uses=())(lambda dim: Scale(dim, 0, 0))
flows.register("turned", uses=())(lambda dim: Scale(dim, -1, -1))
flows.register("bent", uses=())(lambda dim: CompositeTransform([LULinear(dim), LeakyReLU()]))
