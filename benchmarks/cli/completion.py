"""Names that a shell completes: they are looked up when it asks."""

from __future__ import annotations


def suites(incomplete: str) -> list[str]:
    """Suites whose names begin so."""
    from benchmarks.execution import suite

    return [name for name in suite.names() if name.startswith(incomplete)]


def flows(incomplete: str) -> list[str]:
    """Flows whose names begin so."""
    from flows import members

    return [name for name in members if name.startswith(incomplete)]


def data_sets(incomplete: str) -> list[str]:
    """Data sets whose names begin so."""
    from benchmarks import datasets

    return [name for name in datasets.names() if name.startswith(incomplete)]
