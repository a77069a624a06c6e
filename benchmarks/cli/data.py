"""The commands ``flowgauge list`` and ``flowgauge data``: members, data sets and their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text
from typer import Argument, Exit, Option, Typer

from benchmarks.cli import options
from benchmarks.cli.console import console, errors, print_list, say, styled, usage_errors
from benchmarks.core.formats import brief, plain
from benchmarks.core.naming import counted

if TYPE_CHECKING:
    from benchmarks.datasets import Dataset
    from benchmarks.datasets.disk import Source
    from flows.registry import Member

app = Typer(
    help="List data sets; fetch, verify and describe data sets in files.", no_args_is_help=True
)
Sets = Annotated[options.Texts, Argument(help="Data sets (default: all that can be downloaded).")]
KINDS = "flows, libraries, data, studies, suites, claims"
ORIGINAL = "Fetch UCI's original files instead of the MAF archive."
SOURCE = "Another address or file of the archive."
CHECKSUM = "Checksum of that archive, md5:... or sha256:..., for the published one."


def list_members(
    kind: Annotated[str | None, Argument(help=f"One of {KINDS} (default: all).")] = None,
    plugin: options.Plugin = None,
) -> None:
    """List flows, the libraries that they come from, data sets, studies, suites and claims."""
    with usage_errors():
        from benchmarks import claims, datasets
        from benchmarks.core import study
        from benchmarks.execution import suite
        from flows import members

        options.load_plugins(plugin)
        flows = [name for name in members if not members.fault(name)]
        sections: dict[str, Callable[[], Mapping[str, str | Text]]] = {
            "Flows": lambda: {name: _described(members[name]) for name in flows},
            "Libraries": _libraries,
            "Data sets": lambda: {name: _origin(name) for name in datasets.registry},
            "Studies": lambda: {name: study.registry[name].question for name in study.registry},
            "Suites": lambda: {name: suite.read(name).about for name in suite.names()},
            "Claims": lambda: {claim.id: claim.statement for claim in claims.claims()},
        }
        titles = [title for title in sections if title.lower().startswith((kind or "").lower())]
        if not titles:
            raise ValueError(f"there is no list of {kind!r}; choose from: {KINDS}")
        for title in titles:
            print_list(sections[title]().items(), title)


def _described(member: Member) -> Text:
    """A flow's description, what it offers if that is known, and its options."""
    from flows import capabilities

    lines = [styled(member.description.replace("``", ""))]
    if member.library is None:
        lines.append(styled(str(capabilities(member.name)), "green"))
    return Text("\n").join([*lines, styled(", ".join(member.defaults), "dim")])


def _libraries() -> dict[str, str | Text]:
    """Version of each library and its number of flows, or its fault and the remedy."""
    from benchmarks.measure import foreign
    from flows import members
    from flows.registry import version_of

    rows: dict[str, str | Text] = {
        library.name: f"{library.fault}; {library.remedy}"
        if library.fault
        else f"{library.version}, {len(library.members)} flows"
        for library in members.libraries()
    }
    for name in foreign.names():
        alone = f"{version_of(name)}, in a process of its own, in suites alone"
        rows.setdefault(name, foreign.lacking(foreign.peer(name)) or alone)
    return rows


def _origin(name: str) -> Text:
    """Module of a data set, and whether its files are absent."""
    from benchmarks import datasets

    module, files = datasets.registry.module_of(name).rpartition(".")[2], files_of(name)
    return Text.assemble(styled(module), styled(f" ({files})" * files.startswith("absent"), "dim"))


@app.command("list")
def list_sets(plugin: options.Plugin = None, data_root: options.DataRoot = None) -> None:
    """List all data sets, and whether their files exist."""
    with usage_errors():
        from benchmarks.datasets import disk, registry

        options.use_data_root(data_root)
        options.load_plugins(plugin)
        table = Table("Data set", "From", "Files", box=None)
        for name in registry:
            table.add_row(name, registry.module_of(name).rpartition(".")[2], files_of(name))
        console.print(table)
        say(f"data root: {disk.data_root()}")


@app.command()
def fetch(
    sets: Sets = None,
    original: Annotated[bool, Option("--original", help=ORIGINAL)] = False,
    source: Annotated[str | None, Option("--from", help=SOURCE)] = None,
    checksum: Annotated[str | None, Option(help=CHECKSUM)] = None,
    again: Annotated[bool, Option("--again", help="Replace files that exist.")] = False,
    plugin: options.Plugin = None,
    data_root: options.DataRoot = None,
) -> None:
    """Download data sets into the data root: resume, verify checksums, unpack safely.

    Exit status: 0 all files exist, 1 a download failed or was refused, 2 wrong usage.
    """
    with usage_errors():
        from benchmarks import datasets
        from benchmarks.datasets import disk

        if original and (source or checksum):
            raise ValueError("--from and --checksum apply to the archive: leave out --original")
        options.load_plugins(plugin)
        sources = [one for name in _select(sets) for one in datasets.sources(name, original)]
        sources = disk.redirect(sources, source, checksum)
        if data_root is not None:
            data_root.mkdir(parents=True, exist_ok=True)
        options.use_data_root(data_root)
        folder = disk.data_root()
    for one in sources:
        try:
            paths = _fetch(one, folder, again)
        except disk.FetchError as error:
            hint = "; for another archive give its --checksum"
            hint *= source is not None and checksum is None
            say(f"flowgauge: {error}{hint}", "red", on=errors)
            raise Exit(1) from None
        for path in paths:
            say(path)
        if not paths:
            present = ", ".join(name for name, _ in one.members)
            say(f"already in {folder}: {present} (--again replaces)")
        elif one.checksum is None:
            console.print(f"no checksum of {one.name} is published: the sums in it agree")


