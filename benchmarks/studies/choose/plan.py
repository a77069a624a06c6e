"""Which families a chooser compares, and how their trainings share its seconds."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Self

import flows
from benchmarks.core.naming import counted
from benchmarks.core.record import Record
from benchmarks.studies.frontier.entries import Entrant
from benchmarks.training.search import Space
from benchmarks.training.settings import TrainingPart

# seconds of a core that is free, each longer on a machine that is not: before the first training,
# of ranking and report, and of a trial and a final beside their trainings
STARTING, ENDING, TRIAL, FINAL = 5.0, 4.5, 0.15, 1.3
SLOWEST = 8.0  # times as long, that are planned for
SLACK = 2.0  # seconds that nothing is planned for
CONTINUATION = 1.3  # of a final's training, by what says whether it was still improving
SEARCH = 0.35  # share of the seconds that trials take
EACH = 60.0  # core seconds that each family gets before there is another
FEWEST = 5  # families
SHORTEST = 0.5, 2.0  # seconds of a trial and of a final
CONFIGURATIONS = ((100.0, 4), (300.0, 6), (math.inf, 8))  # by core seconds of a family
PLACES = 3  # finals of a family at most, on many cores

SOLVER = {"rtol": 1e-3, "atol": 1e-3, "gradient": "backprop"}
DEEP = 3  # largest D at which fields of three layers are tried: their exact trace takes D of them
WIDTHS: dict[str, tuple[int, ...]] = {"hidden": (64, 128)}
SPLINES: dict[str, tuple[int, ...]] = {**WIDTHS, "bins": (8, 16)}
SPACES: dict[str, dict[str, tuple[int, ...]]] = {  # the most promising first
    "nsf_coupling": {**SPLINES, "layers": (3, 5)},
    "maf": {**WIDTHS, "layers": (5, 10)},
    "nsf_ar": {**SPLINES, "layers": (2, 3)},
    "realnvp": {**WIDTHS, "layers": (6, 10)},
    "cnf": {**WIDTHS, "depth": (2, 3)},
    "glow": {**WIDTHS, "layers": (4, 8)},
    "rnode": {**WIDTHS, "depth": (2, 3)},
    "flow_matching": {**WIDTHS, "depth": (2, 3)},
    "ffjord": {**WIDTHS, "depth": (2, 3)},
    "ot_flow": WIDTHS,
}
TRAININGS: dict[str, dict[str, Any]] = {"flow_matching": {"finish": "likelihood", "decay": 0.5}}
PREPROCESSINGS = ("standardize", "whiten", "radial")
BATCHES = 32, 256  # fewest and most rows of a batch
EPOCH = 8  # batches at least that the training rows make, where the fewest rows allow it


def entrants(
    dim: int, names: Sequence[str] = (), width: int = 0, own: Sequence[str] = ()
) -> list[Entrant]:
    """The flows ``own`` of plug-ins and the families of `SPACES` that can be built at D.

    In place of all of them are those of ``names``. Each comes with its space: a flow that `SPACES`
    does not have is searched for its learning rate and preprocessing. With a ``width`` they are
    families that take a context of so many columns. Raises ValueError for a name or a flow of
    one's own that is none, or that cannot be built.
    """
    listed = []
    for name in names or (*own, *SPACES):
        asked = bool(names) or name in own
        if width and "context_dim" not in flows.members[name].uses:
            if asked:
                raise ValueError(f"flow {name!r} takes no context: it has no density of a target")
            continue
        solver: dict[str, Any] = {}
        if "solver" in flows.members[name].defaults:
            solver["solver"] = SOLVER
        training = TrainingPart(**TRAININGS.get(name, {}))
        entrant = Entrant(flow=name, options=solver, space=_space(name, dim), training=training)
        try:
            flows.build(name, dim, **entrant.complete({"context_dim": width}, dim))
        except ValueError:
            if asked:
                raise
            continue
        listed.append(entrant)
    return listed


def _space(name: str, dim: int) -> Space:
    options: Any = dict(SPACES.get(name, {}))
    if dim > DEEP:
        options.pop("depth", None)
    return Space(learning_rate=(2e-3, 1e-2), preprocessing=PREPROCESSINGS, options=options)


def batch(rows: int) -> int:
    """Rows of a batch for so many training rows: a power of two, fewer where rows are few."""
    least, most = BATCHES
    return max(least, min(most, int(2 ** round(math.log2(rows / EPOCH)))))


@dataclass(frozen=True)
class Plan:
    """How many families there are, what each gets, and seconds of a trial and of a final.

    The seconds of the finals are what a `Deadline` decides once the trials are done.
    """

    families: int
    configurations: int
    places: int
    trial: float
    final: float

    def wall(self, jobs: int, slow: float) -> float:
        """Seconds that the finals take."""
        rounds = math.ceil(self.families * self.places / jobs)
        return rounds * (CONTINUATION * self.final + FINAL * slow)

    @property
    def of_family(self) -> float:
        """Seconds of all trainings of a family."""
        return self.configurations * self.trial + self.places * self.final

    @classmethod
    def of(cls, seconds: float, jobs: int, families: int, slow: float = 1.0) -> Self:
        """Plan backwards from the seconds that are left, with so many workers and families to try.

        ``slow`` is by how much all takes longer than on a free machine. Raises ValueError where
        trials or finals would be shorter than `SHORTEST`.
        """
        plan = cls._of(seconds, jobs, families, slow)
        if plan.trial >= SHORTEST[0] and plan.final >= SHORTEST[1]:
            return plan
        enough = seconds
        while plan.trial < SHORTEST[0] or plan.final < SHORTEST[1]:
            enough += 5
            plan = cls._of(enough, jobs, families, slow)
        raise ValueError(
            f"too few --minutes for {plan.families} families on {counted(jobs, 'core')} as busy as "
            f"now: give {math.ceil((enough - seconds) / 6) / 10:g} more"
        )

    @classmethod
    def _of(cls, seconds: float, jobs: int, families: int, slow: float) -> Self:
        free = max(0.0, seconds - STARTING * slow - reserve(slow))
        count = max(FEWEST, int(free * jobs / EACH))
        count = min(families, math.ceil(count / jobs) * jobs)  # the same rounds of finals
        own = free * jobs / count
        number = next(number for bound, number in CONFIGURATIONS if own < bound)
        number = max(number, jobs // count)
        places = min(PLACES, max(1, jobs // count))
        trial = SEARCH * free / math.ceil(count * number / jobs) - TRIAL * slow
        final = final_seconds((1 - SEARCH) * free, jobs, count * places, FINAL * slow)
        return cls(count, number, places, trial, final)


def reserve(slow: float) -> float:
    """Seconds that ranking and report take, with some slack."""
    return SLACK + ENDING * slow


def final_seconds(rest: float, jobs: int, finals: int, beside: float) -> float:
    """Seconds of each training of finals, all alike, that fit into the ``rest`` of a run.

    ``beside`` are those of a final beside its training and what follows from it.
    """
    return (rest / math.ceil(finals / jobs) - beside) / CONTINUATION


@dataclass
class Deadline:
    """When a run has to be over, ``ends`` on the clock of `time.monotonic`.

    What is left after the trials is shared among the finals of the families, equally. Where that
    is too little the worst by their trials are left out. ``slow`` is by how much all takes longer
    than on a free machine, as far as the trials do not show more.
    """

    ends: float
    jobs: int
    slow: float = 1.0
    places: int = 1
    finals: float = 0.0  # seconds that they are planned to take
    given: float = 0.0  # seconds of each final in an earlier run that this one goes on with
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _shares: dict[str, float] | None = None  # seconds of a final by label

    @property
    def left(self) -> float:
        """Seconds until ranking and report have to begin."""
        return self.ends - reserve(self.slow) - time.monotonic()

    @property
    def late(self) -> bool:
        """Whether the trials take time that at least half of the finals' seconds need."""
        return self.left < self.finals / 2

    def seconds(self, label: str, trials: Sequence[Record]) -> float:
        """Seconds of a final of a family, by the trials of all; 0 where it is left out."""
        if self.given:
            return self.given
        with self._lock:
            if self._shares is None:
                scores: dict[str, float] = {}
                for trial in trials:
                    name, score = trial.case.settings["label"], trial.metrics["val_ll"].median
                    scores[name] = max(score, scores.get(name, -math.inf))
                beside = median(map(_beside, trials))
                self.slow = max(self.slow, min(SLOWEST, beside / TRIAL))
                self._shares = self.shares(self.left, scores)
            return self._shares.get(label, 0.0)

    def shares(self, rest: float, scores: Mapping[str, float]) -> dict[str, float]:
        """Seconds of a final by label, of the families that ``rest`` seconds are enough for.

        ``scores`` are those of the best trial of each.
        """
        order = sorted(scores, key=lambda label: -scores[label])
        for count in range(len(order), 0, -1):
            seconds = final_seconds(rest, self.jobs, count * self.places, FINAL * self.slow)
            if seconds >= SHORTEST[1] or count == 1:
                return dict.fromkeys(order[:count], max(seconds, SHORTEST[0]))
        return {}


def _beside(trial: Record) -> float:
    """Seconds of a trial beside its training: they grow with the load and the size of the table."""
    return max(0.0, (trial.seconds or 0.0) - float(trial.case.settings["seconds"]))
