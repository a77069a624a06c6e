"""Parameter budgets: the width at which a family has a given number of parameters."""

from bisect import bisect_left
from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import nn

from flows.registry import Member
from flows.streams import Stream

MOST = 10**8  # largest budget: the search may build a flow of four times as many
WITHIN = 0.05  # relative error of the nearest width, at most


def width(member: Member, dim: int, parameters: int, options: Mapping[str, Any]) -> int:
    """The ``hidden`` whose number of trainable parameters is nearest to ``parameters``.

    ``options`` are the other options of the flow. The number rises with the width, so the two
    widths around the budget are found by doubling and then by halving. Each trial builds the flow
    and leaves torch's random stream as it was. Raises ValueError where no width comes within 5 %,
    with the reason and the nearest that there is.
    """
    about = f"flow {member.name!r} cannot have {parameters!r} parameters"
    if isinstance(parameters, bool) or not isinstance(parameters, int) or parameters < 1:
        raise ValueError(f"{about}: a budget is a whole number from 1")
    if parameters > MOST:
        raise ValueError(f"{about}: the search builds flows, and stops at {MOST:,}")
    if "hidden" not in member.uses:
        sizes = ", ".join(member.uses) or "nothing but the dimension"
        raise ValueError(
            f"{about}: it takes no 'hidden' that a budget could decide, its size follows "
            f"from {sizes}"
        )
    if "hidden" in options:
        raise ValueError(f"{about} and hidden={options['hidden']!r}: give one of the two")

    @cache
    def count(hidden: int) -> int:
        with Stream(0):
            return trainable(member.construct(dim, {**options, "hidden": hidden}))

    low, high = 1, 1
    while count(high) < parameters:
        low, high = high, 2 * high
        if count(high) <= count(low):
            raise ValueError(f"{about}: it has {count(low)} at hidden={low} and hidden={high}")
    high = bisect_left(range(high), parameters, low, key=count)
    low = max(1, high - 1)
    nearest = min((low, high), key=lambda hidden: abs(count(hidden) - parameters))
    if abs(count(nearest) - parameters) <= WITHIN * parameters:
        return nearest
    if low == high:
        raise ValueError(f"{about}: even hidden=1 has {count(1)}")
    raise ValueError(
        f"{about} within {WITHIN:.0%}: hidden={low} has {count(low)} and hidden={high} has "
        f"{count(high)}; take one of these"
    )


def trainable(module: nn.Module) -> int:
    """Return the number of trainable parameters of a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
