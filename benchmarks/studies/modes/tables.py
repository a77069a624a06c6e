"""Table of modes: which of them samples miss, and how many samples lie between them."""

from collections.abc import Iterator

import pandas as pd

from benchmarks.analysis.models import mean_of, notes_of
from benchmarks.core.exhibit import RECORDS, Column, Table, cells, columns
from benchmarks.core.naming import named
from benchmarks.evaluation import modes

OBJECTIVES = {  # of training, in order
    "likelihood": "likelihood",
    "reverse_kl": "reverse KL",
    "annealed_kl": "annealed reverse KL",
}
OF_MODES = ("modes_missed", "modes_thin", "least_share", "least_mass", "mode_kl", "gap_mass")
METRICS = (*OF_MODES, "test_ll", "reverse_kl", "train_seconds", "train_cpu_seconds")
COLUMNS = columns(
    *("dataset", {"objective": "Trained by"}, "flow", "seeds", *OF_MODES),
    {"nll": Column.of("test_ll", label="NLL", digits=".4g", error="test_ll_se")},
    *METRICS[len(OF_MODES) + 1 :],
)
NOTE = (
    "Means over seeds ± their standard error; of one seed, that over its samples. A mode is missed "
    f"below {modes.MISSED:g} of its due share of samples and thin below {modes.THIN:g}. Samples "
    "are of the nearest mode; in its mass are those that are not in gaps: where the data's density "
    f"is as low as for its rarest {modes.RARE:.0%} (test rows: {{gaps}}). Reverse KL does not see "
    "missed modes; by it a flow keeps its last weights: validation would select against collapse."
)


def tables(frame: pd.DataFrame) -> list[Table]:
    """A row for each data set, objective and flow."""
    rows = means(frame)
    rows = rows.assign(nll=-rows["test_ll"], objective=rows["objective"].map(OBJECTIVES))
    rows["modes_missed"] = cells(rows, "modes_missed")
    gaps = "; ".join(_of_data(str(name), group) for name, group in frame.groupby("dataset"))
    title, note = "Modes that samples reach", NOTE.format(gaps=gaps)
    return [Table.of("modes", title, note, rows.dropna(axis=1, how="all"), COLUMNS)]


def groups(frame: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Data set, objective and cases with their series; likelihood first."""
    for name, of_data in frame.groupby("dataset"):
        for objective in OBJECTIVES:
            group = of_data[of_data["setting.objective"] == objective]
            if len(group):
                yield str(name), objective, named(group)


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Means of each metric over seeds and ``<metric>_se``, by data set, objective and flow.

    ``seeds`` counts the done cases; where there are none, ``status`` is that of the first and the
    metrics are NaN.
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
    """Share of the data's own test rows in gaps, from the notes of a record."""
    done = group[group["status"] == "done"]
    figures = next((notes["data"] for notes in notes_of(done) if "data" in notes), None)
    return f"{name} {figures['gap_mass']:.1%}" if figures else f"{name} not measured"
