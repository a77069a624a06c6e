"""Flows trained by maximum likelihood leave out no mode."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch

from benchmarks import datasets, draw
from benchmarks.claims import NotMeasured, Verdict, done, keys, listed, outcome, register, span
from benchmarks.store import arrays
from benchmarks.views.contests import UPDATES, trained

DATA, MODES = "8gaussians", 8
MISSED = 0.5  # of its due share, below which a mode counts as missed
RARE = 0.01  # of the data, which lies where its density is lowest: between the modes


@register(
    "mode-collapse",
    page=5,
    slide="Mode Collapse (review)",
    statement="A flow trained by maximum likelihood does not collapse onto some of the modes.",
    criterion=f"On the eight Gaussians of {DATA}: confirmed where every mode has at least "
    f"{MISSED:g} of its due share of every flow's samples, after {UPDATES} updates or more; "
    "refuted where every flow misses one; else conditional. Beside it the share of samples where "
    f"the data's density is as low as for its rarest {RARE:.0%}: bridges between the modes.",
    studies=("density",),
    suite="quick",
    exhibits=(f"picture-{DATA}",),
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The least share of a mode, and the share of samples between them, flow by flow."""
    rows = trained(done(frame, "density", "test_ll"))
    rows = rows[(rows["dataset"] == DATA) & rows["arrays"].notna()]
    drawn = {row["key"]: arrays(row).get("samples") for _, row in rows.iterrows()}
    rows = rows[[drawn[key] is not None for key in rows["key"]]]
    if rows.empty:
        raise NotMeasured(f"samples of {DATA} in the study density")
    samples = [torch.as_tensor(drawn[key]).double() for key in rows["key"]]
    rows = rows.assign(
        name=draw.series(rows),
        least=[MODES * shares(x).min() for x in samples],
        between=[bridges(x) for x in samples],
    )
    found = rows.groupby("name")[["least", "between"]].mean()
    kept = found["least"] >= MISSED
    missed = listed(found.index[~kept]) if (~kept).any() else "none"
    sentence = (
        f"On {DATA} a mode is missed by {missed} of {len(found)} flows: the least visited has "
        f"{found['least'].min():.2f} of its due share ({found['least'].idxmin()}); between modes "
        f"lie {span(found['between'], '.1%')} of the samples, and {RARE:.0%} of the data."
    )
    return Verdict(outcome(kept), sentence, keys(rows))


def shares(x: torch.Tensor) -> np.ndarray:
    """The share of samples (N, 2) in each mode, (8,): the nearest of eight directions."""
    nearest = torch.round(torch.atan2(x[:, 1], x[:, 0]) / (2 * math.pi / MODES)).long() % MODES
    return torch.bincount(nearest, minlength=MODES).numpy() / len(x)


def bridges(x: torch.Tensor) -> float:
    """The share of samples (N, 2) where the data's density is as low as for its rarest rows."""
    data = datasets.load(DATA)
    if data.log_prob is None:
        raise NotMeasured(f"exact densities of {DATA}")
    level = torch.quantile(data.log_prob(data.test), RARE)
    return float((data.log_prob(x) < level).double().mean())
