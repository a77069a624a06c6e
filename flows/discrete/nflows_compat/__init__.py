"""nflows transforms repaired for today's torch, and made fair where a default is not.

nflows 0.14 dates from 2020. Each class here is the nflows class of the same name with its faults
mended; the tests show each fault in the original. Two faults need no class of their own: nflows'
base distribution cannot sample in float64, and its ``sample`` cannot draw in parts with a context
(`flows.Flow` has a base of its own and takes one context row for all).
"""

from flows.discrete.nflows_compat.composition import CompositeTransform, ReversePermutation
from flows.discrete.nflows_compat.elementwise import (
    AdditiveCouplingTransform,
    AffineCouplingTransform,
    MaskedAffineAutoregressiveTransform,
    MaskedPiecewiseRationalQuadraticAutoregressiveTransform,
    PiecewiseRationalQuadraticCouplingTransform,
)
from flows.discrete.nflows_compat.linear import (
    HouseholderSequence,
    LULinear,
    NaiveLinear,
    QRLinear,
    SVDLinear,
)
from flows.discrete.nflows_compat.normalization import ActNorm, BatchNorm

__all__ = [
    "ActNorm",
    "AdditiveCouplingTransform",
    "AffineCouplingTransform",
    "BatchNorm",
    "CompositeTransform",
    "HouseholderSequence",
    "LULinear",
    "MaskedAffineAutoregressiveTransform",
    "MaskedPiecewiseRationalQuadraticAutoregressiveTransform",
    "NaiveLinear",
    "PiecewiseRationalQuadraticCouplingTransform",
    "QRLinear",
    "ReversePermutation",
    "SVDLinear",
]
