"""What the densities of a data set cost: to train, to evaluate, to sample."""

from __future__ import annotations

import pandas as pd

from benchmarks.analysis.models import Models
from benchmarks.core.exhibit import RECORDS, Table, scientific

MATCHED = 1.05  # the most over the least, up to which flows count as matched

# header: metric, factor, format
COLUMNS = {
    "Parameters": ("parameters", 1, ",.0f"),
    "Updates": ("train_updates", 1, ",.0f"),
    "Training (FLOP)": ("train_flops", 1, ".3g"),
    "Training (s)": ("train_seconds", 1, ".1f"),
    "NFE an update": ("train_nfe", 1, ".1f"),
    "log_prob (FLOP/row)": ("row_flops", 1, ".3g"),
    "log_prob of 1,000 (ms)": ("per_1000_seconds", 1e3, ".3g"),
    "Samples per second": ("sample_rate", 1, ".3g"),
    "NFE test": ("test_nfe", 1, ".0f"),
}


def table(models: Models) -> Table | None:
    """A row a model, best first; None where nothing is done."""
    rows = []
    for model, seeds in models.done.items():
        row: dict[str, object] = {"Model": model, RECORDS: tuple(seeds["key"])}
        for header, (metric, factor, _) in COLUMNS.items():
            if metric in seeds and seeds[metric].notna().any():
                row[header] = seeds[metric].mean() * factor
        rows.append(row)
    if not rows:
        return None
    shown = pd.DataFrame(rows)
    shown = shown[[h for h in ("Model", *COLUMNS, RECORDS) if h in shown]]
    note = (
        f"{matched(models)} Means over seeds. FLOPs are those of products and factorisations, of "
        "the training those of one counted update times the updates or, where an ODE is solved, "
        "the evaluations; NFE an update counts forward and "
        "backward, NFE test the forward evaluations of the exact density in a chunk of rows. Times "
        "are of one process on the record's machine, densities by the exact trace and the solver "
        "of the training."
    )
    return Table(
        f"density-cost-{models.data}",
        f"{models.data}: what the densities cost",
        note,
        shown,
        {h: spec for h, (_, _, spec) in COLUMNS.items() if h in shown},
    )


def matched(models: Models) -> str:
    """What the flows of a table are matched in, and by how much the rest of it differs."""
    flows = models.flows
    if len(flows) < 2:
        return ""
    kinds = {
        "parameters": ("parameters", "{:,.0f}".format),
        "training FLOPs": ("train_flops", scientific),
        "seconds of training": ("train_seconds", "{:.3g}".format),
    }
    same: list[str] = []
    differ: list[str] = []
    for name, (metric, told) in kinds.items():
        if not all(metric in seeds and seeds[metric].notna().any() for seeds in flows.values()):
            continue
        values = [float(seeds[metric].mean()) for seeds in flows.values()]
        least, most = min(values), max(values)
        asked = _asked(flows) if metric == "parameters" else None
        by = ", by their width" if asked else ""
        span = f"{name} ({told(least)} to {told(most)}"
        alike = least > 0 and most / least <= MATCHED
        if asked:
            alike = asked / MATCHED <= least and most <= asked * MATCHED
        (same if alike else differ).append(f"{span}{by})" if alike else f"{span})")
    what = f"in {' and '.join(same)}, within {MATCHED - 1:.0%}" if same else "in nothing"
    return f"The flows are matched {what}" + (
        f"; they differ in {', '.join(differ)}." if differ else "."
    )


def _asked(flows: dict[str, pd.DataFrame]) -> float | None:
    """The number of parameters that was asked of all of them, if one was."""
    asked = pd.concat(flows.values()).get("setting.parameters", pd.Series(dtype=float))
    return (
        float(asked.iloc[0]) if asked.nunique(dropna=False) == 1 and asked.notna().all() else None
    )
