"""Modes, shown: which are missed and how much lies between them; samples beside the data."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.models import notes_of
from benchmarks.analysis.stats import standard_error
from benchmarks.core.exhibit import RECORDS, Figure, Table
from benchmarks.core.series import series
from benchmarks.core.store import arrays
from benchmarks.evaluation import modes as of_samples
from benchmarks.plotting import draw, panels

COLUMNS = {  # header -> metric, factor, format
    "Missed modes": ("modes_missed", 1, ".1f"),
    "Thin modes": ("modes_thin", 1, ".1f"),
    "Least share/due": ("least_share", 1, ".2f"),
    "KL of shares (nats)": ("mode_kl", 1, ".3f"),
    "In gaps (%)": ("gap_mass", 100, ".1f"),
    "NLL (nats)": ("test_ll", -1, ".4g"),
    "Reverse KL (nats)": ("reverse_kl", 1, ".3f"),
    "Training (s)": ("train_seconds", 1, ".1f"),
}
WORDS = {"likelihood": "likelihood", "reverse_kl": "reverse KL"}  # objectives
LOST = draw.COLOURS[1]  # modes that are missed


def tables(frame: pd.DataFrame) -> list[Table]:
    """A row for each data set, objective and flow, averaged over its seeds."""
    if frame.empty:
        return []
    rows = [
        _row(str(name), str(objective), str(flow), seeds)
        for (name, objective), group in _groups(frame)
        for flow, seeds in group.groupby("series", sort=False)
    ]
    shown = pd.DataFrame(rows)
    shown = shown[[c for c in shown if c == RECORDS or shown[c].notna().any()]]
    gaps = "; ".join(_due(str(name), group) for name, group in frame.groupby("dataset"))
    note = (
        "Means over seeds ± their standard error; of one seed, that over its samples where there "
        "is one. A sample is of the nearest mode; a mode is missed below "
        f"{of_samples.MISSED:g} of its due share and thin below {of_samples.THIN:g}. KL of shares: "
        "of the modes' shares from equal ones; the logarithm of the number of modes where all "
        "samples are in one. In gaps: samples where the data's density is as low as for its rarest "
        f"{of_samples.RARE:.0%}. Of the data's own test rows: {gaps}. NLL: of the test rows; "
        "Reverse KL: mean of log q - log p over the flow's own samples, to which modes that it "
        "leaves out are nothing. Trained by reverse KL, a flow keeps its last weights: the best "
        "validated likelihood would select the collapse away."
    )
    headers = {h: spec for h, (_, _, spec) in COLUMNS.items() if h in shown}
    errors = {h: f"± {h}" for h in headers if f"± {h}" in shown}
    return [Table("modes", "Modes that samples reach", note, shown, headers, errors)]


def figures(frame: pd.DataFrame) -> list[Figure]:
    """For each two-dimensional data set the samples of each flow, and each mode's share."""
    done = frame[(frame["status"] == "done") & frame["arrays"].notna()] if len(frame) else frame
    note = (
        "Above: samples of the first seed, crosses at the modes that they miss. Below: the "
        "share of the samples nearest to each mode, one scale in a row; dotted what each is due, "
        "crosses where it is missed."
    )
    return [
        Figure(
            f"modes-{name}",
            f"{name}: samples and the share of each mode",
            note,
            partial(_picture, group),
            tuple(group["key"]),
        )
        for name, group in (done.groupby("dataset", sort=False) if len(done) else ())
        if group["dim"].iloc[0] == 2
    ]


def _groups(frame: pd.DataFrame) -> list[tuple[Any, pd.DataFrame]]:
    """By data set and objective, likelihood first, each with the names of its cases' series."""
    found = frame.groupby(["dataset", "setting.objective"])
    named = [(key, group.assign(series=series(group))) for key, group in found]
    return sorted(named, key=lambda one: (one[0][0], list(WORDS).index(one[0][1])))


