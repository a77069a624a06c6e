"""The command ``flowgauge data``: list data sets, fetch and check their files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from benchmarks.cli.console import console, errors, usage_errors
from benchmarks.cli.options import DataRoot, Plugin, complete_data, load_plugins, use_data_root
from benchmarks.core.formats import brief, plain

if TYPE_CHECKING:
    from benchmarks.datasets import Dataset
    from benchmarks.datasets.download import Source

app = typer.Typer(
    help="List data sets; fetch, verify and describe data sets in files.", no_args_is_help=True
)

Sets = Annotated[
    list[str] | None, typer.Argument(help="Data sets (default: all that can be downloaded).")
]


@app.command("list")
def list_sets(plugin: Plugin = None, data_root: DataRoot = None) -> None:
    """List all data sets, and whether their files exist."""
    with usage_errors():
        from benchmarks import datasets
        from benchmarks.datasets.disk import data_root as root

        use_data_root(data_root)
        load_plugins(plugin)
        table = Table("Data set", "From", "Files", box=None)
        for name in datasets.names():
            table.add_row(name, datasets.module_of(name).rpartition(".")[2], files_of(name))
        console.print(table)
        console.print(f"data root: {root()}", soft_wrap=True)


def files_of(name: str) -> str:
    """Paths of a data set's files, or a remark that they are absent; "" for a set without files."""
    from benchmarks import datasets
    from benchmarks.datasets.disk import Absent

    try:
        return ", ".join(map(str, datasets.files(name)))
    except Absent:
        return f"absent: flowgauge data fetch {name}"


@app.command()
def fetch(
    sets: Sets = None,
    original: Annotated[
        bool,
        typer.Option("--original", help="Fetch UCI's original files instead of the MAF archive."),
    ] = False,
    source: Annotated[
        str | None, typer.Option("--from", help="Another address or file of the archive.")
    ] = None,
    checksum: Annotated[
        str | None,
        typer.Option(
            help="Checksum of that archive, md5:... or sha256:..., instead of the known one."
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Replace files that exist.")] = False,
    plugin: Plugin = None,
    data_root: DataRoot = None,
) -> None:
    """Download data sets into the data root: resume, verify checksums, unpack safely.

    Exit status: 0 all files exist, 1 a download failed or was refused, 2 wrong usage.
    """
    with usage_errors():
        from benchmarks import datasets
        from benchmarks.datasets.disk import data_root as root
        from benchmarks.datasets.download import FetchError, redirect

        if original and (source or checksum):
            raise ValueError("--from and --checksum apply to the archive: leave out --original")
        load_plugins(plugin)
        wanted = [one for name in _select(sets) for one in datasets.sources(name, original)]
        sources = redirect(wanted, source, checksum)
        if data_root is not None:
            _make(data_root)
        use_data_root(data_root)
        folder = root()
    for one in sources:
        try:
            paths = _fetch(one, folder, again)
        except FetchError as error:
            hint = "; for another archive give its --checksum"
            line = f"flowgauge: {error}{hint * (source is not None and checksum is None)}"
            errors.print(line, style="red", soft_wrap=True)
            raise typer.Exit(1) from None
        for path in paths:
            console.print(f"{path}", soft_wrap=True)
        if not paths:
            present = ", ".join(name for name, _ in one.members)
            console.print(f"already in {folder}: {present} (--again replaces)", soft_wrap=True)
        elif one.checksum is None:
            console.print(f"no checksum of {one.name} is published: the sums in it agree")


@app.command()
def verify(sets: Sets = None, plugin: Plugin = None, data_root: DataRoot = None) -> None:
    """Verify files of data sets: their checksums, and the published row counts and Gaussian scores.

    Exit status: 0 as published, 1 a set differs, is broken or, if named, absent; 2 wrong usage.
    """
    with usage_errors():
        from benchmarks.datasets.disk import data_root as root

        load_plugins(plugin)
        use_data_root(data_root)
        root()  # raises for a root that is no folder
        names = _select(sets)
    checks = {name: _verify(name, named=bool(sets)) for name in names}
    results = {name: result for name, result in checks.items() if result is not None}
    for name, (text, correct) in results.items():
        style = "green" if correct else "red"
        console.print(f"{name}: {text}", style=style, soft_wrap=True)
    if not results:
        console.print("no such data set exists: see flowgauge data list")
    raise typer.Exit(0 if results and all(correct for _, correct in results.values()) else 1)


@app.command()
def info(
    name: Annotated[
        str,
        typer.Argument(help="A data set, or a file of a table.", autocompletion=complete_data),
    ],
    dequantise: Annotated[
        bool, typer.Option("--dequantise", help="Add uniform noise to columns of whole numbers.")
    ] = False,
    plugin: Plugin = None,
    data_root: DataRoot = None,
) -> None:
    """Describe a data set; list the faults and remarks of a file of your own.

    Exit status: 0, 1 if the file cannot be used as it is, 2 wrong usage.
    """
    with usage_errors():
        from benchmarks import datasets
        from benchmarks.datasets import own

        use_data_root(data_root)
        load_plugins(plugin)
        if dequantise:
            if not own.is_file(name):
                raise ValueError(f"{name!r} is not a file: --dequantise is for files")
            name = name.removesuffix(own.DEQUANTISE) + own.DEQUANTISE
        if own.is_file(name) and (faults := own.inspect(name).faults):
            for fault in faults:
                errors.print(f"{name}: {fault}", style="red", soft_wrap=True)
            raise typer.Exit(1)
        own.admit(name)
        data = datasets.load(name)
    _print(data)


def _select(sets: list[str] | None) -> list[str]:
    """Return the downloaded sets named, each once, or all; ValueError for any other name."""
    from benchmarks import datasets

    for name in sets or ():
        datasets.sources(name)
    return list(dict.fromkeys(sets or datasets.downloadable()))


def _make(folder: Path) -> None:
    """Make a data root; ValueError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{str(folder)!r} cannot be a data root: {error.strerror}") from error


def _fetch(source: Source, folder: Path, again: bool) -> list[Path]:
    """Fetch one source with a progress bar; the paths of its new files."""
    from benchmarks.datasets.download import fetch as bring

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(plain(source.name), total=None)
        return bring(
            source,
            folder,
            again=again,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _verify(name: str, named: bool) -> tuple[str, bool] | None:
    """Result of one set in a line, and whether it is as published; None if absent and not named."""
    from benchmarks.datasets.disk import Absent
    from benchmarks.evaluation.verify import verify as judge

    try:
        return judge(name)
    except Absent as error:
        return (str(error), False) if named else None
    except ValueError as error:
        return str(error), False


def _print(data: Dataset) -> None:
    from benchmarks.evaluation.verify import gaussian_score

    table = Table(show_header=False, box=None)
    table.add_row("dimension", str(data.dim))
    if data.context_dim:
        table.add_row("given", f"{data.context_dim} columns")
    for part in ("train", "val", "test"):
        table.add_row(part, f"{len(getattr(data, part)):,} rows")
    if data.columns is not None:
        table.add_row("columns", brief(", ".join(data.columns)))
    table.add_row("units", data.units)
    if data.entropy is not None:
        table.add_row("entropy", f"{data.entropy:.6f} nats")
    table.add_row("Gaussian", f"{gaussian_score(data):.4f} nats, mean over the test rows")
    console.print(table)
    console.print(data.about, soft_wrap=True)
