"""A case: everything that can change one measured number, and the key made of it."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

PROTOCOL = "1"  # raised when numbers measured before and after can no longer be compared


class Seeds(BaseModel, frozen=True, extra="forbid"):
    """Separate streams: data and split, initial weights, noise of the flow, order of batches."""

    data: int = 0
    init: int = 0
    noise: int = 0
    batches: int = 0

    @classmethod
    def of(cls, seed: int) -> Seeds:
        """The streams of one repetition: the same data, everything else anew."""
        return cls(init=seed, noise=seed, batches=seed)


class Case(BaseModel, frozen=True, extra="forbid"):
    """One cell of a study.

    ``options`` are the flow's, complete with defaults; ``settings`` what else the study depends
    on. Two cases with the same key measure the same thing.
    """

    model_config = ConfigDict(ignored_types=(cached_property,))

    study: str
    flow: str
    dim: PositiveInt
    options: dict[str, Any] = Field(default_factory=dict)
    dataset: str | None = None
    batch: PositiveInt
    updates: int = 0
    seeds: Seeds = Seeds()
    settings: dict[str, Any] = Field(default_factory=dict)
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"
    threads: PositiveInt = 1
    protocol: str = PROTOCOL

    @cached_property
    def key(self) -> str:
        """Sixteen hexadecimal digits that identify the case."""
        return digest(self.model_dump(mode="json"))[:16]

    @property
    def label(self) -> str:
        """A short line for progress and plans."""
        trace, work = self.options.get("trace"), self.settings.get("work")
        how = " ".join(map(str, trace.values())) if isinstance(trace, dict) else trace
        seed = f"seed {self.seeds.init}" if self.seeds.init else ""
        parts = (self.study, self.flow, work, how, self.dataset or f"D={self.dim}", seed)
        return " ".join(str(part) for part in parts if part)


def digest(value: Any) -> str:
    """sha256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def canonical(value: Any) -> Any:
    """A JSON value of options that may hold dataclasses, tuples or mappings."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: canonical(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {str(k): canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    return value
