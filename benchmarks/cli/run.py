"""The commands that measure, ``run`` and ``cost``: their progress, their end and their answer."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import dropwhile, islice
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from typer import Argument, Exit, Option

from benchmarks.cli import options
from benchmarks.cli.console import INTERRUPTED, console, fail, note, say, styled, usage_errors
from benchmarks.core.case import Case
from benchmarks.core.formats import brief, plain
from benchmarks.core.naming import counted, duration, labels
from benchmarks.core.record import Record

if TYPE_CHECKING:
    from benchmarks.execution.plan import Task
    from benchmarks.execution.run import Asked
    from benchmarks.execution.suite import Suite
    from benchmarks.report.cells import Grid
    from benchmarks.report.content import Report

STOPPED = 75  # exit status after a signal of these, with checkpoints: EX_TEMPFAIL of sysexits.h
ENDING = (signal.SIGTERM, signal.SIGUSR1)  # what asks a run to stop at checkpoints
ROWS = 20  # of a table in the terminal, at most
SHORTEST = 16  # characters that the first column may have
BETWEEN = 3  # characters between two columns
TRIED = 5.0  # CPU seconds of a training that shows whether another job slows it
DISTURBED = 1.1  # updates alone over those beside another job, from which there is one job
STEP = 0.25  # of rk4, for flows that solve an ODE

RENEW = "Measure cases again whose times are of another machine class or torch."
JOBS = "Workers for what is not timed, each on cores of its own; auto: as many as fit."
SHARD = "K/N: part K of N of the suite, equal in expected time; or a KEY: what its case needs."
SCHEDULER = "Measure on Dask: a scheduler's address, local, or slurm (extras dask, slurm)."
PHASE = "Measure only what runs beside others, or only what runs alone."
FLOWS = "Names or patterns of flows, or files that register flows."
PER_DIM = "The factor c of a width H = c D, rounded; instead of --hidden."
LAYERS = "Numbers of transformations, or of pieces of time of an ODE."
COUNTED = "Larger dimensions, where log_prob is counted from its shapes alone."
SECONDS = "Seconds of timing at each dimension; 0 for exact counts only."
RETRY = "Measure failed and skipped cases again."
KEEP = "Keep each flow that is trained and scored, in weights/KEY, for flows.load."
UNDRAWN = "`flowgauge report` draws it later."
DRY = "Print cases and their expected time, and stop."


@options.on_suite
def run(
    plan: Any,
    folder: Path,
    retry: Annotated[bool, Option("--retry", help=RETRY)] = False,
    renew_times: Annotated[bool, Option("--renew-times", help=RENEW)] = False,
    jobs: Annotated[str, Option(help=JOBS)] = "1",
    shard: Annotated[str, Option(help=SHARD)] = "1/1",
    scheduler: Annotated[str, Option(help=SCHEDULER)] = "",
    phase: Annotated[Literal["both", "beside", "alone"], Option(help=PHASE)] = "both",
    keep_weights: Annotated[bool, Option("--keep-weights", help=KEEP)] = False,
    no_report: Annotated[bool, Option("--no-report", help=UNDRAWN)] = False,
    dry_run: Annotated[bool, Option("--dry-run", help=DRY)] = False,
) -> None:
    """Measure a suite and draw its report; goes on where an earlier run stopped.

    A suite that counts operators is measured anew by each run. A results folder has one run at a
    time; machines share the work by --scheduler, or by --shard and `flowgauge merge`.
    Exit status: 0 all cases done, 1 some failed, 2 wrong usage or configuration, 75 stopped by
    SIGTERM or SIGUSR1 at checkpoints; with --shard and --phase those of what was asked for.
    """
    with usage_errors():
        from benchmarks.execution.plan import Shard, faults_of_flows
        from benchmarks.execution.run import Asked, most_jobs

        if jobs != "auto" and not re.fullmatch(r"[1-9]\d{0,3}", jobs):
            raise ValueError(f"--jobs {jobs!r} is neither a positive number nor auto")
        workers = most_jobs(plan.threads, plan.device) if jobs == "auto" else int(jobs)
        part = Shard.of(shard)
        cases = part.part(plan.cases(), plan.operators)
        asked = Asked(retry, renew_times, part, workers, phase, keep_weights, scheduler)
        if dry_run:
            for key, reason in faults_of_flows(cases).items():
                raise ValueError(f"case {labels(cases)[key]!r}: {reason}")
            _print_plan(plan, folder, asked, cases)
            return
    measure(plan, folder, asked, draws=not no_report)


def measure(
    suite: Suite, folder: Path, asked: Asked | None = None, *, draws: bool = True, tables: int = 1
) -> NoReturn:
    """Measure what is missing, print ``tables`` of its report, and exit: 0 if all is done, or 1."""
    from benchmarks.execution.run import Asked, run
    from benchmarks.report.runs import noise

    asked = asked or Asked()
    with usage_errors():
        check_place(suite, asked)
    with ending():
        asked = _undisturbed(suite, folder, asked)
        with Display(console) as display:
            result = run(suite, folder, display, asked)
        show = partial(_print_answer, count=tables)
        text = report_of(folder, show) if draws else "no report was drawn"
    planned = [result.records[c.key] for c in result.cases if c.key in result.records]
    for warning in noise(planned)[1:]:
        note(warning)
    if (old := len(result.failed - display.measured)) and not asked.retry:
        note(f"{counted(old, 'case')} failed in an earlier run: --retry measures again")
    if elsewhere := len(result.elsewhere & result.done):
        note(f"{elsewhere} cases have times of another machine class or torch: --renew-times")
    failed = len(asked.left_over(result, suite.operators))
    say(f"{len(result.done)} done, {failed} not; {text}")
    raise Exit(1 if failed else 0)


def _undisturbed(suite: Suite, folder: Path, asked: Asked) -> Asked:
    """Fall back to one job if another slows a family by more than `DISTURBED` times.

    Prints the updates of each family in 60 CPU seconds, alone and beside another job.
    """
    from benchmarks.execution.plan import state
    from benchmarks.execution.run import contention

    searches = any(study["study"] == "search" for study in suite.studies)
    if asked.jobs == 1 or asked.scheduler or not searches:
        return asked
    now = state(suite, folder, asked.shard)
    keys = asked.wanted(suite, now)
    worth = contention(suite, [c for c in now.cases if c.key in keys], TRIED, DISTURBED)
    for label, (alone, beside) in worth.items():
        say(f"{label}: {60 * alone:,.0f} updates in 60 CPU s, {60 * beside:,.0f} beside another")
    if slowed := [label for label, (alone, beside) in worth.items() if alone > DISTURBED * beside]:
        note(f"one job: another slows {', '.join(slowed)} by more than {DISTURBED - 1:.0%}")
        return replace(asked, jobs=1)
    return asked


def check_place(suite: Suite, asked: Asked) -> None:
    """ValueError, with the remedy, for a scheduler, device or data set that is absent here."""
    from benchmarks import datasets
    from benchmarks.core import locks
    from benchmarks.core.study import registry
    from benchmarks.execution.run import setups

    scheduler = asked.scheduler
    needs = {"distributed": "dask"} if scheduler else {}
    needs |= {"dask_jobqueue": "slurm"} if scheduler == "slurm" else {}
    for package, extra in needs.items():
        if find_spec(package) is None:
            install = f"pip install 'flowgauge[{extra}]'"
            raise ValueError(f"--scheduler {scheduler} needs the package {package}: {install}")
    if scheduler == "slurm" and which("sbatch") is None:
        raise ValueError("--scheduler slurm: the command sbatch is not here: run where SLURM is")
    if scheduler not in ("", "local"):
        return
    import torch

    try:
        torch.empty(0, device=suite.device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {suite.device!r} cannot be used here: {brief(error)}") from error
    names = {case.dataset for case in suite.cases() if registry[case.study].needs_data}
    for name in sorted(filter(None, names)):
        datasets.files(name)
    locks.place()
    setups(suite, asked.jobs)


@contextmanager
def ending() -> Iterator[None]:
    """End the command where a run was stopped, or its folder or cluster cannot be used."""
    from benchmarks.core.store import FolderError
    from benchmarks.execution.process import ClusterError, Terminated

    def end(*_: object) -> NoReturn:
        """Stop at checkpoints; a signal that comes twice, to the group as well, counts once."""
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        raise Terminated

    for number in ENDING:
        signal.signal(number, end)
    try:
        yield
    except (FolderError, ClusterError) as error:
        fail(str(error))
    except Terminated:
        console.print("stopped: the next run goes on from the last checkpoints")
        raise Exit(STOPPED) from None
    except KeyboardInterrupt:
        console.print("interrupted: what was measured is kept, and the next run goes on from there")
        raise Exit(INTERRUPTED) from None


def report_of(folder: Path, show: Callable[[Report], None] | None = None) -> str:
    """Draw the report of a folder and show it; what to say of it."""
    from benchmarks import report
    from benchmarks.core import store

    if not store.is_folder(folder):
        return "nothing to report"
    page, content = report.draw(folder)
    if show:
        show(content)
    return f"report: {page}"


def _print_answer(report: Report, count: int = 1) -> None:
    """Print the main table of a report, and up to ``count`` of its study from there on."""
    main = report.main
    for section in report.sections:
        following = dropwhile(lambda table: table is not main, section.tables)
        for table in islice(following, count):
            if table.raw.first:
                say(table.raw.first)
            print_grid(table.grid, table.title)


def print_grid(grid: Grid, title: str = "") -> None:
    """Print the rows and columns of a table that fit, numbers before words."""
    rows, table = grid.rows[:ROWS], Table(title=styled(title), title_justify="left", pad_edge=False)
    widths = [
        max(map(len, [*header.split(), *(row[place].text for row in rows)]))
        for place, header in enumerate(grid.headers)
    ]
    widths[0] = min(widths[0], max(SHORTEST, console.width // 3) - BETWEEN)  # long names fold
    fitting, taken = [0], widths[0] + BETWEEN
    wanted = sorted(range(1, len(widths)), key=lambda place: not grid.numeric[place])
    while wanted and (taken := taken + widths[wanted[0]] + BETWEEN) <= console.width:
        fitting.append(wanted.pop(0))
    fitting.sort()
    for place in fitting:
        side: Literal["left", "right"] = "right" if grid.numeric[place] else "left"
        header, width = styled(grid.headers[place]), widths[place]
        table.add_column(header, justify=side, width=width, overflow="fold")
    for row in rows:
        cells = (row[place] for place in fitting)
        table.add_row(*(styled(cell.text, "bold" if cell.best else "") for cell in cells))
    console.print(table)
    rest = {"more row": len(grid.rows) - ROWS, "more column": len(wanted)}
    if words := [counted(count, what) for what, count in rest.items() if count > 0]:
        say(f"{' and '.join(words)} in the report")


def _print_plan(suite: Suite, folder: Path, asked: Asked, cases: Sequence[Case]) -> None:
    """Print cases with their expected time, that of the run, and what a folder's records leave."""
    from benchmarks.core import store
    from benchmarks.execution.plan import budget, state, wall_seconds

    def cost(cases: Sequence[Case]) -> str:
        """ "12 cases, about 1.2 h, 39 min with 2 jobs"."""
        text = f"{counted(len(cases), 'case')}, about {duration(sum(map(budget, cases)))}"
        wall = duration(wall_seconds(cases, asked.jobs, suite.operators))
        return text + f", {wall} with {asked.jobs} jobs" * (asked.jobs > 1)

    names, table = labels(cases), Table("Key", "Case", "Batch", "Updates", "Time")
    for case in cases:
        updates, seconds = str(case.updates or ""), duration(budget(case))
        table.add_row(case.key, names[case.key], str(case.batch), updates, seconds)
    console.print(table)
    console.print(cost(cases))
    if store.is_folder(folder):
        now = state(suite, folder, asked.shard)
        keys = asked.wanted(suite, now)
        rest = [case for case in now.cases if case.key in keys]
        console.print(f"left to measure in {folder}: {cost(rest) if rest else 'nothing'}")


