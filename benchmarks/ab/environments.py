"""The interpreter of each revision: the present one, unless they need different packages."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.ab.checkouts import Revision


def dependencies(path: Path) -> set[str]:
    """The dependencies that a checkout's pyproject.toml declares; ValueError if unreadable."""
    file = path / "pyproject.toml"
    try:
        declared = tomllib.loads(file.read_text(encoding="utf-8"))["project"]["dependencies"]
    except (FileNotFoundError, KeyError):
        return set()
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"cannot read {file.name} of a revision: {error}") from error
    return {"".join(requirement.split()).lower() for requirement in declared}


def interpreters(revisions: Sequence[Revision]) -> list[str]:
    """A Python for each revision: the running one where all declare the same dependencies.

    Where they differ each gets a virtual environment beside its checkout, and what it declares
    installed by pip; ValueError where that fails.
    """
    declared = [dependencies(revision.path) for revision in revisions]
    if all(other == declared[0] for other in declared):
        return [sys.executable] * len(revisions)
    return [_built(r, d) for r, d in zip(revisions, declared, strict=True)]


def _built(revision: Revision, requirements: set[str]) -> str:
    folder = revision.path.with_name(f"{revision.path.name}-venv")
    python = str(folder / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", *sorted(requirements)]
    for command in ([sys.executable, "-m", "venv", str(folder)], install):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
            raise ValueError(
                f"the revisions declare different dependencies, and those of {revision.ref!r} "
                f"could not be installed into an environment of its own: {said[-1]}"
            )
    return python
