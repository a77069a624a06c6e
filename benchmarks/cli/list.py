"""The command ``flowgauge list``: flows, their libraries, data sets, studies, suites, claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from benchmarks.cli.console import console, styled, usage_errors
from benchmarks.cli.data import files_of
from benchmarks.cli.options import Plugin, load_plugins

if TYPE_CHECKING:
    from flows.member import Member


def list_members(plugin: Plugin = None) -> None:
    """List flows, the libraries that they come from, data sets, studies, suites and claims."""
    with usage_errors():
        from benchmarks import claims, datasets
        from benchmarks.core import study
        from benchmarks.execution import suite
        from flows import members

        load_plugins(plugin)
        sections = {
            "Flows": {name: _flow(members[name]) for name in members if not members.fault(name)},
            "Libraries": _libraries(),
            "Data sets": {name: _origin(name) for name in datasets.names()},
            "Studies": {name: styled(study.registry[name].question) for name in study.registry},
            "Suites": {name: styled(suite.read(name).about) for name in suite.names()},
            "Claims": {claim.id: styled(claim.statement) for claim in claims.claims()},
        }
    for title, rows in sections.items():
        table = Table(title=title, title_justify="left", show_header=False, box=None)
        for name, description in rows.items():
            table.add_row(styled(name, "bold"), description)
        console.print(table)


def _flow(member: Member) -> Text:
    """Description of a flow, and below it the options that it takes."""
    description = member.description.replace("``", "")
    return Text.assemble(styled(description), "\n", styled(", ".join(member.defaults), "dim"))


def _libraries() -> dict[str, Text]:
    """Version of each library and its number of flows, or its fault and the remedy."""
    from benchmarks.measure import foreign
    from flows import members
    from flows.packages import version_of

    rows = {
        library.name: f"{library.fault}; {library.remedy}"
        if library.fault
        else f"{library.version}, {len(library.members)} flows"
        for library in members.libraries()
    }
    for name in foreign.names():
        alone = f"{version_of(name)}, in a process of its own, in suites alone"
        rows.setdefault(name, foreign.lacking(foreign.peer(name)) or alone)
    return {name: styled(text) for name, text in rows.items()}


def _origin(name: str) -> Text:
    """Module of a data set, and whether its files are absent."""
    from benchmarks import datasets

    module, files = datasets.module_of(name).rpartition(".")[2], files_of(name)
    return Text.assemble(styled(module), styled(f" ({files})" * files.startswith("absent"), "dim"))
