"""Criteria of verdicts, `benchmarks/claims/criteria.toml`: versioned, dated, fixed before a run."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

_FILE = resources.files("benchmarks") / "claims" / "criteria.toml"
_TABLE: dict[str, Any] = tomllib.loads(_FILE.read_text("utf-8"))

VERSION: int = _TABLE["version"]
DATE: str = _TABLE["date"].isoformat()
LEVEL: float = _TABLE["level"]  # of tests, family-wise
UPDATES: int = _TABLE["updates"]  # from which on a flow counts as trained


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


def margin(dim: int) -> float:
    """Difference of mean log-likelihoods in ``dim`` dimensions, nats, below which two are level."""
    rule = _TABLE["margin"]
    return float(max(rule["least"], rule["per_dim"] * dim))


def of(claim: str) -> Criterion:
    """The criterion of a claim in the file; ValueError for one that it does not have."""
    if claim not in _TABLE["claims"]:
        raise ValueError(f"claim {claim!r} has no criterion: give register(..., criterion=...)")
    values = dict(_TABLE["claims"][claim])
    own = {name: values.pop(name) for name in ("strength", "weakness", "check") if name in values}
    text = str(values.pop("text"))
    shared = {"level": level_of(claim if claim in _TABLE["shares"] else "leads")}
    return Criterion(text.format(**{**_TABLE, **shared, **values}), thresholds=values, **own)
