"""Made-up records that would confirm or refute a claim, declared beside it and held by tests."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.naming import BUDGET, LABEL, STAGE

ROW: dict[str, Any] = {  # columns of every record, unless an example has them
    "flow": "cnf",
    "dim": 2,
    "dataset": None,
    "batch": 8,
    "updates": 0,
    "seed": 0,
    "data_seed": 0,
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


def densities(
    levels: Mapping[str, float], turn: float = 1.0, scatter: float = 0.01, **columns: Any
) -> pd.DataFrame:
    """Made-up densities of flows on two data sets, by the mean test log-likelihood of each, nats.

    Five seeds, each with a draw of the data. A seed scatters by 0.1 around the mean, alike for all
    flows, and by ``scatter`` of its own. On the second set the means are ``turn`` times as large.
    """
    continuous = {"test_nfe": 50.0, "log_prob_nfe": 50.0}
    data = {"split": "drawn", "rows": {"train": 400, "val": 400, "test": 400}}
    parts = [
        {
            "flow": flow,
            "dataset": ["2spirals", "checkerboard"],
            "seed": [0, 1, 2, 3, 4],
            "data_seed": lambda row: row["seed"],
            "updates": 0 if flow in ("gaussian", "mixture") else 500,
            "test_ll": partial(_level, level=level, turn=turn, scatter=scatter),
            "notes": {"data": data},
            "val_ll": level,
            "arrays": lambda row: {"test_log_prob": np.full(400, row["test_ll"])},
            "parameters": 1000.0,
            "train_seconds": 10.0,
            **(continuous if flow in ("cnf", "ffjord", "rnode") else {}),
            **columns,
        }
        for flow, level in levels.items()
    ]
    return made_up("density", *parts)


def searched(levels: Mapping[str, float], **how: Any) -> pd.DataFrame:
    """Made-up finals of a search: `densities` at its last budget; far lower, in reverse, before."""
    parts = []
    early = {flow: -10.0 - level for flow, level in levels.items()}
    for budget, own in ((15.0, early), (60.0, levels)):
        rows = densities(own, **how)
        trained = rows["updates"] > 0
        columns: dict[str, Any] = {
            "study": "frontier",
            "key": [f"{key}-{budget:g}" for key in rows["key"]],
            STAGE: pd.Series("final", rows.index).where(trained, None),
            LABEL: rows["flow"].where(trained, None),
            BUDGET: pd.Series(budget, rows.index).where(trained),
        }
        parts.append(rows.assign(**columns)[trained | (own is levels)])
    return pd.concat(parts, ignore_index=True)


def _level(row: Mapping[str, Any], level: float, turn: float, scatter: float) -> float:
    """Test log-likelihood of a seed on its draw of the data."""
    seeds = ((0, row["seed"]), (0, row["seed"], *row["flow"].encode()))
    shared, own = (np.random.default_rng(seed).standard_normal() for seed in seeds)
    mean = level * (turn if row["dataset"] == "checkerboard" else 1.0)
    return float(mean + 0.1 * shared + scatter * own)
