"""The command ``flowgauge choose``: which flow for a table, within some minutes."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import psutil
from typer import Exit, Option

from benchmarks.cli import options
from benchmarks.cli.console import (
    PRINTED,
    WIDEST,
    check_writable,
    console,
    say,
    usage_errors,
    write,
)
from benchmarks.cli.run import Display, check_place, ending, print_grid, report_of
from benchmarks.core.case import Case
from benchmarks.core.formats import plain
from benchmarks.core.naming import counted
from benchmarks.core.record import Record

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.execution.plan import Task
    from benchmarks.execution.suite import Suite
    from benchmarks.studies.search.study import Entrant
    from benchmarks.studies.search.tables import Choice

# CPU seconds: before the first training, of a final's scores, and of ranking and report
STARTING, SCORING, ENDING = 12.0, 4.0, 6.0
FITTING = 0.05  # share of all that baselines take
EFFORT = 2e10  # FLOPs of a mixture's fit in a CPU second
FAMILY = 12.0  # CPU seconds of a family in the first sixth before there is another, unless named
TRIAL = 3.0  # CPU seconds of a trial over the number of a family's trials, in the first sixth
CONFIGURATIONS = 8  # of a family at most
FAVOURITE = "nsf_ar"  # leads on most tables, and starts slowly: is left after the first sixth
PLACES = 4  # finals of a family at most, on many cores
LEAST = 0.1  # share of the cores that a race counts on for its end
LATEST = 1.5  # wall seconds over those that were asked for, at which a run ends
TRAINED = ("learning_rate", "weight_decay", "preprocessing", "cpu_seconds")
FLOW = "A flow, a pattern or a file of flows, in place of all; repeatable."
MINUTES = "Minutes of all cores, all included."
OUT = "Results folder (default: results/choose-<file>)."


class OutOfTime(Exception):
    """The minutes are over."""


@options.on_table
def choose(
    selection: Any,
    minutes: Annotated[float, Option(min=0.5, max=1e5, help=MINUTES)] = 10.0,
    json_file: options.JsonFile = None,
    out: Annotated[options.File, Option(help=OUT)] = None,
    flow: Annotated[options.Texts, Option(help=FLOW, autocompletion=options.complete_flows)] = None,
    device: Annotated[str, Option(help="Device to train on: cpu, cuda, cuda:1.")] = "cpu",
    plugin: options.Plugin = None,
) -> None:
    """Find the flow that gives the best density of a table, within minutes.

    Families race: after a sixth of the time at most half of them are left, after a third two, which
    go on from their own weights. Where trainings end early, families that few minutes left out
    race for the rest. Exit status: 0 there is an answer, 1 no flow was trained to its end, 2 wrong
    usage, or a table without a density.
    """
    started = time.monotonic() - (time.time() - psutil.Process().create_time())
    # standard output is the answer's alone, whatever a flow prints as it is built
    aside = redirect_stdout(sys.stderr) if json_file == PRINTED else nullcontext()
    with usage_errors(), aside:
        from benchmarks import datasets
        from benchmarks.core import store
        from benchmarks.core.study import registry
        from benchmarks.datasets.tables import admit
        from benchmarks.execution.run import Asked, most_jobs

        if not console.is_terminal:
            console.width = WIDEST
        if json_file == PRINTED:
            console.stderr = True
        check_writable(json_file)
        registered = options.load_plugins(plugin)
        name = options.check_table(selection, status=2)
        admit(name)
        dim, width = datasets.dim(name), datasets.context_dim(name)
        racers = entrants(dim, options.flows_of(flow or ()), width, registered)
        jobs = most_jobs(1, device)
        suite = suite_of(name, minutes, jobs, racers, device, TRIAL if flow else FAMILY)
        check_place(suite, Asked())
        folder = out or Path("results") / f"choose-{selection.path.stem.partition('.')[0]}"
        suite = continued(suite, folder)
        ledger = Ledger(started, minutes, jobs)
        ledger.resume(suite, folder)
        registry["search"].purse = ledger
        _announce(suite, jobs)
    with aside:
        _measure(suite, racers, folder, ledger)
    answers = _choices_of(folder) if store.is_folder(folder) else []
    if not answers:
        say(f"no flow was trained within the time; {ledger.said}: give more --minutes", "red")
        raise Exit(1)
    with usage_errors():
        text, choice = report_of(folder), answers[0]
        _print(choice, folder)
        say(f"{ledger.said}; {text}")
        if json_file is not None:
            others = "all other columns" if selection.context else None
            target = ", ".join(selection.target) or others
            content = as_json(choice, folder, target)
            write(json_file, json.dumps(content, indent=2, allow_nan=False) + "\n")
    raise Exit(int(choice.flows.empty))


@dataclass
class Ledger:
    """The CPU seconds of a command and of all processes that it has started, against its minutes.

    On a busy machine it ends by the wall, ``latest`` times the minutes. ``shares`` holds what each
    rung of a race has got: by its nominal seconds, those that each training spends beyond the
    rung before.
    """

    started: float  # on the clock of time.monotonic
    minutes: float
    jobs: int
    before: float = 0.0  # spent by earlier runs of the same question
    latest: float = LATEST  # wall seconds at which it ends, over those of the minutes
    shares: dict[float, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.begun, self.until_then = time.monotonic(), self.spent

    @property
    def spent(self) -> float:
        """CPU seconds until now."""
        total, process = self.before, psutil.Process()
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += sum(one.cpu_times()[:4])  # with children that have ended
        return total

    @property
    def share(self) -> float:
        """Share of the cores' time since the trainings began that was spent."""
        wall = time.monotonic() - self.begun
        return min(1.0, (self.spent - self.until_then) / (wall * self.jobs)) if wall > 5 else 1.0

    @property
    def wall(self) -> float:
        """Seconds until the command has to end."""
        return self.started + self.latest * 60 * self.minutes - time.monotonic()

    def left(self) -> float:
        """CPU seconds that trainings may still spend."""
        by_wall = (self.wall * self.share - ENDING - SCORING) * self.jobs
        reserve = ENDING + SCORING * self.jobs
        return min(60 * self.minutes * self.jobs - self.spent - reserve, by_wall)

    @property
    def said(self) -> str:
        """What was spent, and for how long the cores were busy with it."""
        planned = 60 * self.minutes * self.jobs
        busy = f", the cores busy with it for {self.share:.0%}" if self.share < 0.9 else ""
        return f"{self.spent:.0f} of {planned:.0f} CPU seconds{busy}"

    def seconds(self, nominal: float, share: float, trainings: int) -> tuple[float, float]:
        """CPU seconds of each training of a rung, equal for all, and at most on the clock."""
        rounds = math.ceil(trainings / self.jobs)
        wall = max(0.0, self.wall - (ENDING + SCORING) / max(self.share, LEAST))
        with self._lock:
            if nominal not in self.shares:
                self.shares[nominal] = max(0.0, self.left()) * share / (rounds * self.jobs)
            return self.shares[nominal], wall * share / rounds

    def resume(self, suite: Suite, folder: Path) -> None:
        """Count what an earlier run of the same suite has spent, and what its rungs have got."""
        from benchmarks.core import store

        planned = {case.key: case for case in suite.cases()}
        for key, record in store.read(folder).items() if store.is_folder(folder) else ():
            if case := planned.get(key):
                self.before += record.seconds or 0.0
                if "share" in record.case.settings:
                    nominal = float(case.settings["seconds"])
                    self.shares[nominal] = float(record.case.settings["share"])


