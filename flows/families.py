"""What a family offers: how each direction is computed, how right its density is, contexts."""

from dataclasses import dataclass

import torch

import flows
from flows.bijection import ways

DIM = 3
SIZES = {"hidden": 4, "depth": 1, "layers": 1}
FAR = 1e3  # where a density with bounds has no mass
CLOSED = {"D passes", "D steps"}  # that need no iteration


@dataclass(frozen=True)
class Capabilities:
    """What the members of a family have in common, whatever their sizes.

    ``log_prob`` and ``sample`` say how they are computed: in "1 pass", in "D passes" or, with what
    is kept of each column, "D steps", by "iterations" or by an "ODE". ``inverse``, from noise to
    data, has a "closed form", takes iterations or an ODE, or is "learned". A ``density`` is "exact"
    (as far as its ODE is solved), "estimated" without bias, or "approximate". A family with
    ``context`` has conditional densities. ``bounded`` ones end somewhere by themselves; all others
    take bounds of columns from the preprocessing "logit".
    """

    log_prob: str
    sample: str
    inverse: str
    density: str
    context: bool
    bounded: bool

    def __str__(self) -> str:
        """All of it in one line."""
        line = f"{self.density} density, log_prob: {self.log_prob}, sample: {self.sample}, "
        ends = "bounded" if self.bounded else "no bounds"
        return f"{line}inverse: {self.inverse}, {ends}{', contexts' * self.context}"


def capabilities(name: str) -> Capabilities:
    """Return what the family of a name offers, from a small one.

    Raises ValueError for an unknown name, and for another library's, which declares nothing.
    """
    member = flows.members[name]
    if member.library is not None:
        raise ValueError(
            f"flow {name!r} is of {member.library}: its documentation says what it offers"
        )
    flow = flows.build(name, DIM, **member.applicable(SIZES))
    kinds = ("inexact", "estimated")
    declared = [k for k in kinds if any(getattr(module, k, False) for module in flow.modules())]
    density = declared[0].replace("inexact", "approximate") if declared else "exact"
    log_prob, sample = (ways(flow.transform, inverse=inverse) for inverse in (False, True))
    inverse = ", ".join(sorted(sample - CLOSED)) or "closed form"
    with torch.no_grad():
        far = flow.log_prob(FAR * torch.eye(DIM))
    return Capabilities(
        log_prob=", ".join(sorted(log_prob)) or "1 pass",
        sample=", ".join(sorted(sample)) or "1 pass",
        inverse="learned" if density == "approximate" else inverse,
        density=density,
        context="context_dim" in member.uses,
        bounded=bool((far == -torch.inf).any()),
    )
