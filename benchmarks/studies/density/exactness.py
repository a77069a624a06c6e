"""How exact the likelihoods of continuous flows are: tolerance, solver, Hutchinson's estimate."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.analysis.models import Models, notes_of
from benchmarks.core.exhibit import RECORDS, Column, Table

COLUMNS = {
    "model": Column("Model"),
    "test_tolerance": Column.of("test_tolerance", digits=".0e"),
    "ll_shift": Column.of("ll_shift", digits=".1e"),
    "ll_shift_row": Column.of("ll_shift_row", digits=".1e"),
    "solver_gap": Column.of("solver_gap", digits="+.1e"),
    "checked_ll": Column.of("checked_ll", digits=".3f"),
    "hutchinson_ll": Column.of("hutchinson_ll", digits=".3f"),
    "difference": Column("Hutchinson less exact", "nats", digits="+.4f", error="hutchinson_ll_se"),
    "hutchinson_ll_se": Column(digits=".4f"),
}
WORST = {"test_tolerance": "min", "ll_shift": "max", "ll_shift_row": "max"}  # over seeds
MEANS = ("solver_gap", "checked_ll", "hutchinson_ll")
FAULTS = {"not_settled": "has not settled", "no_hutchinson": "no estimate"}  # notes of records


def table(models: Models, study: str = "density") -> Table | None:
    """A row for each flow of a study that solves an ODE; None if there is none."""
    rows = [
        _row(model, seeds)
        for model, seeds in models.done.items()
        if "ll_shift" in seeds and seeds["ll_shift"].notna().any()
    ]
    if not rows:
        return None
    frame = pd.DataFrame(rows).dropna(axis=1, how="all")
    note = (
        "Test log-likelihood by the exact trace in float64, by dopri5 at the tolerance where it "
        "has settled: at a tenfold tighter tolerance the mean and the largest row of the checked "
        "rows move by the amounts shown. Own solver: the mean by the solver of the training less "
        "the exact one. Hutchinson's estimate uses one Rademacher probe a solve, on the same "
        "rows with the same solver; ± is its standard error over draws."
    )
    name, title = f"{study}-exact-{models.data}", f"{models.data}: accuracy of the likelihoods"
    return Table(name, title, " ".join([note, *_faults(models)]), frame, columns=COLUMNS)


def _row(model: str, seeds: pd.DataFrame) -> dict[str, object]:
    """Tightest tolerance and largest shifts of the seeds; means of the rest."""
    seeds = seeds.reindex(columns=[*seeds.columns.union(pd.Index([*WORST, *MEANS]))])
    row: dict[str, object] = {"model": model, RECORDS: tuple(seeds["key"])}
    row |= {metric: seeds[metric].agg(how) for metric, how in WORST.items()}
    row |= {metric: seeds[metric].mean() for metric in MEANS}
    if "hutchinson_ll_se" in seeds:
        row["difference"] = (seeds["hutchinson_ll"] - seeds["checked_ll"]).mean()
        variance = (seeds["hutchinson_ll_se"] ** 2).mean() / seeds["hutchinson_ll"].count()
        row["hutchinson_ll_se"] = float(np.sqrt(variance))
    return row


def _faults(models: Models) -> list[str]:
    """Flows whose likelihood has not settled or has no estimate, each with its reason."""
    faults = [
        f"{model}: {words} ({notes[name]})."
        for model, seeds in models.done.items()
        for notes in notes_of(seeds)
        for name, words in FAULTS.items()
        if name in notes
    ]
    return list(dict.fromkeys(faults))
