"""Revisions as git worktrees in a temporary folder."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure.machine import git

WORKING_TREE = "."
HERE = Path()
TIMED = ("flows", "pyproject.toml")  # the paths of a revision that a comparison needs


@dataclass(frozen=True)
class Revision:
    """A revision: the user's name for it, its commit, and the folder of its files.

    The commit of a changed working tree is HEAD's with "-dirty".
    """

    ref: str
    commit: str
    path: Path


@contextlib.contextmanager
def checkouts(*refs: str, paths: Sequence[str] = TIMED) -> Iterator[list[Revision]]:
    """Lay out these paths of each ref in a worktree; "." is the working tree as it is.

    The working tree brings its untracked files. The user's checkout and index are not touched, no
    hook is run, and the worktrees are removed at the end, also after an interrupt. ValueError
    outside of a git repository and for an unknown ref.
    """
    root = Path(git(HERE, "rev-parse", "--show-toplevel"))
    commits = [_commit(root, ref) for ref in refs]
    folder = Path(tempfile.mkdtemp(prefix="flowgauge-")).resolve()
    trees = [folder / str(index) for index in range(len(refs))]  # equally long, so in memory too
    try:
        revisions = []
        for ref, commit, tree in zip(refs, commits, trees, strict=True):
            git(root, "worktree", "add", "--no-checkout", "--detach", str(tree), commit)
            names = git(root, "ls-tree", "--name-only", "-z", commit, "--", *paths)
            if present := [name for name in names.split("\0") if name]:
                git(tree, "checkout", commit, "--", *present)
            changed = ref == WORKING_TREE and _overlay(root, tree, paths)
            revisions.append(Revision(ref, commit[:12] + "-dirty" * changed, tree))
        yield revisions
    finally:
        for tree in trees:
            with contextlib.suppress(ValueError):  # not made yet
                git(root, "worktree", "remove", "--force", "--force", str(tree))
        shutil.rmtree(folder, ignore_errors=True)


def _commit(root: Path, ref: str) -> str:
    """The commit of a ref; ValueError for an unknown one."""
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


def _overlay(root: Path, tree: Path, paths: Sequence[str]) -> bool:
    """Copy changed and untracked files into a worktree of HEAD; True if there are any."""
    changed = git(root, "diff", "--name-only", "--no-renames", "-z", "HEAD", "--", *paths)
    untracked = git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *paths)
    names = [name for name in (changed + "\0" + untracked).split("\0") if name]
    for name in names:
        source, target = root / name, tree / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        else:
            target.unlink(missing_ok=True)
    return bool(names)