class Display:
    """Show a run on a console: a live bar on a terminal, plain lines elsewhere.

    The bar counts expected seconds of cases, from which rich estimates the time that is left.
    """

    def __init__(self, console: Console, *, estimates: bool = True) -> None:
        self.console, self.estimates = console, estimates
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}[red]{task.fields[failed]}[/]"),
            TimeElapsedColumn(),
            *([TimeRemainingColumn()] if estimates else []),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=float("inf"),
        )
        self.total = self.failures = 0
        self.measured: set[str] = set()  # keys
        self.running: dict[str, Task] = {}  # by key of a case
        self.prefix = self.reason = ""

    def __enter__(self) -> Self:
        self.bar.start()
        self.bar_task = self.bar.add_task("starting", total=None, count="", failed="")
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def begin(
        self, cases: Sequence[Case], kept: int, budget: float, begun: Mapping[str, float]
    ) -> None:
        """Start a run of cases; ``begun`` are the seconds that checkpoints hold, by key."""
        self.total, self.labels = len(cases), labels(cases)
        self.measured.clear()
        spent, self.begun = sum(begun.values()), begun
        self.bar.update(self.bar_task, total=budget, completed=spent, count=f"0/{self.total}")
        estimate = f", about {duration(budget - spent)}" if cases and self.estimates else ""
        count = f"{counted(len(cases), 'case')} to measure{estimate}; {kept} kept from before"
        trainings = f", and {duration(spent)} of {counted(len(begun), 'training')}"
        self.console.print(count + trainings * bool(begun))

    def task(self, task: Task) -> None:
        self.running |= {case.key: task for case in task.cases}
        self._describe()

    def waiting(self, reason: str) -> None:
        self.bar.update(self.bar_task, description=reason)
        if reason != self.reason and not self.console.is_terminal:
            say(reason, on=self.console)
        self.reason = reason

    def workers(self, count: int) -> None:
        before, self.prefix = self.prefix, f"{counted(count, 'worker')}: "
        if self.prefix != before and not self.console.is_terminal:
            self.console.print(counted(count, "worker"))
        self._describe()

    def case(self, task: Task, case: Case, record: Record) -> None:
        """Count a case whose record was written."""
        from benchmarks.execution.plan import budget

        self.running.pop(case.key, None)
        self._describe()
        self.measured.add(case.key)
        self.failures += record.status != "done"
        count = f"{len(self.measured)}/{self.total}"
        failed = f", {self.failures} failed" if self.failures else ""
        advance = budget(case) - self.begun.get(case.key, 0.0)
        self.bar.update(self.bar_task, advance=advance, count=count, failed=failed)
        line = f"[{count}] {self.labels[case.key]}: "
        if record.status != "done":
            self.console.print(f"{line}{record.status}: {record.reason}", style="red")
        elif not self.console.is_terminal:
            source = record.notes.get("same_as")
            self.console.print(line + (f"as {source}" if source else f"{record.seconds:.1f} s"))

    def _describe(self) -> None:
        """Name one of the cases that are being measured, and how many others."""
        keys = list(self.running)
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        text = plain(self.labels[keys[0]]) + more if keys else "starting"
        self.reason = ""
        self.bar.update(self.bar_task, description=self.prefix + text)


