"""Made-up records that would confirm or refute a claim, declared beside it and held by tests."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

ROW: dict[str, Any] = {  # columns of every record, unless an example has them
    "flow": "cnf",
    "dim": 2,
    "dataset": None,
    "batch": 8,
    "updates": 0,
    "seed": 0,
    "device": "cpu",
    "dtype": "float32",
    "status": "done",
    "notes": {},
    "arrays": None,
    "run": "examples",
}


def made_up(study: str, *parts: Mapping[str, Any]) -> pd.DataFrame:
    """Frame of made-up records of a study, as `benchmarks.core.frame.load` gives it.

    A part names columns of its records: those given as lists are varied, in a product; those given
    as functions are computed from the row, with what stands before them; any other value, a tuple
    too, is that of every row.
    """
    rows: list[dict[str, Any]] = []
    for part in parts:
        varied = [name for name, value in part.items() if isinstance(value, list)]
        for values in product(*(part[name] for name in varied)):
            row = {**ROW, **part, **dict(zip(varied, values, strict=True)), "study": study}
            row["key"] = f"{study}-{len(rows)}"
            for name, value in part.items():
                row[name] = value(row) if callable(value) else row[name]
            rows.append(row)
    return pd.DataFrame(rows)


def densities(levels: Mapping[str, float], **columns: Any) -> pd.DataFrame:
    """Made-up densities of flows on two data sets, by the mean test log-likelihood of each, nats.

    A row of each test set scatters by 0.1 around that, alike for all flows, and by 0.01 of its own.
    """
    continuous = {"test_nfe": 50.0, "log_prob_nfe": 50.0}
    parts = [
        {
            "flow": flow,
            "dataset": ["8gaussians", "checkerboard"],
            "updates": 0 if flow in ("gaussian", "mixture") else 500,
            "test_ll": level,
            "arrays": lambda row: {"test_log_prob": _rows(row)},
            "parameters": 1000.0,
            "train_seconds": 10.0,
            **(continuous if flow in ("cnf", "ffjord") else {}),
            **columns,
        }
        for flow, level in levels.items()
    ]
    return made_up("density", *parts)


def _rows(row: Mapping[str, Any]) -> np.ndarray:
    """Log-densities of 400 test rows around the test log-likelihood of a record."""
    seeds = (0, list(row["flow"].encode()))
    shared, own = (np.random.default_rng(seed).standard_normal(400) for seed in seeds)
    rows: np.ndarray = row["test_ll"] + 0.1 * (shared - shared.mean()) + 0.01 * (own - own.mean())
    return rows
