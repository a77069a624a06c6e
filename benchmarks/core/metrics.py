"""Every metric that a record can hold: its unit, its better direction, and how it may be compared.

Kinds: "exact" counts are equal on every machine for one minor version of torch; "quality" has a
standard error; "time" travels only as a ratio to the reference workload. Counts of sampling are
"quality": inverses iterate until they converge, which the last bit of a machine can decide. A new
metric is one line of ``metrics.toml``, or a call of `register` in a plug-in.
"""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

Better = Literal["lower", "higher", "neither"]
Kind = Literal["exact", "quality", "time"]

# the factor from a metric's own unit to one that it is shown in
SCALES = {
    ("s", "ms"): 1e3,
    ("s", "µs"): 1e6,
    ("B", "MiB"): 2.0**-20,
    ("B", "KiB"): 2.0**-10,
    ("B", "MB"): 1e-6,
    ("", "%"): 100.0,
}
FILE = "benchmarks/core/metrics.toml"
QUANTITIES = {"s": "seconds", "FLOP": "FLOPs", "B": "bytes", "op": "operations"}  # by unit


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Metric:
    """What a number means."""

    about: str  # explains it
    unit: str
    better: Better
    kind: Kind
    label: str = ""  # short name of headers and axes
    per: Literal["", "batch", "row"] = ""  # what a value is of; a batch's may be shown for a row
    display: str = ""  # unit of tables and axes where it is not ``unit``
    digits: str = ""  # a format specification of tables (".3g")
    solves: bool = False  # grows with a solver's evaluations: exact only where its steps are fixed
    cpu: bool = False  # in CPU seconds of one process, quotable whatever ran beside it

    def __post_init__(self) -> None:
        if self.display and (self.unit, self.display) not in SCALES:
            pairs = ", ".join(f"{unit!r} as {display!r}" for unit, display in SCALES)
            raise ValueError(
                f"unit {self.unit!r} cannot be shown as {self.display!r}, only {pairs}"
            )

    @property
    def name(self) -> str:
        """The label, or what stands in for it."""
        return self.label or self.about

    @property
    def display_unit(self) -> str:
        """The unit of tables and axes."""
        return self.display or self.unit

    @property
    def scale(self) -> float:
        """The factor from ``unit`` to the unit shown."""
        return SCALES[self.unit, self.display] if self.display else 1.0

    @property
    def quantity(self) -> str:
        """The word for what is counted or measured: "seconds", "FLOPs"; the unit if it has none."""
        return QUANTITIES.get(self.unit, self.unit)

    @property
    def title(self) -> str:
        """Name and quantity: "log_prob: seconds"."""
        return f"{self.name}: {self.quantity}"


def read(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Metric]:
    """The metrics of a table's rows; ValueError that names the first row that is none."""
    metrics = {}
    for name, row in table.items():
        try:
            metrics[name] = Metric(**row)
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, e['loc']))} {e['msg']}".strip() for e in error.errors())
            raise ValueError(f"row {name!r} of {FILE}: {'; '.join(faults)}") from None
    return metrics


METRICS = read(tomllib.loads(files(__package__).joinpath("metrics.toml").read_text("utf-8")))


def defined(name: str) -> Metric:
    """The metric of a name; ValueError for one that the table lacks."""
    if name not in METRICS:
        raise ValueError(f"metric {name!r} has no row in {FILE}: define it there, or register it")
    return METRICS[name]


def register(name: str, **row: Any) -> None:
    """Add a metric of a plug-in by the keys of a row; ValueError if another has the name."""
    metric = read({name: row})[name]
    if METRICS.setdefault(name, metric) != metric:
        raise ValueError(f"metric {name!r} is defined already: choose another name")
