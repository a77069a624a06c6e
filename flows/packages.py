"""Packages that members need beside this project's own: whether they can be used, or why not."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from flows.isolation import unchanged
from flows.plugins import FOREIGN, described


@dataclass(frozen=True)
class Library:
    """A package with the members that need it, whether or not it can be used.

    ``fault`` is one line that says why it cannot, empty if it can; ``remedy`` the command that
    installs it.
    """

    name: str
    members: tuple[str, ...]
    version: str | None  # None if it is not installed
    fault: str
    remedy: str


def installed(package: str) -> bool:
    """Whether a package can be found; it is not imported."""
    return importlib.util.find_spec(package) is not None


def import_fault(package: str) -> str:
    """Why a package cannot be imported, in one line; empty if it can, and then it is.

    What the import does to settings of torch or of the process is undone, as after any case: a
    library's flows are called in one state, whether or not it was just imported.
    """
    if package in sys.modules:
        return ""
    if not installed(package):
        return "is not installed"
    try:
        with warnings.catch_warnings(action="ignore"), unchanged(package):  # its notices too
            importlib.import_module(package)
    except FOREIGN as error:
        return f"cannot be imported: {described(error)}"
    return ""


def version_of(package: str) -> str | None:
    """The version of an installed package, "unknown" if it does not tell; None if it is absent."""
    if not installed(package):
        return None
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
