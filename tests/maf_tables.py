"""Small tables in the layout of the MAF sets."""

from __future__ import annotations

import numpy as np
import pandas as pd

RNG = np.random.default_rng(0)
ROWS = 400
MINUTES = np.column_stack(
    (
        RNG.uniform(0.1, 6, ROWS).round(3),
        RNG.uniform(0, 0.5, ROWS).round(3),
        RNG.uniform(230, 245, ROWS).round(2),
        RNG.uniform(0, 30, ROWS).round(1),
        RNG.integers(0, 20, (ROWS, 3)),
        np.arange(ROWS) % 1440,
    )
)


def gas_table() -> pd.DataFrame:
    """Sensors a, b, c: b is a but for noise, c is against a; so a goes and b and c stay."""
    a, c = RNG.normal(size=(2, ROWS))
    values = {"a": a, "b": 3 * a + 0.01 * RNG.normal(size=ROWS) + 5, "c": c, "d": -a}
    return pd.DataFrame({"Time": np.arange(ROWS) / 100, "Meth": 0.0, "Eth": 1.0, **values})


def hepmass_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """f1 repeats its least value, f2 another one; the test file has a column more."""
    tables = []
    for _ in range(2):
        table = pd.DataFrame(RNG.normal(size=(ROWS, 4)), columns=["f0", "f1", "f2", "f3"])
        table.loc[RNG.permutation(ROWS)[:100], "f1"] = -9.0
        table.loc[RNG.permutation(ROWS)[:100], "f2"] = 0.5
        table.insert(0, "# label", RNG.integers(0, 2, ROWS).astype(float))
        tables.append(table)
    tables[1]["mass"] = 1000.0
    return tables[0], tables[1]
