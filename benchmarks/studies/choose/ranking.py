"""The families of one table in the order of their validation, and the answer that they give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmarks.analysis.criteria import LEVEL, UPDATES, margin
from benchmarks.analysis.improvement import improving
from benchmarks.analysis.inference import Estimate, Standing, of_rows, standings
from benchmarks.analysis.paired import mean_by_row
from benchmarks.core.case import Case
from benchmarks.core.formats import number
from benchmarks.core.naming import is_baseline
from benchmarks.core.store import arrays
from benchmarks.studies.frontier.rows import finals, labelled

FITTED = {"gaussian": "a Gaussian", "mixture": "a mixture of Gaussians"}
STANDING = {
    "level": "level with",
    "open": "not told apart from",
    "behind": "on the test rows behind",
}
TRAINED = ("learning_rate", "preprocessing")
LONGER = 3  # times the minutes, where a training was still improving


def undertrained(row: pd.Series) -> bool | None:
    """Whether the training of a final was still improving; None where that is not known.

    One of fewer than `criteria.UPDATES` has hardly begun, unless its validation got worse.
    """
    if not row["updates"]:  # of a baseline
        return None
    if row["train_updates"] < UPDATES:
        return bool(row["notes"].get("stopped") != "patience")
    return improving(row.to_frame().T)


@dataclass(frozen=True)
class Ranked:
    """A flow or a baseline with its scores, nats, and how it stands to the best flow.

    ``test`` is the mean over the test rows with its error, ``raw`` that of raw columns, ``c2st`` an
    accuracy, ``seconds`` those of the training.
    """

    name: str
    row: pd.Series
    val: float
    test: Estimate
    standing: Standing | None = None

    @property
    def raw(self) -> float | None:
        """Test log-likelihood of the raw columns; None where they were not standardised."""
        scale = self.data.get("log_scale")
        return None if scale is None else self.test.value - float(scale)

    @property
    def data(self) -> dict[str, Any]:
        """What the record says of the data."""
        return dict(self.row["notes"].get("data", {}))

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of the test log-likelihood over the test rows."""
        half = self.test.half(LEVEL)
        return self.test.value - half, self.test.value + half

    @property
    def configuration(self) -> str:
        """What the search has chosen, or the size of a baseline."""
        components = self.row["notes"].get("components")
        return f"{components} components" if components else str(self.row["configuration"])

    def value(self, column: str) -> float | None:
        """A number of the record; None where it has none."""
        value = self.row.get(column)
        return None if value is None or pd.isna(value) else float(value)

    def as_json(self, case: Case, weights: str | None) -> dict[str, Any]:
        """The entry of a ranking, of the case that was measured and the folder of its weights."""
        training = case.settings.get("training", {})
        return {
            "flow": case.flow,
            "options": case.options,
            "training": {name: training[name] for name in TRAINED if name in training},
            "val_ll": self.val,
            "test_ll": self.test.value,
            "interval": list(self.interval),
            "test_ll_raw": self.raw,
            "seconds": self.value("train_process_seconds"),
            "c2st": self.value("told_apart"),
            "undertrained": undertrained(self.row),
            "weights": weights,
        }