def _measure(suite: Suite, racers: Sequence[Entrant], folder: Path, ledger: Ledger) -> None:
    """Measure until all is done, or the time is over: then what is not done is given up."""
    from benchmarks.execution.run import Asked, run

    asked = Asked(jobs=ledger.jobs, keep_weights=True)
    with (
        ending(),
        suppress(OutOfTime),
        _watched(ledger),
        Chooser(console, estimates=False) as display,
    ):
        run(suite, folder, display, asked)
        ledger.latest = 1.0  # no core waits longer for races that nobody was promised
        while longer := with_another_race(suite, racers, ledger.left(), ledger.jobs):
            suite = longer
            _announce(suite, ledger.jobs)
            run(suite, folder, display, asked)


class Chooser(Display):
    """The progress of a race, with the best training so far by validation."""

    best = -math.inf

    def begin(
        self, cases: Sequence[Case], kept: int, budget: float, begun: Mapping[str, float]
    ) -> None:
        super().begin(cases, kept, budget, begun)
        self.labels = {case.key: _short(case) for case in cases}

    def case(self, task: Task, case: Case, record: Record) -> None:
        """Count a case, and name it where it is the best so far by validation.

        What has dropped out is said once, at the end.
        """
        self.console.quiet = record.status == "skipped"
        label = case.settings.get("label")
        score = record.metrics["val_ll"].median if "val_ll" in record.metrics else -math.inf
        leads = bool(label) and score > self.best
        if leads:
            self.best = score
            self.prefix = f"best so far: {label}, {score:.3f} nats in validation | "
        super().case(task, case, record)
        self.console.quiet = False
        if leads and not self.console.is_terminal:
            self.console.print(self.prefix.removesuffix(" | "))


