"""Git commands: no lock is taken that can be spared, and no hook is run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

HOOK_VARIABLES = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}  # set by git where it runs hooks


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return its output; ValueError with git's message if it fails."""
    command = ["git", "--no-optional-locks", "-c", "core.hooksPath=/dev/null", "-C", str(folder)]
    variables = {name: value for name, value in os.environ.items() if name not in HOOK_VARIABLES}
    try:
        process = subprocess.run(
            [*command, *arguments], env=variables, capture_output=True, text=True, check=True
        )
    except FileNotFoundError:
        raise ValueError("git is needed for this, and is not installed") from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip() or f"exit status {error.returncode}"
        raise ValueError(f"git {arguments[0]} in {str(folder.resolve())!r}: {reason}") from None
    return process.stdout.strip()
