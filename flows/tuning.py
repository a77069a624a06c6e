"""What a training of a flow may choose from, and the choices that work for most data.

One table by option serves every family that has the option, those of plug-ins too; a second one
has the families whose own choice differs. `flows.fit` takes the choices that work, a search all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flows

LEVELS: dict[str, tuple[Any, ...]] = {  # rising; the middle one works for most
    "hidden": (64, 128, 256),
    "bins": (8, 16, 32),
    "tail_bound": (3.0, 5.0, 8.0),
    "activation": ("tanh", "softplus"),
    "components": (5, 10, 20),
    "weight": (3.0, 10.0, 30.0),
    "time": ("concat", "concatsquash"),
}
WORKING: dict[str, Any] = {"hidden": 128, "bins": 16}  # where it is not the family's default
OF_FAMILY: dict[str, dict[str, Any]] = {"nsf_ar": {"layers": 3}}
RATE = 5e-4, 3e-2  # lowest and highest learning rate
RATES = {True: 6e-3, False: 4e-3}  # that work, of flows that solve an ODE and of others
WEIGHT_DECAY = 0.0, 1e-2, 1e-1  # of AdamW
DECAYED = 1e-2  # that works
SOLVER = {"rtol": 1e-3, "atol": 1e-3, "gradient": "backprop"}  # of trainings that step adaptively
DEEP = 3  # largest D at which fields of three layers are tried: their exact trace takes D of them
BATCHES = 32, 256  # fewest and most rows of a batch
EPOCH = 8  # batches at least that the training rows make, where the fewest rows allow it


@dataclass(frozen=True)
class Tuning:
    """What works of a flow, ``rate`` and ``working`` options, and levels to choose from.

    ``options`` have their levels in rising order; ``fixed`` are options that no search varies.
    """

    rate: float
    options: Mapping[str, tuple[Any, ...]]
    working: Mapping[str, Any]
    fixed: Mapping[str, Any]


def tuning(name: str, dim: int) -> Tuning:
    """Return what a training of the flow of a name may choose from for data of ``dim`` columns.

    Raises ValueError for an unknown name.
    """
    member = flows.members[name]
    defaults = member.defaults
    solves = "solver" in defaults
    options = {option: levels for option, levels in LEVELS.items() if option in defaults}
    if "layers" in member.uses:
        number = OF_FAMILY.get(name, {}).get("layers", defaults["layers"])
        options["layers"] = (1, 2, 3) if number == 1 else (max(2, number // 2), number, 2 * number)
    if solves and "depth" in member.uses and dim <= DEEP:
        options["depth"] = (2, 3)
    special = {**WORKING, **OF_FAMILY.get(name, {})}
    working = {option: special.get(option, defaults[option]) for option in options}
    adaptive = solves and getattr(defaults["solver"], "step_size", None) is None
    return Tuning(RATES[solves], options, working, {"solver": SOLVER} if adaptive else {})


def batch(rows: int) -> int:
    """Return the rows of a batch by the number of training rows: a power of two."""
    least, most = BATCHES
    return max(least, min(most, 1 << max(0, (rows // EPOCH).bit_length() - 1)))
