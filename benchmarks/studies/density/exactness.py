"""How exact the likelihoods of continuous flows are: tolerance, solver, Hutchinson's estimate."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from benchmarks.analysis.models import Models, notes_of
from benchmarks.core.exhibit import RECORDS, Table

DIFFERENCE = "Hutchinson less exact (nats)"


def table(models: Models) -> Table | None:
    """A row for each flow that solves an ODE; None where there is none."""
    solved = {m: s for m, s in models.done.items() if "ll_shift" in s}
    rows = [_row(m, s) for m, s in solved.items() if s["ll_shift"].notna().any()]
    if not rows:
        return None
    shown = pd.DataFrame(rows).dropna(axis=1, how="all")
    error = {DIFFERENCE: "± (draws)"} if "± (draws)" in shown else {}
    note = (
        "Test log-likelihoods are those of the exact trace, in float64, by dopri5 at the tolerance "
        "where they have settled: a tenfold tighter one moves the mean of the checked rows, and "
        "the largest row, by what is said here. Own solver: by how much that of the training "
        "overstates the mean. Hutchinson's estimate takes one Rademacher probe a solve, on the "
        "same rows with the same solver; ± is its standard error over draws."
    )
    return Table(
        f"density-exact-{models.data}",
        f"{models.data}: how exact the likelihoods are",
        " ".join([note, *_faults(models)]),
        shown,
        {
            "Tolerance": ".0e",
            "LL moved (nats)": ".1e",
            "Largest row (nats)": ".1e",
            "Own solver (nats)": "+.1e",
            "Exact (nats)": ".3f",
            "Hutchinson (nats)": ".3f",
            DIFFERENCE: "+.4f",
            "± (draws)": ".4f",
        },
        error,
    )


def _row(model: str, seeds: pd.DataFrame) -> dict[str, object]:
    """The tightest tolerance and the largest movement of the seeds, and means of the rest."""
    row: dict[str, object] = {"Model": model, RECORDS: tuple(seeds["key"])}
    for header, metric in (
        ("Tolerance", "test_tolerance"),
        ("LL moved (nats)", "ll_shift"),
        ("Largest row (nats)", "ll_shift_row"),
        ("Own solver (nats)", "solver_gap"),
        ("Exact (nats)", "checked_ll"),
        ("Hutchinson (nats)", "hutchinson_ll"),
    ):
        values = seeds.get(metric, pd.Series([math.nan]))
        worst = {"test_tolerance": values.min, "solver_gap": values.mean}
        worst |= {"checked_ll": values.mean, "hutchinson_ll": values.mean}
        row[header] = worst.get(metric, values.max)()
    if "hutchinson_ll" in seeds:
        row[DIFFERENCE] = (seeds["hutchinson_ll"] - seeds["checked_ll"]).mean()
        row["± (draws)"] = float(
            np.sqrt((seeds["hutchinson_ll_se"] ** 2).mean() / seeds["hutchinson_ll"].count())
        )
    return row


def _faults(models: Models) -> list[str]:
    """What has not settled, and which estimates there are not, each with its reason."""
    kinds = {"not_settled": "has not settled", "no_hutchinson": "no estimate"}
    told = [
        f"{model}: {words} ({notes[name]})."
        for model, seeds in models.done.items()
        for notes in notes_of(seeds)
        for name, words in kinds.items()
        if name in notes
    ]
    return list(dict.fromkeys(told))
