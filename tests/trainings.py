"""One training of a small flow, which can be cut off."""

from __future__ import annotations

from benchmarks import datasets
from benchmarks.core.case import Case
from benchmarks.measure.calls import prepare
from benchmarks.training.loop import train
from benchmarks.training.settings import Training

RK4 = {"method": "rk4", "step_size": 0.5, "gradient": "backprop"}
OPTIONS = {
    "realnvp": {"hidden": 8, "layers": 2},
    "glow": {"hidden": 8, "layers": 2},
    "ffjord": {"hidden": 8, "solver": RK4},  # noise of its own
    "flow_matching": {"hidden": 8, "solver": RK4},  # noise of torch's global stream
}


class CutOff(Exception):
    """The end of a training from outside."""


def trained(
    flow: str,
    settings: Training,
    until: int | None = None,
    kind: type | None = None,
    updates: int = 17,
):
    """Train fresh weights of a flow, of another class if given; return weights and history.

    With ``until`` the training is cut off before that update.
    """
    case = Case(
        study="density",
        flow=flow,
        dim=2,
        dataset="8gaussians",
        batch=1500,  # 20,000 rows are no multiple, and are shuffled anew
        updates=updates,
        options=OPTIONS[flow],
    )
    data = datasets.load("8gaussians")
    built = prepare(case, data.train.float(), settings.preprocessing)

    built.__class__ = kind or type(built)

    def observe(update: int) -> tuple[int, float] | None:
        if update == until:
            raise CutOff
        return (update, update / 2) if update % 5 == 0 else None

    history = train(built, data, case, settings, observe=observe)
    return built.state_dict(), history
