"""Time two revisions against each other: blocks of base, new, new, base on one core.

Each revision is a git worktree with a process of its own, which runs `worker` on that revision's
flows. A *visit* is a few calls of one benchmark in one process. The four visits of a block lie
within milliseconds of each other: what slows the machine slows both sides, and a linear drift
cancels.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import psutil
import scipy
from numpy.typing import ArrayLike

from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.inference import holm
from benchmarks.core.formats import markdown_table
from benchmarks.gate import worker
from benchmarks.measure.machine import git, machine, versions
from benchmarks.measure.process import Child, ChildEnded, ChildError, environment

BASE, NEW = "base", "new"
ABBA, BAAB = (BASE, NEW, NEW, BASE), (NEW, BASE, BASE, NEW)
OPERATIONS = ("gradient", "log_prob", "sample")  # gradient: a training step without the optimiser
DEFAULT = (  # six kinds of flow, each milliseconds a call
    "realnvp/gradient",
    "glow/gradient",
    "maf/log_prob",
    "nsf_coupling/log_prob",
    "cnf/log_prob",
    "ffjord/log_prob",
)
FACTOR = 1.05  # least change that counts: processes of one revision differ by less
HEADERS = ("Benchmark", "Base (ms)", "New (ms)", "Ratio", "95 % interval", "p", "Verdict")
SUMMARIES = {  # by verdict
    ("slower", f"failed in {NEW}"): "slower or failed",
    ("faster",): "faster",
    ("too few",): "too few blocks to judge, give more seconds",
}
WORKING_TREE = "."
OURS = "flows"  # the package of this project
ANSWER_LIMIT = 30.0  # seconds for one visit
TRIAL = 5  # calls before the first block, which estimate the seconds of one
VISIT = 0.008  # seconds of timed calls that a visit aims at

Visit = dict[str, list[float]]  # "processor" and "clock": seconds of each call
Block = dict[str, list[Visit]]  # two visits of each side


def select(patterns: Sequence[str]) -> list[str]:
    """Resolve FAMILY, to its default or gradient, or FAMILY/OPERATION; ValueError for others."""
    defaults = {name.partition("/")[0]: name for name in DEFAULT}
    names: dict[str, None] = {}
    for pattern in patterns:
        family, slash, operation = pattern.partition("/")
        if not family or (slash and operation not in OPERATIONS):
            raise ValueError(
                f"no benchmark {pattern!r}: write FAMILY or FAMILY/OPERATION, with one of "
                f"{', '.join(OPERATIONS)}"
            )
        names[pattern if slash else defaults.get(family, f"{family}/{OPERATIONS[0]}")] = None
    if len(names) > len(DEFAULT):
        raise ValueError(
            f"{len(names)} benchmarks are too many to time at once: at most {len(DEFAULT)}; "
            "choose some with --only"
        )
    return list(names)


@dataclass(frozen=True)
class Revision:
    """A revision of the user's repository."""

    ref: str  # the user's name for it
    commit: str  # of a changed working tree HEAD's with "-dirty"
    path: Path  # the folder of its files

    @property
    def project(self) -> dict[str, Any]:
        """The table ``project`` of its pyproject.toml; ValueError if that is not TOML."""
        file = self.path / "pyproject.toml"
        try:
            return dict(tomllib.loads(file.read_text("utf-8")).get("project", {}))
        except FileNotFoundError:
            return {}
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"cannot read {file.name} of {self.ref!r}: {error}") from error


@contextlib.contextmanager
def checkouts(*refs: str) -> Iterator[list[Revision]]:
    """Lay out each ref in a worktree; "." is the working tree with its untracked files.

    The user's checkout and index are not touched, no hook is run, and the worktrees are removed at
    the end, also after an interrupt. ValueError outside of a git repository and for an unknown ref.
    """
    root = Path(git(Path(), "rev-parse", "--show-toplevel"))
    commits = [_commit(root, ref) for ref in refs]
    folder = Path(tempfile.mkdtemp(prefix="flowgauge-")).resolve()
    trees = [folder / str(index) for index in range(len(refs))]  # equally long, so in memory too
    try:
        revisions = []
        for ref, commit, tree in zip(refs, commits, trees, strict=True):
            git(root, "worktree", "add", "--detach", str(tree), commit)
            changed = ref == WORKING_TREE and _overlay(root, tree)
            revisions.append(Revision(ref, commit[:12] + "-dirty" * changed, tree))
        yield revisions
    finally:
        for tree in trees:
            with contextlib.suppress(ValueError):  # not made yet
                git(root, "worktree", "remove", "--force", "--force", str(tree))
        shutil.rmtree(folder, ignore_errors=True)