def _row(name: str, objective: str, flow: str, seeds: pd.DataFrame) -> dict[str, object]:
    done = seeds[seeds["status"] == "done"]
    row: dict[str, object] = {"Data": name, "Trained by": WORDS[objective], "Flow": flow}
    row |= {"Seeds": len(done), RECORDS: tuple(seeds["key"])}
    for header, (metric, factor, _) in COLUMNS.items():
        if done.empty:
            row[header] = str(seeds["status"].iloc[0]) if metric == "modes_missed" else None
        elif metric in done and (values := done[metric].dropna() * factor).size:
            row[header] = float(values.mean())
            if len(values) > 1:
                row[f"± {header}"] = standard_error(values)
            elif f"{metric}_se" in done:
                row[f"± {header}"] = float(done[f"{metric}_se"].mean())
    return row


def _due(name: str, group: pd.DataFrame) -> str:
    """What the data's own rows make of its modes."""
    done = group[group["status"] == "done"]
    if done.empty:
        return f"{name} not measured"
    found = notes_of(done)[0]["data"]
    return f"{name} least share/due {found['least_share']:.2f}, in gaps {found['gap_mass']:.1%}"


def _picture(group: pd.DataFrame) -> Any:
    data = arrays(group.iloc[0])
    own = {"samples": data["data_samples"], "mode_shares": data["data_shares"]}
    low, high = data["data_samples"].min(0), data["data_samples"].max(0)
    margin = 0.05 * (high - low)
    limits = list(zip(low - margin, high + margin, strict=True))
    lines = []
    for (_, objective), of_one in _groups(group):
        first = of_one.drop_duplicates("series")
        held = {str(row["series"]): arrays(row) for _, row in first.iterrows()}
        lines.append((WORDS[str(objective)], {"Data": own, **held}))
    columns = ["Data", *sorted({name for _, held in lines for name in held} - {"Data"})]
    with draw.figure(2 * len(lines), len(columns)) as (figure, axes):
        figure.set_size_inches(1.75 * len(columns), 3.0 * len(lines))
        for panel in axes.flat:
            panel.set_visible(False)
        for place, (objective, held) in enumerate(lines):
            top = max(a["mode_shares"].max() for a in held.values())
            for flow, a in held.items():
                above, below = axes[2 * place : 2 * place + 2, columns.index(flow)]
                lost = of_samples.of_due(a["mode_shares"]) < of_samples.MISSED
                _samples(above, a["samples"], data["modes"][lost], limits)
                _bars(below, 100 * a["mode_shares"], lost, 100 * top)
                above.set_title(flow)
                below.tick_params(labelleft=flow == "Data")
                if flow == "Data":
                    above.set_ylabel(f"by {objective}")
                    below.set_ylabel("share of samples (%)")
    return figure


def _samples(panel: Any, x: np.ndarray, lost: np.ndarray, limits: list[Any]) -> None:
    panels.cloud(panel, x)
    panel.plot(*lost.T, ls="", marker="x", ms=5, mew=1.5, color=LOST)
    panel.set(visible=True, xlim=limits[0], ylim=limits[1], aspect="equal", xticks=[], yticks=[])
    panel.grid(False)
    for spine in panel.spines.values():
        spine.set(visible=True, color="#bbbbbb")


def _bars(panel: Any, share: np.ndarray, lost: np.ndarray, top: float) -> None:
    places = np.arange(len(share))
    panel.bar(places, share, color=draw.COLOURS[0], width=0.8)
    panel.axhline(100 / len(share), ls=":", lw=1, color="#555555")
    height = 0.04 * top
    panel.plot(places[lost], np.full(lost.sum(), height), ls="", marker="x", ms=3.5, color=LOST)
    panel.set(visible=True, ylim=(0, 1.05 * top), xticks=[], xlabel=f"{len(share)} modes")
    panel.grid(False, axis="x")
