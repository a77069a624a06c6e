"""What is timed: a family and an operation of it, ``glow/gradient``; and what change counts."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 6
FACTOR = 1.05  # what counts as slower: two processes of one revision differ by less (docs/ab.md)
OPERATIONS = ("gradient", "log_prob", "sample")  # gradient: a training step but the optimiser's
DEFAULT = (  # each another kind of flow, in milliseconds a call
    "realnvp/gradient",
    "glow/gradient",
    "maf/log_prob",
    "nsf_coupling/log_prob",
    "cnf/log_prob",
    "ffjord/log_prob",
)


def chosen(only: Sequence[str]) -> list[str]:
    """Benchmarks by name; a family alone stands for its one among the six, else its gradient.

    ValueError for an operation that is none, and for more than six.
    """
    usual = {name.partition("/")[0]: name for name in DEFAULT}
    found = []
    for said in only or DEFAULT:
        family, slash, operation = said.partition("/")
        if not family or (slash and operation not in OPERATIONS):
            raise ValueError(
                f"no benchmark {said!r}: write FAMILY or FAMILY/OPERATION, with one of "
                f"{', '.join(OPERATIONS)}"
            )
        found.append(said if slash else usual.get(family, f"{family}/{OPERATIONS[0]}"))
    found = list(dict.fromkeys(found))
    if len(found) > MOST:
        raise ValueError(f"{len(found)} benchmarks are too many to time at once: at most {MOST}")
    return found