def _commit(root: Path, ref: str) -> str:
    name = f"{'HEAD' if ref == WORKING_TREE else ref}^{{commit}}"
    try:
        return git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", name)
    except ValueError:
        raise ValueError(
            f"{ref!r} names no commit of {str(root)!r}: give a branch, a tag, a commit, or "
            f"{WORKING_TREE!r} for the working tree"
        ) from None


def _overlay(root: Path, tree: Path) -> bool:
    """Copy changed and untracked files into a worktree of HEAD; True if there are any."""
    changed = git(root, "diff", "--name-only", "--no-renames", "--ignore-submodules", "-z", "HEAD")
    untracked = git(root, "ls-files", "--others", "--exclude-standard", "-z")
    names = [name for name in f"{changed}\0{untracked}".split("\0") if name]
    for name in names:
        (tree / name).unlink(missing_ok=True)
        if (root / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, tree / name)
    return bool(names)


def package_folders(revisions: Sequence[Revision]) -> list[list[str]]:
    """Folders of packages that each revision has in front of those of this environment.

    None if all declare the same dependencies. Otherwise pip installs what a revision declares and
    this environment does not satisfy, beside its checkout; ValueError if that fails.
    """
    declared = [revision.project.get("dependencies", ()) for revision in revisions]
    needs = [sorted({"".join(text.split()).lower() for text in texts}) for texts in declared]
    if all(other == needs[0] for other in needs):
        return [[] for _ in revisions]
    folders = []
    for revision, requirements in zip(revisions, declared, strict=True):
        folder = revision.path.with_name(f"{revision.path.name}-venv")
        venv.create(folder, with_pip=True, symlinks=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        (packages / "inherited.pth").write_text("\n".join(filter(None, sys.path)))
        folders.append([str(packages)])
        python = str(folder / "bin/python")
        install = [python, "-P", "-m", "pip", "install", "--quiet", *requirements]
        process = subprocess.run(install, capture_output=True, text=True) if requirements else None
        if process is not None and process.returncode:
            reason = (process.stderr or process.stdout).strip().splitlines()[-1:]
            raise ValueError(
                f"different dependencies are declared: those of {revision.ref!r} could not be "
                f"installed into an environment of its own: {''.join(reason)}"
            )
    return folders


class Worker(Child):
    """The timing process of a revision, which calls `worker`; it is started again if it is lost."""

    def __init__(self, task: Mapping[str, Any], folders: Sequence[str]) -> None:
        variables = {**environment(1, "cpu", "float32"), "PYTHONHASHSEED": "0"}
        super().__init__(worker.load_task, task, variables=variables, path=folders)

    def greeting(self) -> dict[str, Any]:
        """The flows of the revision and their versions; ValueError if it cannot be imported."""
        try:
            return self.call(worker.greeting)
        except ChildEnded as error:
            raise ValueError(f"the worker {error}") from error
        except ChildError as error:
            raise ValueError(str(error).removeprefix("ImportError: ")) from error

    def time(self, benchmark: str, calls: int) -> Visit | str:
        """Seconds of each call; the reason if it failed, "" if the family does not exist."""
        try:
            return self.call(worker.visit, benchmark, calls, timeout=ANSWER_LIMIT) or ""
        except ChildEnded as error:
            return f"the worker {error}"
        except (ChildError, ValueError) as error:
            return str(error)


@dataclass
class Measurement:
    """A ratio new over base, its 95 % interval, corrected p value and verdict, and the blocks.

    slower, faster: the ratio is beyond the factor and p is below `LEVEL`; same: otherwise; too few:
    so few blocks could not be significant; else appeared, vanished, failed in base, failed in new.
    """

    # versions that the flow rests on by side, None for a revision that declares none
    declared: dict[str, dict[str, list[int]] | None] = field(default_factory=dict)
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    verdict: str = "too few"
    reason: str = ""
    blocks: list[Block] = field(default_factory=list)

    @property
    def undeclared(self) -> bool:
        """Whether the times moved while every version and pace stayed."""
        base, new = self.declared.get(BASE), self.declared.get(NEW)
        return self.verdict in ("slower", "faster") and new is not None and base == new

    def row(self, name: str) -> tuple[str, ...]:
        """Cells under `HEADERS`: medians of the shortest calls of visits."""
        if self.ratio is None or self.p is None:
            return (name, "", "", "", "", "", self.verdict)
        base, new = (
            np.median([min(visit["processor"]) for block in self.blocks for visit in block[side]])
            for side in (BASE, NEW)
        )
        interval = f"{self.low:.3f} to {self.high:.3f}"
        p = f"{self.p:.3f}" if self.p >= 0.001 else "< 0.001"
        ratio = f"{self.ratio:.3f}"
        return (name, f"{1e3 * base:.3g}", f"{1e3 * new:.3g}", ratio, interval, p, self.verdict)


@dataclass
class Result:
    """Two revisions, what each benchmark gave, and what was asked for."""

    revisions: Sequence[Revision]
    seconds: float
    factor: float
    benchmarks: dict[str, Measurement]

    def status(self, require_pace: bool = False) -> int:
        """Exit status: 0 none slower, 1 some slower or failed, 2 too little to judge."""
        results = self.benchmarks.values()
        for result in results:
            slow = result.undeclared if require_pace else result.verdict == "slower"
            if slow or result.verdict == f"failed in {NEW}":
                return 1
        few = any(result.verdict == "too few" for result in results)
        return 2 if few or all(result.ratio is None for result in results) else 0

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Cells of each benchmark under `HEADERS`."""
        return [result.row(name) for name, result in self.benchmarks.items()]

    @property
    def notes(self) -> list[str]:
        """A line for each failure and each ``pace`` to raise; the last is the summary."""
        reasons: dict[str, list[str]] = {}
        verdicts: dict[str, list[str]] = {}
        raises: dict[str, str] = {}
        for name, result in self.benchmarks.items():
            verdicts.setdefault(result.verdict, []).append(name)
            reasons.setdefault(result.reason, []).append(name)
            if result.undeclared:
                family = name.partition("/")[0]
                _, pace = (result.declared[NEW] or {}).get(f"flow {family}", (1, 1))
                raises[family] = (
                    f"{family}: its times moved, its version and pace did not: mend or time again; "
                    f"if it was meant, raise its pace to {pace + 1} where it is registered"
                )
        summary = [] if {"slower", f"failed in {NEW}"} & verdicts.keys() else ["none slower"]
        if verdicts.keys() <= {"appeared", "vanished", f"failed in {BASE}"}:
            summary = ["no benchmark runs on both sides: nothing was judged"]
        for kinds, text in SUMMARIES.items():
            if names := [name for kind in kinds for name in verdicts.get(kind, ())]:
                summary.append(f"{text}: {', '.join(names)}")
        failures = [f"{', '.join(names)}: {reason}" for reason, names in reasons.items() if reason]
        return [*failures, *raises.values(), "; ".join(summary)]

    @property
    def caption(self) -> str:
        """What was compared, and what the verdict means."""
        base, new = (f"{r.ref} ({r.commit})" for r in self.revisions)
        more = " Only gradients of losses: --only FLOW/log_prob,FLOW/sample times these."
        more *= all(name.endswith(OPERATIONS[0]) for name in self.benchmarks)
        return (
            f"{new} against {base}: processor time of two processes taking turns on one core, "
            f"{self.seconds:.0f} s in all. Slower or faster: by a factor of {self.factor:g} or "
            f"more, and p < {LEVEL:g} (Wilcoxon's signed-rank test over blocks, corrected for the "
            f"number of benchmarks).{more}"
        )

    @property
    def markdown(self) -> str:
        """A comment for a pull request."""
        rows = [(f"`{name}`", *cells) for name, *cells in self.rows]
        *lines, summary = self.notes
        notes = "\n".join(["```text", *lines, "```"]) if lines else ""
        blocks = [f"**{summary}**", markdown_table(HEADERS, rows, range(1, 6)), notes, self.caption]
        return "\n\n".join(filter(None, blocks)) + "\n"

    @property
    def json(self) -> str:
        """Both revisions, the machine, each verdict, and the seconds of each call."""
        sides = zip((BASE, NEW), self.revisions, strict=True)
        content: dict[str, Any] = {
            **{side: {"ref": r.ref, "commit": r.commit} for side, r in sides},
            "seconds": self.seconds,
            "factor": self.factor,
            "machine": {**machine(), "versions": versions(), "load": os.getloadavg()[0]},
            "benchmarks": {name: asdict(result) for name, result in self.benchmarks.items()},
        }
        for name, result in self.benchmarks.items():
            clock = np.exp(np.median(log_ratios(result.blocks, "clock"))) if result.blocks else None
            content["benchmarks"][name]["clock_ratio"] = clock
        return json.dumps(content) + "\n"


def compare(
    base: str,
    new: str,
    only: Sequence[str] = (),
    *,
    package: str | None = None,
    plugin: Path | None = None,
    seconds: float,
    factor: float = FACTOR,
    progress: Callable[[str], None] = lambda text: None,
) -> Result:
    """Time two revisions of the repository of the working folder for some seconds.

    Of our own flows the `DEFAULT` benchmarks are timed unless ``only`` names others; of another
    ``package``, or the file ``plugin``, the gradient of each flow. ValueError for a benchmark that
    neither revision has, and if a revision cannot be imported.
    """
    root = Path(git(Path(), "rev-parse", "--show-toplevel")).resolve()
    if not (package or plugin or (root / OURS).is_dir()):
        raise ValueError("name the package of your flows by --package, or their file by --plugin")
    if package and not all(part.isidentifier() for part in package.split(".")):
        raise ValueError(f"--package {package!r} is not a package: write it as in `import`")
    if plugin and not plugin.resolve().is_relative_to(root):
        raise ValueError(f"--plugin {str(plugin)!r} lies outside of the repository {str(root)!r}")
    package = package or ("" if plugin else OURS)
    file = str(plugin.resolve().relative_to(root)) if plugin else ""
    benchmarks = select(only or (DEFAULT if package == OURS else ()))
    with contextlib.ExitStack() as stack:
        revisions = stack.enter_context(checkouts(base, new))
        progress("importing both revisions")
        core, workers, greetings = _idlest_core(), {}, {}
        folders = package_folders(revisions)
        for side, revision, paths in zip((BASE, NEW), revisions, folders, strict=True):
            task = {"core": core, **_imports(revision, root, package, file)}
            workers[side] = stack.enter_context(Worker(task, paths))
            try:
                greetings[side] = workers[side].greeting()
            except ValueError as error:
                raise ValueError(f"{revision.ref!r} cannot be timed: {error}") from error
        families = {name for greeting in greetings.values() for name in greeting["families"]}
        if not (benchmarks := benchmarks or select(sorted(families))):
            raise ValueError(f"neither revision registers a flow in {package or file!r}")
        results = {}
        for name in benchmarks:
            family = name.partition("/")[0]
            declared = {side: g["declared"].get(family) for side, g in greetings.items()}
            results[name] = Measurement(declared)
        deadline = time.monotonic() + seconds
        calls = {name: n for name in benchmarks if (n := _trial(workers, name, results[name]))}
        for name, block in _blocks(workers, results, calls, deadline):
            results[name].blocks.append(block)
            progress(f"block {sum(len(result.blocks) for result in results.values())}")
    samples = {name: log_ratios(results[name].blocks) for name in calls if results[name].blocks}
    for name, judged in judge(samples, factor).items():
        before = results[name]
        results[name] = replace(judged, declared=before.declared, blocks=before.blocks)
    return Result(revisions, seconds, factor, results)


def _imports(revision: Revision, root: Path, package: str, plugin: str) -> dict[str, Any]:
    """What the worker of a revision imports: the package and its modules that declare flows."""
    points = revision.project.get("entry-points", {}).get("flowgauge.flows", {})
    modules = {str(point).partition(":")[0].strip() for point in points.values()}
    modules = {name for name in modules if f"{name}.".startswith(f"{package}.")}
    return {
        "checkout": str(revision.path),
        "root": str(root),
        "ours": package == OURS,
        "modules": [*sorted(modules), *filter(None, [package])],
        "plugin": plugin and str(revision.path / plugin),
    }


def _trial(workers: Mapping[str, Worker], name: str, result: Measurement) -> int:
    """Calls in a visit, from a few calls on each side; 0 if it does not run on both."""
    answers = {side: workers[side].time(name, TRIAL) for side in (NEW, BASE)}
    if all(answer == "" for answer in answers.values()):
        raise ValueError(f"neither revision has the flow of {name!r}")
    for side, answer in answers.items():  # a failure of the base is not the new side's
        if isinstance(answer, str):
            absent = "appeared" if side == BASE else "vanished"
            result.verdict, result.reason = f"failed in {side}" if answer else absent, answer
    times = [min(answer["processor"]) for answer in answers.values() if isinstance(answer, dict)]
    return max(2, min(12, round(VISIT / max(*times, 1e-9)))) if len(times) == 2 else 0


def _blocks(
    workers: Mapping[str, Worker],
    results: Mapping[str, Measurement],
    calls: dict[str, int],
    deadline: float,
) -> Iterator[tuple[str, Block]]:
    """Time blocks in shuffled rounds until the deadline; of two, one is the mirror of the other."""
    orders: dict[str, list[tuple[str, ...]]] = {name: [] for name in calls}
    longest, random = 0.0, Random(0)
    while calls:
        for name in random.sample(sorted(calls), len(calls)):
            started = time.monotonic()
            if started + longest > deadline:
                return
            orders[name] = orders[name][1:] or random.sample([ABBA, BAAB], 2)
            block: Block = {BASE: [], NEW: []}
            for side in orders[name][0]:
                visit = workers[side].time(name, calls[name])
                if isinstance(visit, str):
                    del calls[name]
                    results[name].verdict, results[name].reason = f"failed in {side}", visit
                    break
                block[side].append(visit)
            else:
                yield name, block
            longest = max(longest, time.monotonic() - started)


def _idlest_core() -> int | None:
    """The least loaded core that this process may use; None if processes cannot be pinned."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    load = dict(enumerate(psutil.cpu_percent(0.2, percpu=True)))
    return min(os.sched_getaffinity(0), key=lambda core: load.get(core, 0.0))


def log_ratios(blocks: Sequence[Block], clock: str = "processor") -> np.ndarray:
    """log(new / base) of each block, (blocks,): from the shortest call of each visit."""

    def level(visits: Sequence[Visit]) -> float:
        return float(np.mean([np.log(min(visit[clock])) for visit in visits]))

    return np.array([level(block[NEW]) - level(block[BASE]) for block in blocks])


def judge(samples: Mapping[str, ArrayLike], factor: float = FACTOR) -> dict[str, Measurement]:
    """Judge each benchmark by the log-ratios of its blocks, (blocks,) with blocks >= 1.

    If both revisions are equally fast a log-ratio is symmetric about zero, whatever the noise,
    because the order within a block is random: so Wilcoxon's signed-rank test holds (Individual
    comparisons by ranking methods, 1945). The estimate is the median of the pairwise means, with
    the interval that belongs to the test (Hodges and Lehmann, 1963). The p values are corrected for
    the number of benchmarks by Holm's method.
    """
    logs = {name: np.asarray(values, dtype=float) for name, values in samples.items()}
    raw = [float(scipy.stats.wilcoxon(x).pvalue) if np.any(x) else 1.0 for x in logs.values()]
    results = {}
    for (name, x), p in zip(logs.items(), holm(raw), strict=True):
        n = len(x)
        rows, columns = np.triu_indices(n)
        means = np.sort((x[rows] + x[columns]) / 2)
        half = scipy.stats.norm.ppf(0.975) * np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        outside = max(0, int(len(means) / 2 - half))
        ends = np.exp([np.median(means), means[outside], means[-1 - outside]])
        ratio, low, high = (float(end) for end in ends)
        if 2.0 ** (1 - n) * len(logs) > LEVEL:  # p if all blocks have one sign
            verdict = "too few"
        elif p >= LEVEL or 1 / factor < ratio < factor:
            verdict = "same"
        else:
            verdict = "slower" if ratio > 1 else "faster"
        results[name] = Measurement({}, ratio, low, high, p, verdict)
    return results
