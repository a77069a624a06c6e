"""Table of modes: which of them samples miss, and how many samples lie between them."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from benchmarks.analysis.models import mean_of, notes_of
from benchmarks.core.exhibit import RECORDS, Column, Table, cells, with_parts
from benchmarks.core.naming import series
from benchmarks.evaluation import modes

OBJECTIVES = {"likelihood": "likelihood", "reverse_kl": "reverse KL"}  # of training, in order
METRICS = {  # metric: digits
    "modes_missed": ".1f",
    "modes_thin": ".1f",
    "least_share": ".2f",
    "mode_kl": ".3f",
    "gap_mass": ".1f",
    "test_ll": ".4g",
    "reverse_kl": ".3f",
    "train_seconds": ".1f",
    "train_cpu_seconds": ".1f",
}
COLUMNS = {
    "dataset": Column("Data"),
    "objective": Column("Trained by"),
    "flow": Column("Flow"),
    "seeds": Column("Seeds"),
    **{name: Column.of(name, digits=d, error=f"{name}_se") for name, d in METRICS.items()},
}
COLUMNS["nll"] = Column.of("test_ll", label="NLL", digits=".4g", error="test_ll_se")
NOTE = (
    "Means over seeds ± their standard error; of one seed, the standard error over its samples if "
    "known. A sample belongs to the nearest mode. A mode is missed below "
    f"{modes.MISSED:g} of its due share and thin below {modes.THIN:g}. KL of shares: KL divergence "
    "of the modes' shares from equal shares; the logarithm of the number of modes if all samples "
    "are in one. In gaps: samples where the data's density is as low as for its rarest "
    f"{modes.RARE:.0%}. The data's own test rows: {{gaps}}. NLL: of the test rows. Reverse KL: "
    "mean of log q - log p over the flow's own samples, which does not see missed modes. Trained "
    "by reverse KL, a flow keeps its last weights: selection by validation likelihood would hide "
    "the collapse."
)


def tables(frame: pd.DataFrame) -> list[Table]:
    """A row for each data set, objective and flow."""
    rows = means(frame)
    rows = rows.assign(
        nll=-rows["test_ll"],
        objective=rows["objective"].map(OBJECTIVES),
        modes_missed=cells(rows, rows["modes_missed"]),
    )
    names = ["nll" if name == "test_ll" else name for name in with_parts(COLUMNS)]
    names = [name for name in dict.fromkeys(names) if rows[name].notna().any()]
    gaps = "; ".join(_of_data(str(name), group) for name, group in frame.groupby("dataset"))
    rows = rows[[*names, RECORDS]]
    return [
        Table("modes", "Modes that samples reach", NOTE.format(gaps=gaps), rows, columns=COLUMNS)
    ]


def groups(frame: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Data set, objective and cases with their series; likelihood first."""
    for name, of_data in frame.groupby("dataset"):
        for objective in OBJECTIVES:
            group = of_data[of_data["setting.objective"] == objective]
            if len(group):
                yield str(name), objective, group.assign(series=series(group))


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Means of each metric over seeds and ``<metric>_se``, by data set, objective and flow.

    Of one seed the error is that over samples where the record has it. ``seeds`` counts the done
    cases; where there are none, ``status`` is that of the first and the metrics are NaN.
    """
    rows = []
    for name, objective, group in groups(frame):
        for flow, seeds in group.groupby("series", sort=False):
            done = seeds[seeds["status"] == "done"]
            status = "done" if len(done) else str(seeds["status"].iloc[0])
            row: dict[str, object] = {"dataset": name, "objective": objective, "flow": flow}
            row |= {"seeds": len(done), "status": status, RECORDS: tuple(seeds["key"])}
            for metric in METRICS:
                row[metric], row[f"{metric}_se"] = mean_of(done, metric)
            rows.append(row)
    return pd.DataFrame(rows)


def _of_data(name: str, group: pd.DataFrame) -> str:
    """Figures of the data's own test rows, from the notes of a record."""
    done = group[group["status"] == "done"]
    if done.empty:
        return f"{name} not measured"
    own = notes_of(done)[0]["data"]
    return f"{name} least share/due {own['least_share']:.2f}, in gaps {own['gap_mass']:.1%}"
