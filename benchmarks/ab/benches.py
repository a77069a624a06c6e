"""Benchmarks of `flowgauge ab`: a family and an operation of it, ``glow/gradient``."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 6
FACTOR = 1.05  # least change that counts: processes of one revision differ by less (docs/ab.md)
OPERATIONS = ("gradient", "log_prob", "sample")  # gradient: a training step without the optimiser
DEFAULT = (  # six kinds of flow, each milliseconds a call
    "realnvp/gradient",
    "glow/gradient",
    "maf/log_prob",
    "nsf_coupling/log_prob",
    "cnf/log_prob",
    "ffjord/log_prob",
)


def select(patterns: Sequence[str] | None) -> list[str]:
    """Resolve FAMILY or FAMILY/OPERATION to benchmarks; the default ones for none.

    A family alone stands for its default benchmark, else for its gradient. ValueError for an
    unknown operation, and for more than six benchmarks.
    """
    defaults = {name.partition("/")[0]: name for name in DEFAULT}
    names: dict[str, None] = {}
    for pattern in patterns or DEFAULT:
        family, slash, operation = pattern.partition("/")
        if not family or (slash and operation not in OPERATIONS):
            raise ValueError(
                f"no benchmark {pattern!r}: write FAMILY or FAMILY/OPERATION, with one of "
                f"{', '.join(OPERATIONS)}"
            )
        names[pattern if slash else defaults.get(family, f"{family}/{OPERATIONS[0]}")] = None
    if len(names) > MOST:
        raise ValueError(f"{len(names)} benchmarks are too many to time at once: at most {MOST}")
    return list(names)
