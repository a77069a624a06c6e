"""Tables of the chooser: the ranking, and the search."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from benchmarks.analysis.criteria import LEVEL, UPDATES
from benchmarks.analysis.improvement import settled
from benchmarks.core.exhibit import RECORDS, Column, Table
from benchmarks.core.naming import counted
from benchmarks.studies.choose.ranking import Choice, choices, undertrained
from benchmarks.studies.frontier.tables import trials

COLUMNS = {
    "model": Column("Model"),
    "val_ll": Column("Validation", "nats", digits=".3f"),
    "test_ll": Column("Test", "nats", digits=".3f", error="half"),
    "raw": Column("Raw", "nats", digits=".3f"),
    "seconds": Column("Seconds", digits=".1f"),
    "updates": Column("Updates", digits=",.0f"),
    "c2st": Column("C2ST", digits=".3f"),
    "state": Column("State"),
    "configuration": Column("Configuration"),
}
TERMINAL = ("model", "val_ll", "test_ll", "raw", "seconds", "c2st", "state")


def tables(frame: pd.DataFrame) -> list[Table]:
    """Of each data set the ranking, and the trials of the search."""
    listed = []
    for choice in choices(frame):
        log = trials(choice.data, choice.rows)
        listed += [ranking(choice), replace(log, name=f"choose-trials-{choice.data}")]
    return [table for table in listed if len(table.frame)]


def rows_of(choice: Choice) -> str:
    """Numbers of columns and rows, a sentence to go before others; empty if not known."""
    about = choice.about
    if "test" not in about:
        return ""
    counts = " / ".join(f"{about[part]:,}" for part in ("train", "val", "test"))
    columns = counted(about["columns"], "column")
    return f"{columns}, {counts} rows that train, choose and test the flows. "


def ranking(choice: Choice) -> Table:
    """Flows by validation, the best first, then the baselines."""
    rows = [
        {
            "model": ranked.name,
            "val_ll": ranked.val,
            "test_ll": ranked.test.value,
            "half": ranked.test.half(LEVEL),
            "raw": ranked.raw,
            "seconds": ranked.value("train_process_seconds"),
            "updates": ranked.value("train_updates"),
            "c2st": ranked.value("told_apart"),
            "state": _state(ranked.row),
            "configuration": ranked.configuration,
            RECORDS: (ranked.row["key"],),
        }
        for ranked in (*choice.flows, *choice.baselines)
    ]
    note = (
        f"{rows_of(choice)}In the order of the validation log-likelihood, which has chosen each "
        "configuration; baselines, which are fitted, last. Test: mean over the test rows, ± half "
        f"of its {1 - LEVEL:.0%} interval over these rows, in nats of standardised columns, and "
        "of those of the file (raw). Seconds: of updates. C2ST: accuracy of a "
        "classifier that tells samples from test rows, 0.5 where it cannot. State: by a "
        "continuation at a constant rate, open where the validation rows do not decide; improving "
        f"too with fewer than {UPDATES} updates."
    )
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "half", RECORDS])
    return Table(f"choose-{choice.data}", f"{choice.data}: the ranking", note, frame, COLUMNS)


def _state(row: pd.Series) -> str:
    """How the training of a final had come along at its end."""
    late = undertrained(row)
    if late is None:
        return "–"
    if late:
        return "improving"
    stopped = row["notes"].get("stopped") == "patience"
    return "trained" if stopped or settled(row.to_frame().T) else "open"
