"""Two revisions laid out beside each other, as git worktrees in a folder that goes away."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WORKING_TREE = "."
HERE = Path()
NEEDED = ("flows", "pyproject.toml")  # the rest of a revision is not timed
OF_A_HOOK = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}  # which git sets for what it calls


@dataclass(frozen=True)
class Revision:
    """One side: what the user called it, its commit, and where its files are.

    The commit of a working tree is HEAD's with "-dirty" where it has changes.
    """

    ref: str
    commit: str
    path: Path


@contextlib.contextmanager
def checkouts(*refs: str) -> Iterator[list[Revision]]:
    """A worktree of each ref's `NEEDED`; "." is the working tree as it is, with untracked files.

    Neither the user's checkout nor its index is touched, no hook is run, and all is removed at the
    end, also after an interrupt. ValueError outside of a git repository and for an unknown ref.
    """
    root = Path(git(HERE, "rev-parse", "--show-toplevel"))
    commits = [_commit(root, ref) for ref in refs]
    folder = Path(tempfile.mkdtemp(prefix="flowgauge-ab-")).resolve()
    paths = [folder / str(index) for index in range(len(refs))]  # of equal length, as in memory
    try:
        found = []
        for ref, commit, path in zip(refs, commits, paths, strict=True):
            git(root, "worktree", "add", "--no-checkout", "--detach", str(path), commit)
            if there := git(root, "ls-tree", "--name-only", commit, "--", *NEEDED).split():
                git(path, "checkout", commit, "--", *there)
            changed = ref == WORKING_TREE and _overlay(root, path)
            found.append(Revision(ref, commit[:12] + "-dirty" * changed, path))
        yield found
    finally:
        for path in paths:
            with contextlib.suppress(ValueError):  # one that was never made
                git(root, "worktree", "remove", "--force", "--force", str(path))
        shutil.rmtree(folder, ignore_errors=True)


def _commit(root: Path, ref: str) -> str:
    name = "HEAD" if ref == WORKING_TREE else ref
    try:
        return git(
            root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
        )
    except ValueError:
        raise ValueError(
            f"{ref!r} names no commit of {str(root)!r}: give a branch, a tag, a commit, or "
            f"{WORKING_TREE!r} for the working tree"
        ) from None


def _overlay(root: Path, path: Path) -> bool:
    """Bring what the working tree differs in from HEAD into a worktree of HEAD; whether it does."""
    changed = git(root, "diff", "--name-only", "--no-renames", "-z", "HEAD", "--", *NEEDED)
    untracked = git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *NEEDED)
    names = [name for name in (changed + "\0" + untracked).split("\0") if name]
    for name in names:
        source, target = root / name, path / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        else:
            target.unlink(missing_ok=True)
    return bool(names)


def git(folder: Path, *arguments: str) -> str:
    """What a git command prints; ValueError with git's own words where it fails."""
    where = ["git", "--no-optional-locks", "-c", "core.hooksPath=/dev/null", "-C", str(folder)]
    known = {name: value for name, value in os.environ.items() if name not in OF_A_HOOK}
    try:
        done = subprocess.run(
            [*where, *arguments], env=known, capture_output=True, text=True, check=True
        )
    except FileNotFoundError:
        raise ValueError("git is needed to time two revisions, and is not installed") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip() or f"exit status {error.returncode}"
        raise ValueError(f"git {arguments[0]} in {str(folder.resolve())!r}: {said}") from None
    return done.stdout.strip()