def _short(case: Case) -> str:
    """ "nsf_ar trial 2 of 7 CPU s": what a case of a race is, and of a baseline its map."""
    settings = case.settings
    if "label" not in settings:
        return " after ".join(filter(None, (case.flow, settings.get("preprocessing"))))
    number = 1 + settings.get("configuration", settings.get("place", 0))
    return f"{settings['label']} {settings['stage']} {number} of {settings['seconds']:.0f} CPU s"


@contextmanager
def _watched(ledger: Ledger) -> Iterator[None]:
    """Raise OutOfTime in the block once the time is over, which is looked at every second."""

    def look(*_: object) -> None:
        if ledger.wall < ENDING:
            signal.setitimer(signal.ITIMER_REAL, 0)
            console.print("the time is over: what is not done is left out", style="yellow")
            raise OutOfTime

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def entrants(
    dim: int, names: Sequence[str] = (), width: int = 0, registered: Sequence[str] = ()
) -> list[Entrant]:
    """The flows that plug-ins have ``registered`` and the families of a search, if built at D.

    In place of all of them are those of ``names``. With a ``width`` they are families that take a
    context of so many columns. Raises ValueError for a name or a flow of a plug-in that there is
    not, or that cannot be built.
    """
    import flows
    from benchmarks.studies.search.study import FAMILIES, Entrant

    of_families, result = {entrant.flow: entrant for entrant in FAMILIES}, []
    for name in names or (*registered, *of_families):
        entrant = of_families.get(name, Entrant(flow=name)).model_copy(update={"label": ""})
        try:
            if width and "context_dim" not in flows.members[name].uses:
                raise ValueError(f"flow {name!r} takes no context: it has no density of a target")
            flows.build(name, dim, **entrant.complete({"context_dim": width}, dim))
        except ValueError:
            if names or name in registered:
                raise
        else:
            result.append(entrant)
    return result


