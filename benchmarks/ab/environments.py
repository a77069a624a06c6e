"""Interpreters of revisions: the running one, where its packages are those that they declare."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from benchmarks.ab.checkouts import Revision
from benchmarks.ab.subject import OWN, Subject


def dependencies(path: Path, subject: Subject = Subject()) -> set[str]:
    """Read the dependencies in a checkout's pyproject.toml; ValueError if it is no TOML."""
    declared = subject.project(path).get("dependencies", ())
    return {"".join(requirement.split()).lower() for requirement in declared}


def interpreters(revisions: Sequence[Revision], subject: Subject = Subject()) -> list[str]:
    """Choose a Python for each revision: the running one if all declare the same dependencies.

    Otherwise each gets a virtual environment beside its checkout with its dependencies installed
    by pip; ValueError where that fails. Where the library itself is not timed, whatever they leave
    open is the running one's.
    """
    declared = [dependencies(revision.path, subject) for revision in revisions]
    if all(other == declared[0] for other in declared):
        return [sys.executable] * len(revisions)
    inherited = [] if subject.own else [_place(OWN), *filter(None, map(os.path.abspath, sys.path))]
    return [_environment(r, d, inherited) for r, d in zip(revisions, declared, strict=True)]


def interpreter(revision: Revision) -> str:
    """Choose a Python for one revision: the running one if its packages satisfy the revision.

    Otherwise it gets a virtual environment as of `interpreters`; ValueError where that fails.
    """
    declared = dependencies(revision.path)
    return sys.executable if all(map(_satisfied, declared)) else _environment(revision, declared)


def _satisfied(text: str) -> bool:
    """Whether a requirement is met here."""
    requirement = Requirement(text)
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _place(package: str) -> str:
    """The folder that a package is imported from."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parents[1])


def _environment(revision: Revision, requirements: set[str], inherited: Sequence[str] = ()) -> str:
    """Make a virtual environment with these requirements; the path of its Python.

    What it lacks is looked for in the ``inherited`` folders.
    """
    folder = revision.path.with_name(f"{revision.path.name}-venv")
    python = str(folder / "bin" / "python")
    install = [python, "-P", "-m", "pip", "install", "--quiet", *sorted(requirements)]
    commands = [[sys.executable, "-P", "-m", "venv", str(folder)], install]
    for command in commands if requirements else commands[:1]:
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        if process.returncode:
            lines = (process.stderr or process.stdout).strip().splitlines() or ["no reason given"]
            raise ValueError(
                f"different dependencies are declared: those of {revision.ref!r} could not be "
                f"installed into an environment of its own: {lines[-1]}"
            )
        for packages in folder.glob("lib/python*/site-packages"):  # before pip looks
            (packages / "inherited.pth").write_text("\n".join(inherited))
    return python
