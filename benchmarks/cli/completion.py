"""Names that a shell completes: they are looked up when it asks."""

from __future__ import annotations

from collections.abc import Iterable


def suites(incomplete: str) -> list[str]:
    """Suites whose names begin so."""
    from benchmarks.execution import suite

    return _completed(suite.names(), incomplete)


def flows(incomplete: str) -> list[str]:
    """Flows whose names begin so."""
    from flows import members

    return _completed(members, incomplete)


def data_sets(incomplete: str) -> list[str]:
    """Data sets whose names begin so."""
    from benchmarks import datasets

    return _completed(datasets.names(), incomplete)


def _completed(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