def cost(
    flows: Annotated[list[str], Argument(help=FLOWS, autocompletion=options.complete_flows)],
    dim: Annotated[str, Option(help=f"Dimensions: {options.NUMBERS}.")],
    hidden: Annotated[str | None, Option(help="Widths, for flows that have one.")] = None,
    hidden_per_dim: Annotated[float | None, Option(help=PER_DIM)] = None,
    depth: Annotated[str | None, Option(help="Numbers of hidden layers of a network.")] = None,
    layers: Annotated[str | None, Option(help=LAYERS)] = None,
    batch: Annotated[str, Option(help="Batch sizes.")] = "64",
    counted_dim: Annotated[str | None, Option(help=COUNTED)] = None,
    seconds: Annotated[float, Option(min=0, help=SECONDS)] = 3.0,
    threads: Annotated[int, Option(min=1, help="Threads of the worker.")] = 1,
    out: Annotated[Path, Option(help="Results folder.")] = Path("results/cost"),
    plugin: options.Plugin = None,
) -> None:
    """Measure log_prob, a training step and sampling of FLOWS against their sizes.

    --dim, --hidden, --depth, --layers and --batch take several values; all combinations are
    measured. Flows with an option "solver" solve their ODE by four steps of rk4 (at least one for
    each piece of time) and backpropagation, so that the number of evaluations does not change with
    D; a note names other flows that solve an ODE. The report shows the cases of this command, the
    folder keeps those of all earlier commands. Exit status: 0 all cases done, 1 some failed, 2
    wrong usage.
    """
    with usage_errors():
        from benchmarks.execution.suite import Suite, validated
        from flows import members

        options.load_plugins(plugin)
        names = options.flows_of(flows)
        if hidden_per_dim is not None and (hidden is not None or hidden_per_dim <= 0):
            raise ValueError(
                f"--hidden-per-dim {hidden_per_dim:g}: give a number above 0, and no --hidden"
            )
        sizes = {"hidden": hidden, "depth": depth, "layers": layers}
        grids = {n: options.numbers(text, n) for n, text in sizes.items() if text is not None}
        for size in grids:
            if not any(size in members[name].uses for name in names):
                raise ValueError(f"none of {', '.join(names)} has a size {size!r}")
        dims = options.numbers(dim, "dim")
        larger = [] if counted_dim is None else options.numbers(counted_dim, "counted-dim")
        solver = {"method": "rk4", "step_size": STEP, "gradient": "backprop"}
        solving = {name: {"solver": solver} for name in names if "solver" in members[name].defaults}
        rule = {"hidden_per_dim": hidden_per_dim}
        entries = [{"flow": n, "options": solving.get(n, {}), **rule} for n in names]
        study = {
            "study": "cost",
            "dims": dims,
            "counted_dims": [d for d in larger if d not in dims],
            "sizes": grids,
            "batch": options.numbers(batch, "batch"),
            "seconds": seconds,
            "flows": entries,
        }
        about = f"Cost of {', '.join(names)} at D = {dim}."
        values = {"name": out.resolve().name, "about": about, "threads": threads}
        suite = validated(Suite, {**values, "studies": [study]}, "cost")
        smallest = {case.flow: case for case in reversed(suite.cases())}
        for name in names:
            if name not in solving and _solves(smallest[name]):
                note(f"{name} has no option 'solver' and is measured with its own solver")
    measure(suite, out, tables=2)  # the growth with D, and where one becomes cheaper


def _solves(case: Case) -> bool:
    """Whether a case's flow solves an ODE; False if it cannot be built, as its record will say."""
    from flows import build
    from flows.plugins import FOREIGN

    try:
        flow = build(case.flow, case.dim, **case.options)
    except FOREIGN:
        return False
    return any(hasattr(module, "counters") for module in flow.modules())
