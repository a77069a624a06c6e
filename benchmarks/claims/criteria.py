"""The table of the claims, `criteria.toml`: statements and criteria, versioned and dated."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from benchmarks.analysis.criteria import LEVEL, MARGIN, UPDATES

_TABLE: dict[str, Any] = tomllib.loads((files(__package__) / "criteria.toml").read_text("utf-8"))

VERSION: int = _TABLE["version"]
DATE: str = _TABLE["date"].isoformat()
CLAIMS: dict[str, dict[str, Any]] = _TABLE["claims"]


@dataclass(frozen=True)
class Criterion:
    """What confirms and refutes a claim, and what speaks for such a verdict and against it.

    ``thresholds`` are those of the text, by name. ``check``: the claim holds by construction.
    """

    text: str
    strength: str = ""
    weakness: str = ""
    check: bool = False
    thresholds: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, threshold: str) -> Any:
        return self.thresholds[threshold]


def level_of(tests: str) -> float:
    """The level of the tests of a claim, or of "leads": its share of `LEVEL` (Bonferroni)."""
    return LEVEL * float(_TABLE["shares"][tests])


def rule(claim: str) -> Criterion:
    """The criterion of a claim in the table; ValueError for one that it does not have."""
    if claim not in CLAIMS:
        raise ValueError(f"claim {claim!r} has no criterion: give register(..., criterion=...)")
    values = CLAIMS[claim]
    level = level_of(claim if claim in _TABLE["shares"] else "leads")
    shared = {"level": level, "updates": UPDATES, "margin": MARGIN, "beyond": _TABLE["beyond"]}
    own = {name: values[name] for name in ("strength", "weakness", "check") if name in values}
    return Criterion(values["text"].format(**shared, **values), thresholds=values, **own)
