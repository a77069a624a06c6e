"""The formats of a report, a module each: all of them are written.

A new format is a new module of this folder that registers one: a `Format`, or a `TableFormat`,
whose file of each table is linked beside the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.report.content import Report, Table
from benchmarks.report.files import PAGE
from flows.registry import Registry

Files = Iterator[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Format:
    """A way to write a report: ``files`` gives paths in the report's folder, and their content."""

    files: Callable[[Report], Files]


@dataclass(frozen=True)
class TableFormat:
    """A way to write tables, each into a file of its own; ``media`` is the type of the content."""

    title: str
    suffix: str
    media: str
    render: Callable[[Table], str]

    def files(self, report: Report) -> Files:
        """A file for each table."""
        for table in report.tables:
            yield self.path(table), self.render(table)

    def path(self, table: Table) -> str:
        """Where a table's file stands in the report's folder."""
        return f"tables/{table.name}.{self.suffix}"


registry: Registry[Format | TableFormat] = Registry("report format", (__name__,))


def files(report: Report) -> list[tuple[str, str | bytes]]:
    """The files of a report in all formats, the page last."""
    written = [file for name in registry for file in registry[name].files(report)]
    return sorted(written, key=lambda file: file[0] == PAGE)


def table_formats() -> list[TableFormat]:
    """The formats that write a file for each table, in the order of their titles."""
    every = [registry[name] for name in registry]
    chosen = [form for form in every if isinstance(form, TableFormat)]
    return sorted(chosen, key=lambda form: form.title)