def race_of(
    racers: Sequence[Entrant], seconds: float, jobs: int, least: float = FAMILY
) -> dict[str, Any]:
    """Part of a study: the flows of a race, the rungs, and the names of flows that are left out.

    Rungs take a sixth of the CPU seconds, as much, and the rest. A family has ``least`` or more of
    the first, so that in few seconds the first racers alone take part; `FAVOURITE` stays after it.
    """
    sixth = seconds / 6
    number = max(1, min(len(racers), int(sixth / least)))
    names = [entrant.flow for entrant in racers]
    tried = max(1, min(CONFIGURATIONS, int(math.sqrt(sixth / number / TRIAL))))
    half = max(1, number // 2)
    last = min(half, jobs, 2)
    finals = min(tried, PLACES, math.ceil(jobs / last))  # of a family, so that no core is idle
    labels = (FAVOURITE,) if FAVOURITE in names[:number] and half > 1 else ()
    rules: tuple[dict[str, Any], ...] = (
        {"configurations": tried, "families": number},
        {"configurations": tried, "families": half - len(labels), "labels": labels},
        {"configurations": finals, "families": last},
    )
    trainings = zip((1, 1, 4), (number * tried, half * ((tried + 1) // 2), last), strict=True)
    durations = (share * sixth / (math.ceil(count / jobs) * jobs) for share, count in trainings)
    rungs = zip(accumulate(durations), rules, strict=True)
    return {
        "flows": [one.model_dump(mode="json", exclude_defaults=True) for one in racers[:number]],
        "rungs": [{"seconds": seconds, **rule} for seconds, rule in rungs],
        "left_out": names[number:],
    }


def suite_of(
    name: str,
    minutes: float,
    jobs: int,
    racers: Sequence[Entrant],
    device: str = "cpu",
    least: float = FAMILY,
) -> Suite:
    """The suite of a race for a table and flows, the first of them first; see `race_of`."""
    from benchmarks.execution.suite import Suite, validated
    from benchmarks.studies.search.study import MAPS, baselines

    every = 60 * minutes * jobs
    fitted = baselines(name, effort=EFFORT * FITTING * every / MAPS)
    seconds = every * (1 - FITTING) - STARTING - ENDING - SCORING * jobs
    study = {
        "study": "search",
        "race": True,
        "datasets": [name],
        **race_of(racers, max(seconds, every / 5), jobs, least),
        "baselines": [entry.model_dump(exclude_none=True) for entry in fitted],
        "scoring": {
            **{"checked_rows": 250, "draws": 2, "compared_rows": 1000, "grid": 60},
            **{"samples": 1000, "seconds": 0, "continuation": 0},
        },
        "minutes": minutes,
    }
    title = plain(f"choose {Path(name.partition(':')[0]).name}")[:99]
    values: dict[str, Any] = {"name": title, "threads": 1, "device": device}
    values |= {"time_limit": 60 * minutes * LATEST}
    values |= {"about": f"Which flow for {name}: {minutes:g} min.", "studies": (study,)}
    suite: Suite = validated(Suite, values, "choose")
    return suite


def with_another_race(
    suite: Suite, racers: Sequence[Entrant], seconds: float, jobs: int
) -> Suite | None:
    """The suite with a race of racers that it left out; None without these, or seconds for one."""
    last = suite.studies[-1]
    rest = [entrant for entrant in racers if entrant.flow in last["left_out"]]
    if not rest or seconds < 6 * FAMILY:
        return None
    another = last | {"baselines": [], **race_of(rest, seconds, jobs)}
    return suite.model_copy(update={"studies": (*suite.studies, another)})


def continued(suite: Suite, folder: Path) -> Suite:
    """The suite with the further races that an earlier run of it has begun, by a folder's plan."""
    from benchmarks.core.frame import plan_of

    values: dict[str, Any] = suite.model_dump(mode="json")
    with suppress(ValueError):  # a plan that cannot be read is replaced
        before = plan_of(folder, {}).suite or {}
        if before | {"studies": before.get("studies", [])[:1]} == values:
            return suite.model_copy(update={"studies": tuple(before["studies"])})
    return suite


def _announce(suite: Suite, jobs: int) -> None:
    """Print which flows race, for how long, and which are left out."""
    study = suite.studies[-1]
    first, *_, last = study["rungs"]
    names = ", ".join(entrant["flow"] for entrant in study["flows"])
    trials = f"{counted(first['configurations'], 'trial')} of {first['seconds']:.1f} CPU s"
    say(f"{names} on {counted(jobs, 'core')}: {trials} each; the best get {last['seconds']:.0f}")
    if study["left_out"]:
        say(f"next, if seconds are left: {', '.join(study['left_out'])}")


def _choices_of(folder: Path) -> list[Choice]:
    """The choice that the records of a folder's plan make; none without a training."""
    from benchmarks.report import runs
    from benchmarks.studies.search.tables import parted

    (run,) = runs.read([folder])
    return parted(run.frame[run.frame["study"] == "search"])[1] if len(run.frame) else []


def _print(choice: Choice, folder: Path) -> None:
    """Print the ranking, the answer, what to know of it, and how to use the flow."""
    from benchmarks.report.cells import grid
    from benchmarks.studies.search.tables import TERMINAL, ranking, rows_of

    scores = replace(ranking(choice), frame=choice.ranking[[*TERMINAL, "half"]])
    print_grid(grid(scores))
    say(f"{rows_of(choice)}Nats; ± half of the 95 % interval over test rows; CPU seconds.")
    for name, reason in choice.dropped.items():
        say(f"{name} {reason}")
    for warning in choice.warnings:
        say(f"warning: {warning}", "yellow")
    say("")
    say(choice.answer, "bold")
    if len(choice.flows):
        best = choice.flows.iloc[0]
        say(f"{best['model']}: {best['configuration']}")
        weights, width = folder / "weights" / best["key"], best["notes"]["data"].get("context_dim")
        say("")
        context = f"torch.zeros(5, {width})" if width else "None"
        say(f'import torch, flows; flow, context = flows.load("{weights}"), {context}')
        say("rows = flow.sample(5, context)  # rows as in the file")
        say("print(flow.log_prob(rows, context))  # nats")


def as_json(choice: Choice, folder: Path, target: str | None) -> dict[str, Any]:
    return {
        "answer": choice.answer,
        "warnings": choice.warnings,
        "dropped": choice.dropped,
        "ranking": [_entry(row, folder) for _, row in choice.flows.iterrows()],
        "baselines": [_entry(row, folder) for _, row in choice.baselines.iterrows()],
        "data": choice.data,
        "target": target,
        "rows": choice.about,
        "report": str(folder / "report" / "index.html"),
    }


def _entry(row: pd.Series, folder: Path) -> dict[str, Any]:
    """A row of the ranking, with what was trained and the folder of its weights."""
    from benchmarks.core import store
    from benchmarks.studies.search.tables import SCORES

    weights, case = folder / "weights" / row["key"], store.read_one(folder, row["key"]).case
    training = case.settings.get("training", {})
    values = {name: None if math.isnan(row[name]) else float(row[name]) for name in SCORES}
    return {
        "flow": case.flow,
        "options": case.options,
        "training": {name: training[name] for name in TRAINED if name in training},
        **values,
        "interval": [row["test_ll"] - row["half"], row["test_ll"] + row["half"]],
        "weights": str(weights) if weights.is_dir() else None,
    }