@dataclass(frozen=True)
class Choice:
    """What the records of one table say: flows and baselines, the best by validation first."""

    data: str
    flows: list[Ranked]
    baselines: list[Ranked]
    rows: pd.DataFrame

    @classmethod
    def of(cls, data: str, frame: pd.DataFrame) -> Choice:
        """Rank the finals of one data set: of each family the best by validation."""
        rows = labelled(frame)
        order = finals(rows).sort_values("val_ll", ascending=False, kind="stable")
        best = order.drop_duplicates("model")
        baseline = is_baseline(best)
        return cls(data, _standing(best[~baseline]), _standing(best[baseline]), rows)

    @property
    def answer(self) -> str:
        """One plain sentence: the flow to take, its rivals, and whether to train longer."""
        if not self.flows:
            best = self._trials.sort_values("val_ll")["model"].tolist()[-1:]
            hint = f"; by its trials {best[0]} is best" if best else ""
            return f"No flow was trained to its end{hint}: give it more --minutes."
        first, *others = self.flows
        parts = [first.name]
        for standing, words in STANDING.items():
            if names := [other.name for other in others if other.standing == standing]:
                parts.append(f"{words} {', '.join(names)}")
        if not parts[1:] and others:
            parts.append("ahead of the other flows")
        better = [b for b in self.baselines if b.val > first.val + margin(int(first.row["dim"]))]
        for baseline in better[:1]:
            name = FITTED.get(baseline.name, baseline.name)
            validated = f"{_nats(baseline.val)}, the flow {_nats(first.val)}"
            parts.append(f"but {name} is better in validation ({validated})")
            if baseline.test.value < first.test.value:
                tested = f"{_estimate(baseline.test)}, the flow {_estimate(first.test)}"
                parts.append(f"not on the test rows ({tested})")
        if promising := self._promising(first):
            parts.append(f"without {', '.join(promising)}, cut off and better in trials")
        if any("have no bound" in remark for remark in first.data.get("remarks", [])):
            parts.append("a higher likelihood may be a spike on values of a grid: see the warnings")
        elif undertrained(first.row):
            parts.append(f"still improving: train longer with {self._longer}")
        return "; ".join(parts)

    def _promising(self, first: Ranked) -> list[str]:
        """Families that were cut off whose best trial was better than all of the best flow's."""
        trials = self._trials.groupby("model")["val_ll"].max()
        better = trials.index[trials > trials.get(first.name, math.inf)]
        return sorted(self._cut_off.intersection(better))

    @property
    def _cut_off(self) -> set[str]:
        """Families that were tried and have no final."""
        by_stage = self.rows.groupby("stage")["model"].agg(set)
        return set(by_stage.get("trial", ())) - set(by_stage.get("final", ()))

    @property
    def _trials(self) -> pd.DataFrame:
        """The trials that have a score."""
        rows = self.rows[self.rows["stage"] == "trial"].reindex(columns=["model", "val_ll"])
        return rows.dropna()

    @property
    def about(self) -> dict[str, int]:
        """How many columns the density has, and the rows of each part of the split."""
        every = [*self.flows, *self.baselines]
        if not every:
            return {}
        return {"columns": int(every[0].row["dim"]), **every[0].data.get("rows", {})}

    @property
    def _longer(self) -> str:
        minutes = self.flows[0].value("setting.minutes")
        return f"--minutes {LONGER * minutes:g}" if minutes else "more seconds"

    @property
    def warnings(self) -> list[str]:
        """What to know of the trainings and of the table before the ranking is used."""
        late = [ranked.name for ranked in self.flows if undertrained(ranked.row)]
        lines = [f"Still improving at their end: {', '.join(late)}."] if late else []
        every = [*self.flows, *self.baselines]
        remarks = every[0].data.get("remarks", []) if every else []
        lines += [f"{text[:1].upper()}{text[1:]}." for text in remarks]
        without = self.rows[self.rows["stage"].isin(["final", "baseline"])]
        without = without[~without["model"].isin([ranked.name for ranked in every])]
        for model, own in without.groupby("model", sort=False):
            lines.append(f"Without a result: {model}: {own['reason'].iloc[0]}.")
        tried = self.rows[self.rows["stage"] == "trial"]
        if self._cut_off:
            lines.append(f"Cut off by the end of the time: {', '.join(sorted(self._cut_off))}.")
        if skipped := int((tried["status"] == "skipped").sum()):
            lines.append(f"{skipped} of {len(tried)} trials were left out for want of time.")
        if left_out := self._left_out():
            lines.append(f"Left out for want of time: {', '.join(left_out)}.")
        return lines

    def _left_out(self) -> Sequence[str]:
        listed = self.rows.get("setting.left_out", pd.Series(dtype=object)).dropna()
        return list(listed.iloc[0]) if len(listed) else []


def choices(frame: pd.DataFrame) -> list[Choice]:
    """The choice of each data set of a frame."""
    return [Choice.of(str(name), own) for name, own in frame.groupby("dataset", sort=False)]


def _standing(rows: pd.DataFrame) -> list[Ranked]:
    """Rows in their order; each after the first with how the first stands to it on test rows.

    These are two trained densities on rows that neither has seen: the error is over the rows.
    """
    listed = [rows.iloc[[place]] for place in range(len(rows))]
    scores = [mean_by_row(own) for own in listed]
    groups = [arrays(own.iloc[0], "test_groups").get("test_groups") for own in listed]
    pairs = {
        str(place): (
            of_rows(scores[0] - scores[place], groups[0]),
            margin(int(rows["dim"].iloc[0])),
        )
        for place in range(1, len(listed))
    }
    stands = standings(pairs, LEVEL)
    return [
        Ranked(
            str(own["model"].iloc[0]),
            own.iloc[0],
            float(own["val_ll"].iloc[0]),
            of_rows(score, labels),
            stands.get(str(place)),
        )
        for place, (own, score, labels) in enumerate(zip(listed, scores, groups, strict=True))
    ]


def _estimate(test: Estimate) -> str:
    return f"{_nats(test.value)} ± {_nats(test.half(LEVEL))}"


def _nats(value: float) -> str:
    return number(value, ".3f")