@app.command()
def verify(
    sets: Sets = None, plugin: options.Plugin = None, data_root: options.DataRoot = None
) -> None:
    """Verify files of data sets: their checksums, and the published row counts and Gaussian scores.

    Exit status: 0 as published, 1 a set differs, is broken or, if named, absent; 2 wrong usage.
    """
    with usage_errors():
        from benchmarks.datasets import disk

        options.load_plugins(plugin)
        options.use_data_root(data_root)
        disk.data_root()  # raises for a root that is not a folder
        names = _select(sets)
    results = []
    for name in names:
        try:
            text, correct = _judged(name)
        except ValueError as error:
            if isinstance(error, disk.Absent) and not sets:
                continue
            text, correct = str(error), False
        results.append(correct)
        say(f"{name}: {text}", "green" if correct else "red")
    if not results:
        console.print("no such data set exists: see flowgauge data list")
    raise Exit(0 if results and all(results) else 1)


@app.command()
@options.on_table
def info(selection: Any, plugin: options.Plugin = None, data_root: options.DataRoot = None) -> None:
    """Describe a data set; list the faults and remarks of a file of your own.

    Exit status: 0, 1 if the file cannot be used as it is, 2 wrong usage.
    """
    with usage_errors():
        from benchmarks import datasets
        from benchmarks.datasets import tables

        options.use_data_root(data_root)
        options.load_plugins(plugin)
        name = str(selection)
        if tables.is_file(name):
            options.check_table(selection, status=1)
        tables.admit(name)
        data = datasets.load(name)
    facts = {
        "dimension": str(data.dim),
        "given": counted(data.context_dim, "column") if data.context_dim else None,
        **{part: f"{len(getattr(data, part)):,} rows" for part in ("train", "val", "test")},
        "split": data.split,
        "columns": None if data.columns is None else brief(", ".join(data.columns)),
        "units": data.units,
        "entropy": None if data.entropy is None else f"{data.entropy:.6f} nats",
        "Gaussian": f"{_gaussian_score(data):.4f} nats, mean over the test rows",
    }
    print_list((term, text) for term, text in facts.items() if text is not None)
    say(data.about.removesuffix(tables.sentences(data.remarks)))


def files_of(name: str) -> str:
    """Paths of a data set's files, or a remark that they are absent."""
    from benchmarks import datasets
    from benchmarks.datasets.disk import Absent

    try:
        return ", ".join(map(str, datasets.files(name)))
    except Absent:
        return f"absent: flowgauge data fetch {name}"


def _select(sets: list[str] | None) -> list[str]:
    """Return the downloaded sets named, each once, or all; ValueError for any other name."""
    from benchmarks import datasets

    names = options.split(sets)
    for name in names:
        datasets.sources(name)
    return list(dict.fromkeys(names or datasets.downloadable()))


def _fetch(source: Source, folder: Path, again: bool) -> list[Path]:
    """Fetch one source with a progress bar; the paths of its new files."""
    from benchmarks.datasets.disk import fetch as bring

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    description = TextColumn("{task.description}", markup=False)
    with Progress(description, *columns, console=errors, transient=True) as bar:
        task = bar.add_task(plain(source.name), total=None)

        def progress(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        return bring(source, folder, again=again, progress=progress)


def _judged(name: str) -> tuple[str, bool]:
    """Describe a set, and return whether it is as published.

    A wrong preprocessing shows in the score of a Gaussian beside the published one. Raises Absent,
    or ValueError for broken files.
    """
    from benchmarks import datasets
    from benchmarks.datasets.disk import data_root, recorded, sha256
    from benchmarks.datasets.maf import PUBLISHED

    paths, fetched = datasets.files(name), recorded(data_root())
    expected = [fetched.get(str(path.relative_to(data_root()))) for path in paths]
    changed = None not in expected and expected != [sha256(path) for path in paths]
    sums = "files put there, not fetched" if None in expected else "files as fetched"
    sums = "files changed since they were fetched" if changed else sums
    data = datasets.load(name)
    rows = [len(part) for part in (data.train, data.val, data.test)]
    if (published := PUBLISHED.get(name)) is None:
        return f"{sum(rows):,} rows of {data.dim} columns; {sums}", not changed
    size = published.differs(data.dim, rows)
    score = f"a Gaussian scores {_gaussian_score(data):.2f}, published {published.gaussian:.2f}"
    return f"{size or 'rows as published'}; {score}; {sums}", not size and not changed


def _gaussian_score(data: Dataset) -> float:
    """Return the mean test log-likelihood, nats, of the full-covariance Gaussian of train.

    A conditional set is scored by a linear regression, the Gaussian of y given x.
    """
    from benchmarks.training.baselines import fit

    fitted = fit("gaussian", data.train.numpy(), 0, data.val.numpy(), given=data.context_dim)
    return float(fitted.log_prob(data.test.numpy()).mean())
